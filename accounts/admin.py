"""Identity providers, people and directory groups in the admin. Every change is a call of accounts.services."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from cryptography import x509
from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
)
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join

from accounts import services
from accounts.models import (
    SLUG,
    DirectoryGroup,
    IdentityProvider,
    Membership,
    Person,
    Protocol,
    SignInTest,
)
from accounts.rules import PRESETS, ClaimMap, GroupForm
from broker.backoffice import (
    NOTHING,
    Attention,
    DaypassAdmin,
    Deed,
    DetailAdmin,
    Figure,
    Hit,
    LinesField,
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
    panel,
    steps,
    titled,
    url_of,
)
from broker.errors import BadInput, DaypassError, ProviderUnavailable
from broker.templatetags.backoffice import exact, moment

WARN_BEFORE = timedelta(days=30)


def _plural(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def by(request: HttpRequest) -> services.By:
    """Who changes something, for the services."""
    principal = getattr(request, "principal", None)
    user: Any = request.user
    return services.By(
        id=str(user.pk), name=user.get_username(), address=principal.address if principal else ""
    )


def _chip(text: str, colour: str) -> str:
    return format_html('<span class="chip" data-colour="{}">{}</span>', colour, text)


# --- Identity providers


class PathField(forms.CharField):
    """Where a value is: one attribute name, or steps into nested claims joined by `>`; cleaned to a list of names."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            required=False,
            max_length=2000,
            widget=forms.TextInput(attrs={"class": "typed", "spellcheck": "false"}),
            **kwargs,
        )

    def prepare_value(self, value: Any) -> Any:
        return written(value) if isinstance(value, list | tuple) else value

    def to_python(self, value: Any) -> Any:
        return read_path(str(value or ""))


def written(path: Sequence[str]) -> str:
    """A path as people write it; as JSON when a step itself looks like the notation."""
    if any(">" in step or step != step.strip() or step.startswith("[") for step in path):
        return json.dumps(list(path))
    return " > ".join(path)


def read_path(text: str) -> list[str]:
    """`realm_access > roles` -> ["realm_access", "roles"]. A JSON list says what this notation cannot."""
    text = text.strip()
    if text.startswith("["):
        try:
            steps_read = json.loads(text)
        except ValueError:
            raise forms.ValidationError("This looks like a JSON list, but is not one.") from None
        if not isinstance(steps_read, list) or not all(isinstance(s, str) for s in steps_read):
            raise forms.ValidationError("A JSON list of names, please.")
        return steps_read
    return [step.strip() for step in text.split(">") if step.strip()]


class ClaimMapFields(forms.Form):
    """The claim map as questions. `claim_map()` is the answer, checked by the rules themselves."""

    map_subject = PathField(
        label="Id of the person",
        help_text="The attribute with an id that never changes and is never given to somebody else. Empty: the NameID.",
    )
    map_username = PathField(
        label="User name", help_text="Looked at once, for a readable handle. For example uid."
    )
    map_name = PathField(
        label="Full name", help_text="For people to read. For example displayName."
    )
    map_email = PathField(
        label="E-mail",
        help_text="For people to read; nobody is ever recognised by it. For example mail.",
    )
    map_groups = PathField(
        label="Groups",
        help_text="Where the directory groups are. For example groups, or realm_access > roles for nested claims.",
    )
    map_groups_form = forms.ChoiceField(
        label="Groups are written as",
        choices=[
            (GroupForm.VALUES.value, "Values: engineering"),
            (GroupForm.SEPARATED.value, "One text with separators: engineering;sales"),
            (
                GroupForm.DISTINGUISHED_NAMES.value,
                "Distinguished names: CN=engineering,OU=Groups,DC=example",
            ),
            (
                GroupForm.LAST_SEGMENT.value,
                "Paths, of which the last part counts: /staff/engineering",
            ),
        ],
    )
    map_separator = forms.CharField(
        label="Separator",
        required=False,
        max_length=3,
        strip=False,
        help_text="Only for one text with separators. For example ;",
    )
    map_attributes = PairsField(
        label="Person attributes",
        required=False,
        example="department = department",
        help_text="Kept with the person, for session tags. One a line: name = where it is. For example cost_center = "
        "costCenter.",
    )
    map_mfa_contexts = LinesField(
        label="Contexts that mean multi-factor",
        required=False,
        help_text="AuthnContextClassRef (SAML) or acr (OpenID Connect) values, one a line, exactly as they arrive.",
    )
    map_mfa_methods = LinesField(
        label="Methods that mean multi-factor",
        required=False,
        help_text="amr values, one a line. For example mfa.",
    )

    @staticmethod
    def answers(claim_map: ClaimMap) -> dict[str, Any]:
        """A claim map as the initial values of the fields."""
        return {
            "map_subject": list(claim_map.subject),
            "map_username": list(claim_map.username),
            "map_name": list(claim_map.name),
            "map_email": list(claim_map.email),
            "map_groups": list(claim_map.groups),
            "map_groups_form": claim_map.groups_form.value,
            "map_separator": claim_map.separator
            if claim_map.groups_form is GroupForm.SEPARATED
            else "",
            "map_attributes": {n: written(path) for n, path in claim_map.attributes.items()},
            "map_mfa_contexts": list(claim_map.mfa_contexts),
            "map_mfa_methods": list(claim_map.mfa_methods),
        }


