"""AWS roles in the admin, one by one and many at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import render
from django.urls import URLPattern, path
from django.utils.html import format_html

from accounts.models import IdentityProvider, Protocol
from broker.audit.administrators import by
from broker.backoffice import (
    DaypassAdmin,
    LengthField,
    Panel,
    ServiceForm,
    chip,
    code_area,
    code_input,
    how_many,
    link_to,
    marks_of,
    panel,
    spoken,
    titled,
    url_of,
)
from broker.entitlements import names, services
from broker.entitlements.admin.common import (
    SWITCH,
    Trust,
    as_it_is,
    deeds_of,
    environment_chip,
    only_when_new,
    without_switch,
)
from broker.entitlements.drafts import RoleDraft
from broker.entitlements.models import AwsRole, Environment, MappingRole
from broker.entitlements.rules import longest_of
from broker.errors import DaypassError


class RoleFields(forms.Form):
    """How the broker gets into a role, and what people read about it."""

    trust = forms.ChoiceField(
        label="Trust",
        choices=Trust.choices,
        initial=settings.DAYPASS_DEFAULT_TRUST,
        widget=forms.RadioSelect,
        help_text="SAML works although AWS can reach nothing of Daypass; web identity does not."
        if settings.DAYPASS_NOTHING_PUBLIC
        else "Web identity needs nothing uploaded and little looked after: take it unless there is a reason.",
    )
    console = forms.ChoiceField(
        label="How the console opens",
        choices=AwsRole.Console.choices,
        initial=AwsRole.Console.FEDERATION,
        widget=forms.RadioSelect,
    )
    max_seconds = LengthField(
        label="Longest session",
        initial=3600,
        least=900,
        most=43200,
        help_text="Not longer than the role's maximum session duration in IAM, which is from 1 h to 12 h. For example "
        "8 h. With AssumeRole AWS gives 1 h at most all the same.",
    )
    external_id = forms.CharField(
        label="External id",
        required=False,
        max_length=1224,
        widget=code_input(),
        help_text="Only for AssumeRole, when the role's trust policy demands one. Empty: the account's.",
    )
    session_name = forms.CharField(
        label="Name of its sessions",
        required=False,
        max_length=64,
        widget=code_input(placeholder=names.DEFAULT),
        help_text=f"With {{handle}} and {{random}}. Empty: {names.DEFAULT}, for example {names.example('')}. "
        "CloudTrail shows it; a trust policy may ask for its form. Not for a relayed SAML assertion: its sender names "
        "the session.",
    )
    relay_provider_id = forms.ModelChoiceField(
        IdentityProvider.objects.filter(
            Q(protocol=Protocol.OIDC) | Q(relay_application__isnull=False)
        ),
        label="Whose word is relayed",
        required=False,
        empty_label="None",
        help_text="Only for relayed trust: the provider whose ID token, or whose AWS application's assertion, the role "
        "trusts. Daypass adds neither source identity nor tags to another's word.",
    )
    sensitive = forms.BooleanField(
        label="Sensitive",
        required=False,
        help_text="Marked for people, for example an administrator role.",
    )
    enabled = forms.BooleanField(
        label="In use", required=False, initial=True, help_text="Off: it is refused to everybody."
    )

    def clean_relay_provider_id(self) -> UUID | None:
        chosen = self.cleaned_data["relay_provider_id"]
        return chosen.pk if chosen else None


class AwsRoleForm(RoleFields, ServiceForm):
    arn = forms.CharField(
        label="ARN",
        max_length=2048,
        widget=code_input(),
        help_text="As the IAM console shows it: arn:aws:iam::111122223333:role/Developer. A federation token, which "
        "is no role, is named by you: arn:aws:sts::111122223333:federated-user/Developer.",
    )
    description = forms.CharField(
        label="What it is for",
        max_length=200,
        required=False,
        help_text="One line for the people who use it. For example: Deploy and debug the services.",
    )

    class Meta:
        model = AwsRole
        fields = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        only_when_new(self)
        if not self.instance._state.adding:
            self.fields["arn"].disabled = True
            self.initial.update({name: getattr(self.instance, name) for name in self.fields})

    def write(self) -> AwsRole:
        draft = RoleDraft(**{**self.cleaned_data, SWITCH: as_it_is(self)})
        if self.instance._state.adding:
            return services.register_role(draft, **by(self.request))
        return services.update_role(self.instance.pk, draft, **by(self.request))


class BulkRolesForm(RoleFields):
    """Many roles at once, all with the same trust."""

    arns = forms.CharField(
        label="Role ARNs",
        max_length=200_000,
        widget=code_area(10),
        help_text="One a line. Accounts that are not registered yet are registered with their number as name.",
    )
    field_order = (
        "arns",
        "trust",
        "console",
        "max_seconds",
        "external_id",
        "relay_provider_id",
        "session_name",
        "sensitive",
        "enabled",
    )


@dataclass(frozen=True, slots=True)
class BulkResult:
    """What became of one line."""

    line: str
    outcome: str
    colour: str
    said: str
    url: str = ""


class EnvironmentOfAccount(admin.SimpleListFilter):
    title = "environment"
    parameter_name = "environment"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(str(pk), name) for pk, name in Environment.objects.values_list("pk", "name")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AwsRole]) -> Any:
        value = self.value()
        if value and value.isdigit():
            return queryset.filter(account__environment_id=int(value))
        return queryset


@admin.register(AwsRole)
class AwsRoleAdmin(DaypassAdmin):
    deeds = deeds_of(
        "Nobody gets this role from then on.",
        "This role can be used again, where mappings give it.",
        "No mapping gives it and nobody ever used it. It will be gone for good.",
    )
    list_display = ("role", "in_account", "kind", "trusted_by", "longest", "mapped", "state")
    list_filter = (
        EnvironmentOfAccount,
        ("trust", titled("how Daypass gets in", admin.ChoicesFieldListFilter)),
        ("enabled", titled("in use", admin.BooleanFieldListFilter)),
        ("trust_check__outcome", titled("when last tried", admin.ChoicesFieldListFilter)),
    )
    list_select_related = ("account__environment", "trust_check")
    search_fields = (
        "name",
        "account__name",
        "account__account_id__startswith",
        "arn__exact",
        "description",
    )
    search_help_text = "Role, account, id or ARN"
    empty = "Register roles by their ARN, one by one or pasted as a list."
    add_title = "Register a role"
    early = ("The last issue of this role failed",)
    change_list_template = "admin/role_list.html"
    form = AwsRoleForm
    ordering = ("account__name", "name")
    fieldsets = (
        (None, {"fields": ("arn", "description", "max_seconds")}),
        (
            "How Daypass gets in",
            {"fields": ("trust", "relay_provider_id", "console", "external_id", "session_name")},
        ),
        ("State", {"fields": (("enabled", "sensitive"),)}),
    )

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fieldsets if obj is None else without_switch(self.fieldsets)

    def lookup_allowed(self, lookup: str, value: str, request: Any = None) -> bool:
        return lookup.startswith("account__id") or super().lookup_allowed(lookup, value, request)

    def get_queryset(self, request: HttpRequest) -> Any:
        return (
            super()
            .get_queryset(request)
            .annotate(mapping_count=how_many(MappingRole.objects.all(), "role"))
        )

    @admin.display(description="role", ordering="name")
    def role(self, role: AwsRole) -> str:
        return role.name

    @admin.display(description="account", ordering="account__name")
    def in_account(self, role: AwsRole) -> str:
        return link_to(role.account)

    @admin.display(description="environment", ordering="account__environment")
    def kind(self, role: AwsRole) -> str:
        return environment_chip(role.account.environment)

    @admin.display(description="trust", ordering="trust")
    def trusted_by(self, role: AwsRole) -> str:
        return {
            "web_identity": "web identity",
            "saml": "SAML",
            "assume_role": "AssumeRole",
            "relayed_token": "relayed ID token",
            "relayed_assertion": "relayed assertion",
            "federation_token": "federation token",
        }[role.trust]

    @admin.display(description="longest", ordering="max_seconds")
    def longest(self, role: AwsRole) -> str:
        return spoken(longest_of(role.trust, role.max_seconds))

    @admin.display(description="mappings")
    def mapped(self, role: Any) -> Any:
        return role.mapping_count

    @admin.display(description="state", ordering="enabled")
    def state(self, role: AwsRole) -> str:
        if not role.enabled or not role.account.enabled:
            return chip("off", "grey")
        own = chip("sensitive", "violet") if role.sensitive else chip("in use", "green")
        return format_html("{} {}", own, marks_of(role))

    def lead(self, thing: AwsRole) -> str:
        return thing.arn

    def facts(self, request: HttpRequest, thing: AwsRole) -> Sequence[tuple[str, Any]]:
        state = self.state(thing)
        if thing.enabled and not thing.account.enabled:
            state = format_html("{} with its account", state)
        if thing.trust == Trust.RELAYED_ASSERTION:
            return (("State", state),)
        return (
            ("State", state),
            ("Its sessions are named like", names.example(thing.session_name)),
        )

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if obj.trust == Trust.FEDERATION_TOKEN:
            messages.warning(request, FEDERATION_TOKENS)

    # Many at once

    def get_urls(self) -> list[URLPattern]:
        bulk = path("bulk/", self.admin_site.admin_view(self.bulk_view), name="broker_awsrole_bulk")
        return [bulk, *super().get_urls()]

    def bulk_view(self, request: HttpRequest) -> HttpResponse:
        """Register one role a line; each line stands or falls by itself, and the answer says how."""
        if request.method not in ("GET", "HEAD", "POST"):
            return HttpResponseNotAllowed(["GET", "POST"])
        form = BulkRolesForm(request.POST if request.method == "POST" else None)
        results: list[BulkResult] = []
        if request.method == "POST" and form.is_valid():
            results = register_many(form.cleaned_data, by(request))
        return render(
            request,
            "admin/bulk_roles.html",
            {
                **self.admin_site.each_context(request),
                "opts": self.opts,
                "title": "Register many roles",
                "form": form,
                "results": results,
                "added": sum(result.colour == "green" for result in results),
            },
        )


FEDERATION_TOKENS = (
    "Federation tokens need the long-term access key of an IAM user where Daypass runs: whoever steals it is that "
    "user, until somebody notices. They carry no source identity and reach neither IAM nor other roles. Take them "
    "only until there is a role that trusts Daypass."
)


@panel("broker.awsrole", position=10)
def what_a_federation_token_needs(request: HttpRequest, role: AwsRole) -> Panel | None:
    """In the place where other roles show their trust policy."""
    if role.trust != Trust.FEDERATION_TOKEN:
        return None
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["sts:GetFederationToken", "sts:TagSession"],
                "Resource": f"arn:{role.account.partition}:sts::{role.account.account_id}:federated-user/*",
            }
        ],
    }
    return Panel(
        "What Daypass's IAM user needs",
        "admin/federation_token.html",
        {"policy": json.dumps(policy, indent=2), "warning": FEDERATION_TOKENS},
    )


MOST_AT_ONCE = 2000


def register_many(values: Mapping[str, Any], who: Mapping[str, Any]) -> list[BulkResult]:
    """Register each ARN; lines that cannot be are told and change nothing."""
    common = {name: values[name] for name in RoleFields.base_fields}
    lines = [line.strip().strip(",\"'") for line in values["arns"].splitlines()]
    results: list[BulkResult] = []
    seen: set[str] = set()
    for line in [line for line in lines if line][:MOST_AT_ONCE]:
        if line in seen:
            results.append(BulkResult(line, "twice", "grey", "Already in this list."))
            continue
        seen.add(line)
        existing = AwsRole.objects.filter(arn=line).first()
        if existing is not None:
            results.append(
                BulkResult(line, "there", "grey", "Was registered before.", url_of(existing))
            )
            continue
        try:
            role = services.register_role(
                RoleDraft(arn=line, **common), account_name=_number_in(line), **who
            )
        except DaypassError as error:
            results.append(BulkResult(line, "not taken", "red", sentence_of(error)))
        else:
            results.append(BulkResult(line, "registered", "green", str(role), url_of(role)))
    return results


def _number_in(arn: str) -> str:
    """What an account is called that is only known by the ARN of a role."""
    return arn.split(":")[4] if arn.count(":") == 5 else "unnamed"


def sentence_of(error: DaypassError) -> str:
    """Everything that an administrator may read about a refusal, in one line."""
    fields: Mapping[str, Any] = getattr(error, "errors", None) or {}
    said = [s if isinstance(s, str) else " ".join(s) for s in fields.values()]
    return " ".join(dict.fromkeys(filter(None, (*said, "" if said else error.message))))
