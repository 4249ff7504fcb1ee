"""The SAML providers follow the keys: Daypass does it where it may, and says exactly what to do where it may not."""

from __future__ import annotations

import base64
import re
import shlex
from datetime import datetime, timedelta

import pytest
from django.contrib import admin
from django.core.management import CommandError, call_command
from django.utils import timezone
from lxml import etree

from broker.audit.models import AuditEvent
from broker.audit.services import Actor
from broker.discovery.services import look
from broker.entitlements.models import AwsAccount
from broker.errors import AwsUnavailable, BadInput
from broker.minting import keys
from broker.minting.models import SigningKey
from broker.minting.saml import metadata
from broker.upkeep import queries, services
from broker.upkeep.admin import after_revocation
from tests import factories as make
from tests.aws.servers import Answer, StandIn
from tests.strict_sts import StrictRole
from tests.upkeep.conftest import KEEPER, PROVIDER, trusting

SAML = SigningKey.Purpose.SAML
BOB = Actor(id="b0b", name="bob")
DAY = timedelta(days=1)

pytestmark = pytest.mark.django_db


def certificates_held(strict) -> set[str]:
    """Read with an XML parser, from what AWS holds."""
    found = etree.fromstring(strict.saml_providers[PROVIDER].encode()).iter(
        "{http://www.w3.org/2000/09/xmldsig#}X509Certificate"
    )
    return {"".join(one.text.split()) for one in found}


def certificates_of(*kids: str) -> set[str]:
    pems = SigningKey.objects.filter(kid__in=kids).values_list("certificate", flat=True)
    bodies = ["".join(pem.split("-----")[2].split()) for pem in pems]
    assert all(base64.b64decode(body) for body in bodies)
    return set(bodies)


def signing() -> str:
    return SigningKey.objects.get(purpose=SAML, state="signing").kid


def test_daypass_uploads_the_next_key_itself_and_sees_that_it_is_there(strict, payments):
    new = keys.publish_next(SAML, now=timezone.now(), actor=BOB).kid

    assert services.follow_up(payments.pk, now=timezone.now())

    assert certificates_held(strict) == certificates_of(signing(), new)
    payments.refresh_from_db()
    assert payments.saml_kids == sorted([signing(), new])
    assert payments.saml_problem == ""
    [event] = AuditEvent.objects.filter(kind="account.saml_keys")
    assert event.data["metadata_uploaded"] is True
    assert [seen.action for seen in strict.requests] == [
        "AssumeRoleWithWebIdentity",
        "GetSAMLProvider",
        "UpdateSAMLProvider",
        "GetSAMLProvider",
    ]


def test_a_provider_that_is_up_to_date_is_only_read(strict, payments):
    services.follow_up(payments.pk, now=timezone.now())
    services.follow_up(payments.pk, now=timezone.now())

    assert "UpdateSAMLProvider" not in [seen.action for seen in strict.requests]
    assert AuditEvent.objects.filter(kind="account.saml_keys").count() == 1
    payments.refresh_from_db()
    assert payments.saml_kids == [signing()]


def test_a_key_that_is_removed_is_taken_out_of_the_provider(strict, payments):
    now = timezone.now()
    old = signing()
    new = keys.rotate(SAML, now, BOB, at_once=True).kid
    services.follow_up(payments.pk, now=now)
    keys.remove(old, now=now + DAY, actor=BOB)
    payments.refresh_from_db()
    assert queries.standing(payments).surplus == (old,)

    services.follow_up(payments.pk, now=now)

    assert certificates_held(strict) == certificates_of(new)
    payments.refresh_from_db()
    assert queries.standing(payments).chore is None


def test_metadata_of_somebody_else_is_never_replaced(strict, payments):
    other = metadata(now=timezone.now()).replace(b"https://daypass.test/aws", b"https://idp.corp/a")
    strict.saml_providers[PROVIDER] = other

    assert not services.follow_up(payments.pk, now=timezone.now())

    assert strict.saml_providers[PROVIDER] == other
    payments.refresh_from_db()
    assert "https://idp.corp/a" in payments.saml_problem
    assert payments.saml_kids == []


