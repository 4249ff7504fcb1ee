"""The employee's own ID token opens roles that trust the company's provider, and is kept for nothing else."""

from __future__ import annotations

import base64
import json
import logging
import pickle
import time
from datetime import timedelta
from html import unescape
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
from django.core.cache import cache
from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from lxml import etree

from accounts import services, tasks
from accounts.models import IdentityProvider, Person, ProviderSession, RelayedToken
from accounts.places import find
from accounts.services.relaying import LONGEST_TOKEN, MARGIN, relay_reference
from broker.audit.models import AuditEvent
from broker.entitlements.drafts import FieldErrors, RoleDraft
from broker.entitlements.models import AwsRole
from broker.entitlements.services import register_role, update_role
from broker.errors import KeyUnavailable
from broker.sealing import unseal
from broker.sessions.models import Session
from broker.trust.relayed import relayed_policy
from tests import factories as make
from tests.accounts import web
from tests.accounts.idp_oidc import ADA, OidcIdp
from tests.admin.conftest import browser_at_origin
from tests.admin.conftest import sign_in as admin_sign_in
from tests.relay.conftest import (
    ISSUER,
    PROVIDER_ARN,
    ROLE_ARN,
    keys_given,
    keys_shown,
    trust,
)
from tests.strict_sts import StrictRole


def keys(browser, role: AwsRole):
    return browser.post(f"/keys/{role.pk}/", secure=True)


def claims_of(token: str) -> dict:
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def sent(aws) -> list[str]:
    return [seen.form["WebIdentityToken"] for seen in aws.requests]


def principal_in(browser, who: Person):
    return make.principal(who, relay=relay_reference(browser.session.session_key))


def test_the_token_of_the_sign_in_opens_the_role(aws, role, sign_in, op):
    browser = sign_in()

    answer = keys(browser, role)

    assert answer.status_code == 200, answer.content
    (token,) = sent(aws)
    assert (claims_of(token)["iss"], claims_of(token)["sub"]) == (ISSUER, ADA["sub"])
    (session,) = Session.objects.all()
    assert session.state == "active"
    assert aws.requests[0].form["RoleSessionName"] == session.session_name
    assert session.session_name.startswith("ada.")
    assert session.source_identity == ""
    assert next(iter(aws.given.values())).source_identity == ""


def test_the_same_token_opens_every_role_of_the_provider_and_no_other(
    aws, role, account, readers, sign_in, signing_keys
):
    second = make.role(
        "Reader", of=account, trust="relayed_token", relay_provider=role.relay_provider
    )
    own = make.role("Own", of=account)
    make.mapping(readers, second, own)
    aws.roles[second.arn] = StrictRole(trust_policy=trust())
    browser = sign_in()

    assert keys(browser, role).status_code == keys(browser, second).status_code == 200
    keys(browser, own)

    relayed, again, minted = sent(aws)
    assert relayed == again
    assert claims_of(minted)["iss"] != ISSUER


def test_the_console_opens_too(aws, role, sign_in, settings):
    from tests.aws.servers import StandIn, signin_answer

    signin = StandIn(signin_answer)
    settings.DAYPASS_SIGNIN_ENDPOINT = signin.url
    try:
        answer = sign_in().post(f"/console/{role.pk}/", secure=True)
    finally:
        signin.stop()

    assert answer.status_code == 303
    assert sent(aws)[0] not in answer["Location"]


def test_session_policy_and_length_are_still_ours(aws, role, readers, sign_in):
    from broker.entitlements.models import Mapping

    Mapping.objects.update(
        session_policy='{"Version":"2012-10-17","Statement":[]}', max_seconds=900
    )

    assert keys(sign_in(), role).status_code == 200

    assert aws.requests[0].form["Policy"].startswith('{"Version"')
    assert aws.requests[0].form["DurationSeconds"] == "900"


# --- To the end, with moto as AWS


def test_the_keys_are_those_that_moto_gave_for_the_token(at_moto, role, sign_in):
    arn = at_moto(*keys_shown(keys(sign_in(), role)))

    assert arn.startswith("arn:aws:sts::111122223333:assumed-role/Developer/ada.")
    assert Session.objects.get().assumed_role_arn == arn


