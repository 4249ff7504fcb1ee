"""Connecting identity providers, keeping them current, and warning before they stop working."""

from __future__ import annotations

import base64
import json
import threading
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
import redis
from celery.exceptions import SoftTimeLimitExceeded
from cryptography.hazmat.primitives.asymmetric import rsa
from django.utils import timezone
from kombu.exceptions import OperationalError

from accounts import outbound, saml, services, tasks
from accounts.models import IdentityProvider
from accounts.services import queueing
from broker.audit.models import AuditEvent
from broker.celery import app
from broker.errors import BadInput, KeyUnavailable, ProviderUnavailable, SignInRefused
from tests.accounts import web
from tests.accounts.conftest import BY
from tests.accounts.idp_saml import SamlIdp, certificate


def news(kind: str) -> list[dict]:
    return [e.data for e in AuditEvent.objects.filter(kind=f"provider.{kind}").order_by("seq")]


@pytest.fixture
def row(db, published, idp):
    published.document = idp.metadata
    return services.create_provider_from_metadata(
        slug="acme", name="Acme", metadata_url=published.url, by=BY, enabled=True
    )


@pytest.fixture
def saml_row_pasted(db, other_idp):
    return services.create_provider_from_metadata(
        slug="pasted", name="Pasted", metadata_xml=other_idp.metadata, by=BY, enabled=True
    )


def test_metadata_by_address_fills_in_the_provider(row, idp):
    assert row.entity_id == idp.entity_id
    assert (row.sso_url, row.slo_url) == (idp.sso_url, idp.slo_url)
    assert row.certificates == [idp.certificate]
    assert row.refreshed_at
    assert row.certificate_expires_at > timezone.now() + timedelta(days=300)


def test_connecting_is_recorded_with_before_and_after(row):
    event = AuditEvent.objects.get(kind="admin.changed")

    assert event.data["before"] == {}
    assert event.data["after"]["entity_id"] == row.entity_id
    assert len(event.data["after"]["certificates"][0]) == 64


def test_metadata_may_be_pasted_or_typed(db, idp):
    pasted = services.create_provider_from_metadata(
        slug="pasted", name="Pasted", metadata_xml=idp.metadata, by=BY
    )
    typed = services.save_provider(
        IdentityProvider(
            slug="typed",
            name="Typed",
            protocol="saml",
            entity_id="https://typed.example",
            sso_url="https://typed.example/sso",
            certificates=["".join(idp.certificate.splitlines()[1:-1])],
        ),
        by=BY,
    )

    assert pasted.certificates == typed.certificates


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda m: "", "not SAML metadata: it is not XML"),
        (lambda m: "<html/>", "no identity provider"),
        (lambda m: "<!DOCTYPE x>" + m, "DOCTYPE"),
        (lambda m: m.replace("IDPSSO", "SPSSO"), "no identity provider"),
        (lambda m: m.replace("HTTP-Redirect", "HTTP-POST"), "HTTP-Redirect"),
        (lambda m: m.replace('use="signing"', 'use="encryption"'), "no signing certificate"),
        (lambda m: m.replace("https://idp.example/sso", "http://idp.example/sso"), "https"),
        (
            lambda m: m.replace(
                "<md:EntityDescriptor ", '<md:EntityDescriptor validUntil="2020-01-01T00:00:00Z" '
            ),
            "expired on 2020-01-01",
        ),
        (
            lambda m: (
                m[: m.index("<ds:X509Certificate>") + 20]
                + "AAAA"
                + m[m.index("</ds:X509Certificate>") :]
            ),
            "cannot be read",
        ),
    ],
)
def test_what_is_wrong_with_metadata_is_said(published, idp, db, change, told):
    published.document = change(idp.metadata)

    with pytest.raises(BadInput, match=told):
        services.create_provider_from_metadata(
            slug="acme", name="Acme", metadata_url=published.url, by=BY
        )
    assert not IdentityProvider.objects.exists()


