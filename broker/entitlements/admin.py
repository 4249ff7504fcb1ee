"""AWS accounts, roles, mappings and denies in the admin, and who gets what and why. Changes are service calls."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.widgets import AutocompleteSelect, AutocompleteSelectMultiple
from django.db.models import Prefetch, Q, QuerySet
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
)
from django.shortcuts import render
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html, format_html_join

from accounts.models import DirectoryGroup, IdentityProvider, Person, Protocol
from broker.audit.services import Actor
from broker.backoffice import (
    Attention,
    DaypassAdmin,
    Deed,
    Figure,
    Hit,
    LengthField,
    LinesField,
    MomentField,
    PairsField,
    Panel,
    ServiceForm,
    Step,
    attentions,
    contributes,
    figures,
    finders,
    how_many,
    list_url,
    marks_of,
    panel,
    spoken,
    steps,
    titled,
    url_of,
)
from broker.entitlements import names, packing, queries, services
from broker.entitlements.drafts import (
    AccountDraft,
    DenyDraft,
    EnvironmentDraft,
    MappingDraft,
    RoleDraft,
)
from broker.entitlements.models import AwsAccount, AwsRole, Deny, Environment, MappingRole
from broker.entitlements.models import Mapping as RoleMapping
from broker.entitlements.rules import (
    Allowed,
    MappingFacts,
    conditions_of,
    limits_of,
    longest_of,
)
from broker.errors import DaypassError
from broker.templatetags.backoffice import exact

Trust = AwsRole.Trust


def by(request: HttpRequest) -> dict[str, Any]:
    """Who changes something and from where, for the services."""
    user: Any = request.user
    principal = getattr(request, "principal", None)
    return {
        "actor": Actor(id=str(user.pk), name=user.get_username()),
        "address": principal.address if principal else "",
    }


def _link(thing: Any, said: str = "") -> str:
    return format_html('<a href="{}">{}</a>', url_of(thing), said or str(thing))


def _chip(text: str, colour: str) -> str:
    return format_html('<span class="chip" data-colour="{}">{}</span>', colour, text)


def _environment_chip(environment: Environment | None) -> str:
    if environment is None:
        return ""
    return format_html(
        '<span class="chip{}" data-colour="{}">{}</span>',
        " solid" if environment.production else "",
        environment.colour,
        environment.name,
    )


def _plural(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _code(**attributes: Any) -> forms.TextInput:
    return forms.TextInput(attrs={"class": "typed", "spellcheck": "false", **attributes})


# --- On, off, gone


def _switcher(enabled: bool) -> Callable[[HttpRequest, Any], str]:
    def switch(request: HttpRequest, thing: Any) -> str:
        services.switch(thing, enabled, **by(request))
        return f"{thing} is switched {'on' if enabled else 'off'}."

    return switch


def _delete(request: HttpRequest, thing: Any) -> str:
    said = str(thing)
    services.delete(thing, **by(request))
    return f"{said} is deleted. What it said stays in the audit log."


def people_behind(thing: Any) -> str:
    """How many people a switch or a deletion concerns, as far as their groups are known."""
    match thing:
        case RoleMapping():
            members = Person.objects.filter(memberships__group=thing.group_id)
        case AwsRole():
            members = Person.objects.filter(memberships__group__links__role=thing)
        case AwsAccount():
            members = Person.objects.filter(memberships__group__links__role__account=thing)
        case Deny(person_id=None):
            members = Person.objects.filter(memberships__group=thing.group_id)
        case Deny():
            members = Person.objects.filter(pk=str(thing.person_id))
        case _:
            return "Nobody's rights change."
    count = members.filter(is_active=True).distinct().count()
    if not count:
        return "Nobody who has signed in so far is concerned."
    return f"{_plural(count, 'person is', 'people are')} concerned. Sessions that are live go on until they end."


def deeds_of(off: str, on: str, gone: str) -> tuple[Deed, ...]:
    """Switch off, switch on, delete; each says first what it does and to how many people."""
    return (
        Deed(
            "on",
            "Switch on",
            _switcher(True),
            available=lambda thing: not thing.enabled,
            warn=lambda thing: f"{on} {people_behind(thing)}",
        ),
        Deed(
            "off",
            "Switch off",
            _switcher(False),
            available=lambda thing: thing.enabled,
            warn=lambda thing: f"{off} {people_behind(thing)}",
            danger=True,
        ),
        Deed(
            "delete",
            "Delete",
            _delete,
            warn=lambda thing: f"{gone} {people_behind(thing)}",
            danger=True,
            leaves=True,
        ),
    )


# --- Environments


class EnvironmentForm(ServiceForm):
    name = forms.CharField(max_length=40, help_text="For example Production.")
    colour = forms.ChoiceField(choices=Environment.Colour.choices)
    production = forms.BooleanField(
        label="Production",
        required=False,
        help_text="Marked unmistakably wherever its roles appear.",
    )
    position = forms.IntegerField(label="Place in lists", min_value=0, max_value=999, initial=0)

    class Meta:
        model = Environment
        fields = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance._state.adding:
            self.initial.update({name: getattr(self.instance, name) for name in self.fields})

    def write(self) -> Environment:
        draft = EnvironmentDraft(**self.cleaned_data)
        if self.instance._state.adding:
            return services.create_environment(draft, **by(self.request))
        return services.update_environment(self.instance.pk, draft, **by(self.request))


@admin.register(Environment)
class EnvironmentAdmin(DaypassAdmin):
    deeds = (
        Deed(
            "delete",
            "Delete",
            _delete,
            warn=lambda environment: "Only an environment without accounts can be deleted.",
            danger=True,
            leaves=True,
        ),
    )
    list_display = ("environment", "marked", "accounts", "position")
    intro = "What kind of account it is: a word and a colour on every account of it."
    ordering = ("position", "name")
    empty = "For example Production (red), Staging (amber) and Sandbox (green)."
    add_title = "Add an environment"
    form = EnvironmentForm
    fieldsets = ((None, {"fields": (("name", "colour"), "production", "position")}),)

    def get_queryset(self, request: HttpRequest) -> Any:
        return (
            super()
            .get_queryset(request)
            .annotate(account_count=how_many(AwsAccount.objects.all(), "environment"))
        )

    @admin.display(description="environment", ordering="name")
    def environment(self, environment: Environment) -> str:
        return environment.name

    @admin.display(description="looks like")
    def marked(self, environment: Environment) -> str:
        return _environment_chip(environment)

    @admin.display(description="accounts")
    def accounts(self, environment: Any) -> Any:
        return environment.account_count


# --- AWS accounts


class AwsAccountForm(ServiceForm):
    """An account is registered once; afterwards its number stays what it is."""

    account_id = forms.CharField(
        label="Account id",
        max_length=40,
        widget=_code(inputmode="numeric"),
        help_text="12 digits, as you copy them: 111122223333 or 1111-2222-3333.",
    )
    name = forms.CharField(
        label="Name",
        max_length=100,
        help_text="As people call it. For example Payments production.",
    )
    environment = forms.ModelChoiceField(
        Environment.objects.all(), required=False, empty_label="None"
    )
    alias = forms.CharField(
        label="Alias",
        max_length=63,
        required=False,
        widget=_code(),
        help_text="The account alias in IAM, if it has one. People may search and link by it.",
    )
    region = forms.CharField(
        label="Region",
        max_length=32,
        required=False,
        widget=_code(),
        help_text="Where STS is asked and the console opens. For example eu-west-1. Empty: the partition's own.",
    )
    second_region = forms.CharField(
        label="Second region",
        max_length=32,
        required=False,
        widget=_code(),
        help_text="Who is asked when the first region does not answer. Empty: one near by that is always on.",
    )
    partition = forms.ChoiceField(
        choices=AwsAccount._meta.get_field("partition").flatchoices,
        initial="aws",
        help_text="AWS itself, unless the account is in GovCloud, China or the European Sovereign Cloud.",
    )
    saml_provider_name = forms.CharField(
        label="Name of the IAM SAML provider",
        max_length=128,
        required=False,
        initial="Daypass",
        widget=_code(),
        help_text="Only for roles with SAML trust: the IAM provider that holds Daypass's metadata.",
    )
    external_id = forms.CharField(
        label="External id",
        max_length=1224,
        required=False,
        widget=_code(),
        help_text="Only for AssumeRole: sent for roles of this account that have none of their own.",
    )
    discovery_role = forms.CharField(
        label="Discovery role",
        max_length=576,
        required=False,
        widget=_code(),
        help_text="Name, with its path, of the role through which Daypass reads IAM here, so that the doctor names the "
        "very line of a trust policy that is wrong, and new roles are found. For example DaypassDiscovery.",
    )
    management = forms.BooleanField(
        label="Lists the organisation",
        required=False,
        help_text="The discovery role of this account may list the accounts of the organisation.",
    )
    enabled = forms.BooleanField(
        label="In use", required=False, initial=True, help_text="Off: every role of it is refused."
    )

    class Meta:
        model = AwsAccount
        fields = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance._state.adding:
            for fixed in ("account_id", "partition"):
                self.fields[fixed].disabled = True
            self.initial.update({name: getattr(self.instance, name) for name in self.fields})
            self.initial["environment"] = self.instance.environment_id

    def write(self) -> AwsAccount:
        values = dict(self.cleaned_data)
        values["saml_provider_name"] = values["saml_provider_name"] or "Daypass"
        values["environment"] = values["environment"].pk if values["environment"] else None
        draft = AccountDraft(**values)
        if self.instance._state.adding:
            return services.register_account(draft, **by(self.request))
        return services.update_account(self.instance.pk, draft, **by(self.request))


@admin.register(AwsAccount)
class AwsAccountAdmin(DaypassAdmin):
    deeds = deeds_of(
        "Every role of this account is refused from then on.",
        "The roles of this account can be used again, where mappings give them.",
        "Only an account without roles can be deleted.",
    )
    list_display = ("account", "number", "kind", "region", "roles", "state")
    list_filter = (
        "environment",
        "partition",
        ("enabled", titled("in use", admin.BooleanFieldListFilter)),
    )
    list_select_related = ("environment",)
    search_fields = ("name", "account_id__startswith", "alias__startswith")
    search_help_text = "Name, account id or alias"
    ordering = ("name", "account_id")
    empty = "Register the first account: its 12 digits and the name that people use."
    add_title = "Register an account"
    form = AwsAccountForm
    fieldsets = (
        (None, {"fields": (("account_id", "name"), ("environment", "alias"), "region", "enabled")}),
        (
            "Seldom needed",
            {
                "fields": (
                    "partition",
                    "second_region",
                    "saml_provider_name",
                    "external_id",
                    "discovery_role",
                    "management",
                ),
                "classes": ("collapse",),
            },
        ),
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        return (
            super()
            .get_queryset(request)
            .annotate(role_count=how_many(AwsRole.objects.all(), "account"))
        )

    @admin.display(description="account", ordering="name")
    def account(self, account: AwsAccount) -> str:
        return account.name

    @admin.display(description="id", ordering="account_id")
    def number(self, account: AwsAccount) -> str:
        return format_html('<span class="mono">{}</span>', account.account_id)

    @admin.display(description="environment", ordering="environment")
    def kind(self, account: AwsAccount) -> str:
        return _environment_chip(account.environment)

    @admin.display(description="roles")
    def roles(self, account: Any) -> str:
        return format_html(
            '<a href="{}">{}</a>',
            list_url(AwsRole, account__id__exact=account.pk),
            account.role_count,
        )

    @admin.display(description="state", ordering="enabled")
    def state(self, account: AwsAccount) -> str:
        chip = _chip("in use", "green") if account.enabled else _chip("off", "grey")
        return format_html("{} {}", chip, marks_of(account))


@panel("broker.awsaccount", position=20)
def roles_of_account(request: HttpRequest, account: AwsAccount) -> Panel:
    roles = account.roles.order_by("name")
    return Panel(
        "Roles",
        "admin/roles_of_account.html",
        {
            "rows": [{"role": role, "url": url_of(role)} for role in roles[:50]],
            "more": max(roles.count() - 50, 0),
            "add_url": reverse("admin:broker_awsrole_add"),
            "bulk_url": reverse("admin:broker_awsrole_bulk"),
        },
    )


# --- AWS roles


class RoleFields(forms.Form):
    """How the broker gets into a role, and what people read about it."""

    trust = forms.ChoiceField(
        label="How Daypass gets in",
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
        help_text="The role's maximum session duration in IAM: from 1 h to 12 h. For example 8 h. "
        "With AssumeRole AWS gives 1 h at most all the same.",
    )
    external_id = forms.CharField(
        label="External id",
        required=False,
        max_length=1224,
        widget=_code(),
        help_text="Only for AssumeRole, when the role's trust policy demands one. Empty: the account's.",
    )
    session_name = forms.CharField(
        label="Name of its sessions",
        required=False,
        max_length=64,
        widget=_code(placeholder=names.DEFAULT),
        help_text=f"With {{handle}} and {{random}}. Empty: {names.DEFAULT}, for example {names.example('')}. "
        "CloudTrail shows it; a trust policy may ask for its form.",
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
        widget=_code(),
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
        if not self.instance._state.adding:
            self.fields["arn"].disabled = True
            self.initial.update({name: getattr(self.instance, name) for name in self.fields})

    def write(self) -> AwsRole:
        draft = RoleDraft(**self.cleaned_data)
        if self.instance._state.adding:
            return services.register_role(draft, **by(self.request))
        return services.update_role(self.instance.pk, draft, **by(self.request))


class BulkRolesForm(RoleFields):
    """Many roles at once, all with the same trust."""

    arns = forms.CharField(
        label="Role ARNs",
        max_length=200_000,
        widget=forms.Textarea(attrs={"rows": 10, "class": "typed", "spellcheck": "false"}),
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
        "Only a role that no mapping gives and nobody ever used can be deleted.",
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
        return _link(role.account)

    @admin.display(description="environment", ordering="account__environment")
    def kind(self, role: AwsRole) -> str:
        return _environment_chip(role.account.environment)

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
            return _chip("off", "grey")
        chip = _chip("sensitive", "violet") if role.sensitive else _chip("in use", "green")
        return format_html("{} {}", chip, marks_of(role))

    def lead(self, thing: AwsRole) -> str:
        return thing.arn

    def facts(self, request: HttpRequest, thing: AwsRole) -> Sequence[tuple[str, Any]]:
        return (("Its sessions are named like", names.example(thing.session_name)),)

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


# --- Who gets what, and why


PER_PAGE = 25


@dataclass(frozen=True, slots=True)
class Verdict:
    """What somebody gets of one role, in words for a list."""

    allowed: bool
    text: str
    reasons: tuple[Any, ...]


def verdict_of(console: Any, keys: Any) -> Verdict:
    """Two decisions (console, keys) as one line, with the reasons of the one that says more."""
    ways = [
        way
        for way, decision in (("console", console), ("keys", keys))
        if isinstance(decision, Allowed)
    ]
    if not ways:
        return Verdict(False, console.sentence, console.reasons)
    longest = max(
        decision.longest_seconds for decision in (console, keys) if isinstance(decision, Allowed)
    )
    said = " and ".join(ways) if len(ways) == 2 else f"{ways[0]} only"
    decided = console if isinstance(console, Allowed) else keys
    return Verdict(True, f"{said.capitalize()}, up to {spoken(longest)}", decided.reasons)


def _rights(rights: Iterable[queries.Right]) -> list[dict[str, Any]]:
    return [
        {
            "mapping": right.mapping,
            "url": reverse("admin:broker_mapping_change", args=(right.mapping.id,)),
            "fresh": right.fresh,
            "member": right.group is not None,
            "conditions": right.conditions,
            "limits": right.limits,
        }
        for right in rights
    ]


def _denies(denies: Iterable[Any]) -> list[dict[str, Any]]:
    return [
        {"deny": deny, "url": reverse("admin:broker_deny_change", args=(deny.id,))}
        for deny in denies
    ]


def _page_number(request: HttpRequest) -> int:
    text = request.GET.get("page", "1")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 1


@panel("accounts.person", position=20)
def roles_of_person(request: HttpRequest, person: Person) -> Panel:
    text = request.GET.get("why", "")[:200]
    page = queries.explain_person(
        person.pk, timezone.now(), text=text, page=_page_number(request), page_size=PER_PAGE
    )
    rows = [
        {
            "title": row.role.name,
            "under": f"{row.role.account_name} ({row.role.account_id})",
            "url": reverse("admin:broker_awsrole_change", args=(row.role.id,)),
            "role": row.role,
            "verdict": verdict_of(row.console, row.keys),
            "rights": _rights(row.rights),
            "denies": _denies(row.denies),
        }
        for row in page
    ]
    return Panel(
        "Every role they get, and why",
        "admin/why.html",
        {
            "rows": rows,
            "page": page,
            "text": text,
            "what": "role",
            "empty": "No mapping concerns any of their groups.",
        },
        note="As if they signed in right now; conditions on the sign-in stand beside each mapping.",
    )


@panel("broker.awsrole", position=20)
def people_of_role(request: HttpRequest, role: AwsRole) -> Panel:
    text = request.GET.get("why", "")[:200]
    page = queries.explain_role(
        role.pk, timezone.now(), text=text, page=_page_number(request), page_size=PER_PAGE
    )
    rows = [
        {
            "title": row.person.name or row.person.handle,
            "under": " · ".join(filter(None, (row.person.handle, row.person.email))),
            "url": reverse("admin:accounts_person_change", args=(row.person.id,)),
            "role": None,
            "verdict": verdict_of(row.console, row.keys),
            "rights": _rights(row.rights),
            "denies": _denies(row.denies),
        }
        for row in page
    ]
    return Panel(
        "Everyone who can reach it, and why",
        "admin/why.html",
        {
            "rows": rows,
            "page": page,
            "text": text,
            "what": "person",
            "empty": f"The AWS application of {role.relay_provider} says whose this role is; no mapping does."
            if role.trust == ASSERTED
            else "No mapping gives this role to anybody who has signed in so far.",
        },
        note="As if they signed in right now; conditions on the sign-in stand beside each mapping.",
    )


@panel("broker.awsrole", position=25)
def mappings_of_role(request: HttpRequest, role: AwsRole) -> Panel:
    mappings = RoleMapping.objects.filter(links__role=role)
    if role.trust == ASSERTED:
        return _mappings_panel(mappings, "", note="None of them has an effect on this role.")
    return _mappings_panel(mappings, f"?roles={role.pk}")


@panel("accounts.directorygroup", position=20)
def mappings_of_group(request: HttpRequest, group: DirectoryGroup) -> Panel:
    return _mappings_panel(RoleMapping.objects.filter(group=group), f"?group={group.pk}")


FIRST_ROLES = Prefetch(
    "links",
    MappingRole.objects.select_related("role__account").order_by(
        "role__account__name", "role__name"
    )[:3],
    to_attr="first_links",
)
"""The first three roles of each mapping on a page: some mappings give a thousand."""


def _mappings_panel(mappings: QuerySet[RoleMapping], start: str, *, note: str = "") -> Panel:
    found: Any = (
        mappings.select_related("group__provider")
        .prefetch_related(FIRST_ROLES)
        .annotate(role_count=how_many(MappingRole.objects.all(), "mapping"))[:50]
    )
    rows = [
        {
            "mapping": mapping,
            "url": url_of(mapping),
            "roles": [str(link.role) for link in mapping.first_links],
            "more": mapping.role_count - len(mapping.first_links),
        }
        for mapping in found
    ]
    return Panel(
        "Mappings",
        "admin/mappings.html",
        {"rows": rows, "add_url": reverse("admin:broker_mapping_add") + start if start else ""},
        note=note if rows else "",
    )


# --- Mappings


def search_in(form: forms.BaseForm, name: str, widget: Any) -> None:
    """Choose by typing: the server searches, so that a hundred thousand choices are no longer than ten."""
    field: Any = form.fields[name]
    field.widget = widget
    field.widget.choices = field.choices


class MappingForm(ServiceForm):
    """In the order in which an administrator knows the answers: who, what, then within which limits."""

    group = forms.ModelChoiceField(
        DirectoryGroup.objects.select_related("provider"),
        label="Directory group",
        help_text="Whoever is in it. A group that nobody has arrived with yet can be added under Directory groups.",
    )
    roles = forms.ModelMultipleChoiceField(
        AwsRole.objects.select_related("account"),
        label="Roles",
        help_text="Type an account or a role name.",
    )
    note = forms.CharField(
        label="Why",
        max_length=200,
        required=False,
        help_text="For the next administrator. For example: On-call engineers of Payments.",
    )
    enabled = forms.BooleanField(label="In use", required=False, initial=True)
    allow_console = forms.BooleanField(label="Console", required=False, initial=True)
    allow_keys = forms.BooleanField(label="Temporary keys", required=False, initial=True)
    max_seconds = LengthField(
        label="Longest session",
        required=False,
        least=900,
        most=43200,
        help_text="From 15 min to 12 h. Empty: as long as the role allows.",
    )
    require_mfa = forms.BooleanField(
        label="Only with a second factor",
        required=False,
        help_text="The identity provider has to vouch for it; which answers mean that stands in its claim map.",
    )
    max_sign_in_age = LengthField(
        label="Only soon after signing in",
        required=False,
        least=60,
        most=30 * 86400,
        help_text="For example 30 min. Empty: any sign-in that is still good.",
    )
    networks = LinesField(
        label="Only from these networks",
        required=False,
        help_text="CIDR, one a line. For example 192.0.2.0/24.",
    )
    valid_from = MomentField(label="From", required=False, help_text="UTC.")
    valid_until = MomentField(label="Until", required=False, help_text="UTC. Sessions end by then.")
    session_policy = forms.CharField(
        label="Session policy",
        required=False,
        max_length=10_000,
        widget=forms.Textarea(attrs={"rows": 6, "class": "typed", "spellcheck": "false"}),
        help_text="An IAM policy (JSON, at most 2048 characters) that narrows what the role may do. It never adds.",
    )
    policy_arns = LinesField(
        label="Managed policies that narrow",
        required=False,
        help_text="ARNs, one a line, at most 10. For example arn:aws:iam::aws:policy/ReadOnlyAccess.",
    )
    seen_at = forms.CharField(required=False, widget=forms.HiddenInput)
    session_tags = PairsField(
        label="Session tags",
        required=False,
        example="CostCenter = cost_center",
        help_text="One a line: tag key = person attribute. For example CostCenter = cost_center.",
    )
    transitive_tag_keys = LinesField(
        label="Tags that stay on",
        required=False,
        help_text="Tag keys, one a line: AWS keeps them when a further role is assumed from the session.",
    )

    class Meta:
        model = RoleMapping
        fields = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        site = admin.site
        search_in(self, "group", AutocompleteSelect(RoleMapping._meta.get_field("group"), site))
        roles = RoleMapping._meta.get_field("roles")
        search_in(self, "roles", AutocompleteSelectMultiple(roles, site))
        if not self.instance._state.adding:
            self.initial.update(
                {
                    name: getattr(self.instance, name)
                    for name in self.fields
                    if name not in ("group", "roles", "seen_at")
                }
            )
            self.initial["group"] = self.instance.group_id
            self.initial["roles"] = list(self.instance.roles.values_list("pk", flat=True))
            self.initial["seen_at"] = self.instance.updated_at.isoformat()

    def write(self) -> RoleMapping:
        values = dict(self.cleaned_data)
        values["group"] = values["group"].pk
        values["roles"] = tuple(role.pk for role in values["roles"])
        for listed in ("networks", "policy_arns", "transitive_tag_keys"):
            values[listed] = tuple(values[listed] or ())
        seen_at = parse_datetime(values.pop("seen_at") or "")
        draft = MappingDraft(**values)
        if self.instance._state.adding:
            return services.create_mapping(draft, **by(self.request))
        return services.update_mapping(self.instance.pk, draft, seen_at=seen_at, **by(self.request))


def _facts_of(mapping: RoleMapping) -> MappingFacts:
    return MappingFacts(
        id=mapping.pk,
        group_id=mapping.group_id,
        group_name=str(mapping.group),
        note=mapping.note,
        enabled=mapping.enabled,
        max_seconds=mapping.max_seconds,
        allow_console=mapping.allow_console,
        allow_keys=mapping.allow_keys,
        require_mfa=mapping.require_mfa,
        max_sign_in_age=mapping.max_sign_in_age,
        networks=tuple(mapping.networks),
        valid_from=mapping.valid_from,
        valid_until=mapping.valid_until,
        session_policy=mapping.session_policy,
        policy_arns=tuple(mapping.policy_arns),
        session_tags=mapping.session_tags,
        transitive_tag_keys=tuple(mapping.transitive_tag_keys),
    )


@admin.register(RoleMapping)
class MappingAdmin(DaypassAdmin):
    deeds = deeds_of(
        "It gives nobody anything from then on.",
        "It gives its roles to the members of the group again.",
        "The mapping is gone for good.",
    )
    list_display = ("who", "gets", "within", "why", "state")
    list_filter = (
        ("enabled", titled("in use", admin.BooleanFieldListFilter)),
        ("require_mfa", titled("needs a second factor", admin.BooleanFieldListFilter)),
        ("group__provider", titled("provider", admin.RelatedOnlyFieldListFilter)),
    )
    search_fields = ("group__name", "group__key", "note", "roles__name", "roles__account__name")
    search_help_text = "Group, role, account or note"
    intro = "The members of a directory group get roles, within limits."
    empty = "Map the first group: choose it, choose roles, save."
    add_title = "Map a group"
    change_form_template = "admin/mapping_form.html"
    form = MappingForm
    ordering = ("group__name", "group__key", "created_at")
    sections: tuple[tuple[str, dict[str, Any]], ...] = (
        ("Who gets what", {"fields": ("group", "roles", "note")}),
        (
            "Within which limits",
            {
                "fields": (("allow_console", "allow_keys"), "max_seconds", "require_mfa"),
                "description": "Every empty limit is none of its own; the shortest of all limits wins.",
                "classes": ("no-optional",),
            },
        ),
        (
            "When and from where",
            {
                "fields": ("max_sign_in_age", "networks", ("valid_from", "valid_until")),
                "classes": ("collapse", "no-optional"),
            },
        ),
        (
            "Session policy and tags",
            {
                "fields": ("session_policy", "policy_arns", "session_tags", "transitive_tag_keys"),
                "classes": ("collapse", "no-optional"),
            },
        ),
        ("State", {"fields": ("enabled", "seen_at")}),
    )

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Folded away is only what is empty: a limit that is there is seen.

        Not the attribute `fieldsets`: Django's check refuses roles there, whose links it would not save; services do.
        """
        shown = []
        for title, options in self.sections:
            asked = [
                n for row in options["fields"] for n in ([row] if isinstance(row, str) else row)
            ]
            if obj is not None and any(getattr(obj, name, None) for name in asked):
                kept = tuple(one for one in options.get("classes", ()) if one != "collapse")
                options = {**options, "classes": kept}
            shown.append((title, options))
        return shown

    def get_queryset(self, request: HttpRequest) -> Any:
        return (
            super()
            .get_queryset(request)
            .select_related("group__provider")
            .prefetch_related(FIRST_ROLES)
            .annotate(role_count=how_many(MappingRole.objects.all(), "mapping"))
        )

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        initial: dict[str, Any] = dict(super().get_changeform_initial_data(request))
        group, roles = request.GET.get("group", ""), request.GET.get("roles", "")
        if group.isascii() and group.isdigit():
            initial["group"] = int(group)
        try:
            initial["roles"] = [UUID(part) for part in roles.split(",") if part]
        except ValueError:
            initial.pop("roles", None)
        return initial

    @admin.display(description="members of", ordering="group")
    def who(self, mapping: RoleMapping) -> str:
        return str(mapping.group)

    @admin.display(description="get")
    def gets(self, mapping: Any) -> str:
        links = mapping.first_links
        said = format_html_join(", ", "{}", ((_link(link.role),) for link in links))
        more = mapping.role_count - len(links)
        return format_html("{} and {} more", said, more) if more > 0 else said

    @admin.display(description="within")
    def within(self, mapping: RoleMapping) -> str:
        facts = _facts_of(mapping)
        said = [one.sentence for one in (*conditions_of(facts), *limits_of(facts))]
        return "; ".join(said)

    @admin.display(description="why", ordering="note")
    def why(self, mapping: RoleMapping) -> str:
        return mapping.note

    @admin.display(description="state", ordering="enabled")
    def state(self, mapping: RoleMapping) -> str:
        if not mapping.enabled:
            return _chip("off", "grey")
        if mapping.valid_until and mapping.valid_until <= timezone.now():
            return _chip("over", "amber")
        return _chip("in use", "green")

    def page(self, request: HttpRequest, thing: RoleMapping) -> dict[str, Any]:
        return {**super().page(request, thing), "title": f"Members of {thing.group}"}

    def facts(self, request: HttpRequest, thing: RoleMapping) -> Sequence[tuple[str, Any]]:
        found: list[tuple[str, Any]] = []
        asserted = AwsRole.objects.filter(links__mapping=thing, trust=ASSERTED)
        asserted = asserted.select_related("account")[:20]
        if asserted:
            found.append(
                ("Gives nobody", format_html_join(", ", "{}", ((_link(one),) for one in asserted)))
            )
        if thing.session_tags:
            found.append(("Its tags take of AWS's space", _space_taken(_space_of(thing))))
        return found

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """The service has saved it; what will not work is said now, and not to an employee who misses a role."""
        super().save_model(request, obj, form, change)
        given = AwsRole.objects.filter(links__mapping=obj).select_related("account")
        for warning in (without_effect(given), tags_that_may_not_fit(obj)):
            if warning:
                messages.warning(request, warning)

    # Before it is saved

    def get_urls(self) -> list[URLPattern]:
        preview = path(
            "preview/", self.admin_site.admin_view(self.preview_view), name="broker_mapping_preview"
        )
        return [preview, *super().get_urls()]

    def preview_view(self, request: HttpRequest) -> HttpResponse:
        """POST the form as it stands: who would get it. Writes nothing."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        return render(request, "admin/mapping_preview.html", {"own": preview_of(request)})


ASSERTED = Trust.RELAYED_ASSERTION
"""Of such roles the provider's own AWS application alone says whose they are."""