def claim_map_of(answers: Mapping[str, Any]) -> ClaimMap:
    """The claim map that the fields say. Raises BadInput in the words of the rules."""
    document: dict[str, Any] = {
        "groups_form": answers["map_groups_form"],
        "attributes": {
            name: read_path(path) for name, path in (answers["map_attributes"] or {}).items()
        },
        "mfa_contexts": answers["map_mfa_contexts"],
        "mfa_methods": answers["map_mfa_methods"],
    }
    for part in ("subject", "username", "name", "email", "groups"):
        document[part] = answers.get(f"map_{part}") or []
    if answers["map_groups_form"] == GroupForm.SEPARATED.value:
        document["separator"] = answers["map_separator"]
    return ClaimMap.from_json(document)


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
        widget=forms.TextInput(attrs={"class": "typed", "spellcheck": "false"}),
        help_text="Part of the addresses below, and fixed from then on. For example okta.",
    )
    position = forms.IntegerField(
        label="Place among the buttons", min_value=0, max_value=999, required=False, initial=0
    )
    preset = forms.ChoiceField(
        label="What it is",
        required=False,
        help_text="Where its attributes usually are. All of it can be changed after a first test sign-in.",
    )
    protocol: Protocol
    presets: Sequence[tuple[str, str]] = ()

    class Meta:
        model = IdentityProvider
        fields = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.adding = self.instance._state.adding
        preset: Any = self.fields["preset"]
        preset.choices = self.presets
        if self.adding:
            for name in [name for name in self.fields if name.startswith("map_")]:
                del self.fields[name]
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
        return made

    def at_field(self, error: DaypassError) -> str | None:
        """Which field the service's refusal is about."""
        return None

    def refused(self, error: DaypassError) -> None:
        said = " ".join(filter(None, (error.message, error.cause)))
        self.add_error(self.at_field(error), said)


