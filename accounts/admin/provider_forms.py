"""The forms of an identity provider, one for each protocol. Writing is one service call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms

from accounts import services
from accounts.admin.claim_maps import ClaimMapFields, claim_map_of
from accounts.admin.common import by
from accounts.models import (
    SLUG,
    Encryption,
    IdentityProvider,
    Pinning,
    Protocol,
)
from accounts.rules import PRESETS, ClaimMap
from broker.backoffice import ServiceForm, code_area, code_input
from broker.errors import BadInput, DaypassError, ProviderUnavailable


class ProviderForm(ClaimMapFields, ServiceForm):
    """What both protocols ask. The claim map is asked after a test sign-in has shown what arrives."""

    name = forms.CharField(
        label="Name",
        max_length=80,
        help_text="As people know it; it stands on the sign-in button. For example Okta.",
    )
    slug = forms.CharField(
        label="Short name",
        max_length=40,
        validators=[SLUG],
        widget=code_input(),
        help_text="Part of the addresses that its administrator enters, and fixed from then on. For example okta.",
    )
    position = forms.IntegerField(
        label="Place among the buttons", min_value=0, max_value=999, required=False, initial=0
    )
    preset = forms.ChoiceField(
        label="What it is",
        required=False,
        help_text="Where its attributes usually are. All of it can be changed after a first test sign-in.",
    )
    pinning = forms.ChoiceField(
        label="New keys are believed by",
        required=False,
        help_text="An administrator: Daypass shows what is new and waits. Addresses wait in any case, except where the "
        "signer of the metadata vouches for them.",
    )
    seen = forms.CharField(required=False, max_length=64, widget=forms.HiddenInput)
    """What was known of the provider when the page was made: a refresh may have been quicker than its reader."""

    protocol: Protocol
    policies: Sequence[Pinning] = ()
    presets: Sequence[tuple[str, str]] = ()

    class Meta:
        model = IdentityProvider
        fields = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.adding = self.instance._state.adding
        preset: Any = self.fields["preset"]
        preset.choices = self.presets
        pinning: Any = self.fields["pinning"]
        pinning.choices = [(policy.value, policy.label) for policy in self.policies]
        pinning.initial = self.policies[0].value
        if Pinning.SIGNED not in self.policies:
            pinning.help_text = "An administrator: Daypass shows what is new and waits. New addresses wait in any case."
        if self.adding:
            for name in [name for name in self.fields if name.startswith("map_")]:
                del self.fields[name]
            del self.fields["seen"]
        else:
            del self.fields["preset"]
            self.fields["slug"].disabled = True
            self.initial.update(
                {
                    name: getattr(self.instance, name)
                    for name in self.fields
                    if not name.startswith("map_") and hasattr(self.instance, name)
                }
            )
            self.initial.update(self.answers(ClaimMap.from_json(self.instance.claim_map or {})))
            self.initial["seen"] = services.trust_mark(self.instance)

    def clean_slug(self) -> str:
        slug: str = self.cleaned_data["slug"]
        if self.adding and IdentityProvider.objects.filter(slug=slug).exists():
            raise forms.ValidationError("Another provider has this short name.")
        return slug

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if IdentityProvider.objects.filter(name__iexact=name).exclude(pk=self.instance.pk).exists():
            raise forms.ValidationError(
                "Another provider is called that; people could not tell them apart."
            )
        return name

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if not self.adding and cleaned.get("seen") != services.trust_mark(self.instance):
            self.add_error(
                None,
                "The provider's keys or addresses have changed since this page was opened, by a refresh or by another "
                "administrator. Open it again and enter what you want to change.",
            )
        if not self.adding and not self.errors:
            try:
                self.claim_map = claim_map_of(cleaned)
            except BadInput as error:
                self.add_error(
                    "map_groups" if "separator" not in error.message else "map_separator",
                    error.message,
                )
        return cleaned

    def provider(self) -> IdentityProvider:
        """The provider as it would be, with what both protocols ask filled in; the stored one is not touched."""
        if self.adding:
            made = IdentityProvider(protocol=self.protocol, slug=self.cleaned_data["slug"])
            made.claim_map = PRESETS[self.cleaned_data["preset"] or self.presets[0][0]].to_json()
        else:
            made = IdentityProvider.objects.get(pk=self.instance.pk)
            made.claim_map = self.claim_map.to_json()
        made.name = self.cleaned_data["name"]
        made.position = self.cleaned_data["position"] or 0
        made.pinning = self.cleaned_data["pinning"] or self.policies[0]
        return made

    def at_field(self, error: DaypassError) -> str | None:
        """Which field the service's refusal is about."""
        return None

    def refused(self, error: DaypassError) -> None:
        """A provider that does not answer is told by the cause: the sentence for employees would not help."""
        said = " ".join(filter(None, (error.message, error.cause)))
        if isinstance(error, ProviderUnavailable):
            said = error.why
        self.add_error(self.at_field(error), said)


