"""Signing keys: made once, sealed at rest, used in turn, gone when revoked."""

from __future__ import annotations

import base64
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from django.db import IntegrityError, connection, transaction
from joserfc.jwk import RSAKey

from broker.audit.models import AuditEvent
from broker.audit.queries import Verified, verify_chain
from broker.audit.services import Actor
from broker.errors import BadInput, KeyUnavailable
from broker.minting import keys
from broker.minting.models import SigningKey

OIDC, SAML = SigningKey.Purpose.OIDC, SigningKey.Purpose.SAML
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
DAY = timedelta(days=1)
BOB = Actor(id="b0b", name="bob")
EARLIER = base64.urlsafe_b64encode(b"e" * 32).decode()
CURRENT = base64.urlsafe_b64encode(b"c" * 32).decode()

pytestmark = pytest.mark.django_db


def signing(purpose: SigningKey.Purpose = OIDC) -> SigningKey:
    return SigningKey.objects.get(purpose=purpose, state="signing")


def states(purpose: SigningKey.Purpose = OIDC) -> dict[str, str]:
    return dict(SigningKey.objects.filter(purpose=purpose).values_list("kid", "state"))


def test_the_first_keys_are_made_once_and_one_for_each_purpose():
    keys.ensure_keys(NOW)
    first = (signing(OIDC).kid, signing(SAML).kid)
    keys.ensure_keys(NOW + DAY)

    assert (signing(OIDC).kid, signing(SAML).kid) == first
    assert first[0] != first[1]
    assert SigningKey.objects.count() == 2


def test_a_key_is_named_by_its_rfc_7638_thumbprint_as_another_library_computes_it():
    keys.ensure_keys(NOW)

    for purpose in (OIDC, SAML):
        published = keys.published_keys(purpose)[0]
        theirs = RSAKey.import_key(dict(published.members))
        assert theirs.thumbprint() == published.kid == signing(purpose).kid


def test_the_certificate_is_of_the_key_that_signs_and_self_signed():
    keys.ensure_keys(NOW)

    certificate = x509.load_pem_x509_certificate(signing(SAML).certificate.encode())

    private = keys.signing_key(SAML, now=NOW).for_tokens
    assert certificate.public_key() == private.public_key()
    certificate.verify_directly_issued_by(certificate)
    assert certificate.not_valid_before_utc <= NOW < certificate.not_valid_after_utc
    assert certificate.not_valid_after_utc == signing(SAML).expires_at
    assert private.key_size == 2048
    oids = [extension.oid for extension in certificate.extensions]
    assert len(oids) == len(set(oids)), "IAM refuses a certificate with a repeated extension"


def test_no_private_key_rests_in_the_database_in_clear():
    keys.ensure_keys(NOW)
    opened = [keys.signing_key(purpose, now=NOW).for_tokens for purpose in (OIDC, SAML)]

    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM broker_signingkey")
        kept = repr(cursor.fetchall())
        cursor.execute("SELECT * FROM broker_auditevent")
        kept += repr(cursor.fetchall())

    assert "PRIVATE KEY" not in kept
    for key in opened:
        for form in (
            serialization.PrivateFormat.PKCS8,
            serialization.PrivateFormat.TraditionalOpenSSL,
        ):
            der = key.private_bytes(serialization.Encoding.DER, form, serialization.NoEncryption())
            assert base64.b64encode(der).decode()[60:120] not in kept
        numbers = key.private_numbers()
        for secret in (numbers.d, numbers.p, numbers.q):
            assert str(secret) not in kept
            assert f"{secret:x}" not in kept


def test_an_opened_key_shows_nothing_of_itself():
    keys.ensure_keys(NOW)

    shown = repr(keys.signing_key(OIDC, now=NOW))

    assert shown == f"OpenedKey(kid='{signing().kid}')"


def test_a_sealed_key_moved_to_another_row_does_not_open():
    keys.ensure_keys(NOW)
    SigningKey.objects.filter(purpose=OIDC).update(private_sealed=signing(SAML).private_sealed)

    with pytest.raises(KeyUnavailable) as caught:
        keys.signing_key(OIDC, now=NOW)

    assert "altered or moved" in caught.value.cause
    assert keys.signing_key(SAML, now=NOW).kid == signing(SAML).kid


def test_without_its_sealing_key_nothing_is_signed_but_the_public_half_is_still_served(settings):
    keys.ensure_keys(NOW)
    settings.DAYPASS_SEALING_KEYS = [CURRENT]

    with pytest.raises(KeyUnavailable) as caught:
        keys.signing_key(OIDC, now=NOW)

    assert "DAYPASS_SEALING_KEYS" in caught.value.remedy
    assert [key.kid for key in keys.published_keys(OIDC)] == [signing().kid]