def without_effect(roles: Iterable[AwsRole]) -> str:
    """What to tell an administrator whose mapping names roles that no mapping gives; "" where there are none."""
    named = [str(role) for role in roles if role.trust == ASSERTED]
    if not named:
        return ""
    more = f" and {len(named) - 3} more" if len(named) > 3 else ""
    return (
        f"No mapping gives {', '.join(named[:3])}{more} to anybody: AWS trusts the provider's own AWS application "
        "there, and that alone says whose the role is. Assign it there, or give the role another trust here."
    )


def _space_of(mapping: RoleMapping) -> queries.TagSpace:
    return queries.tag_space(
        mapping.group_id, mapping.session_tags, mapping.session_policy, mapping.policy_arns
    )


def _space_taken(space: queries.TagSpace) -> str:
    if not space.people:
        return f"about {space.assumed} %, with values of {packing.ASSUMED_LENGTH} characters"
    return f"up to about {space.largest} % for {_plural(space.people, 'person', 'people')} known so far"


def tags_that_may_not_fit(mapping: RoleMapping) -> str:
    """What to tell an administrator whose mapping's tags could be too much for AWS; "" when they fit."""
    if not mapping.session_tags:
        return ""
    space = _space_of(mapping)
    advice = "Use fewer tags, shorter keys, or attributes with shorter values."
    if space.over:
        return (
            f"The tags of this mapping are too long for AWS for {space.over} of "
            f"{_plural(space.people, 'person', 'people')} known in the group: up to about {space.largest} % of "
            f"the space that AWS gives. It will hardly let them in. {advice}"
        )
    if space.largest >= packing.CLOSE:
        return (
            f"The tags of this mapping take up to about {space.largest} % of the space that AWS gives for the people "
            f"known so far. Somebody with longer values may be refused. {advice}"
        )
    if space.assumed > packing.FULL:
        return (
            f"With values of {packing.ASSUMED_LENGTH} characters, the tags of this mapping would take about "
            f"{space.assumed} % of the space that AWS gives, and somebody who has such would be refused. {advice}"
        )
    return ""