class SamlProviderForm(ProviderForm):
    """SAML: by the address of the metadata, by pasted metadata, or by its parts. One of the three is enough."""

    protocol = Protocol.SAML
    policies = (Pinning.APPROVE, Pinning.SIGNED, Pinning.FOLLOW)
    presets = (
        ("saml", "Any SAML 2.0 identity provider"),
        ("okta-saml", "Okta"),
        ("entra-saml", "Microsoft Entra ID"),
        ("adfs-saml", "AD FS"),
    )
    metadata_url = forms.CharField(
        label="Address of its metadata",
        required=False,
        max_length=500,
        widget=code_input(inputmode="url"),
        help_text="The best way: Daypass looks every hour for new certificates. For example "
        "https://example.okta.com/app/exk1abc/sso/saml/metadata.",
    )
    metadata_xml = forms.CharField(
        label="Or its metadata, pasted",
        required=False,
        max_length=1_000_000,
        widget=code_area(5),
        help_text="The XML document that begins with <EntityDescriptor. New certificates have to be pasted again.",
    )
    entity_id = forms.CharField(
        label="Entity id",
        required=False,
        max_length=1024,
        widget=code_input(),
        help_text="Of the identity provider. Also chooses one where metadata describes several.",
    )
    sso_url = forms.CharField(
        label="Sign-on address",
        required=False,
        max_length=1024,
        widget=code_input(),
        help_text="SingleSignOnService with the HTTP-Redirect binding.",
    )
    slo_url = forms.CharField(
        label="Sign-out address",
        required=False,
        max_length=1024,
        widget=code_input(),
        help_text="SingleLogoutService with the HTTP-Redirect binding, if it has one.",
    )
    certificates = forms.CharField(
        label="Signing certificates",
        required=False,
        widget=code_area(5),
        help_text="PEM, with BEGIN and END lines; several below each other while the provider changes its key.",
    )
    response_signed = forms.BooleanField(
        label="The whole response must be signed",
        required=False,
        initial=True,
        help_text="The assertion always has to be. Switch off only for a provider that cannot sign both.",
    )

    encryption = forms.ChoiceField(
        label="Encrypted assertions",
        required=False,
        choices=Encryption.choices,
        initial=Encryption.REFUSED,
        help_text="With AES-GCM and RSA-OAEP only. The connection is encrypted already; choose it where the provider "
        "or a rule of yours asks for it. A certificate to encrypt for is in the metadata then.",
    )
    metadata_signers = forms.CharField(
        label="Signers of its metadata",
        required=False,
        widget=code_area(3),
        help_text="PEM certificates of whoever signs the metadata, for example a federation's. Only where the signer "
        "decides; several while the signer changes its key.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.adding:
            self.initial["metadata_signers"] = "\n".join(self.instance.metadata_signers)
            self.initial["certificates"] = "\n".join(self.instance.certificates)
            self.initial["metadata_xml"] = ""
            self.fields["metadata_xml"].label = "Replace by pasted metadata"

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        ways = [
            name
            for name in ("metadata_url", "metadata_xml")
            if str(cleaned.get(name) or "").strip()
        ]
        if self.adding and len(ways) == 2:
            self.add_error(
                "metadata_xml", "Give the address or the text of the metadata, not both."
            )
        parts = all(
            str(cleaned.get(n) or "").strip() for n in ("entity_id", "sso_url", "certificates")
        )
        if self.adding and not ways and not parts:
            self.add_error(
                "metadata_url",
                "Give the address of the metadata, paste it, or fill in entity id, sign-on address and certificate.",
            )
        return cleaned

    def write(self) -> IdentityProvider:
        values = self.cleaned_data
        made = self.provider()
        made.metadata_url = values["metadata_url"].strip()
        if values["metadata_xml"].strip():
            made.metadata_xml = values["metadata_xml"].strip()
            if not self.adding:
                made.metadata_url = ""
        for part in ("entity_id", "sso_url", "slo_url"):
            setattr(made, part, values[part].strip())
        made.certificates = pem_blocks(values["certificates"])
        made.response_signed = values["response_signed"]
        made.encryption = values["encryption"] or made.encryption
        made.metadata_signers = pem_blocks(values["metadata_signers"])
        return services.save_provider(made, by=by(self.request))

    def at_field(self, error: DaypassError) -> str | None:
        said = error.message.lower()
        if "signer" in said:
            return "metadata_signers"
        if self.cleaned_data.get("metadata_xml", "").strip():
            return "metadata_xml"
        if "certificate" in said:
            return "certificates"
        if "sign-on address" in said:
            return "sso_url"
        if "sign-out address" in said:
            return "slo_url"
        return "metadata_url" if self.cleaned_data.get("metadata_url") else "entity_id"


def pem_blocks(text: str) -> list[str]:
    """The certificates in a text, each from its BEGIN to its END line; bare base64 is one certificate."""
    if "-----BEGIN" not in text:
        return [text.strip()] if text.strip() else []
    return ["-----BEGIN" + part for part in text.split("-----BEGIN")[1:]]


class OidcProviderForm(ProviderForm):
    """OpenID Connect: by the issuer, whose discovery document says the rest."""

    protocol = Protocol.OIDC
    policies = (Pinning.FOLLOW, Pinning.APPROVE)
    presets = (
        ("oidc", "Any OpenID Connect provider"),
        ("entra-oidc", "Microsoft Entra ID"),
        ("keycloak-oidc", "Keycloak"),
    )
    issuer = forms.CharField(
        label="Issuer",
        max_length=1024,
        widget=code_input(inputmode="url"),
        help_text="Exactly as the provider writes it, to the last slash. For example "
        "https://login.example.com/realms/staff.",
    )
    client_id = forms.CharField(
        label="Client id",
        max_length=255,
        widget=code_input(autocomplete="off"),
        help_text="Of the application that was made for Daypass at the provider.",
    )
    secret = forms.CharField(
        label="Client secret",
        required=False,
        max_length=1000,
        strip=True,
        widget=forms.PasswordInput(
            render_value=False, attrs={"autocomplete": "new-password", "spellcheck": "false"}
        ),
        help_text="Kept sealed and never shown again.",
    )
    scopes = forms.CharField(
        label="Scopes",
        required=False,
        max_length=500,
        initial="openid profile email",
        widget=code_input(),
        help_text="Separated by spaces. Some providers want groups as well.",
    )
    id_token_algorithm = forms.ChoiceField(
        label="Signature of ID tokens",
        choices=[("RS256", "RS256"), ("ES256", "ES256")],
        help_text="Daypass accepts this one and no other.",
    )
    groups_from_userinfo = forms.BooleanField(
        label="Read groups from userinfo",
        required=False,
        help_text="Only for a provider that leaves them out of the ID token. Who somebody is never comes from there.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.adding:
            self.fields.pop("map_subject", None)
            self.initial["scopes"] = " ".join(self.instance.scopes)
            there = bool(self.instance.client_secret_sealed)
            self.fields["secret"].help_text = (
                "Set. Leave empty to keep it; a new issuer forgets it."
                if there
                else "Not set. It is kept sealed and never shown again."
            )

    def write(self) -> IdentityProvider:
        values = self.cleaned_data
        made = self.provider()
        made.issuer = values["issuer"].strip()
        made.client_id = values["client_id"].strip()
        made.scopes = values["scopes"].split()
        made.id_token_algorithm = values["id_token_algorithm"]
        made.groups_from_userinfo = values["groups_from_userinfo"]
        return services.save_provider(made, by=by(self.request), secret=values["secret"] or None)

    def at_field(self, error: DaypassError) -> str | None:
        said = error.message.lower()
        if "scopes" in said:
            return "scopes"
        if "client id" in said:
            return "client_id"
        return "issuer"