def test_one_provider_is_chosen_out_of_a_federation(db, idp, other_idp):
    def body(one):
        return one.metadata.split("?>", 1)[1]

    federation = (
        '<md:EntitiesDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata">'
        f"<!-- members -->{body(idp)}{body(other_idp)}</md:EntitiesDescriptor>"
    )

    with pytest.raises(BadInput, match="several identity providers"):
        services.create_provider_from_metadata(
            slug="acme", name="Acme", metadata_xml=federation, by=BY
        )
    chosen = services.create_provider_from_metadata(
        slug="acme",
        name="Acme",
        metadata_xml=federation,
        entity_id=other_idp.entity_id,
        by=BY,
    )
    assert chosen.certificates == [other_idp.certificate]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"slug": "Not A Slug"}, "slug"),
        ({"slug": "local"}, "another name"),
        ({"name": ""}, "name"),
        ({"claim_map": {"x": 1}}, "claim map"),
        ({"sso_url": "javascript:alert(1)"}, "https"),
        ({"certificates": ["junk"]}, "cannot be read"),
        ({"certificates": []}, "needs its metadata"),
        ({"entity_id": ""}, "needs its metadata"),
    ],
)
def test_what_is_wrong_with_a_provider_is_said(db, idp, fields, told):
    good = {
        "slug": "acme",
        "name": "Acme",
        "protocol": "saml",
        "entity_id": "https://x.example",
        "sso_url": "https://x.example/sso",
        "certificates": [idp.certificate],
    }

    with pytest.raises(BadInput, match=told):
        services.save_provider(IdentityProvider(**good | fields), by=BY)


def test_two_providers_never_share_an_entity_id(row, idp):
    with pytest.raises(BadInput):
        services.create_provider_from_metadata(
            slug="again", name="Again", metadata_xml=idp.metadata, by=BY
        )


def test_a_short_key_is_not_taken(db):
    weak = certificate(rsa.generate_private_key(public_exponent=65537, key_size=1024))

    with pytest.raises(BadInput, match="too short"):
        saml.read_certificate(weak)


def test_a_provider_keeps_its_protocol(row):
    row.protocol = "oidc"

    with pytest.raises(BadInput, match="cannot change"):
        services.save_provider(row, by=BY)


# --- Keeping current


def test_a_new_certificate_is_news(row, published):
    IdentityProvider.objects.update(pinning="follow")
    renewed = SamlIdp()
    published.document = renewed.metadata

    assert services.refresh_provider(row.pk)

    row.refresh_from_db()
    assert row.certificates == [renewed.certificate]
    (told,) = news("refreshed")
    assert told["changes"]["certificates"]["after"] == [services.fingerprint(renewed.certificate)]


def test_nothing_new_is_no_news(row):
    assert services.refresh_provider(row.pk)

    assert news("refreshed") == []


@pytest.mark.parametrize(
    "fail",
    [
        lambda server, idp: setattr(server, "status", 500),
        lambda server, idp: setattr(server, "document", "<junk/>"),
        lambda server, idp: setattr(
            server, "document", idp.metadata.replace(idp.entity_id, "https://evil.example")
        ),
        lambda server, idp: setattr(
            server, "document", idp.metadata.replace("https://idp.example/sso", "http://10.0.0.1/")
        ),
    ],
    ids=["away", "junk", "another provider", "another address"],
)
def test_a_refresh_that_fails_keeps_what_there_was_and_is_told_once(row, published, idp, fail):
    fail(published, idp)

    assert services.refresh_provider(row.pk) is False
    assert services.refresh_provider(row.pk) is False

    row.refresh_from_db()
    assert row.certificates == [idp.certificate]
    assert row.entity_id == idp.entity_id
    assert row.refresh_problem
    assert len(news("refresh_failed")) == 1


def test_a_refresh_that_works_again_is_told(row, published):
    published.status = 500
    services.refresh_provider(row.pk)
    published.status = 200

    assert services.refresh_provider(row.pk)

    row.refresh_from_db()
    assert row.refresh_problem == ""
    assert len(news("refreshed")) == 1


@pytest.mark.parametrize("pinning", ["approve", "follow"])
def test_a_refresh_never_lowers_a_check(row, published, idp, pinning):
    IdentityProvider.objects.update(pinning=pinning, encryption="required")
    published.document = idp.metadata.replace(
        "<md:IDPSSODescriptor ", '<md:IDPSSODescriptor WantAuthnRequestsSigned="false" '
    )

    services.refresh_provider(row.pk)

    row.refresh_from_db()
    assert row.response_signed is True
    assert row.encryption == "required"
    assert row.idp_initiated is False
    assert row.pinning == pinning


# --- Whose turn it is


@pytest.fixture
def at_once():
    """Tasks run where they are sent from."""
    app.conf.task_always_eager = True
    yield
    app.conf.task_always_eager = False


def test_each_provider_is_refreshed_by_a_task_of_its_own_when_it_is_due(row, published, at_once):
    published.asked.clear()

    tasks.refresh_providers()
    assert published.asked == []
    IdentityProvider.objects.update(refresh_due_at=timezone.now())
    tasks.refresh_providers()

    assert len(published.asked) == 1
    row.refresh_from_db()
    assert timedelta(minutes=45) < row.refresh_due_at - timezone.now() <= timedelta(hours=1)