def preview_of(request: HttpRequest) -> dict[str, Any]:
    """Who would get which of the chosen roles, as far as the form can be understood now."""
    group_id = request.POST.get("group", "")
    group = (
        DirectoryGroup.objects.select_related("provider").filter(pk=int(group_id)).first()
        if group_id.isascii() and group_id.isdigit()
        else None
    )
    wanted = []
    for text in request.POST.getlist("roles")[:500]:
        try:
            wanted.append(UUID(text))
        except ValueError:
            continue
    roles = list(AwsRole.objects.filter(pk__in=wanted).select_related("account__environment"))
    if group is None:
        return {"group": None, "roles": roles}
    audience = queries.who_would_get(group.pk, timezone.now(), first=12)
    stopping = Deny.objects.filter(enabled=True).filter(
        Q(group=group)
        | Q(role__in=roles)
        | Q(account__in=[role.account_id for role in roles])
        | Q(role__isnull=True, account__isnull=True)
    )
    return {
        "group": group,
        "group_url": url_of(group),
        "roles": [role for role in roles if role.trust != ASSERTED],
        "without_effect": without_effect(roles),
        "production": [
            role
            for role in roles
            if role.account.environment and role.account.environment.production
        ],
        "audience": audience,
        "more": audience.total - len(audience.people),
        "stale": audience.total - audience.fresh,
        "self": any(person.id == request.user.pk for person in audience.people)
        or group.memberships.filter(person_id=str(request.user.pk)).exists(),
        "denies": [{"deny": deny, "url": url_of(deny)} for deny in stopping[:10]],
    }