def test_without_any_sealing_key_none_is_made(settings):
    settings.DAYPASS_SEALING_KEYS = []

    with pytest.raises(KeyUnavailable) as caught:
        keys.ensure_keys(NOW)

    assert "new_sealing_key" in caught.value.remedy
    assert not SigningKey.objects.exists()


def test_resealing_moves_every_key_under_the_current_sealing_key(settings):
    settings.DAYPASS_SEALING_KEYS = [EARLIER]
    keys.ensure_keys(NOW)
    settings.DAYPASS_SEALING_KEYS = [CURRENT, EARLIER]

    assert keys.reseal(actor=BOB) == 2
    assert keys.reseal(actor=BOB) == 0
    settings.DAYPASS_SEALING_KEYS = [CURRENT]
    keys.forget_opened_keys()

    assert keys.signing_key(OIDC, now=NOW).kid == signing(OIDC).kid
    assert keys.signing_key(SAML, now=NOW).kid == signing(SAML).kid
    assert AuditEvent.objects.filter(actor="bob", data={"resealed": True}).count() == 2


def test_the_database_itself_refuses_a_second_signing_key_of_one_purpose():
    keys.ensure_keys(NOW)
    row = signing()

    with pytest.raises(IntegrityError), transaction.atomic():
        SigningKey.objects.create(
            kid="another",
            purpose=OIDC,
            state="signing",
            private_sealed=row.private_sealed,
            certificate=row.certificate,
            expires_at=row.expires_at,
        )


def test_any_number_of_processes_may_make_the_first_keys_at_once_and_one_wins(together):
    def one_of_each() -> None:
        assert sorted(SigningKey.objects.values_list("purpose", "state")) == [
            ("oidc", "signing"),
            ("saml", "signing"),
        ]
        assert AuditEvent.objects.filter(kind="key.created").count() == 2
        assert isinstance(verify_chain(), Verified)

    assert together(lambda: keys.ensure_keys(NOW), times=4) == []
    assert together(one_of_each) == []


def test_of_two_who_publish_at_once_only_one_does(together, monkeypatch):
    """The schedule's task may run twice: two waiting keys would mean two changes in two days."""
    assert together(lambda: keys.ensure_keys(NOW)) == []
    both = threading.Barrier(2)
    keeping = keys._keep

    def keep_together(*args, **named):
        with suppress(threading.BrokenBarrierError):  # the other one does not come this far
            both.wait(timeout=1)
        return keeping(*args, **named)

    monkeypatch.setattr(keys, "_keep", keep_together)

    problems = together(lambda: keys.publish_next(OIDC, now=NOW, actor=BOB), times=2)

    assert [getattr(problem, "code", problem) for problem in problems] == ["key_already_published"]


def test_of_two_rotations_at_once_only_one_happens(together):
    def prepare() -> None:
        keys.ensure_keys(NOW)
        keys.publish_next(OIDC, now=NOW, actor=BOB)

    def rotated_once() -> None:
        assert sorted(states().values()) == ["retired", "signing"]

    assert together(prepare) == []
    problems = together(lambda: keys.rotate(OIDC, NOW + DAY, BOB), times=2)

    assert [type(problem) for problem in problems] == [BadInput]
    assert together(rotated_once) == []


def test_a_key_signs_only_after_it_was_published_for_a_day():
    keys.ensure_keys(NOW)
    old = signing().kid
    new = keys.publish_next(OIDC, now=NOW, actor=BOB).kid

    with pytest.raises(BadInput) as caught:
        keys.rotate(OIDC, NOW + DAY - timedelta(seconds=1), BOB)

    assert caught.value.code == "key_published_too_recently"
    assert states() == {old: "signing", new: "published"}

    keys.rotate(OIDC, NOW + DAY, BOB)

    assert states() == {old: "retired", new: "signing"}
    assert keys.signing_key(OIDC, now=NOW + DAY).kid == new
    assert signing().signing_since == NOW + DAY
    assert SigningKey.objects.get(kid=old).retired_at == NOW + DAY


def test_every_key_that_may_have_signed_or_will_sign_is_published_the_signing_one_first():
    keys.ensure_keys(NOW)
    oldest = signing().kid
    keys.rotate(OIDC, NOW, BOB, at_once=True)
    current = signing().kid
    waiting = keys.publish_next(OIDC, now=NOW, actor=BOB).kid

    published = [(key.kid, key.state) for key in keys.published_keys(OIDC)]

    assert published == [(current, "signing"), (waiting, "published"), (oldest, "retired")]