def test_the_console_opens_with_what_moto_gave_for_the_token(
    at_moto, role, sign_in, signin_stand_in
):
    answer = sign_in().post(f"/console/{role.pk}/", secure=True)

    assert answer.status_code == 303, answer.content.decode()
    assert answer["Location"].startswith(f"{signin_stand_in.url}/federation?Action=login")
    arn = at_moto(*keys_given(signin_stand_in))
    assert arn.startswith("arn:aws:sts::111122223333:assumed-role/Developer/ada.")


# --- When it is not there


@pytest.mark.parametrize("kind", ["page", "keys", "console"])
def test_an_expired_token_is_refused_with_the_way_back_in(aws, role, sign_in, kind):
    browser = sign_in()
    RelayedToken.objects.update(expires_at=timezone.now())

    if kind == "page":
        answer = browser.get(f"/roles/{role.pk}/", secure=True)
    else:
        answer = browser.post(f"/{kind}/{role.pk}/", secure=True)

    text = answer.content.decode()
    assert "no longer valid. Sign in again" not in text and "no longer valid." in text
    assert "Sign in again" in text and "/sign-in/?to=" in text
    assert aws.requests == []
    assert kind == "page" or AuditEvent.objects.filter(kind="role.refused").count() == 1


def test_signing_in_again_from_that_refusal_works_at_once(aws, role, sign_in):
    browser = sign_in()
    RelayedToken.objects.update(expires_at=timezone.now())
    assert keys(browser, role).status_code == 403

    sign_in(browser)

    assert keys(browser, role).status_code == 200
    assert RelayedToken.objects.count() == 1


def test_the_list_shows_the_role_and_what_it_takes(aws, role, sign_in):
    browser = sign_in()
    assert "Sign in again" not in browser.get("/", secure=True).content.decode()

    RelayedToken.objects.all().delete()

    page = browser.get("/", secure=True).content.decode()
    assert "Developer" in page and "Sign in again" in page


def test_a_token_that_ends_within_the_margin_is_not_kept(aws, role, sign_in, op):
    bend = op.bend_claims
    op.bend_claims = lambda claims: (
        bend(claims),
        claims.update(exp=int(time.time() + MARGIN.total_seconds()) - 1),
    )

    assert keys(sign_in(), role).status_code == 403
    assert not RelayedToken.objects.exists()


def test_it_is_kept_until_shortly_before_its_own_end(aws, role, sign_in):
    sign_in()

    kept = RelayedToken.objects.get()

    assert kept.expires_at <= timezone.now() + timedelta(seconds=300) - MARGIN


def test_a_token_that_expires_between_the_decision_and_the_call_is_not_sent(
    aws, role, sign_in, ada
):
    from broker.assume.services import begin, obtain
    from broker.entitlements.rules import Ask

    browser = sign_in()
    who = principal_in(browser, ada())
    opened = begin(who, Ask(role.pk, "keys"), timezone.now())
    RelayedToken.objects.update(expires_at=timezone.now())

    with pytest.raises(services.RelayOver):
        obtain(opened)

    assert aws.requests == []
    assert Session.objects.get().state == "failed"


def test_a_longer_token_than_aws_takes_is_not_kept(aws, role, sign_in, op):
    bend = op.bend_claims
    op.bend_claims = lambda claims: (bend(claims), claims.update(more="x" * LONGEST_TOKEN))

    browser = sign_in()

    assert not RelayedToken.objects.exists()
    assert keys(browser, role).status_code == 403


# --- Only where somebody has use for it


@pytest.mark.parametrize("change", ["no role", "role off", "account off", "other trust"])
def test_nothing_is_kept_that_no_role_in_use_takes(role, sign_in, account, change):
    match change:
        case "no role":
            role.mappings.all().delete()
            role.delete()
        case "role off":
            AwsRole.objects.update(enabled=False)
        case "account off":
            account.enabled = False
            account.save()
        case "other trust":
            AwsRole.objects.update(trust="web_identity", relay_provider=None)

    sign_in()

    assert not RelayedToken.objects.exists()