def test_where_the_role_may_not_write_the_account_says_why_and_what_to_do(strict, payments):
    strict.roles[KEEPER] = StrictRole(
        trust_policy=trusting("DaypassDiscovery", "web_identity", caller="task"),
        permissions=["iam:GetSAMLProvider"],
    )
    keys.publish_next(SAML, now=timezone.now(), actor=BOB)

    assert not services.follow_up(payments.pk, now=timezone.now())

    payments.refresh_from_db()
    assert "iam:UpdateSAMLProvider" in payments.saml_problem
    fetch, update = queries.standing(payments).chore.commands
    assert shlex.split(fetch)[-1] == "https://daypass.test/aws/saml/metadata"
    assert shlex.split(update) == [
        *("aws", "iam", "update-saml-provider", "--saml-provider-arn", PROVIDER),
        *("--saml-metadata-document", "file://daypass-metadata.xml"),
    ]


@pytest.mark.parametrize(
    ("broken", "said"),
    [("no provider", "no SAML provider"), ("no role", "DaypassDiscovery")],
)
def test_what_is_missing_in_the_account_is_told(strict, payments, broken, said):
    if broken == "no provider":
        del strict.saml_providers[PROVIDER]
    else:
        del strict.roles[KEEPER]

    assert not services.follow_up(payments.pk, now=timezone.now())

    payments.refresh_from_db()
    assert said in payments.saml_problem


def test_a_proxys_page_in_iams_place_is_told_and_breaks_nothing(strict, payments, settings):
    proxy = StandIn(lambda _: Answer(403, b"<html><p>Blocked<br></html>", "text/html"))
    settings.DAYPASS_IAM_ENDPOINT = proxy.url

    assert not services.follow_up(payments.pk, now=timezone.now())
    with pytest.raises(AwsUnavailable):
        look(payments, actor=BOB, now=timezone.now())

    proxy.stop()
    payments.refresh_from_db()
    assert "IAM did not answer" in payments.saml_problem


def test_an_account_without_such_a_role_is_left_to_people(strict):
    account = make.account("Legacy")
    make.role("Ops", of=account, trust="saml")

    assert not services.follow_up(account.pk, now=timezone.now())
    assert account.pk not in services.to_follow_up(now=timezone.now())
    assert strict.requests == []


def test_only_accounts_with_saml_roles_that_are_in_use_are_waited_for(payments, signing_keys):
    for name, fields in {
        "web": {},
        "off": {"trust": "saml", "enabled": False},
        "gone": {"trust": "saml", "vanished_at": timezone.now()},
    }.items():
        make.role(name, **fields)
    make.role("x", of=make.account(enabled=False), trust="saml")
    make.role("y", of=make.account(vanished_at=timezone.now()), trust="saml")

    assert [standing.account for standing in queries.standings()] == [payments]


def test_saml_rotation_waits_until_every_account_is_known_to_hold_the_key(payments, signing_keys):
    now = timezone.now()
    old = signing()
    other = make.account("Legacy")
    make.role("Ops", of=other, trust="saml")
    new = keys.publish_next(SAML, now=now, actor=BOB).kid
    services.turn_keys(now=now + 30 * DAY)
    assert signing() == old

    services.note_uploaded(payments.pk, now=now, actor=BOB)
    services.turn_keys(now=now + 30 * DAY)
    assert signing() == old
    with pytest.raises(BadInput, match=re.escape(str(other))):
        services.rotate(SAML, now=now + 30 * DAY, actor=BOB)

    services.note_uploaded(other.pk, now=now, actor=BOB)
    services.turn_keys(now=now + DAY - timedelta(seconds=1))
    assert signing() == old
    services.turn_keys(now=now + DAY)

    assert signing() == new


def test_an_upload_before_the_next_key_was_published_does_not_count_for_it(payments, signing_keys):
    now = timezone.now()
    services.note_uploaded(payments.pk, now=now, actor=BOB)
    new = keys.publish_next(SAML, now=now, actor=BOB).kid

    payments.refresh_from_db()

    assert [key.kid for key in queries.standing(payments).behind] == [new]


def test_in_an_emergency_nothing_is_waited_for(payments, signing_keys):
    old = signing()

    services.rotate(SAML, now=timezone.now(), actor=BOB, at_once=True)

    assert signing() != old


