"""Daypass's own keys towards SAML providers: what state they are in, and who has to do what before the next step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from accounts import services
from accounts.admin.common import by
from accounts.models import ServiceProviderKey
from broker.backoffice import Deed, DetailAdmin, Panel, chip, panel, url_of
from broker.templatetags.backoffice import exact, moment

Purpose = ServiceProviderKey.Purpose
State = ServiceProviderKey.State
COLOURS = {State.NEXT: "blue", State.ACTIVE: "green", State.RETIRED: "grey"}


def _prepare(request: HttpRequest, key: ServiceProviderKey) -> str:
    services.prepare_key(Purpose(key.purpose), by=by(request), now=timezone.now())
    return (
        "The next key is in the metadata now. Let the providers below import it, then activate it."
    )


def _activate(request: HttpRequest, key: ServiceProviderKey) -> str:
    services.activate_key(Purpose(key.purpose), by=by(request), now=timezone.now())
    return "This key is in use now; the one before is retired."


def _retire(request: HttpRequest, key: ServiceProviderKey) -> str:
    services.retire_key(key, by=by(request), now=timezone.now())
    return "Retired: it is not in the metadata any more."


def _remove(request: HttpRequest, key: ServiceProviderKey) -> str:
    services.remove_key(key, by=by(request), now=timezone.now())
    return "Removed for good."


def _who_is_concerned(key: ServiceProviderKey) -> str:
    names = ", ".join(map(str, services.concerned(Purpose(key.purpose)))) or "no provider"
    if key.purpose == Purpose.SIGNING:
        return (
            f"Requests to {names} are signed with this key from now on. A provider that checks them and has not "
            "imported the metadata with this key refuses every sign-in."
        )
    return (
        f"{names} may encrypt for this key from now on. The one before is retired and still opens what is encrypted "
        "for it."
    )


@admin.register(ServiceProviderKey)
class ServiceProviderKeyAdmin(DetailAdmin):
    list_title = "Keys towards SAML providers"
    list_display = ("fingerprint", "purpose", "state_now", "since", "certificate_ends")
    list_filter = ("purpose", "state")
    ordering = ("purpose", "state", "-created_at")
    empty = "The signing key is made when the first SAML provider is used, the decryption key when one may encrypt."
    empty_link = ("admin:accounts_identityprovider_changelist", "See identity providers")
    intro = (
        "With these Daypass signs its requests to SAML providers and opens what they encrypt for it. The private "
        "halves are sealed and never shown."
    )
    deeds = (
        Deed(
            "prepare",
            "Prepare the next key",
            _prepare,
            available=lambda key: (
                key.state == State.ACTIVE
                and not ServiceProviderKey.objects.filter(
                    purpose=key.purpose, state=State.NEXT
                ).exists()
            ),
        ),
        Deed(
            "activate",
            "Use this key now",
            _activate,
            available=lambda key: key.state == State.NEXT,
            warn=_who_is_concerned,
        ),
        Deed(
            "retire",
            "Retire",
            _retire,
            available=lambda key: (
                key.state == State.NEXT
                or (key.state == State.ACTIVE and key.purpose == Purpose.DECRYPTION)
            ),
            warn=lambda key: (
                "It is taken out of the metadata. What is encrypted for it can still be opened."
            ),
        ),
        Deed(
            "remove",
            "Remove for good",
            _remove,
            available=lambda key: key.state == State.RETIRED,
            warn=lambda key: (
                "The private half is destroyed. What a provider still encrypts for it cannot be opened, and a backup "
                "of the database is the only way back."
            ),
            danger=True,
            leaves=True,
        ),
    )

    @admin.display(description="certificate")
    def fingerprint(self, key: ServiceProviderKey) -> str:
        return services.fingerprint(key.certificate)[:16]

    @admin.display(description="state", ordering="state")
    def state_now(self, key: ServiceProviderKey) -> str:
        return chip(key.get_state_display(), COLOURS[State(key.state)])

    @admin.display(description="since", ordering="state_since")
    def since(self, key: ServiceProviderKey) -> str:
        return moment(key.state_since)

    @admin.display(description="certificate ends", ordering="expires_at")
    def certificate_ends(self, key: ServiceProviderKey) -> str:
        return moment(key.expires_at)

    def page(self, request: HttpRequest, thing: ServiceProviderKey) -> dict[str, Any]:
        purpose = thing.get_purpose_display().capitalize()
        return {**super().page(request, thing), "title": f"{purpose} key towards SAML providers"}

    def facts(self, request: HttpRequest, thing: ServiceProviderKey) -> Sequence[tuple[str, Any]]:
        return [
            ("State", self.state_now(thing)),
            ("Since", exact(thing.state_since)),
            ("SHA-256 of the certificate", services.fingerprint(thing.certificate)),
            ("Made", exact(thing.created_at)),
            ("Certificate ends", exact(thing.expires_at)),
            ("Private key", "sealed"),
        ]


@panel("accounts.serviceproviderkey", position=10)
def who_has_to_do_what(request: HttpRequest, key: ServiceProviderKey) -> Panel:
    """What each provider's administrator still has to do; whether they did is not visible from here."""
    purpose = Purpose(key.purpose)
    following = ServiceProviderKey.objects.filter(purpose=purpose, state=State.NEXT).exists()
    rows = [
        {
            "provider": provider,
            "url": url_of(provider),
            "metadata": settings.DAYPASS_ORIGIN
            + reverse("saml_metadata", kwargs={"slug": provider.slug}),
        }
        for provider in services.concerned(purpose)
    ]
    return Panel(
        "What the providers' administrators have to do",
        "admin/own_key_providers.html",
        {
            "rows": rows,
            "following": following,
            "state": key.state,
            "signing": purpose == Purpose.SIGNING,
        },
    )


@panel("accounts.serviceproviderkey", position=20)
def certificate(request: HttpRequest, key: ServiceProviderKey) -> Panel:
    return Panel("Certificate", "admin/certificate.html", {"pem": key.certificate})