# --- Denies


class DenyForm(ServiceForm):
    reason = forms.CharField(
        label="Why",
        max_length=200,
        help_text="Shown to the person who is refused. For example: Frozen during the audit; ask security@example.com.",
    )
    group = forms.ModelChoiceField(
        DirectoryGroup.objects.select_related("provider"),
        required=False,
        label="Members of this group",
    )
    person = forms.ModelChoiceField(Person.objects.all(), required=False, label="Or this person")
    role = forms.ModelChoiceField(
        AwsRole.objects.select_related("account"), required=False, label="May not use this role"
    )
    account = forms.ModelChoiceField(
        AwsAccount.objects.all(),
        required=False,
        label="Or any role of this account",
        help_text="Neither: no role at all.",
    )
    valid_until = MomentField(
        label="Until", required=False, help_text="UTC. Empty: until somebody lifts it."
    )
    enabled = forms.BooleanField(label="In force", required=False, initial=True)

    class Meta:
        model = Deny
        fields = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("group", "person", "role", "account"):
            search_in(self, name, AutocompleteSelect(Deny._meta.get_field(name), admin.site))
        if not self.instance._state.adding:
            self.initial.update(
                {
                    name: getattr(
                        self.instance,
                        f"{name}_id" if name in ("group", "person", "role", "account") else name,
                    )
                    for name in self.fields
                }
            )

    def write(self) -> Deny:
        values = dict(self.cleaned_data)
        for name in ("group", "person", "role", "account"):
            values[name] = values[name].pk if values[name] else None
        draft = DenyDraft(**values)
        if self.instance._state.adding:
            return services.create_deny(draft, **by(self.request))
        return services.update_deny(self.instance.pk, draft, **by(self.request))


