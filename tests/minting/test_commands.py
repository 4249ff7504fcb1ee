"""manage.py signing_keys, as an operator uses it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from broker.audit.models import AuditEvent
from broker.minting import keys
from broker.minting.models import SigningKey
from tests import factories as make

pytestmark = pytest.mark.django_db


def run(capsys, *words: str) -> str:
    call_command("signing_keys", *words)
    return capsys.readouterr().out


def signing(purpose: str) -> str:
    return SigningKey.objects.get(purpose=purpose, state="signing").kid


def test_listing_shows_every_key_and_nothing_secret(capsys):
    out = run(capsys, "ensure")

    assert out == run(capsys, "list")
    assert "next: publish from" in out
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


def test_the_accounts_that_lag_are_listed_with_their_commands_until_it_is_said_that_they_do_not(
    capsys,
):
    run(capsys, "ensure")
    account = make.account("Payments", account_id="111122223333")
    make.role("Developer", of=account, trust="saml")

    out = run(capsys, "accounts")
    assert "Payments (111122223333)" in out
    assert (
        "aws iam update-saml-provider --saml-provider-arn arn:aws:iam::111122223333:saml-provider/Daypass"
        in out
    )
    assert signing("saml") in run(capsys, "uploaded", "111122223333")

    assert run(capsys, "accounts") == "Payments (111122223333): holds today's metadata\n"
    with pytest.raises(CommandError, match="no account 999999999999"):
        run(capsys, "uploaded", "999999999999")


def test_a_key_that_waits_for_an_account_says_so(capsys):
    run(capsys, "ensure")
    make.role("Developer", of=make.account("Payments", account_id="111122223333"), trust="saml")
    run(capsys, "publish", "saml")
    SigningKey.objects.filter(state="published").update(
        created_at=timezone.now() - timedelta(days=2)
    )

    assert "in the way: Payments (111122223333)" in run(capsys, "list")
    with pytest.raises(CommandError, match="not known to hold the key"):
        run(capsys, "rotate", "saml")


def test_a_retired_key_is_removed_after_a_day(capsys):
    run(capsys, "ensure")
    old = signing("oidc")
    run(capsys, "rotate", "oidc", "--at-once")
    with pytest.raises(CommandError, match="stays published until"):
        run(capsys, "remove", old)
    SigningKey.objects.filter(kid=old).update(retired_at=timezone.now() - timedelta(days=1))

    run(capsys, "remove", old)

    row = SigningKey.objects.get(kid=old)
    assert (row.state, row.private_sealed) == ("removed", "")
    with pytest.raises(CommandError, match="no retired key"):
        run(capsys, "remove", signing("oidc"))


def test_revoking_prints_what_is_to_be_done_in_each_account(capsys):
    run(capsys, "ensure")
    make.role("Developer", of=make.account("Payments", account_id="111122223333"))

    out = run(capsys, "revoke", signing("oidc"))

    assert "aws iam delete-open-id-connect-provider" in out
    assert "aws iam put-role-policy --role-name Developer" in out
    assert "CloudTrail" in out


def test_a_key_whose_id_looks_like_an_option_is_revoked_all_the_same(capsys):
    run(capsys, "ensure")
    SigningKey.objects.filter(purpose="oidc").update(
        kid="-hON86HoBm0W0qzD7K26Ngl4MIov2EjEuPzWOuVUviCU"
    )

    out = run(capsys, "revoke", "-hON86HoBm0W0qzD7K26Ngl4MIov2EjEuPzWOuVUviCU")

    assert "Revoked -hON86" in out
    assert SigningKey.objects.get(kid__startswith="-h").state == "revoked"
