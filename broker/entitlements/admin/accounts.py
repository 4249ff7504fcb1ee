"""Environments and AWS accounts in the admin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from broker.audit.administrators import by
from broker.backoffice import (
    DaypassAdmin,
    Deed,
    Panel,
    ServiceForm,
    chip,
    code_input,
    how_many,
    list_url,
    marks_of,
    panel,
    titled,
    url_of,
)
from broker.entitlements import services
from broker.entitlements.admin.common import (
    SWITCH,
    as_it_is,
    deeds_of,
    delete,
    environment_chip,
    in_the_way,
    only_when_new,
    without_switch,
)
from broker.entitlements.drafts import AccountDraft, EnvironmentDraft
from broker.entitlements.models import AwsAccount, AwsRole, Environment

# --- Environments


class EnvironmentForm(ServiceForm):
    name = forms.CharField(max_length=40, help_text="For example Production.")
    colour = forms.ChoiceField(choices=Environment.Colour.choices)
    production = forms.BooleanField(
        label="These are production accounts",
        required=False,
        help_text="Marked unmistakably wherever its roles appear.",
    )
    position = forms.IntegerField(
        label="Position", min_value=0, max_value=999, initial=0, help_text="Smaller numbers first."
    )

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
            delete,
            warn=lambda environment: "No account uses it. It will be gone for good.",
            blocked=in_the_way,
            danger=True,
            leaves=True,
        ),
    )
    list_display = ("environment", "marked", "accounts", "position")
    intro = "What kind an account is: a word and a colour that people see on it and on its roles."
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
        return environment_chip(environment)

    @admin.display(description="accounts")
    def accounts(self, environment: Any) -> Any:
        return environment.account_count


# --- AWS accounts


class AwsAccountForm(ServiceForm):
    """An account is registered once; afterwards its number stays what it is."""

    account_id = forms.CharField(
        label="Account id",
        max_length=40,
        widget=code_input(inputmode="numeric"),
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
        widget=code_input(),
        help_text="The account alias in IAM, if it has one. People may search and link by it.",
    )
    region = forms.CharField(
        label="Region",
        max_length=32,
        required=False,
        widget=code_input(),
        help_text="Where STS is asked and the console opens. For example eu-west-1. Empty: the partition's own.",
    )
    second_region = forms.CharField(
        label="Second region",
        max_length=32,
        required=False,
        widget=code_input(),
        help_text="Who is asked when the first region does not answer. Empty: one nearby that is always on.",
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
        widget=code_input(),
        help_text="Only for roles with SAML trust: the IAM provider that holds Daypass's metadata.",
    )
    external_id = forms.CharField(
        label="External id",
        max_length=1224,
        required=False,
        widget=code_input(),
        help_text="Only for AssumeRole: sent for roles of this account that have none of their own.",
    )
    discovery_role = forms.CharField(
        label="Discovery role",
        max_length=576,
        required=False,
        widget=code_input(),
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
        only_when_new(self)
        if not self.instance._state.adding:
            for fixed in ("account_id", "partition"):
                self.fields[fixed].disabled = True
            self.initial.update({name: getattr(self.instance, name) for name in self.fields})
            self.initial["environment"] = self.instance.environment_id

    def write(self) -> AwsAccount:
        values = {**self.cleaned_data, SWITCH: as_it_is(self)}
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
        "No role belongs to it. It will be gone for good.",
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

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fieldsets if obj is None else without_switch(self.fieldsets)

    def facts(self, request: HttpRequest, thing: AwsAccount) -> Sequence[tuple[str, Any]]:
        return (("State", self.state(thing)),)

    @admin.display(description="account", ordering="name")
    def account(self, account: AwsAccount) -> str:
        return account.name

    @admin.display(description="id", ordering="account_id")
    def number(self, account: AwsAccount) -> str:
        return format_html('<span class="mono">{}</span>', account.account_id)

    @admin.display(description="environment", ordering="environment")
    def kind(self, account: AwsAccount) -> str:
        return environment_chip(account.environment)

    @admin.display(description="roles")
    def roles(self, account: Any) -> str:
        return format_html(
            '<a href="{}">{}</a>',
            list_url(AwsRole, account__id__exact=account.pk),
            account.role_count,
        )

    @admin.display(description="state", ordering="enabled")
    def state(self, account: AwsAccount) -> str:
        own = chip("in use", "green") if account.enabled else chip("off", "grey")
        return format_html("{} {}", own, marks_of(account))


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