@admin.register(Deny)
class DenyAdmin(DaypassAdmin):
    deeds = deeds_of(
        "The deny is lifted: mappings count again.",
        "The deny is in force again and beats every mapping.",
        "The deny is gone for good: mappings count again.",
    )
    list_display = ("who", "may_not", "reason", "until", "state")
    list_filter = (("enabled", titled("in force", admin.BooleanFieldListFilter)),)
    list_select_related = ("group__provider", "person", "role__account", "account")
    search_fields = (
        "reason",
        "group__name",
        "group__key",
        "person__handle",
        "role__name",
        "account__name",
    )
    search_help_text = "Person, group, role, account or reason"
    intro = "A deny beats every mapping."
    empty = "Nobody is denied anything by name."
    add_title = "Deny"
    form = DenyForm
    fieldsets = (
        ("Who", {"fields": (("group", "person"),), "classes": ("no-optional",)}),
        ("What", {"fields": (("role", "account"),), "classes": ("no-optional",)}),
        ("Why and how long", {"fields": ("reason", "valid_until", "enabled")}),
    )

    @admin.display(description="who")
    def who(self, deny: Deny) -> str:
        return f"Members of {deny.group}" if deny.group else str(deny.person)

    @admin.display(description="may not use")
    def may_not(self, deny: Deny) -> str:
        if deny.role:
            return str(deny.role)
        return f"any role of {deny.account}" if deny.account else "any role at all"

    @admin.display(description="until", ordering="valid_until")
    def until(self, deny: Deny) -> str:
        return exact(deny.valid_until) or "lifted by hand"

    @admin.display(description="state", ordering="enabled")
    def state(self, deny: Deny) -> str:
        if not deny.enabled:
            return _chip("lifted", "grey")
        over = deny.valid_until and deny.valid_until <= timezone.now()
        return _chip("over", "grey") if over else _chip("in force", "red")


