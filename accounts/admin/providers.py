"""Identity providers: list, page and deeds, and what they contribute to the first page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from django.conf import settings
from django.contrib import admin, messages
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
)
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html

from accounts import services
from accounts.admin.common import WARN_BEFORE, by
from accounts.admin.provider_forms import OidcProviderForm, SamlProviderForm
from accounts.models import (
    IdentityProvider,
    Person,
    Protocol,
    ProviderProposal,
    SignInTest,
)
from accounts.pinning import thumbprint
from broker.backoffice import (
    NOTHING,
    Attention,
    DaypassAdmin,
    Deed,
    Panel,
    ServiceForm,
    Step,
    attentions,
    chip,
    consequence,
    contributes,
    how_many,
    panel,
    plural,
    steps,
    url_of,
)
from broker.errors import BadInput, ProviderUnavailable
from broker.templatetags.backoffice import exact, moment

ASKED_BY_HAND_EVERY = timedelta(seconds=15)


def _switch_on(request: HttpRequest, provider: IdentityProvider) -> str:
    stored = IdentityProvider.objects.get(pk=provider.pk)
    stored.enabled = True
    services.save_provider(stored, by=by(request))
    if services.refreshable(stored):
        services.ask_for_refresh(stored, timezone.now())  # nobody asked while it was off
    return f"People can sign in with {provider} now."


def _switch_off(request: HttpRequest, provider: IdentityProvider) -> str:
    stored = IdentityProvider.objects.get(pk=provider.pk)
    stored.enabled = False
    services.save_provider(stored, by=by(request))
    return f"Nobody signs in with {provider} any more, and its groups count for nothing."


def _refresh(request: HttpRequest, provider: IdentityProvider) -> str:
    now = timezone.now()
    if services.ask_for_refresh(provider, now, at_most_every=ASKED_BY_HAND_EVERY):
        return f"The worker asks {provider} now. Open this page again in a few seconds."
    stored = IdentityProvider.objects.get(pk=provider.pk)
    if stored.refresh_asked_at and now - stored.refresh_asked_at < ASKED_BY_HAND_EVERY:
        raise BadInput(f"{provider} is being asked already. Open this page again in a few seconds.")
    raise ProviderUnavailable(
        "The queue does not take the task: is Redis there, and is a worker running?", retry=True
    )


def _begin_anywhere(request: HttpRequest, provider: IdentityProvider) -> str:
    stored = IdentityProvider.objects.get(pk=provider.pk)
    stored.idp_initiated = True
    services.save_provider(stored, by=by(request))
    return f"Sign-in may begin at {provider} now. People confirm who they are before they are in."


def _begin_here(request: HttpRequest, provider: IdentityProvider) -> str:
    stored = IdentityProvider.objects.get(pk=provider.pk)
    stored.idp_initiated = False
    services.save_provider(stored, by=by(request))
    return f"Sign-in with {provider} begins at Daypass only."


def _switch_off_warning(provider: IdentityProvider) -> str:
    people = Person.objects.filter(provider=provider, is_active=True)
    count, administrators = people.count(), people.filter(is_staff=True).count()
    said = (
        f"{plural(count, 'person signs', 'people sign')} in with {provider}. Until it is switched on again nobody can, "
        "and every role that somebody has by its groups is refused."
        if count
        else f"Nobody signs in with {provider} yet, and nobody can until it is switched on again."
    )
    if administrators:
        said += f" {plural(administrators, 'administrator is', 'administrators are')} among them, and out at once too."
    if not IdentityProvider.objects.filter(enabled=True).exclude(pk=provider.pk).exists():
        said += " No other provider is on: only the break-glass account can sign in then and switch it on again."
    return said


@consequence("accounts.identityprovider", "enable")
def sign_in_from_then_on(provider: IdentityProvider) -> str:
    return f"People can sign in with {provider}, and get the roles that its groups give."


@admin.register(IdentityProvider)
class IdentityProviderAdmin(DaypassAdmin):
    list_display = ("provider", "protocol", "state", "where", "people", "checked", "certificate")
    empty = "Connect the company's identity provider: nobody can sign in before."
    add_title = "Connect a provider"
    early = ("Waits for you", "For the administrator of the identity provider", "Test sign-in")
    ordering = ("position", "name")
    deeds = (
        Deed("enable", "Switch on", _switch_on, available=lambda provider: not provider.enabled),
        Deed("refresh", "Refresh now", _refresh, available=services.refreshable, later=True),
        Deed(
            "disable",
            "Switch off",
            _switch_off,
            available=lambda provider: provider.enabled,
            warn=_switch_off_warning,
            danger=True,
        ),
        Deed(
            "begin-anywhere",
            "Let sign-in begin at the provider",
            _begin_anywhere,
            available=lambda p: p.protocol == Protocol.SAML and not p.idp_initiated,
            warn=lambda p: (
                f"An answer of {p} that Daypass did not ask for can begin a sign-in then. Whoever gets a person's "
                "browser to post one decides as whom they come, so people are asked to confirm who they are. A tile "
                "in the provider's portal does not need this: let it point to Daypass's sign-on page."
            ),
            danger=True,
        ),
        Deed(
            "begin-here",
            "Let sign-in begin here only",
            _begin_here,
            available=lambda p: p.idp_initiated,
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
        state = chip("on", "green") if provider.enabled else chip("off", "grey")
        if not provider.refresh_problem:
            return state
        return format_html("{} {}", state, chip("refresh fails", "red"))

    @admin.display(description="known as")
    def where(self, provider: IdentityProvider) -> str:
        return provider.issuer or provider.entity_id

    @admin.display(description="people")
    def people(self, provider: Any) -> Any:
        return provider.person_count

    @admin.display(description="refreshed", ordering="refreshed_at")
    def checked(self, provider: IdentityProvider) -> str:
        return moment(provider.refreshed_at) if services.refreshable(provider) else "by hand"

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
            {
                "fields": (
                    ("name", "slug"),
                    *(("preset",) if obj is None else ("position", "seen")),
                )
            },
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
                        ),
                        "classes": collapsed,
                        "description": "Filled in from the metadata where there is some.",
                    },
                ),
                (
                    "What is asked of it",
                    {
                        "fields": (
                            ("pinning", "encryption"),
                            "metadata_signers",
                            "response_signed",
                        ),
                        "classes": collapsed if obj is None else ("no-optional",),
                        "description": "Whatever its metadata says, these stay as they are here.",
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
                        "fields": (
                            ("scopes", "id_token_algorithm"),
                            "pinning",
                            "groups_from_userinfo",
                        ),
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

    def facts(self, request: HttpRequest, thing: IdentityProvider) -> Sequence[tuple[str, Any]]:
        told: list[tuple[str, Any]] = [
            ("State", self.state(thing)),
            ("New keys are believed by", thing.get_pinning_display()),
        ]
        if thing.protocol == Protocol.SAML:
            told += [
                ("Assertions", thing.get_encryption_display()),
                (
                    "Sign-in begins",
                    format_html("here, or at the provider {}", chip("less safe", "amber"))
                    if thing.idp_initiated
                    else "here only",
                ),
            ]
        if not services.refreshable(thing):
            return [*told, ("Refreshed", "never: its metadata was entered by hand")]
        told += [
            ("Last good refresh", exact(thing.refreshed_at) or "none yet"),
            (
                "Next refresh",
                exact(thing.refresh_due_at) or "not planned"
                if thing.enabled
                else "after it is switched on",
            ),
        ]
        if thing.refresh_problem:
            told.append(("Last problem", thing.refresh_problem))
        if thing.metadata_valid_until:
            told.append(("Metadata valid until", exact(thing.metadata_valid_until)))
        return told

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
    return [
        ("Redirect URI", f"{origin}/oidc/", "/callback/"),
        ("After sign-out (post-logout redirect URI)", f"{origin}/signed-out/", ""),
        ("Back-channel logout URI", f"{origin}/oidc/", "/logout/"),
    ]


@panel("accounts.identityprovider", position=10)
def what_to_tell_them(request: HttpRequest, provider: IdentityProvider) -> Panel:
    rows = [
        (label, f"{before}{provider.slug}{after}" if after else before)
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
    return Panel(
        "Signing certificates",
        "admin/certificates.html",
        {"rows": certificate_rows(provider.certificates), "signers": False},
        note="Any of them may sign. One that has ended is not believed any more.",
    )


@panel("accounts.identityprovider", position=31)
def signers_of(request: HttpRequest, provider: IdentityProvider) -> Panel | None:
    if not provider.metadata_signers:
        return None
    return Panel(
        "Signers of its metadata",
        "admin/certificates.html",
        {"rows": certificate_rows(provider.metadata_signers)},
    )


def certificate_rows(pems: Iterable[str]) -> list[dict[str, Any]]:
    """Certificates as people tell them apart: subject, fingerprint, validity."""
    now = timezone.now()
    rows = []
    for pem in pems:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        ends = certificate.not_valid_after_utc
        rows.append(
            {
                "subject": certificate.subject.rfc4514_string() or NOTHING,
                "begins": certificate.not_valid_before_utc,
                "ends": ends,
                "colour": "red" if ends <= now else "amber" if ends - now < WARN_BEFORE else "",
                "fingerprint": services.fingerprint(pem),
            }
        )
    living = [row for row in rows if row["colour"] != "red"]
    for row in rows:
        row["only"] = living == [row]
    return rows


@panel("accounts.identityprovider", position=40)
def keys_of(request: HttpRequest, provider: IdentityProvider) -> Panel | None:
    if provider.protocol != Protocol.OIDC or not provider.discovery:
        return None
    endpoints = [
        (name.replace("_", " ").capitalize(), str(value))
        for name, value in provider.discovery.items()
        if name.endswith(("_endpoint", "_uri"))
    ]
    origins = {"{0.scheme}://{0.netloc}".format(urlsplit(url)) for _, url in endpoints}
    return Panel(
        "What it says about itself",
        "admin/provider_keys.html",
        {
            "endpoints": endpoints,
            "origins": sorted(origins),
            "keys": key_rows(provider.jwks.get("keys", ())),
        },
    )


def key_rows(keys: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """JSON Web Keys as people tell them apart: name, kind, thumbprint (RFC 7638)."""
    return [
        {
            "kid": key.get("kid") or NOTHING,
            "kind": " ".join(filter(None, (key.get("kty"), key.get("crv"), key.get("alg")))),
            "thumbprint": thumbprint(key),
        }
        for key in keys
    ]


# --- What providers contribute to other pages


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
    for proposal in ProviderProposal.objects.filter(state=ProviderProposal.State.OPEN):
        yield Attention(
            "soon",
            f"{proposal.provider} says something new about itself, found {moment_in_words(proposal.found_at)}. Nothing "
            "of it is believed until an administrator has looked.",
            url_of(proposal),
            "Look at it",
        )
    for ending in services.endings(now):
        yield from _ending(ending, now)


def moment_in_words(at: datetime) -> str:
    return f"on {exact(at)}"


def _ending(ending: services.Ending, now: datetime) -> Iterable[Attention]:
    over = ending.ends <= now
    left = plural(ending.days_left(now), "day", "days")
    if ending.key is not None:
        ended = "has ended" if over else f"ends in {left}"
        yield Attention(
            "wrong" if over and ending.last else "soon",
            f"Daypass's own {ending.name} key towards SAML providers {ended}. Prepare the next one.",
            url_of(ending.key),
            "See the key",
        )
        return
    provider = ending.provider
    assert provider is not None
    what = {
        "certificate": f"signing certificate of {provider} ({ending.name})",
        "signer": f"certificate that signs the metadata of {provider} ({ending.name})",
        "metadata": f"metadata of {provider}",
    }[ending.what]
    if not ending.last:
        if not over:
            yield Attention(
                "note",
                f"The {what} ends in {left}; another one is there to stand in for it.",
                url_of(provider),
                "See the provider",
            )
        return
    if over:
        yield Attention(
            "wrong",
            f"The {what} ended on {exact(ending.ends)}, and nobody signs in with it. Ask its administrator.",
            url_of(provider),
            "See the provider",
        )
        return
    yield Attention(
        "soon",
        f"The {what} ends in {left}, and nothing is there to stand in for it.",
        url_of(provider),
        "See the provider",
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
            "It could not be refreshed." if broken else ", ".join(str(p) for p in on),
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
