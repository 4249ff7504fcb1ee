"""The admin shows the keys, what comes next and who lags; and changes them after a confirmation, on record."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib import admin
from django.test import Client
from django.utils import timezone

from broker.audit.models import AuditEvent
from broker.audit.services import Actor
from broker.minting import keys
from broker.minting.models import SigningKey
from broker.upkeep import services
from tests import factories as make

OIDC, SAML = SigningKey.Purpose.OIDC, SigningKey.Purpose.SAML
DAY = timedelta(days=1)
BOB = Actor(id="b0b", name="bob")
LIST = "/admin/broker/signingkey/"

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("signing_keys")]


def signing(purpose: str = "oidc") -> SigningKey:
    return SigningKey.objects.get(purpose=purpose, state="signing")


def page(client: Client, key: SigningKey) -> str:
    return client.get(f"{LIST}{key.pk}/change/").content.decode()


def do(client: Client, key: SigningKey, name: str) -> str:
    """Confirm the deed on its page, then read what the page that follows says."""
    url = f"{LIST}{key.pk}/do/{name}/"
    assert client.get(url).status_code == 200
    return client.post(url, follow=True).content.decode()


def test_the_list_says_what_comes_next_and_when(admin_client, settings):
    settings.DAYPASS_KEY_ROTATION_DAYS = 90
    at = signing().signing_since + 89 * DAY

    shown = admin_client.get(LIST).content.decode()

    assert f"The next key is published on {at:%Y-%m-%d %H:%M} UTC." in shown
    assert "Signing" in shown


def test_a_key_is_published_and_rotated_from_its_page(admin_client, ada):
    old = signing()
    said = do(admin_client, old, "publish")
    new = SigningKey.objects.get(purpose=OIDC, state="published")
    assert f'Published <a href="{LIST}{new.pk}/change/">{new}</a>. It' in said
    assert new.kid not in said
    assert "has to stay published" in do(admin_client, new, "rotate")
    SigningKey.objects.filter(pk=new.pk).update(created_at=timezone.now() - 2 * DAY)

    assert f"{new} signs now." in do(admin_client, new, "rotate")

    old.refresh_from_db()
    assert (old.state, signing()) == ("retired", new)
    events = AuditEvent.objects.filter(subject_id__in=[old.kid, new.kid], actor="ada")
    assert [event.kind for event in events.order_by("seq")] == [
        "key.created",
        "key.state_changed",
        "key.state_changed",
    ]


def test_no_button_is_offered_that_could_not_succeed(admin_client):
    account = make.account("Payments", account_id="111122223333")
    make.role("Developer", of=account, trust="saml")
    waiting = keys.publish_next(SAML, now=timezone.now(), actor=BOB)
    SigningKey.objects.filter(purpose=OIDC).update(state="retired", retired_at=timezone.now())
    retired = SigningKey.objects.get(purpose=OIDC)
    known = waiting.created_at + DAY
    asked = {
        name: admin_client.get(f"{LIST}{key.pk}/do/{name}/").content.decode()
        for name, key in (("rotate", waiting), ("remove", retired))
    }

    assert f"It cannot sign before {known:%Y-%m-%d %H:%M} UTC: AWS may need" in asked["rotate"]
    assert "Payments (111122223333) has to be given today" in asked["rotate"]
    assert f"until {retired.retired_at + DAY:%Y-%m-%d %H:%M} UTC" in asked["remove"]
    for said in asked.values():
        assert "Leave it as it is" not in said
        assert 'class="button primary"' not in said
    SigningKey.objects.filter(pk=waiting.pk).update(created_at=timezone.now() - 2 * DAY)
    said = admin_client.get(f"{LIST}{waiting.pk}/do/rotate/").content.decode()
    assert "It cannot sign yet. Payments (111122223333) has to be given today" in said
    services.note_uploaded(account.pk, now=timezone.now(), actor=BOB)
    said = admin_client.get(f"{LIST}{waiting.pk}/do/rotate/").content.decode()
    assert '<button class="button primary">Let it sign now</button>' in said


def test_looking_at_a_confirmation_changes_nothing(admin_client):
    for name in ("publish", "revoke"):
        said = admin_client.get(f"{LIST}{signing().pk}/do/{name}/").content.decode()
        assert "Leave it as it is" in said

    assert SigningKey.objects.filter(state="signing").count() == 2
    assert not AuditEvent.objects.filter(kind__startswith="key.").exists()


def test_revoking_is_confirmed_with_its_price_and_says_what_to_do_in_each_account(admin_client):
    account = make.account("Payments", account_id="111122223333")
    role = make.role("Developer", of=account)
    group = make.group("developers")
    make.mapping(group, role)
    make.membership(make.person("carol"), group)
    stolen = signing()
    asked = admin_client.get(f"{LIST}{stolen.pk}/do/revoke/").content.decode()
    assert "sign-in to AWS stops until AWS fetches the new key set" in asked
    assert "This concerns 1 account, 1 role and 1 person known so far." in asked
    of_the_other = admin_client.get(f"{LIST}{signing('saml').pk}/do/revoke/").content.decode()
    assert "until each account is given the new metadata" in of_the_other
    assert (
        "No role in use trusts this kind of key: nobody&#x27;s way into AWS stops." in of_the_other
    )

    said = do(admin_client, stolen, "revoke")

    assert signing() != stolen
    assert "delete-open-id-connect-provider" in said
    assert "AWSRevokeOlderSessions" in said
    assert said.count("<h3>Payments (111122223333)</h3>") == 1
    assert "Ends every session of the role Developer" in said
    assert AuditEvent.objects.filter(subject_id=stolen.kid, data__after="revoked").exists()


@pytest.mark.parametrize("name", ["publish", "rotate", "remove", "revoke"])
def test_an_employee_changes_no_key(employee_client, name):
    key = signing()
    url = f"{LIST}{key.pk}/do/{name}/"

    for answer in (employee_client.get(url), employee_client.post(url)):
        assert answer.status_code in (302, 403, 404)

    key.refresh_from_db()
    assert key.state == "signing"
    assert SigningKey.objects.count() == 2


def test_a_saml_keys_page_shows_who_lags_and_the_account_says_when_it_is_done(admin_client):
    account = make.account("Payments", account_id="111122223333")
    make.role("Developer", of=account, trust="saml")
    waiting = keys.publish_next(SAML, now=timezone.now() - 2 * DAY, actor=BOB)
    assert "Accounts that still need it" in page(admin_client, waiting)
    assert "Payments (111122223333)" in page(admin_client, waiting)
    assert "update-saml-provider" in page(admin_client, waiting)
    assert "is not known to hold the key" in do(admin_client, waiting, "rotate")

    url = f"/admin/broker/awsaccount/{account.pk}/"
    shown = admin_client.get(f"{url}change/").content.decode()
    assert "update-saml-provider" in shown
    assert "I uploaded the SAML metadata…" in shown
    said = admin_client.post(f"{url}do/saml-uploaded/", follow=True).content.decode()

    assert "It holds today" in said
    assert "Accounts that hold it" in page(admin_client, waiting)
    assert "Every account with SAML roles holds it." in page(admin_client, waiting)
    event = AuditEvent.objects.get(kind="account.saml_keys")
    assert (event.actor, sorted(event.data["after"])) == (
        "ada",
        sorted([waiting.kid, signing("saml").kid]),
    )
    do(admin_client, waiting, "rotate")
    assert signing("saml") == waiting


def test_without_saml_roles_no_account_is_said_to_hold_a_key(admin_client):
    shown = page(admin_client, signing("saml"))

    assert "No account has SAML roles." in shown
    assert "Every account" not in shown


def test_an_account_without_saml_roles_is_not_bothered(admin_client):
    account = make.account("Web")
    make.role("Developer", of=account)

    shown = admin_client.get(f"/admin/broker/awsaccount/{account.pk}/change/").content.decode()

    assert "Its SAML provider" not in shown


def test_the_first_page_tells_what_needs_a_hand(admin_client, settings, tmp_path):
    (tmp_path / "issuer").write_text("in the way")
    settings.DAYPASS_PUBLISH_TO = f"file://{tmp_path}/issuer"
    account = make.account("Payments", account_id="111122223333")
    make.role("Developer", of=account, trust="saml")
    services.note_uploaded(account.pk, now=timezone.now(), actor=BOB)
    keys.rotate(SAML, timezone.now(), BOB, at_once=True)
    with pytest.raises(Exception, match="published"):
        services.publish_copy(now=timezone.now())

    shown = admin_client.get("/admin/").content.decode()

    assert "cannot be written" in shown
    assert "People do not get into Payments (111122223333) by SAML" in shown


def test_accounts_that_were_set_up_and_never_changed_are_nobodys_business(admin_client):
    make.role("Developer", of=make.account("Payments"), trust="saml")

    assert "SAML metadata: Payments" not in admin_client.get("/admin/").content.decode()
    keys.publish_next(SAML, now=timezone.now(), actor=BOB)
    assert "SAML metadata: Payments" in admin_client.get("/admin/").content.decode()


def test_without_a_schedule_nothing_is_announced(admin_client, settings):
    settings.DAYPASS_KEY_ROTATION_DAYS = settings.DAYPASS_SAML_KEY_ROTATION_DAYS = 0

    assert "The next key is published" not in admin_client.get(LIST).content.decode()


def test_the_health_page_shows_where_the_copy_is(admin_client, settings, tmp_path):
    settings.DAYPASS_PUBLISH_TO = f"file://{tmp_path}/issuer"
    services.publish_copy(now=timezone.now())

    shown = admin_client.get("/admin/health/").content.decode()

    assert f"file://{tmp_path}/issuer" in shown
    assert "written" in shown


def test_a_signing_key_is_shown_without_its_sealed_half(admin_client):
    for key in SigningKey.objects.all():
        assert key.private_sealed not in page(admin_client, key)
    assert "private_sealed" not in admin.site.get_model_admin(SigningKey).fields


def test_a_key_is_neither_added_nor_edited_in_a_form(admin_client):
    assert admin_client.get(f"{LIST}add/").status_code in (403, 404)
    assert (
        admin_client.post(f"{LIST}{signing().pk}/change/", {"state": "revoked"}).status_code == 405
    )
    assert SigningKey.objects.filter(state="signing").count() == 2