@panel("accounts.person", position=25)
def denies_of_person(request: HttpRequest, person: Person) -> Panel | None:
    rows = [{"deny": deny, "url": url_of(deny)} for deny in Deny.objects.filter(person=person)[:20]]
    return Panel("Denied by name", "admin/denies.html", {"rows": rows}) if rows else None


# --- What entitlements contribute to other pages


@contributes(attentions)
def mappings_that_end(request: HttpRequest) -> Iterable[Attention]:
    now = timezone.now()
    ending = RoleMapping.objects.filter(
        enabled=True, valid_until__gt=now, valid_until__lt=now + timedelta(days=7)
    ).select_related("group__provider")
    for mapping in ending[:5]:
        yield Attention(
            "note",
            f"The mapping of {mapping.group} ends on {exact(mapping.valid_until)}.",
            url_of(mapping),
            "See it",
        )


@contributes(figures)
def what_there_is(request: HttpRequest) -> Iterable[Figure]:
    accounts = AwsAccount.objects.filter(enabled=True).count()
    roles = AwsRole.objects.filter(enabled=True).count()
    yield Figure(
        str(roles),
        "roles in use",
        list_url(AwsRole),
        f"in {_plural(accounts, 'account', 'accounts')}",
    )
    mappings = RoleMapping.objects.filter(enabled=True).count()
    denies = Deny.objects.filter(enabled=True).count()
    yield Figure(
        str(mappings),
        "mappings in use",
        list_url(RoleMapping),
        _plural(denies, "deny", "denies") + " in force",
    )


