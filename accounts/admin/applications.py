"""The applications for AWS that companies have at their identity providers, whose assertions are passed on."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from accounts import relay, services
from accounts.admin.common import by
from accounts.models import IdentityProvider, RelayApplication
from accounts.services.keys import fingerprint
from broker.arns import PARTITIONS
from broker.backoffice import (
    DaypassAdmin,
    Deed,
    Panel,
    ServiceForm,
    chip,
    code_area,
    code_input,
    panel,
)


class RelayApplicationForm(ServiceForm):
    """One for each provider. Its metadata is pasted once, and again when its certificate changes."""

    provider = forms.ModelChoiceField(
        IdentityProvider.objects.all(),
        help_text="The provider through which the same people sign in.",
    )
    metadata_xml = forms.CharField(
        label="Metadata of the application",
        required=False,
        max_length=400_000,
        widget=code_area(6),
        help_text="The SAML metadata of the AWS application at the provider: its entity id and certificates are read.",
    )
    start_url = forms.CharField(
        label="Where its sign-in begins",
        max_length=1024,
        widget=code_input(),
        help_text="The application's own link at the provider, as its tile has it (Okta calls it the embed link).",
    )
    subject_attribute = forms.CharField(
        label="Attribute with the person's id",
        required=False,
        max_length=512,
        widget=code_input(),
        help_text="Where the application sends the same id of a person as the provider's sign-ins. Empty: the NameID.",
    )
    partition = forms.ChoiceField(
        choices=[(one.name, one.title) for one in PARTITIONS.values()],
        initial="aws",
        help_text="The AWS partition that its assertions are made out to.",
    )
    enabled = forms.BooleanField(
        label="In use", required=False, initial=True, help_text="Off: nothing of it is passed on."
    )

    class Meta:
        model = RelayApplication
        fields = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        metadata = self.fields["metadata_xml"]
        metadata.required = self.instance._state.adding
        if not self.instance._state.adding:
            metadata.help_text = f"{metadata.help_text} Empty: what was read before stays."
            self.fields["provider"].disabled = True
            self.initial.update(
                provider=self.instance.provider_id,
                **{
                    name: getattr(self.instance, name)
                    for name in ("start_url", "subject_attribute", "partition", "enabled")
                },
            )

    def write(self) -> RelayApplication:
        values = dict(self.cleaned_data)
        return services.save_application(values.pop("provider"), **values, by=by(self.request))


def _delete(request: HttpRequest, thing: Any) -> str:
    said = str(thing)
    services.delete_application(thing, by=by(request))
    return f"{said} is disconnected."


@admin.register(RelayApplication)
class RelayApplicationAdmin(DaypassAdmin):
    deeds = (
        Deed(
            "delete",
            "Disconnect",
            _delete,
            warn=lambda thing: "Roles that it gives are refused to everybody from then on.",
            danger=True,
            leaves=True,
        ),
    )
    intro = (
        "Where a company has an application for AWS at its identity provider, whose assertions its roles trust "
        "already, Daypass passes those on. docs/relay.md says for which providers that works."
    )
    list_display = ("application", "entity", "world", "state")
    list_select_related = ("provider",)
    ordering = ("provider__name",)
    empty = "Most companies need none: their roles trust Daypass."
    add_title = "Connect an AWS application"
    form = RelayApplicationForm
    fieldsets = (
        (
            None,
            {"fields": ("provider", "metadata_xml", "start_url", "subject_attribute", "enabled")},
        ),
        ("Seldom needed", {"fields": ("partition",), "classes": ("collapse",)}),
    )

    @admin.display(description="provider", ordering="provider__name")
    def application(self, row: RelayApplication) -> str:
        return row.provider.name

    @admin.display(description="entity id")
    def entity(self, row: RelayApplication) -> str:
        return format_html('<span class="mono">{}</span>', row.entity_id)

    @admin.display(description="partition")
    def world(self, row: RelayApplication) -> str:
        return PARTITIONS[row.partition].title

    @admin.display(description="state", ordering="enabled")
    def state(self, row: RelayApplication) -> str:
        return chip("in use", "green") if row.enabled else chip("off", "grey")


@panel("accounts.relayapplication", position=20)
def what_the_application_needs(request: HttpRequest, row: RelayApplication) -> Panel:
    door = settings.DAYPASS_ORIGIN + reverse("relay_aws", kwargs={"slug": row.provider.slug})
    return Panel(
        "What the application has to be told",
        "admin/relay_application.html",
        {
            "door": door,
            "recipient": relay.recipients_of(row.partition)[0],
            "audience": relay.audience_of(row.partition),
            "entity_id": row.entity_id,
            "fingerprints": [fingerprint(pem) for pem in row.certificates],
        },
    )