def test_accounts_are_looked_at_when_they_are_behind_and_otherwise_twice_a_day(strict, payments):
    now = timezone.now()
    assert services.to_follow_up(now=now) == [payments.pk]
    services.follow_up(payments.pk, now=now)
    assert services.to_follow_up(now=now) == []
    assert services.to_follow_up(now=now + timedelta(hours=12)) == [payments.pk]

    keys.publish_next(SAML, now=now, actor=BOB)

    assert services.to_follow_up(now=now) == [payments.pk]


def test_after_a_revocation_every_account_has_its_commands(payments, signing_keys):
    make.role("Reader", of=payments, trust="web_identity")

    _, saml = services.revoke(signing(), now=timezone.now(), actor=BOB)
    oidc_key = SigningKey.objects.get(purpose="oidc", state="signing").kid
    at = datetime.fromisoformat("2026-03-02T09:00:00+00:00")
    _, oidc = services.revoke(oidc_key, now=at, actor=BOB)

    said = "\n".join(command for chore in saml for command in chore.commands)
    assert f"update-saml-provider --saml-provider-arn {PROVIDER}" in said
    assert "--role-name Developer" in said
    assert "--role-name Reader" not in said
    said = "\n".join(command for chore in oidc for command in chore.commands)
    assert "delete-open-id-connect-provider" in said
    assert "create-open-id-connect-provider --url https://daypass.test" in said
    assert "--role-name Reader" in said
    assert "2026-03-02T09:00:00Z" in said


def test_a_key_for_tokens_may_have_opened_discovery_roles_as_well(payments, signing_keys):
    """They are entered by web identity, also in accounts whose people come by SAML, and may hold powerful rights."""
    AwsAccount.objects.filter(pk=payments.pk).update(discovery_role="team/DaypassDiscovery")
    oidc_key = SigningKey.objects.get(purpose="oidc", state="signing").kid

    _, saml = services.revoke(signing(), now=timezone.now(), actor=BOB)
    _, oidc = services.revoke(oidc_key, now=timezone.now(), actor=BOB)

    said = "\n".join(command for chore in oidc for command in chore.commands)
    assert "delete-open-id-connect-provider" in said
    assert "put-role-policy --role-name DaypassDiscovery " in said
    assert "--role-name Developer" not in said
    assert "DaypassDiscovery" not in "\n".join(line for chore in saml for line in chore.commands)


def test_a_key_revoked_after_its_turn_may_have_opened_sessions_since(payments, signing_keys):
    """AWS took what it signs until it was revoked: so long it was published."""
    make.role("Reader", of=payments, trust="web_identity")
    now = timezone.now()
    stolen = SigningKey.objects.get(purpose="oidc", state="signing").kid
    keys.publish_next(SigningKey.Purpose.OIDC, now=now - 2 * DAY, actor=BOB)
    keys.rotate(SigningKey.Purpose.OIDC, now - DAY, BOB)

    key, _ = services.revoke(stolen, now=now, actor=BOB)

    panel = after_revocation(None, key)
    said = "\n".join(line for chore in panel.context["chores"] for line in chore.commands)
    assert f'"aws:TokenIssueTime":"{now:%Y-%m-%dT%H:%M:%SZ}"' in said


def test_an_administrator_need_not_wait_for_the_schedule(strict, payments, capsys):
    new = keys.publish_next(SAML, now=timezone.now(), actor=BOB).kid

    call_command("signing_keys", "update", "111122223333")

    assert new in capsys.readouterr().out
    assert certificates_held(strict) == certificates_of(signing(), new)
    del strict.roles[KEEPER]
    with pytest.raises(CommandError, match="DaypassDiscovery"):
        call_command("signing_keys", "update", "111122223333")
    make.account("Legacy", account_id="444455556666")
    with pytest.raises(CommandError, match="no discovery role"):
        call_command("signing_keys", "update", "444455556666")


def test_the_button_on_the_accounts_page_does_the_same(strict, payments):
    keys.publish_next(SAML, now=timezone.now(), actor=BOB)
    page = admin.site.get_model_admin(AwsAccount)
    [deed] = [deed for deed in page.every_deed() if deed.name == "saml-update"]
    assert deed.available(payments)

    assert "holds today" in deed.run(None, payments)

    payments.refresh_from_db()
    assert not deed.available(payments)
    keys.publish_next(SigningKey.Purpose.OIDC, now=timezone.now(), actor=BOB)
    strict.saml_providers.clear()
    with pytest.raises(BadInput, match="no SAML provider"):
        deed.run(None, payments)