@contributes(steps)
def register_an_account(request: HttpRequest) -> Step:
    count = AwsAccount.objects.count()
    return Step(
        30,
        "Register an AWS account",
        "done" if count else "waiting",
        _plural(count, "account", "accounts")
        if count
        else "Its 12 digits, and the name that people use.",
        reverse("admin:broker_awsaccount_add"),
        "" if count else "Register an account",
    )


@contributes(steps)
def register_a_role(request: HttpRequest) -> Step:
    count = AwsRole.objects.count()
    return Step(
        40,
        "Register a role",
        "done" if count else "waiting",
        _plural(count, "role", "roles")
        if count
        else "By its ARN. Its page then shows the trust policy that IAM needs.",
        reverse("admin:broker_awsrole_add"),
        "" if count else "Register a role",
    )


@contributes(steps)
def map_a_group(request: HttpRequest) -> Step:
    count = RoleMapping.objects.filter(enabled=True).count()
    return Step(
        50,
        "Map a directory group to roles",
        "done" if count else "waiting",
        _plural(count, "mapping", "mappings")
        if count
        else "Choose a group, choose roles; the form shows who would get them.",
        reverse("admin:broker_mapping_add"),
        "" if count else "Map a group",
    )


@contributes(finders)
def find_accounts_and_roles(text: str) -> Iterable[Hit]:
    digits = text.replace("-", "").replace(" ", "")
    accounts = AwsAccount.objects.filter(
        Q(name__icontains=text)
        | Q(account_id__startswith=digits or text)
        | Q(alias__istartswith=text)
    )
    for account in accounts[:10]:
        yield Hit("Account", account.name, account.account_id, url_of(account))
    roles = AwsRole.objects.filter(Q(name__icontains=text) | Q(arn=text)).select_related("account")
    for role in roles[:10]:
        yield Hit("Role", str(role), role.arn, url_of(role))