def test_a_sign_in_at_another_provider_keeps_nothing(role, db, settings):
    other = OidcIdp(client_id="other")
    settings.DAYPASS_PRIVATE_PROVIDERS = [*settings.DAYPASS_PRIVATE_PROVIDERS, other.authority]
    services.create_oidc_provider(
        slug="initech",
        name="Initech",
        issuer=other.issuer,
        client_id="other",
        secret=other.client_secret,
        by=services.By(id="task:test", name="test"),
        enabled=True,
    )
    try:
        answer = web.oidc_sign_in(web.browser(), other, "initech")
    finally:
        other.close()

    assert answer.status_code == 302
    assert Person.objects.count() == 1
    assert not RelayedToken.objects.exists()


def test_a_test_sign_in_keeps_nothing(role, op, globex, readers, sign_in):
    readers.confers_staff = True
    readers.save()
    browser = sign_in()
    RelayedToken.objects.all().delete()

    started = browser.post("/sign-in/globex/test/", secure=True)
    finished = web.call_back(browser, op.authorize(web.destination(started)))

    assert finished.status_code == 302 and "test" in finished["Location"]
    assert not RelayedToken.objects.exists()


# --- Only the person's own, in the session it came with


def test_another_browser_of_the_same_person_does_not_have_it(aws, role, sign_in, ada):
    sign_in()

    elsewhere = make.principal(ada(), relay=relay_reference("another-session"))

    with pytest.raises(services.RelayOver):
        services.relayed_token(elsewhere, role.relay_provider_id, now=timezone.now())


def test_another_person_with_the_reference_does_not_get_it(aws, role, sign_in, globex):
    browser = sign_in()
    mallory = make.person("mallory", at=globex)

    with pytest.raises(services.RelayOver):
        services.relayed_token(
            principal_in(browser, mallory), role.relay_provider_id, now=timezone.now()
        )


def test_it_serves_no_other_provider(aws, role, sign_in, ada):
    browser = sign_in()
    other = make.provider()

    with pytest.raises(services.RelayOver):
        services.relayed_token(principal_in(browser, ada()), other.pk, now=timezone.now())


def test_somebody_of_another_provider_is_refused_and_told_so(aws, role, globex):
    from broker.entitlements.queries import load_snapshot
    from broker.entitlements.rules import Ask, Refused, decide

    group = make.group("developers")
    make.mapping(group, role)
    bob = make.person("bob", groups=[group])
    who = make.principal(bob)

    decision = decide(who, Ask(role.pk, "keys"), load_snapshot(who, role.pk), timezone.now())

    assert isinstance(decision, Refused)
    assert decision.code == "relay_other_provider"


def test_what_is_sealed_for_one_session_opens_in_no_other(aws, role, sign_in, ada, op):
    first, second = sign_in(), sign_in()
    one, other = (
        RelayedToken.objects.get(reference=relay_reference(browser.session.session_key))
        for browser in (first, second)
    )
    RelayedToken.objects.filter(pk=other.pk).update(sealed=one.sealed)

    with pytest.raises(KeyUnavailable):
        services.relayed_token(
            principal_in(second, ada()), role.relay_provider_id, now=timezone.now()
        )


def test_what_is_sealed_for_one_person_opens_for_no_other(aws, role, sign_in, globex):
    browser = sign_in()
    mallory = make.person("mallory", at=globex)
    ProviderSession.objects.update(person=mallory)

    with pytest.raises(KeyUnavailable):
        services.relayed_token(
            principal_in(browser, mallory), role.relay_provider_id, now=timezone.now()
        )


def test_it_does_not_open_for_another_purpose(aws, role, sign_in):
    sign_in()

    for place in ("sign-out", "second-factor", "relayed-token"):
        with pytest.raises(KeyUnavailable):
            unseal(RelayedToken.objects.get().sealed, place=place)


# --- Gone when it should be


def test_it_goes_when_the_person_signs_out(aws, role, sign_in):
    browser = sign_in()

    browser.post("/sign-out/", secure=True)

    assert not RelayedToken.objects.exists()