def test_rotating_without_a_published_key_is_refused_unless_it_is_an_emergency():
    keys.ensure_keys(NOW)
    old = signing().kid

    with pytest.raises(BadInput) as caught:
        keys.rotate(OIDC, NOW, BOB)
    assert caught.value.code == "no_key_published"

    new = keys.rotate(OIDC, NOW, BOB, at_once=True).kid

    assert states() == {old: "retired", new: "signing"}


def test_one_key_at_a_time_waits_for_its_turn():
    keys.ensure_keys(NOW)
    keys.publish_next(OIDC, now=NOW, actor=BOB)

    with pytest.raises(BadInput) as caught:
        keys.publish_next(OIDC, now=NOW, actor=BOB)

    assert caught.value.code == "key_already_published"
    keys.publish_next(SAML, now=NOW, actor=BOB)


def test_a_revoked_key_signs_nothing_more_although_it_is_still_open_in_memory():
    keys.ensure_keys(NOW)
    stolen = keys.signing_key(OIDC, now=NOW).kid

    # As another process does it: this one's memory of opened keys is not told.
    SigningKey.objects.filter(kid=stolen).update(state="revoked")

    assert keys.signing_key(OIDC, now=NOW).kid != stolen
    assert stolen not in [key.kid for key in keys.published_keys(OIDC)]


def test_revoking_the_signing_key_lets_the_published_one_take_its_place():
    keys.ensure_keys(NOW)
    stolen = signing().kid
    waiting = keys.publish_next(OIDC, now=NOW, actor=BOB).kid

    keys.revoke(stolen, now=NOW, actor=BOB)

    assert states() == {stolen: "revoked", waiting: "signing"}


def test_revoking_the_only_key_makes_another():
    keys.ensure_keys(NOW)
    stolen = signing().kid

    keys.revoke(stolen, now=NOW, actor=BOB)

    assert signing().kid != stolen
    assert [key.kid for key in keys.published_keys(OIDC)] == [signing().kid]


def test_revoking_a_retired_key_leaves_the_signing_one_alone():
    keys.ensure_keys(NOW)
    retired = signing().kid
    keys.rotate(OIDC, NOW, BOB, at_once=True)
    current = signing().kid

    keys.revoke(retired, now=NOW, actor=BOB)

    assert states() == {retired: "revoked", current: "signing"}


@pytest.mark.parametrize("times", [0, 1])
def test_a_key_that_is_unknown_or_revoked_already_cannot_be_revoked(times):
    keys.ensure_keys(NOW)
    kid = signing().kid if times else "nobody"
    for _ in range(times):
        keys.revoke(kid, now=NOW, actor=BOB)

    with pytest.raises(BadInput):
        keys.revoke(kid, now=NOW, actor=BOB)


def test_every_change_of_a_key_is_an_event_that_names_it_and_who_did_it():
    keys.ensure_keys(NOW)
    old = signing().kid
    new = keys.publish_next(OIDC, now=NOW, actor=BOB).kid
    keys.rotate(OIDC, NOW + DAY, BOB)
    keys.revoke(old, now=NOW + 2 * DAY, actor=BOB)

    events = AuditEvent.objects.filter(subject_id__in=[old, new]).order_by("seq")

    assert [
        (e.kind, e.actor, e.subject_id, e.data.get("before", ""), e.data.get("after", ""))
        for e in events
    ] == [
        ("key.created", "ensure_keys", old, "", ""),
        ("key.created", "bob", new, "", ""),
        ("key.state_changed", "bob", old, "signing", "retired"),
        ("key.state_changed", "bob", new, "published", "signing"),
        ("key.state_changed", "bob", old, "retired", "revoked"),
    ]


def test_a_key_whose_events_cannot_be_written_is_not_made():
    from broker.audit.models import AuditHead
    from broker.errors import AuditBroken

    keys.ensure_keys(NOW)
    AuditHead.objects.all().update(seq=99)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO broker_auditevent (seq, at, kind, actor_id, actor, subject_type, subject_id, reference,"
            " address, data, previous_hash, hash) SELECT 100, at, kind, actor_id, actor, subject_type, subject_id,"
            " reference, address, data, previous_hash, hash FROM broker_auditevent WHERE seq = 1"
        )

    with pytest.raises(AuditBroken), transaction.atomic():
        keys.publish_next(OIDC, now=NOW, actor=BOB)

    assert not SigningKey.objects.filter(state="published").exists()