class SamlProviderForm(ProviderForm):
    """SAML: by the address of the metadata, by pasted metadata, or by its parts. One of the three is enough."""

    protocol = Protocol.SAML
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
        widget=forms.TextInput(attrs={"class": "typed", "spellcheck": "false", "inputmode": "url"}),
        help_text="The best way: Daypass follows new certificates by itself, every hour. For example "
        "https://example.okta.com/app/exk1abc/sso/saml/metadata.",
    )
    metadata_xml = forms.CharField(
        label="Or its metadata, pasted",
        required=False,
        max_length=1_000_000,
        widget=forms.Textarea(attrs={"rows": 5, "class": "typed", "spellcheck": "false"}),
        help_text="The XML document that begins with <EntityDescriptor. New certificates have to be pasted again.",
    )
    entity_id = forms.CharField(
        label="Entity id",
        required=False,
        max_length=1024,
        widget=forms.TextInput(attrs={"class": "typed", "spellcheck": "false"}),
        help_text="Of the identity provider. Also chooses one where metadata describes several.",
    )
    sso_url = forms.CharField(
        label="Sign-on address",
        required=False,
        max_length=1024,
        widget=forms.TextInput(attrs={"class": "typed", "spellcheck": "false"}),
        help_text="SingleSignOnService with the HTTP-Redirect binding.",
    )
    slo_url = forms.CharField(
        label="Sign-out address",
        required=False,
        max_length=1024,
        widget=forms.TextInput(attrs={"class": "typed", "spellcheck": "false"}),
        help_text="SingleLogoutService with the HTTP-Redirect binding, if it has one.",
    )
    certificates = forms.CharField(
        label="Signing certificates",
        required=False,
        widget=forms.Textarea(attrs={"rows": 5, "class": "typed", "spellcheck": "false"}),
        help_text="PEM, with BEGIN and END lines; several below each other while the provider changes its key.",
    )
    response_signed = forms.BooleanField(
        label="The whole response must be signed",
        required=False,
        initial=True,
        help_text="The assertion always has to be. Switch off only for a provider that cannot sign both.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.adding:
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
        return services.save_provider(made, by=by(self.request))

    def at_field(self, error: DaypassError) -> str | None:
        said = error.message.lower()
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
    presets = (
        ("oidc", "Any OpenID Connect provider"),
        ("entra-oidc", "Microsoft Entra ID"),
        ("keycloak-oidc", "Keycloak"),
    )
    issuer = forms.CharField(
        label="Issuer",
        max_length=1024,
        widget=forms.TextInput(attrs={"class": "typed", "spellcheck": "false", "inputmode": "url"}),
        help_text="Exactly as the provider writes it, to the last slash. For example "
        "https://login.example.com/realms/staff.",
    )
    client_id = forms.CharField(
        label="Client id",
        max_length=255,
        widget=forms.TextInput(
            attrs={"class": "typed", "spellcheck": "false", "autocomplete": "off"}
        ),
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
        widget=forms.TextInput(attrs={"class": "typed", "spellcheck": "false"}),
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


def _switch_on(request: HttpRequest, provider: IdentityProvider) -> str:
    stored = IdentityProvider.objects.get(pk=provider.pk)
    stored.enabled = True
    services.save_provider(stored, by=by(request))
    return f"People can sign in with {provider} now."


def _switch_off(request: HttpRequest, provider: IdentityProvider) -> str:
    stored = IdentityProvider.objects.get(pk=provider.pk)
    stored.enabled = False
    services.save_provider(stored, by=by(request))
    return f"Nobody signs in with {provider} any more, and its groups count for nothing."


def _refresh(request: HttpRequest, provider: IdentityProvider) -> str:
    if services.refresh_provider(provider.pk):
        return f"{provider} answered; what it says now is in use."
    stored = IdentityProvider.objects.get(pk=provider.pk)
    raise ProviderUnavailable(f"{provider}: {stored.refresh_problem}", retry=True)


def _refreshable(provider: IdentityProvider) -> bool:
    return bool(provider.metadata_url or provider.issuer)


def _switch_off_warning(provider: IdentityProvider) -> str:
    count = Person.objects.filter(provider=provider, is_active=True).count()
    return (
        f"{_plural(count, 'person signs', 'people sign')} in with {provider}. None of them can any more, and every "
        "role that they have by its groups is refused until it is switched on again."
    )


@admin.register(IdentityProvider)
class IdentityProviderAdmin(DaypassAdmin):
    list_display = ("provider", "protocol", "state", "where", "people", "checked", "certificate")
    empty = "Connect the company's identity provider: nobody can sign in before."
    add_title = "Connect a provider"
    ordering = ("position", "name")
    deeds = (
        Deed("enable", "Switch on", _switch_on, available=lambda provider: not provider.enabled),
        Deed("refresh", "Refresh metadata now", _refresh, available=_refreshable),
        Deed(
            "disable",
            "Switch off",
            _switch_off,
            available=lambda provider: provider.enabled,
            warn=_switch_off_warning,
            danger=True,
        ),
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        return (
            super()
            .get_queryset(request)
            .annotate(person_count=how_many(Person.objects.all(), "provider"))
        )

    # The list

    @admin.display(description="provider", ordering="name")
    def provider(self, provider: IdentityProvider) -> str:
        return provider.name

    @admin.display(description="state", ordering="enabled")
    def state(self, provider: IdentityProvider) -> str:
        if provider.refresh_problem:
            return _chip("does not answer", "red")
        return _chip("on", "green") if provider.enabled else _chip("off", "grey")

    @admin.display(description="known as")
    def where(self, provider: IdentityProvider) -> str:
        return provider.issuer or provider.entity_id

    @admin.display(description="people")
    def people(self, provider: Any) -> Any:
        return provider.person_count

    @admin.display(description="refreshed", ordering="refreshed_at")
    def checked(self, provider: IdentityProvider) -> str:
        return moment(provider.refreshed_at) if _refreshable(provider) else "by hand"

    @admin.display(description="certificate ends", ordering="certificate_expires_at")
    def certificate(self, provider: IdentityProvider) -> str:
        ends = provider.certificate_expires_at
        return moment(ends) if ends else NOTHING

    # The form

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: Any = None,
    ) -> HttpResponse:
        if object_id is None and request.GET.get("protocol") not in Protocol.values:
            if not self.has_add_permission(request):
                raise Http404
            return render(
                request,
                "admin/provider_doors.html",
                {
                    **self.admin_site.each_context(request),
                    "opts": self.opts,
                    "title": self.add_title,
                    "lead": "Which protocol does it speak for Daypass?",
                },
            )
        extra = dict(extra_context or {})
        if object_id is None:
            protocol = Protocol(request.GET["protocol"])
            extra["title"] = f"Connect a provider by {protocol.label}"
            extra["addresses"] = addresses("", protocol)
        return super().changeform_view(request, object_id, form_url, extra)

    def form_class(self, request: HttpRequest, obj: Any) -> type[ServiceForm]:
        protocol = obj.protocol if obj else request.GET.get("protocol")
        return SamlProviderForm if protocol == Protocol.SAML else OidcProviderForm

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        protocol = obj.protocol if obj else request.GET.get("protocol")
        collapsed = ("collapse", "no-optional")
        people = (
            "Who it is",
            {"fields": (("name", "slug"), "preset" if obj is None else "position")},
        )
        if protocol == Protocol.SAML:
            sets = [
                people,
                (
                    "How to reach it",
                    {
                        "fields": ("metadata_url", "metadata_xml"),
                        "description": "One of them is enough; everything else is read from it.",
                        "classes": ("no-optional",),
                    },
                ),
                (
                    "Or by its parts",
                    {
                        "fields": (
                            "entity_id",
                            ("sso_url", "slo_url"),
                            "certificates",
                            "response_signed",
                        ),
                        "classes": collapsed,
                        "description": "Filled in from the metadata where there is some.",
                    },
                ),
            ]
            subject: tuple[str, ...] = ("map_subject",)
        else:
            sets = [
                people,
                ("How to reach it", {"fields": ("issuer", ("client_id", "secret"))}),
                (
                    "Details",
                    {
                        "fields": (("scopes", "id_token_algorithm"), "groups_from_userinfo"),
                        "classes": collapsed,
                    },
                ),
            ]
            subject = ()
        if obj is not None:
            sets += [
                (
                    "Claim map: the person",
                    {
                        "fields": (*subject, ("map_username", "map_name"), "map_email"),
                        "description": "Where a person is described in what arrives, which a test sign-in shows.",
                        "classes": ("no-optional",),
                    },
                ),
                (
                    "Claim map: groups",
                    {
                        "fields": ("map_groups", ("map_groups_form", "map_separator")),
                        "classes": ("no-optional",),
                    },
                ),
                (
                    "Claim map: attributes and second factor",
                    {
                        "fields": ("map_attributes", ("map_mfa_contexts", "map_mfa_methods")),
                        "classes": ("no-optional",),
                    },
                ),
            ]
        return sets

    def lead(self, thing: IdentityProvider) -> str:
        if thing.refresh_problem:
            return f"The last refresh failed: {thing.refresh_problem}"
        if not thing.enabled:
            return "Switched off. Try a test sign-in, look at what it became, then switch it on."
        return f"People sign in with it. {thing.get_protocol_display()}."

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: Any = None
    ) -> HttpResponse:
        messages.success(
            request,
            f"{obj} is connected, and still switched off. Give its administrator the addresses below, then try a "
            "test sign-in.",
        )
        return HttpResponseRedirect(url_of(obj))


def addresses(slug: str, protocol: str) -> list[tuple[str, str, str]]:
    """What the administrator of the identity provider asks for: label, address before and after the short name."""
    origin = settings.DAYPASS_ORIGIN
    if protocol == Protocol.SAML:
        return [
            ("Reply address (ACS URL)", f"{origin}/saml/", "/acs/"),
            ("Our entity id (audience)", f"{origin}/saml/", "/metadata/"),
            ("Our metadata, for whoever reads it from an address", f"{origin}/saml/", "/metadata/"),
            ("Sign-out address (SLO)", f"{origin}/saml/", "/sls/"),
        ]
    return [("Redirect URI", f"{origin}/oidc/", "/callback/")]


@panel("accounts.identityprovider", position=10)
def what_to_tell_them(request: HttpRequest, provider: IdentityProvider) -> Panel:
    rows = [
        (label, f"{before}{provider.slug}{after}")
        for label, before, after in addresses(provider.slug, provider.protocol)
    ]
    return Panel(
        "For the administrator of the identity provider",
        "admin/addresses.html",
        {"rows": rows, "saml": provider.protocol == Protocol.SAML},
        note="These have to be entered there, exactly.",
    )


@panel("accounts.identityprovider", position=20)
def test_sign_in(request: HttpRequest, provider: IdentityProvider) -> Panel:
    tests = SignInTest.objects.filter(provider=provider, started_by=request.user.pk).order_by(
        "-started_at"
    )[:5]
    return Panel(
        "Test sign-in",
        "admin/sign_in_tests.html",
        {"provider": provider, "tests": tests},
        note="Signs you in at the provider, shows what arrived and what it became, and grants nothing.",
    )


@panel("accounts.identityprovider", position=30)
def certificates_of(request: HttpRequest, provider: IdentityProvider) -> Panel | None:
    if provider.protocol != Protocol.SAML:
        return None
    now = timezone.now()
    rows = []
    for pem in provider.certificates:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        ends = certificate.not_valid_after_utc
        rows.append(
            {
                "subject": certificate.subject.rfc4514_string() or NOTHING,
                "ends": ends,
                "colour": "red" if ends <= now else "amber" if ends - now < WARN_BEFORE else "",
                "fingerprint": services.fingerprint(pem),
            }
        )
    return Panel("Signing certificates", "admin/certificates.html", {"rows": rows})


@panel("accounts.identityprovider", position=40)
def keys_of(request: HttpRequest, provider: IdentityProvider) -> Panel | None:
    if provider.protocol != Protocol.OIDC or not provider.discovery:
        return None
    shown = (
        "authorization_endpoint",
        "token_endpoint",
        "jwks_uri",
        "userinfo_endpoint",
        "end_session_endpoint",
    )
    rows = [
        (name.replace("_", " ").capitalize(), str(provider.discovery[name]))
        for name in shown
        if provider.discovery.get(name)
    ]
    rows.append(
        (
            "Keys",
            ", ".join(str(key.get("kid", "?")) for key in provider.jwks.get("keys", ())) or "none",
        )
    )
    return Panel("What it says about itself", "admin/attributes.html", {"rows": rows})


# --- People


class SignedInFilter(admin.SimpleListFilter):
    title = "signed in"
    parameter_name = "signed_in"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("day", "in the last 24 hours"),
            ("month", "in the last 30 days"),
            ("older", "not for 30 days"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Person]) -> Any:
        now = timezone.now()
        match self.value():
            case "day":
                return queryset.filter(signed_in_at__gt=now - timedelta(days=1))
            case "month":
                return queryset.filter(signed_in_at__gt=now - timedelta(days=30))
            case "older":
                return queryset.exclude(signed_in_at__gt=now - timedelta(days=30))
        return queryset