def test_it_goes_when_the_provider_ends_the_session(aws, role, sign_in, op, globex):
    sign_in()

    services.end_by_provider(
        globex, subject=op.person["sub"], index=None, how="signed out", now=timezone.now()
    )

    assert not RelayedToken.objects.exists()


def test_a_new_sign_in_in_the_same_browser_replaces_it(aws, role, sign_in, op):
    browser = sign_in()
    before = RelayedToken.objects.get()

    sign_in(browser)

    after = RelayedToken.objects.get()
    assert (after.pk, after.reference) != (before.pk, before.reference)


def test_somebody_else_signing_in_there_does_not_inherit_it(aws, role, sign_in, op):
    browser = sign_in()
    op.person = {**ADA, "sub": "999", "preferred_username": "eve", "email": "eve@example.com"}
    RelayedToken.objects.update(expires_at=timezone.now() + timedelta(hours=1))

    sign_in(browser)
    keys(browser, role)

    assert [claims_of(token)["sub"] for token in sent(aws)] == ["999"]
    assert RelayedToken.objects.count() == 1


def test_the_sweep_deletes_what_is_over_and_nothing_else(aws, role, sign_in):
    sign_in(), sign_in()
    first = RelayedToken.objects.order_by("pk").first()
    RelayedToken.objects.filter(pk=first.pk).update(expires_at=timezone.now())

    tasks.clear_relayed()

    assert RelayedToken.objects.count() == 1
    assert not RelayedToken.objects.filter(pk=first.pk).exists()


def test_the_sweep_is_due_every_minute(settings):
    due = settings.CELERY_BEAT_SCHEDULE["clear-relayed"]

    assert (due["task"], due["schedule"]) == ("accounts.tasks.clear_relayed", 60.0)


def test_an_ended_access_ends_it_too(aws, role, sign_in, ada):
    browser = sign_in()
    services.set_person_active(ada(), False, by=services.By(id="task:test", name="test"))
    services.set_person_active(ada(), True, by=services.By(id="task:test", name="test"))

    assert keys(browser, role).status_code in (302, 403, 404)
    assert aws.requests == []
    assert not RelayedToken.objects.exists()


# --- Nowhere else