def test_what_is_switched_off_or_pasted_is_not_asked(row, saml_row_pasted, published, at_once):
    IdentityProvider.objects.update(refresh_due_at=timezone.now())
    row.enabled = False
    row.save()
    published.asked.clear()

    tasks.refresh_providers()

    assert published.asked == []
    assert services.refresh_provider(saml_row_pasted.pk)


def test_a_turn_is_given_to_one_only(row, together):
    IdentityProvider.objects.update(refresh_due_at=timezone.now())
    now = timezone.now()

    turns = together(lambda: services.claim_due(now=now), times=4)

    assert sorted(turns) == [[], [], [], [row.pk]]


def test_a_task_that_was_lost_is_queued_again(row):
    now = timezone.now()
    IdentityProvider.objects.update(refresh_due_at=now)

    assert services.claim_due(now=now) == [row.pk]
    assert services.claim_due(now=now + timedelta(minutes=14)) == []
    assert services.claim_due(now=now + timedelta(minutes=16)) == [row.pk]


def test_providers_that_never_had_a_turn_are_spread_over_the_hour(row, other_idp):
    for number in range(20):
        services.create_provider_from_metadata(
            slug=f"p{number}",
            name=f"P {number}",
            metadata_xml=other_idp.metadata.replace("other.example/m", f"p{number}.example/m"),
            by=BY,
            enabled=True,
        )
    IdentityProvider.objects.update(
        refresh_due_at=None, metadata_url="https://idp.example/metadata"
    )
    now = timezone.now()

    assert services.claim_due(now=now) == []

    turns = {row.refresh_due_at - now for row in IdentityProvider.objects.all()}
    assert all(timedelta(0) <= turn <= timedelta(hours=1) for turn in turns)
    assert len(turns) == 21


def test_a_provider_that_fails_is_asked_ever_more_seldom_until_it_works_again(row, published):
    published.status = 500
    now = timezone.now()
    pauses = []
    for _ in range(8):
        services.refresh_provider(row.pk, now=now)
        row.refresh_from_db()
        pauses.append((row.refresh_due_at - now) / timedelta(minutes=1))

    assert 8 <= pauses[0] <= 10
    assert all(later > earlier for earlier, later in pairwise(pauses[:5]))
    assert all(200 <= pause <= 240 for pause in pauses[6:])
    assert len(news("refresh_failed")) == 1

    published.status = 200
    services.refresh_provider(row.pk, now=now)

    row.refresh_from_db()
    assert (row.refresh_failures, row.refresh_problem) == (0, "")
    assert row.refresh_due_at - now > timedelta(minutes=45)


def test_a_refresh_that_takes_too_long_is_a_failure_like_any_other(row, monkeypatch):
    def endless(*_, **__):
        raise SoftTimeLimitExceeded

    monkeypatch.setattr(services, "refresh_provider", endless)

    tasks.refresh_one_provider(str(row.pk))

    row.refresh_from_db()
    assert "longer than 40 seconds" in row.refresh_problem
    assert len(news("refresh_failed")) == 1


def test_what_an_administrator_wrote_meanwhile_stands(row, published, idp, monkeypatch):
    """The metadata of the old address arrives after somebody entered another one."""
    fetch = outbound.get

    def meanwhile(*arguments, **options):
        IdentityProvider.objects.update(metadata_url="https://new.example/metadata")
        return fetch(*arguments, **options)

    published.document = SamlIdp().metadata
    IdentityProvider.objects.update(pinning="follow")
    monkeypatch.setattr(outbound, "get", meanwhile)

    services.refresh_provider(row.pk)

    row.refresh_from_db()
    assert row.certificates == [idp.certificate]


# --- What ends


@pytest.fixture
def ending(row):
    """Give the provider certificates that end in so many days."""

    def give(*days: int) -> list[str]:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        row.certificates = [certificate(key, days=one) for one in days]
        row.certificate_expires_at = None
        row.save()
        return row.certificates

    return give


@pytest.mark.parametrize(("left", "warnings"), [(61, 0), (59, 1), (29, 1), (6, 1), (0, 1)])
def test_a_certificate_that_ends_soon_is_told_once(ending, left, warnings):
    ending(left)

    services.warn_expiring(now=timezone.now())
    services.warn_expiring(now=timezone.now() + timedelta(minutes=1))

    assert len(news("certificate_expiring")) == warnings


def test_it_is_told_again_at_each_step_and_at_the_end(ending):
    ending(70)
    now = timezone.now()

    for day in range(75):
        services.warn_expiring(now=now + timedelta(days=day))

    assert [one["days_left"] for one in news("certificate_expiring")] == [59, 29, 6, -1]


