"""Signing keys in the admin: to look at. They are changed by `manage.py signing_keys` only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, ClassVar

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html

from broker.backoffice import (
    Attention,
    DetailAdmin,
    Panel,
    attentions,
    contributes,
    health,
    panel,
    url_of,
)
from broker.minting.models import SigningKey
from broker.templatetags.backoffice import exact, moment

State = SigningKey.State
COLOURS = {
    State.PUBLISHED: "blue",
    State.SIGNING: "green",
    State.RETIRED: "grey",
    State.REMOVED: "grey",
    State.REVOKED: "red",
}


@admin.register(SigningKey)
class SigningKeyAdmin(DetailAdmin):
    list_display = ("kid", "purpose", "state_now", "made", "certificate_ends")
    list_filter = ("purpose", "state")
    empty = "The first key of each purpose is made when it is first needed."
    intro = (
        "With these Daypass signs what AWS accepts. The private halves are sealed and never shown."
    )
    fields: ClassVar = (
        "kid",
        "purpose",
        "algorithm",
        "state",
        "created_at",
        "signing_since",
        "retired_at",
        "expires_at",
        "certificate",
    )

    @admin.display(description="state", ordering="state")
    def state_now(self, key: SigningKey) -> str:
        return format_html(
            '<span class="chip" data-colour="{}">{}</span>',
            COLOURS[State(key.state)],
            key.get_state_display(),
        )

    @admin.display(description="made", ordering="created_at")
    def made(self, key: SigningKey) -> str:
        return moment(key.created_at)

    @admin.display(description="certificate ends", ordering="expires_at")
    def certificate_ends(self, key: SigningKey) -> str:
        return moment(key.expires_at)

    def facts(self, request: HttpRequest, thing: SigningKey) -> Sequence[tuple[str, Any]]:
        return [
            ("State", self.state_now(thing)),
            ("Purpose", thing.get_purpose_display()),
            ("Key id", thing.kid),
            ("Algorithm", thing.algorithm),
            ("Made", exact(thing.created_at)),
            ("Signing since", exact(thing.signing_since) or "not yet"),
            ("Retired", exact(thing.retired_at) or "no"),
            ("Certificate ends", exact(thing.expires_at)),
            (
                "Private key",
                thing.kms_key_arn or ("sealed" if thing.private_sealed else "destroyed"),
            ),
        ]


@panel("broker.signingkey")
def certificate(request: HttpRequest, key: SigningKey) -> Panel:
    return Panel("Certificate", "admin/certificate.html", {"pem": key.certificate})


@contributes(attentions)
def certificates_ending(request: HttpRequest) -> Iterable[Attention]:
    """Of the SAML key: AWS refuses assertions whose certificate in the uploaded metadata has ended."""
    soon = timezone.now() + timedelta(days=60)
    for key in SigningKey.objects.filter(state=State.SIGNING, expires_at__lt=soon):
        yield Attention(
            "soon",
            f"The certificate of Daypass's own {key.get_purpose_display()} key ends on "
            f"{exact(key.expires_at)}. Rotate it with manage.py signing_keys.",
            url_of(key),
            "See the key",
        )


@contributes(health)
def keys_in_use(request: HttpRequest) -> Panel:
    rows = [
        {"key": key, "url": url_of(key), "colour": COLOURS[State(key.state)]}
        for key in SigningKey.objects.exclude(
            state__in=(State.REVOKED, State.REMOVED, State.RETIRED)
        )
    ]
    origin = settings.DAYPASS_ORIGIN
    return Panel(
        "Signing keys and what AWS reads",
        "admin/keys.html",
        {
            "rows": rows,
            "issuer": settings.DAYPASS_ISSUER,
            "audience": settings.DAYPASS_AUDIENCE,
            "discovery": f"{settings.DAYPASS_ISSUER}/.well-known/openid-configuration",
            "saml_entity_id": settings.DAYPASS_SAML_ENTITY_ID,
            "saml_metadata": f"{origin}/aws/saml/metadata",
        },
        note="AWS fetches the OpenID documents by itself; the SAML metadata is uploaded to each account.",
    )