def test_the_token_stands_nowhere_in_the_clear(aws, role, sign_in, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    browser = sign_in()
    answer = keys(browser, role)
    refused = keys(sign_in(), make.role("Other"))
    aws.oidc_providers[PROVIDER_ARN] = []
    failed = keys(browser, role)

    token = sent(aws)[0]
    pieces = [token, token.split(".")[1], token.split(".")[2][:40]]
    kept = [
        *(repr(row) for row in _every_row()),
        caplog.text,
        *(repr(vars(record)) for record in caplog.records),
        *(page.content.decode() for page in (answer, refused, failed)),
        *(repr(dict(page.headers)) for page in (answer, refused, failed)),
        repr(dict(browser.session)),
        repr(browser.cookies),
        repr(getattr(cache, "_cache", {})),
    ]
    assert failed.status_code == 502 and len(kept) > 50
    assert not [text[:200] for text in kept for piece in pieces if piece in text]


def _every_row() -> list[tuple]:
    rows = []
    for table in connection.introspection.table_names():
        with connection.cursor() as cursor:
            cursor.execute(f'SELECT * FROM "{table}"')
            rows += cursor.fetchall()
    return rows


def test_what_carries_it_to_aws_shows_and_copies_nothing(aws, role, sign_in, ada):
    browser = sign_in()
    relayed = services.relayed_token(
        principal_in(browser, ada()), role.relay_provider_id, now=timezone.now()
    )

    assert relayed.reveal().count(".") == 2
    assert relayed.reveal()[:20] not in f"{relayed!r} {relayed}"
    with pytest.raises(TypeError):
        pickle.dumps(relayed)


def test_the_principal_does_not_carry_it(aws, role, sign_in, ada):
    browser = sign_in()
    who = principal_in(browser, ada())

    token = services.relayed_token(who, role.relay_provider_id, now=timezone.now()).reveal()

    assert token not in pickle.dumps(who).decode("latin-1")
    assert browser.session.session_key not in pickle.dumps(who).decode("latin-1")
    assert who.relay not in repr(who)


# --- What AWS says


def failure() -> dict:
    return AuditEvent.objects.get(kind="session.failed").data


def test_an_audience_that_the_account_does_not_list_is_explained(aws, role, sign_in):
    aws.oidc_providers[PROVIDER_ARN] = ["another-client"]

    answer = keys(sign_in(), role)

    assert answer.status_code == 502
    assert failure()["code"] == "InvalidIdentityToken"
    row = Session.objects.get()
    assert "does not list Daypass's client id" in row.failure
    assert "Add daypass to the audiences" in row.remedy


def test_a_provider_that_the_account_does_not_have_is_explained(aws, role, sign_in):
    aws.oidc_providers.clear()

    keys(sign_in(), role)

    assert f"no OIDC provider for exactly {ISSUER}" in Session.objects.get().failure


def test_a_condition_on_somebody_else_is_explained(aws, role, sign_in):
    aws.roles[ROLE_ARN] = StrictRole(trust_policy=trust(sub="somebody-else"))

    keys(sign_in(), role)

    row = Session.objects.get()
    assert "does not let in this person's ID token" in row.failure
    assert ":sub" in row.remedy and "daypass" in row.remedy


def test_a_condition_on_the_very_person_lets_them_in(aws, role, sign_in):
    aws.roles[ROLE_ARN] = StrictRole(trust_policy=trust(sub=ADA["sub"]))

    assert keys(sign_in(), role).status_code == 200


def test_a_key_that_the_provider_no_longer_publishes_is_explained(aws, role, sign_in, op):
    browser = sign_in()
    op.bend_keys = lambda document: document.update(keys=[])

    answer = keys(browser, role)

    assert answer.status_code == 503
    assert ISSUER in Session.objects.get().failure


def test_a_token_that_aws_finds_expired_says_sign_in_again(aws, role, sign_in):
    browser = sign_in()
    token = RelayedToken.objects.get()
    RelayedToken.objects.filter(pk=token.pk).update(expires_at=timezone.now() + timedelta(hours=1))
    aws._check_times = lambda claims: (_ for _ in ()).throw(_expired())

    answer = keys(browser, role)

    page = answer.content.decode()
    (button,) = etree.HTML(page).xpath("//a[text()='Sign in again']/@href")
    assert parse_qs(urlsplit(button).query)["fresh"] == ["1"]
    back = find(parse_qs(urlsplit(button).query)["to"][0])
    assert back == f"/roles/{role.pk}/"
    assert "Ask the people" not in page and "Ask for help" not in page
    assert failure()["code"] == "ExpiredTokenException"


def test_a_token_that_expires_on_the_way_to_aws_leads_to_a_sign_in_too(
    aws, role, sign_in, monkeypatch
):
    browser = sign_in()
    monkeypatch.setattr("accounts.services.relaying._live", lambda *_: None)

    page = browser.post(f"/console/{role.pk}/", secure=True).content.decode()

    (button,) = etree.HTML(page).xpath("//a[text()='Sign in again']/@href")
    assert find(parse_qs(urlsplit(button).query)["to"][0]) == "/go/111122223333/Developer/"
    assert "has expired" in page and "Ask the people" not in page


def _expired():
    from tests.strict_sts import Refusal

    return Refusal("ExpiredTokenException", "Token expired")


# --- What cannot be had with it


def test_a_mapping_with_session_tags_does_not_give_it(aws, role, sign_in):
    from broker.entitlements.models import Mapping

    Mapping.objects.update(session_tags={"Team": "email"})

    answer = keys(sign_in(), role)

    assert answer.status_code == 403
    assert "Daypass cannot add anything to that." in answer.content.decode()
    assert AuditEvent.objects.get(kind="role.refused").data["code"] == "tags_not_relayed"
    assert aws.requests == []


def test_a_deny_beats_it(aws, role, sign_in, ada):
    browser = sign_in()
    make.deny(person=ada(), role=role)

    assert keys(browser, role).status_code == 403
    assert AuditEvent.objects.get(kind="role.refused").data["code"] == "denied"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"trust": "relayed_token"}, "relay_provider_id"),
        ({"trust": "web_identity", "relay_provider_id": UUID(int=5)}, "relay_provider_id"),
        ({"trust": "relayed_token", "relay_provider_id": UUID(int=5)}, "relay_provider_id"),
        ({"trust": "relayed_token", "console": "saml_form"}, "console"),
    ],
)
def test_a_role_names_a_provider_exactly_when_it_takes_that_providers_tokens(
    account, fields, field
):
    from broker.audit.services import Actor

    with pytest.raises(FieldErrors) as wrong:
        register_role(RoleDraft(arn=ROLE_ARN, **fields), actor=Actor.task("test"))

    assert field in wrong.value.errors