def test_a_renewed_certificate_is_warned_of_anew(ending):
    for days in (20, 25):
        ending(days)
        services.warn_expiring(now=timezone.now())

    assert len(news("certificate_expiring")) == 2


def test_it_says_which_certificate_ends_and_whether_another_is_there(ending):
    soon, later = ending(5, 6)

    services.warn_expiring(now=timezone.now())

    assert [(one["id"], one["last"]) for one in news("certificate_expiring")] == [
        (services.fingerprint(soon), False),
        (services.fingerprint(later), True),
    ]


def test_a_certificate_that_has_ended_signs_nobody_in_and_others_do(ending, row, idp):
    _, living = ending(0, 5)
    now = timezone.now() + timedelta(hours=1)

    assert services.saml_provider(row, now=now).certificates == (living,)
    ending(0)
    with pytest.raises(SignInRefused) as refusal:
        services.saml_provider(row, now=now)
    assert refusal.value.code == "certificates_ended"
    assert row.name in refusal.value.cause


def valid_until(idp: SamlIdp, moment: datetime) -> str:
    return idp.metadata.replace(
        "<md:EntityDescriptor ", f'<md:EntityDescriptor validUntil="{moment:%Y-%m-%dT%H:%M:%SZ}" '
    )


def test_metadata_that_says_when_it_ends_is_believed_until_then(row, published, idp, refusals):
    now = timezone.now().replace(microsecond=0)
    ends = now + timedelta(days=2)
    published.document = valid_until(idp, ends)
    services.refresh_provider(row.pk, now=now)
    row.refresh_from_db()
    assert row.metadata_valid_until == ends
    assert services.saml_provider(row, now=ends - timedelta(seconds=1))

    assert services.refresh_provider(row.pk, now=ends) is False
    with pytest.raises(SignInRefused) as refusal:
        services.saml_provider(row, now=ends)

    assert refusal.value.code == "metadata_expired"
    IdentityProvider.objects.update(metadata_valid_until=now - timedelta(minutes=1))
    answer = web.browser().post("/sign-in/acme/", secure=True)
    assert answer.status_code == 403
    assert "was not renewed" not in answer.content.decode()
    (code, reason) = refusals()[-1]
    assert code == "metadata_expired"
    assert "was not renewed" in reason


def test_renewed_metadata_lets_people_in_again(row, published, idp):
    IdentityProvider.objects.update(metadata_valid_until=timezone.now() - timedelta(days=1))
    published.document = valid_until(idp, timezone.now() + timedelta(days=7))

    services.refresh_provider(row.pk)

    assert web.saml_sign_in(web.browser(), idp).status_code == 302


def test_what_others_do_with_their_metadata_harms_only_them(row, oidc_row, op):
    IdentityProvider.objects.filter(pk=row.pk).update(
        metadata_valid_until=timezone.now() - timedelta(days=1)
    )

    assert web.oidc_sign_in(web.browser(), op).status_code == 302


def test_metadata_that_is_renewed_every_day_is_no_news(row, published, idp):
    now = timezone.now()
    for day in range(20):
        published.document = valid_until(idp, now + timedelta(days=day + 7))
        services.refresh_provider(row.pk, now=now + timedelta(days=day))
        services.warn_expiring(now=now + timedelta(days=day, hours=12))

    assert news("certificate_expiring") == []


@pytest.mark.parametrize(
    ("life", "told"), [(300, [59, 29, 6, -1]), (20, [6, -1]), (7, [2, -1]), (1, [0, -1])]
)
def test_metadata_that_is_not_renewed_is_warned_of(row, published, idp, life, told):
    now = timezone.now().replace(microsecond=0)
    published.document = valid_until(idp, now + timedelta(days=life))
    services.refresh_provider(row.pk, now=now)

    for hour in range(0, (life + 1) * 24, 1 if life < 30 else 24):
        services.warn_expiring(now=now + timedelta(hours=hour, minutes=1))

    assert [one["days_left"] for one in news("certificate_expiring")] == told


def test_a_signer_of_metadata_that_ends_is_told(row):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    IdentityProvider.objects.update(pinning="signed", metadata_signers=[certificate(key, days=10)])

    services.warn_expiring(now=timezone.now())

    (told,) = news("certificate_expiring")
    assert (told["what"], told["last"]) == ("signer", True)


def test_a_provider_that_is_switched_off_is_not_warned_of(row, ending):
    ending(3)
    IdentityProvider.objects.update(enabled=False)

    assert services.warn_expiring(now=timezone.now()) == 0