def _deactivate(request: HttpRequest, person: Person) -> str:
    services.set_person_active(person, False, by=by(request))
    return (
        f"{person} is switched off: signed out everywhere, and nothing is issued to them any more."
    )


def _reactivate(request: HttpRequest, person: Person) -> str:
    services.set_person_active(person, True, by=by(request))
    return f"{person} is switched on and may sign in again. What they held before stays ended."


@admin.register(Person)
class PersonAdmin(DetailAdmin):
    """People arrive by signing in; here they are read, and switched off or on."""

    list_display = ("who", "email", "vouched_for_by", "in_groups", "last_here", "state")
    list_filter = (
        ("is_active", titled("active", admin.BooleanFieldListFilter)),
        ("is_staff", titled("administrator", admin.BooleanFieldListFilter)),
        ("provider", titled("vouched for by", admin.RelatedOnlyFieldListFilter)),
        SignedInFilter,
    )
    list_select_related = ("provider",)
    search_fields = ("handle__istartswith", "name", "email__istartswith")
    search_help_text = "Name, handle or e-mail"
    ordering = ("handle",)
    empty = "People appear when they sign in for the first time. Nobody has to be entered here."
    deeds = (
        Deed(
            "deactivate",
            "Switch off",
            _deactivate,
            available=lambda person: person.is_active,
            warn=lambda person: (
                f"{person} is signed out everywhere at once and cannot sign in again until switched on. Nothing is "
                "deleted."
            ),
            danger=True,
        ),
        Deed(
            "reactivate",
            "Switch on",
            _reactivate,
            available=lambda person: not person.is_active,
            warn=lambda person: (
                f"{person} may sign in again and gets what their groups give them then."
            ),
        ),
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        return (
            super()
            .get_queryset(request)
            .annotate(group_count=how_many(Membership.objects.all(), "person"))
        )

    @admin.display(description="person", ordering="handle")
    def who(self, person: Person) -> str:
        return format_html(
            '<strong>{}</strong> <span class="soft">{}</span>',
            person.name or person.handle,
            person.handle,
        )

    @admin.display(description="vouched for by", ordering="provider")
    def vouched_for_by(self, person: Person) -> str:
        return person.provider.name if person.provider else "local emergency account"

    @admin.display(description="groups")
    def in_groups(self, person: Any) -> Any:
        return person.group_count

    @admin.display(description="signed in", ordering="signed_in_at")
    def last_here(self, person: Person) -> str:
        return moment(person.signed_in_at)

    @admin.display(description="state", ordering="is_active")
    def state(self, person: Person) -> str:
        chips = [_chip("active", "green") if person.is_active else _chip("switched off", "red")]
        if person.is_staff:
            chips.append(_chip("administrator", "violet"))
        return format_html_join(" ", "{}", ((chip,) for chip in chips))

    def facts(self, request: HttpRequest, thing: Person) -> Sequence[tuple[str, Any]]:
        provider = thing.provider
        return [
            ("State", self.state(thing)),
            ("Name", thing.name or NOTHING),
            ("Handle", thing.handle),
            ("E-mail", thing.email or NOTHING),
            (
                "Vouched for by",
                format_html('<a href="{}">{}</a>', url_of(provider), provider)
                if provider
                else "nobody: the local emergency account",
            ),
            *([("Id there", thing.subject)] if provider else []),
            ("First seen", exact(thing.created_at)),
            ("Last signed in", exact(thing.signed_in_at) or "never"),
            (
                "May use the admin",
                "yes, by a directory group"
                if thing.staff_from_group
                else "yes, as the emergency account"
                if thing.is_superuser
                else "no",
            ),
        ]


@panel("accounts.person", position=30)
def groups_of_person(request: HttpRequest, person: Person) -> Panel:
    now = timezone.now()
    rows = []
    for membership in person.memberships.select_related("group__provider").order_by(
        "group__name", "group__key"
    ):
        scim = membership.source == Membership.Source.SCIM
        until = None if scim else membership.confirmed_at + settings.DAYPASS_MEMBERSHIP_MAX_AGE
        rows.append(
            {
                "group": membership.group,
                "url": url_of(membership.group),
                "source": membership.get_source_display(),
                "confirmed_at": membership.confirmed_at,
                "until": until,
                "fresh": until is None or until > now,
            }
        )
    return Panel(
        "Directory groups",
        "admin/groups_of_person.html",
        {"rows": rows},
        note="What came with a sign-in counts for a while and then asks for a new one.",
    )


@panel("accounts.person", position=35)
def attributes_of_person(request: HttpRequest, person: Person) -> Panel | None:
    if not person.attributes:
        return None
    rows = [
        (name, ", ".join(values if isinstance(values, list) else [str(values)]))
        for name, values in sorted(person.attributes.items())
    ]
    return Panel("Person attributes", "admin/attributes.html", {"rows": rows})


# --- Directory groups


class DirectoryGroupForm(ServiceForm):
    """A group can be entered before anybody arrives with it, so that mappings are ready on the first day."""

    provider = forms.ModelChoiceField(
        IdentityProvider.objects.all(), help_text="A group belongs to one provider."
    )
    key = forms.CharField(
        label="Key",
        max_length=512,
        strip=False,
        widget=forms.TextInput(attrs={"class": "typed", "spellcheck": "false"}),
        help_text="Exactly as it arrives from the provider, for example engineering or an object id.",
    )
    name = forms.CharField(
        label="Name",
        max_length=200,
        required=False,
        help_text="For people to read, when the key is an id.",
    )
    confers_staff = forms.BooleanField(
        label="Members may use the admin",
        required=False,
        help_text="Every member gets all rights of an administrator at their next sign-in.",
    )

    class Meta:
        model = DirectoryGroup
        fields = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance._state.adding:
            for fixed in ("provider", "key"):
                self.fields[fixed].disabled = True
            self.initial.update(
                provider=self.instance.provider_id,
                key=self.instance.key,
                name=self.instance.name,
                confers_staff=self.instance.confers_staff,
            )

    def write(self) -> DirectoryGroup:
        values = self.cleaned_data
        named = {"name": values["name"], "confers_staff": values["confers_staff"]}
        if self.instance._state.adding:
            return services.register_group(
                values["provider"], values["key"], **named, by=by(self.request)
            )
        return services.update_group(self.instance, **named, by=by(self.request))


@admin.register(DirectoryGroup)
class DirectoryGroupAdmin(DaypassAdmin):
    list_display = ("group", "provider", "members", "confers")
    list_filter = (
        ("provider", titled("provider", admin.RelatedOnlyFieldListFilter)),
        ("confers_staff", titled("confers the admin", admin.BooleanFieldListFilter)),
    )
    list_select_related = ("provider",)
    search_fields = ("name", "key")
    search_help_text = "Name or key"
    ordering = ("key", "provider__name", "pk")
    empty = "Groups appear with the first person who arrives in them; add one to map it before."
    add_title = "Add a group"
    form = DirectoryGroupForm
    fieldsets = ((None, {"fields": ("provider", "key", "name", "confers_staff")}),)

    def get_queryset(self, request: HttpRequest) -> Any:
        return (
            super()
            .get_queryset(request)
            .annotate(member_count=how_many(Membership.objects.all(), "group"))
        )

    @admin.display(description="group", ordering="key")
    def group(self, group: DirectoryGroup) -> str:
        if not group.name or group.name == group.key:
            return group.key
        return format_html('{} <span class="soft mono">{}</span>', group.name, group.key)

    @admin.display(description="members")
    def members(self, group: Any) -> Any:
        return group.member_count

    @admin.display(description="admin")
    def confers(self, group: DirectoryGroup) -> str:
        return _chip("administrators", "violet") if group.confers_staff else ""


@panel("accounts.directorygroup", position=60)
def members_of_group(request: HttpRequest, group: DirectoryGroup) -> Panel:
    found = (
        Membership.objects.filter(group=group).select_related("person").order_by("-confirmed_at")
    )
    rows = [
        {
            "person": m.person,
            "url": url_of(m.person),
            "source": m.get_source_display(),
            "at": m.confirmed_at,
        }
        for m in found[:50]
    ]
    count = found.count()
    return Panel(
        "Members",
        "admin/members.html",
        {"rows": rows, "more": count - len(rows)},
        note=f"{_plural(count, 'person', 'people')} as far as sign-ins have told." if count else "",
    )


# --- What accounts contributes to other pages


@contributes(attentions)
def providers_in_trouble(request: HttpRequest) -> Iterable[Attention]:
    now = timezone.now()
    for provider in IdentityProvider.objects.filter(enabled=True):
        if provider.refresh_problem:
            yield Attention(
                "wrong",
                f"{provider} could not be refreshed. {provider.refresh_problem}",
                url_of(provider),
                "See the provider",
            )
        ends = provider.certificate_expires_at
        if ends and ends <= now:
            yield Attention(
                "wrong",
                f"The signing certificate of {provider} ended on {exact(ends)}. Ask its administrator for the new one.",
                url_of(provider),
                "See the provider",
            )
        elif ends and ends - now < WARN_BEFORE:
            yield Attention(
                "soon",
                f"The signing certificate of {provider} ends in {_plural((ends - now).days, 'day', 'days')}.",
                url_of(provider),
                "See the provider",
            )


@contributes(figures)
def people_today(request: HttpRequest) -> Iterable[Figure]:
    since = timezone.now() - timedelta(days=1)
    yield Figure(
        str(Person.objects.filter(signed_in_at__gt=since).count()),
        "people signed in, last 24 h",
        list_url(Person, signed_in="day"),
        position=20,
    )


@contributes(steps)
def connect_a_provider(request: HttpRequest) -> Step:
    providers = list(IdentityProvider.objects.all())
    on = [p for p in providers if p.enabled]
    broken = bool(on) and all(p.refresh_problem for p in on)
    add_url = reverse("admin:accounts_identityprovider_add")
    if on:
        return Step(
            10,
            "Connect the company's identity provider",
            "wrong" if broken else "done",
            "It does not answer." if broken else ", ".join(str(p) for p in on),
            url_of(on[0]),
            "See it" if broken else "",
        )
    if providers:
        return Step(
            10,
            "Connect the company's identity provider",
            "waiting",
            f"{providers[0]} is there, and still switched off.",
            url_of(providers[0]),
            "Switch it on",
        )
    return Step(
        10,
        "Connect the company's identity provider",
        "waiting",
        "By SAML 2.0 or OpenID Connect. Its metadata address or its issuer is enough to begin.",
        add_url,
        "Connect a provider",
    )


@contributes(steps)
def try_a_sign_in(request: HttpRequest) -> Step:
    worked = (
        Person.objects.filter(provider__isnull=False).exists()
        or SignInTest.objects.filter(finished_at__isnull=False, problem="").exists()
    )
    last = SignInTest.objects.filter(finished_at__isnull=False).order_by("-finished_at").first()
    wrong = not worked and last is not None and bool(last.problem)
    provider = last.provider if last else IdentityProvider.objects.first()
    return Step(
        20,
        "Try a test sign-in",
        "done" if worked else "wrong" if wrong else "waiting",
        "Somebody signed in."
        if worked
        else last.problem
        if wrong and last
        else "Shows what arrives from the provider and what it becomes, and grants nothing.",
        url_of(provider) if provider else reverse("admin:accounts_identityprovider_changelist"),
        "" if worked else "Try it",
    )


@contributes(finders)
def find_people_and_groups(text: str) -> Iterable[Hit]:
    people = Person.objects.filter(
        Q(handle__istartswith=text) | Q(name__icontains=text) | Q(email__istartswith=text)
    )
    for person in people[:10]:
        yield Hit("Person", str(person), person.email, url_of(person))
    groups = DirectoryGroup.objects.filter(Q(key__icontains=text) | Q(name__icontains=text))
    for group in groups.select_related("provider")[:10]:
        yield Hit("Group", group.name or group.key, group.provider.name, url_of(group))
    for provider in IdentityProvider.objects.filter(Q(name__icontains=text) | Q(slug=text))[:5]:
        yield Hit(
            "Identity provider", provider.name, provider.get_protocol_display(), url_of(provider)
        )