def test_a_saml_provider_gives_no_id_tokens(account):
    from broker.audit.services import Actor

    saml = make.provider(protocol="saml")

    with pytest.raises(FieldErrors):
        register_role(
            RoleDraft(arn=ROLE_ARN, trust="relayed_token", relay_provider_id=saml.pk),
            actor=Actor.task("test"),
        )


def test_the_trust_of_a_registered_role_can_be_changed_both_ways(account, globex):
    from broker.audit.services import Actor

    by = Actor.task("test")
    made = register_role(RoleDraft(arn=ROLE_ARN), actor=by)

    update_role(
        made.pk,
        RoleDraft(arn=ROLE_ARN, trust="relayed_token", relay_provider_id=globex.pk),
        actor=by,
    )
    made.refresh_from_db()
    assert (made.trust, made.relay_provider) == ("relayed_token", globex)

    update_role(made.pk, RoleDraft(arn=ROLE_ARN), actor=by)
    made.refresh_from_db()
    assert (made.trust, made.relay_provider) == ("web_identity", None)


@pytest.mark.parametrize("values", [{"relay_provider": None}, {"trust": "web_identity"}])
def test_the_database_itself_refuses_half_of_it(role, values):
    with pytest.raises(IntegrityError), transaction.atomic():
        AwsRole.objects.filter(pk=role.pk).update(**values)


def test_the_statement_for_iam_is_the_one_that_lets_the_token_in(aws, role, sign_in):
    staff = make.person("root", at=make.provider(), is_staff=True)
    page = admin_sign_in(browser_at_origin(), staff).get(
        f"/admin/broker/awsrole/{role.pk}/change/", secure=True
    )
    shown = unescape(page.content.decode()).partition('<pre class="listing">')[2]
    policy = shown.partition("</pre>")[0]
    assert ISSUER in unescape(page.content.decode())
    aws.roles[ROLE_ARN] = StrictRole(trust_policy=policy)

    assert keys(sign_in(), role).status_code == 200


def test_google_is_named_as_aws_knows_it():
    policy = relayed_policy(
        account_id="111122223333",
        partition="aws",
        issuer="https://accounts.google.com",
        client_id="1234.apps",
    )

    (statement,) = json.loads(policy)["Statement"]

    assert statement["Principal"] == {"Federated": "accounts.google.com"}
    assert statement["Condition"]["StringEquals"] == {"accounts.google.com:aud": "1234.apps"}


def test_an_administrator_who_asks_why_sees_it_as_for_a_fresh_sign_in(role, readers, globex):
    from broker.entitlements.queries import explain_person, explain_role
    from broker.entitlements.rules import Allowed

    who = make.person("grace", at=globex, groups=[readers])
    now = timezone.now()

    (mine,) = explain_person(who.pk, now)
    (theirs,) = explain_role(role.pk, now)

    assert isinstance(mine.keys, Allowed) and isinstance(theirs.keys, Allowed)


def test_the_provider_of_a_relayed_role_cannot_vanish(role, globex):
    from django.db.models import ProtectedError

    with pytest.raises((ProtectedError, IntegrityError)), transaction.atomic():
        IdentityProvider.objects.filter(pk=globex.pk).delete()
