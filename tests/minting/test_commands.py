"""manage.py signing_keys, as an operator uses it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from broker.audit.models import AuditEvent
from broker.minting import keys
from broker.minting.models import SigningKey

pytestmark = pytest.mark.django_db


def run(capsys, *words: str) -> str:
    call_command("signing_keys", *words)
    return capsys.readouterr().out


def signing(purpose: str) -> str:
    return SigningKey.objects.get(purpose=purpose, state="signing").kid


def test_listing_shows_every_key_and_nothing_secret(capsys):
    out = run(capsys, "ensure")

    assert out == run(capsys, "list")
    for key in SigningKey.objects.all():
        assert key.kid in out
        assert key.private_sealed not in out


def test_a_key_is_changed_without_a_gap(capsys):
    run(capsys, "ensure")
    old = signing("saml")

    out = run(capsys, "publish", "saml")
    assert "/aws/saml/metadata" in out, "the operator has to upload it before it signs"
    with pytest.raises(CommandError, match="has to stay published"):
        run(capsys, "rotate", "saml")
    SigningKey.objects.filter(state="published").update(
        created_at=timezone.now() - timedelta(days=2)
    )
    run(capsys, "rotate", "saml")
    run(capsys, "revoke", old)

    assert signing("saml") != old
    assert SigningKey.objects.get(kid=old).state == "revoked"
    assert AuditEvent.objects.filter(actor="manage.py signing_keys").count() == 4


def test_in_an_emergency_a_key_is_changed_at_once(capsys):
    run(capsys, "ensure")
    old = signing("oidc")

    out = run(capsys, "rotate", "oidc", "--at-once")

    assert signing("oidc") in out
    assert SigningKey.objects.get(kid=old).state == "retired"


def test_resealing_tells_how_many(capsys, settings):
    keys.ensure_keys(timezone.now())
    first = settings.DAYPASS_SEALING_KEYS[0]
    settings.DAYPASS_SEALING_KEYS = ["Y2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2M=", first]

    assert run(capsys, "reseal") == "Resealed 2 keys.\n"
    assert run(capsys, "reseal") == "Resealed 0 keys.\n"


def test_a_missing_sealing_key_is_told_with_its_remedy(capsys, settings):
    settings.DAYPASS_SEALING_KEYS = []

    with pytest.raises(CommandError, match="DAYPASS_SEALING_KEYS"):
        run(capsys, "ensure")


def test_an_unknown_key_is_told(capsys):
    with pytest.raises(CommandError, match="There is no key nobody"):
        run(capsys, "revoke", "nobody")