def test_keys_that_could_not_be_refreshed_for_a_week_are_not_believed(oidc_row, op):
    now = timezone.now()

    assert services.signing_keys(oidc_row, now=now + timedelta(days=6)) == oidc_row.jwks
    with pytest.raises(SignInRefused) as refusal:
        services.signing_keys(oidc_row, now=now + timedelta(days=7, minutes=1))
    assert refusal.value.code == "keys_too_old"


# --- Asking for a refresh


@pytest.fixture
def queued(settings):
    """The ids of the providers whose refresh waits in the queue, read from Valkey itself."""
    store = redis.Redis.from_url(settings.CELERY_BROKER_URL)
    store.delete("celery")

    def read() -> list[str]:
        messages = [json.loads(message) for message in store.lrange("celery", 0, -1)]
        return [json.loads(base64.b64decode(message["body"]))[0][0] for message in messages]

    yield read
    store.delete("celery")
    store.close()


def test_a_refresh_is_queued_and_not_made_while_somebody_waits(row, published, queued):
    asked = len(published.asked)

    assert services.ask_for_refresh(row, timezone.now())

    assert queued() == [str(row.pk)]
    assert len(published.asked) == asked


def test_a_refresh_is_queued_at_most_once_in_five_minutes(row, queued):
    now = timezone.now()

    answers = [
        services.ask_for_refresh(row, now + timedelta(seconds=later)) for later in (0, 1, 299, 300)
    ]

    assert answers == [True, False, False, True]


def test_of_eight_who_ask_at_once_one_queues(row, queued, together):
    now = timezone.now()

    answers = together(lambda: services.ask_for_refresh(row, now), times=8)

    assert sorted(answers) == [False] * 7 + [True]
    assert len(queued()) == 1


@pytest.mark.parametrize(
    "trouble", [OperationalError("away"), ConnectionRefusedError()], ids=["celery", "socket"]
)
def test_without_a_queue_nothing_fails_and_it_may_be_asked_for_again_soon(
    row, monkeypatch, trouble
):
    def away(*_, **__):
        raise trouble

    now = timezone.now()
    monkeypatch.setattr(tasks.refresh_one_provider, "apply_async", away)

    assert services.ask_for_refresh(row, now) is False
    monkeypatch.setattr(tasks.refresh_one_provider, "apply_async", lambda *_, **__: None)
    assert services.ask_for_refresh(row, now + timedelta(seconds=29)) is False
    assert services.ask_for_refresh(row, now + timedelta(seconds=30)) is True


def test_a_queue_that_hangs_is_not_waited_for(row, monkeypatch):
    held = threading.Event()
    monkeypatch.setattr(queueing, "PATIENCE", 0.05)
    monkeypatch.setattr(tasks.refresh_one_provider, "apply_async", lambda *_, **__: held.wait(30))

    assert services.ask_for_refresh(row, timezone.now()) is False
    held.set()


# --- Secrets


def test_a_client_secret_opens_in_its_own_row_only(oidc_row):
    from tests import factories as make

    other = make.provider("other")
    other.client_secret_sealed = oidc_row.client_secret_sealed

    with pytest.raises(KeyUnavailable):
        services.client_secret(other)


def test_saving_without_a_secret_keeps_the_one_there_is(oidc_row, op):
    oidc_row.name = "Globex Corporation"

    services.save_provider(oidc_row, by=BY)

    assert services.client_secret(oidc_row) == op.client_secret


def test_an_empty_secret_removes_it(oidc_row):
    services.save_provider(oidc_row, by=BY, secret="")

    assert services.client_secret(oidc_row) == ""


def test_the_record_says_only_whether_there_is_a_secret(oidc_row, op):
    kept = [e.data for e in AuditEvent.objects.filter(kind="admin.changed")]

    assert kept[-1]["after"]["client_credential"] == "set"
    assert op.client_secret not in str(kept)


def test_a_provider_that_does_not_answer_is_told_to_the_administrator(db, op):
    op.close()

    with pytest.raises(ProviderUnavailable) as failure:
        services.create_oidc_provider(slug="x", name="X", issuer=op.issuer, client_id="x", by=BY)

    assert "discovery document" in failure.value.cause


# --- Clearing up


def test_what_has_done_its_work_is_cleared(row):
    now = timezone.now()
    services.consume(row, services.OneUse("x", "old", now - timedelta(minutes=1)))
    services.consume(row, services.OneUse("x", "young", now + timedelta(minutes=1)))

    assert services.clear_expired(now=now)["messages"] == 1
    tasks.clear_expired()
