"""The broker's signing keys: made, published, used in turn, retired, revoked.

Whoever holds one of these private keys is every person in every account that trusts it, so they rest sealed and are
opened in memory only by this stage, or they are in AWS KMS, which signs and never gives them away. Every change of
their state is an audit event.

Two kinds, and a key has one for life: RSA with 2,048 bits (RS256), which everybody takes for tokens and assertions, and
P-256 (ES256), for tokens only, where DAYPASS_TOKEN_ALGORITHM says so. Keys of both kinds stand side by side while one
follows the other. 3,072 bits would cost three times the time of every issue for keys that are changed long before 2030.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from urllib.parse import urlsplit

import xmlsec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.views.decorators.debug import sensitive_variables

from broker.audit.rules import Kind
from broker.audit.services import Actor, Subject, record
from broker.aws import kms
from broker.errors import BadInput, KeyUnavailable
from broker.minting.kms import handle, load
from broker.minting.models import SigningKey
from broker.prepared import Prepared
from broker.sealing import seal, sealed_under_current_key, unseal

Purpose = SigningKey.Purpose
State = SigningKey.State
Backend = SigningKey.Backend

KEY_BITS = 2048
RS256, ES256 = "RS256", "ES256"
ALGORITHMS: Mapping[str, tuple[str, ...]] = {Purpose.OIDC: (RS256, ES256), Purpose.SAML: (RS256,)}
"""What a key of each purpose may sign with: AWS documents no elliptic curves for assertions."""
CERTIFICATE_LIFETIME = timedelta(days=3 * 365)
PUBLISH_AHEAD = timedelta(hours=24)
"""How long a key is published before it signs: AWS does not say how long it keeps a key set."""
KEEP_RETIRED = timedelta(hours=24)
"""How long a retired key stays published: far longer than anything that it signed can live."""

NOT_PUBLISHED = (State.REMOVED, State.REVOKED)

# Opening a key again for every signature would double its cost: OpenSSL prepares each new key at first use.
_KEEP_OPEN_SECONDS = 60.0
_ENSURE = Actor.task("ensure_keys")

log = logging.getLogger("daypass.minting")


@dataclass(frozen=True, slots=True)
class OpenedKey:
    """A private key in memory, as the two signing libraries want it. Never leaves this stage.

    algorithm: the one that it signs with, known from the key itself. Of a key in KMS, `for_tokens` asks KMS for each
    signature; `for_xml` is None of those and of keys for tokens alone. certificate: base64 of its DER.
    """

    kid: str
    algorithm: str = field(repr=False)
    for_tokens: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = field(repr=False)
    for_xml: xmlsec.Key | None = field(repr=False)
    certificate: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """What the world may know of a key: for the key set and the metadata.

    members: those of a JWK that make up this kind of key (RFC 7518, section 6), `kty` among them.
    """

    kid: str
    state: str
    algorithm: str
    members: Mapping[str, str] = field(hash=False)
    certificate: str

    def as_jwk(self) -> dict[str, object]:
        """RFC 7517, for AWS: `kid` and `use` present, never `key_ops`, and `x5c` of the very same key."""
        return {
            **self.members,
            "use": "sig",
            "alg": self.algorithm,
            "kid": self.kid,
            "x5c": [self.certificate],
        }


def ensure_keys(now: datetime) -> None:
    """Make the first signing key of each purpose where there is none.

    Any number of processes may try at once: the database lets one win. Raises KeyUnavailable when there is no
    sealing key, or when keys have to be in KMS and none can be had there.
    """
    for purpose in Purpose:
        if not SigningKey.objects.filter(purpose=purpose, state=State.SIGNING).exists():
            _first_key(purpose, now)


def _first_key(purpose: SigningKey.Purpose, now: datetime) -> None:
    try:
        key = _make(purpose, State.SIGNING, now)
        with transaction.atomic():
            _keep(key, actor=_ENSURE, now=now)
    except (
        IntegrityError,
        BadInput,
        KeyUnavailable,
    ):  # somebody else was quicker, or there is a reason
        if not SigningKey.objects.filter(purpose=purpose, state=State.SIGNING).exists():
            raise


def publish_next(purpose: SigningKey.Purpose, *, now: datetime, actor: Actor) -> SigningKey:
    """Publish the key that will sign next, for the world to fetch before its turn.

    Raises BadInput when one is waiting already, KeyUnavailable when none can be made.
    """
    return _publish(_make(purpose, State.PUBLISHED, now), now=now, actor=actor)


def adopt(purpose: SigningKey.Purpose, arn: str, *, now: datetime, actor: Actor) -> SigningKey:
    """Publish a key that is in AWS KMS as the one that will sign next.

    Raises BadInput when one is waiting already or this one is known, KeyUnavailable when KMS does not sign with it.
    """
    return _publish(_from_kms(arn, purpose, State.PUBLISHED, now), now=now, actor=actor)


def _publish(key: SigningKey, *, now: datetime, actor: Actor) -> SigningKey:
    purpose = Purpose(key.purpose)
    with transaction.atomic():
        # All of its keys: of two who publish at once, the second then sees what the first one did.
        list(_locked(purpose).values_list("pk"))
        waiting = _locked(purpose).filter(state=State.PUBLISHED).first()
        if waiting is not None:
            raise BadInput(
                f"Key {waiting.kid} is already published and waiting for its turn.",
                code="key_already_published",
            )
        _keep(key, actor=actor, now=now)
    return key


def rotate(
    purpose: SigningKey.Purpose, now: datetime, actor: Actor, *, at_once: bool = False
) -> SigningKey:
    """Let the published key sign, and retire the one that signed; the retired one stays published.

    Raises BadInput when no key is published, or not for PUBLISH_AHEAD yet: AWS could not know it, and would refuse
    what it signs. at_once: an emergency; a key is made if there is none, and refusals are accepted until AWS knows it
    (for SAML: until its metadata is uploaded to every account).
    """
    nobody_waits = not SigningKey.objects.filter(purpose=purpose, state=State.PUBLISHED).exists()
    spare = _make(purpose, State.PUBLISHED, now) if at_once and nobody_waits else None
    with transaction.atomic():
        following = _locked(purpose).filter(state=State.PUBLISHED).order_by("created_at").first()
        if following is None and spare is not None:
            following = _keep(spare, actor=actor, now=now)
        if following is None:
            raise BadInput(
                "No key is published yet. Publish one, wait a day, then rotate.",
                code="no_key_published",
            )
        if not at_once and now - following.created_at < PUBLISH_AHEAD:
            ready = following.created_at + PUBLISH_AHEAD
            raise BadInput(
                f"Key {following.kid} has to stay published until {ready:%Y-%m-%d %H:%M} UTC before it signs, so "
                "that AWS knows it by then.",
                code="key_published_too_recently",
            )
        current = _locked(purpose).filter(state=State.SIGNING).first()
        if current is not None:
            _move(current, State.RETIRED, actor=actor, now=now)
        _move(following, State.SIGNING, actor=actor, now=now)
    return following


def remove(kid: str, *, now: datetime, actor: Actor) -> SigningKey:
    """Take a retired key out of what is published, and destroy its private half: its turn is over.

    Raises BadInput when it is not retired, or not for KEEP_RETIRED yet.
    """
    with transaction.atomic():
        key = SigningKey.objects.select_for_update().filter(kid=kid).first()
        if key is None or key.state != State.RETIRED or key.retired_at is None:
            raise BadInput(f"There is no retired key {kid}.", code="no_such_key")
        if now - key.retired_at < KEEP_RETIRED:
            raise BadInput(
                f"Key {kid} stays published until {key.retired_at + KEEP_RETIRED:%Y-%m-%d %H:%M} UTC.",
                code="key_retired_too_recently",
            )
        _move(key, State.REMOVED, actor=actor, now=now)
    return key


def revoke(kid: str, *, now: datetime, actor: Actor) -> SigningKey:
    """Take a key out of everything published, at once and for good, and destroy its private half.

    When it was the one that signs, the published one takes its place, or a new one is made. Where that fails (a key
    in KMS, and no other is named), it is revoked all the same and nothing is signed until there is one. Raises
    BadInput when there is no such key or it is revoked already.
    """
    found = SigningKey.objects.filter(kid=kid).values_list("purpose", "state").first()
    if found is None:
        raise BadInput(f"There is no key {kid}.", code="no_such_key")
    purpose = Purpose(found[0])
    spare = None
    if found[1] == State.SIGNING:
        try:
            spare = _make(purpose, State.PUBLISHED, now)
        except KeyUnavailable as error:
            log.error("no key to follow the revoked one", extra={"cause": error.cause})
    with transaction.atomic():
        key = _locked(purpose).get(kid=kid)
        if key.state == State.REVOKED:
            raise BadInput(f"Key {kid} is revoked already.", code="key_already_revoked")
        signed = key.state == State.SIGNING
        _move(key, State.REVOKED, actor=actor, now=now)
        if signed:
            waiting = _locked(purpose).filter(state=State.PUBLISHED)
            following = waiting.order_by("created_at").first()
            if following is None and spare is not None:
                following = _keep(spare, actor=actor, now=now)
            if following is not None:
                _move(following, State.SIGNING, actor=actor, now=now)
    _opened.pop(kid, None)
    return key


@sensitive_variables()
def reseal(*, actor: Actor) -> int:
    """Seal every private key again that is not sealed under the current sealing key; answers how many.

    Raises KeyUnavailable when the sealing key that one was sealed under is gone.
    """
    done = 0
    sealed_ones = SigningKey.objects.exclude(private_sealed="").order_by("pk")
    for kid, sealed in sealed_ones.values_list("kid", "private_sealed"):
        if sealed_under_current_key(sealed):
            continue
        renewed = seal(unseal(sealed, place=_place(kid)), place=_place(kid))
        with transaction.atomic():
            mine = SigningKey.objects.filter(kid=kid, private_sealed=sealed)
            if mine.update(private_sealed=renewed) == 1:
                record(
                    Kind.KEY_STATE_CHANGED,
                    actor=actor,
                    subject=Subject("signing_key", kid),
                    data={"resealed": True},
                )
                done += 1
    return done


def signing_key(purpose: SigningKey.Purpose, *, now: datetime) -> OpenedKey:
    """The key that signs now, opened; the first one is made if there is none.

    Which key signs is asked of the database every time, so that a revoked one stops at once; only the opened key is
    kept in memory, for a minute. Raises KeyUnavailable.
    """
    kid = _signing_kid(purpose)
    if kid is None:
        _first_key(purpose, now)
        kid = _signing_kid(purpose)
    if kid is None:
        raise KeyUnavailable(
            cause=f"There is no signing key for {purpose.label}.",
            remedy="Run `manage.py signing_keys list` and, when none signs, `manage.py signing_keys rotate`.",
        )
    kept = _opened.get(kid)
    if kept is not None and kept[1] > time.monotonic():
        return kept[0]
    opened = _open(kid)
    if opened is None:  # revoked between the two looks
        kid = _signing_kid(purpose)
        opened = _open(kid) if kid is not None else None
    if opened is None or kid is None:
        raise KeyUnavailable(cause="The signing key was taken away just now.", retry=True)
    with _opened_lock:
        until = time.monotonic() + _KEEP_OPEN_SECONDS
        for old in [k for k, (_, end) in _opened.items() if end < time.monotonic()]:
            del _opened[old]
        _opened[kid] = (opened, until)
    return opened


def published_keys(purpose: SigningKey.Purpose) -> list[PublicKey]:
    """Every key that may have signed something alive, or soon will: the signing one first, no removed or revoked one.

    Needs no sealing key: AWS can always fetch these.
    """
    order = {State.SIGNING: 0, State.PUBLISHED: 1, State.RETIRED: 2}
    rows = (
        SigningKey.objects.filter(purpose=purpose)
        .exclude(state__in=NOT_PUBLISHED)
        .values_list("kid", "state", "certificate")
    )
    keys = [_public_key(kid, state, certificate) for kid, state, certificate in rows]
    return sorted(keys, key=lambda key: order[State(key.state)])


_listeners: list[Callable[[], None]] = []


def tell_of_changes(listener: Callable[[], None]) -> None:
    """Call this after every committed change of what is published, in the process that made it."""
    if listener not in _listeners:
        _listeners.append(listener)


def _changed() -> None:
    for listener in _listeners:
        transaction.on_commit(listener)


_opened: dict[str, tuple[OpenedKey, float]] = {}
_opened_lock = threading.Lock()


def forget_opened_keys() -> None:
    """Drop every opened key from memory; the next signature opens its key again."""
    with _opened_lock:
        _opened.clear()


def _signing_kid(purpose: SigningKey.Purpose) -> str | None:
    rows = _signing_kids(purpose=str(purpose))
    return rows[0][0] if rows else None


_signing_kids = Prepared(
    lambda purpose: (
        SigningKey.objects.filter(purpose=purpose, state=State.SIGNING)
        .order_by()
        .values_list("kid")
    )
)


@sensitive_variables()
def _open(kid: str) -> OpenedKey | None:
    """The key in memory; None when its private half is destroyed. Raises KeyUnavailable."""
    row = SigningKey.objects.filter(kid=kid).first()
    if row is None:
        raise KeyUnavailable(cause=f"Signing key {kid} vanished.")
    certificate = _public_key(kid, row.state, row.certificate).certificate
    if row.backend == Backend.KMS:
        public = x509.load_pem_x509_certificate(row.certificate.encode()).public_key()
        algorithm = _algorithm_of(public)
        if algorithm != row.algorithm or _thumbprint(public) != kid:
            raise KeyUnavailable(cause=f"The certificate of signing key {kid} is of another key.")
        _fit_for(row.purpose, algorithm, what=f"Signing key {kid}")
        return OpenedKey(kid, algorithm, handle(row.kms_key_arn, public), None, certificate)
    if not row.private_sealed:
        return None
    pem = unseal(row.private_sealed, place=_place(kid))
    private_key = serialization.load_pem_private_key(pem, password=None)
    if (
        not isinstance(private_key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
        or _algorithm_of(private_key.public_key()) != row.algorithm
        or _thumbprint(private_key.public_key()) != kid
    ):
        raise KeyUnavailable(cause=f"What is sealed as signing key {kid} is not that key.")
    _fit_for(row.purpose, row.algorithm, what=f"Signing key {kid}")
    if row.purpose != Purpose.SAML:
        return OpenedKey(kid, row.algorithm, private_key, None, certificate)
    for_xml = xmlsec.Key.from_memory(pem, xmlsec.constants.KeyDataFormatPem, None)
    for_xml.load_cert_from_memory(row.certificate.encode(), xmlsec.constants.KeyDataFormatPem)
    return OpenedKey(kid, row.algorithm, private_key, for_xml, certificate)


def _locked(purpose: SigningKey.Purpose) -> QuerySet[SigningKey]:
    return SigningKey.objects.select_for_update().filter(purpose=purpose)


def _keep(key: SigningKey, *, actor: Actor, now: datetime) -> SigningKey:
    key.save(force_insert=True)
    record(
        Kind.KEY_CREATED,
        actor=actor,
        subject=Subject("signing_key", key.kid),
        data={
            "purpose": key.purpose,
            "algorithm": key.algorithm,
            "state": key.state,
            "backend": key.backend,
            "kms_key_arn": key.kms_key_arn,
        },
        at=now,
    )
    _changed()
    return key


def _move(key: SigningKey, state: SigningKey.State, *, actor: Actor, now: datetime) -> None:
    before = key.state
    changes: dict[str, object] = {"state": state}
    if state == State.SIGNING:
        changes["signing_since"] = now
    elif state == State.REVOKED or key.retired_at is None:
        changes["retired_at"] = now
    if state in NOT_PUBLISHED:
        changes["private_sealed"] = ""
    if SigningKey.objects.filter(pk=key.pk, state=before).update(**changes) != 1:
        raise KeyUnavailable("Somebody else changed this key just now. Look again.", retry=True)
    key.refresh_from_db()
    record(
        Kind.KEY_STATE_CHANGED,
        actor=actor,
        subject=Subject("signing_key", key.kid),
        data={"purpose": key.purpose, "before": before, "after": state.value},
        at=now,
    )
    _changed()


def next_algorithm(purpose: SigningKey.Purpose) -> str:
    """What the next key that Daypass makes for this purpose will sign with; a key in KMS is what it was created as.

    Raises KeyUnavailable when DAYPASS_TOKEN_ALGORITHM says something that no token is signed with.
    """
    if purpose == Purpose.SAML:
        return RS256
    chosen: str = settings.DAYPASS_TOKEN_ALGORITHM
    _fit_for(purpose, chosen, what="DAYPASS_TOKEN_ALGORITHM")
    return chosen


def _fit_for(purpose: str, algorithm: str, *, what: str) -> None:
    if algorithm not in ALGORITHMS[purpose]:
        fit = " or ".join(ALGORITHMS[purpose])
        raise KeyUnavailable(
            cause=f"{what} is for {algorithm}; {Purpose(purpose).label} are signed with {fit}.",
            remedy="Use a key of another kind for this purpose (docs/keys.md).",
        )


def unused_kms_keys(purpose: SigningKey.Purpose) -> list[str]:
    """The ARNs that DAYPASS_KMS_KEYS names for this purpose and that were never brought in, in their order."""
    named = [
        arn
        for word in settings.DAYPASS_KMS_KEYS
        for name, _, arn in [word.partition("=")]
        if name == purpose.value
    ]
    known = set(
        SigningKey.objects.filter(kms_key_arn__in=named).values_list("kms_key_arn", flat=True)
    )
    return [arn for arn in named if arn not in known]


def in_kms(purpose: SigningKey.Purpose) -> bool:
    """Whether keys of this purpose have to be in AWS KMS: then none is ever made outside it."""
    return any(word.partition("=")[0] == purpose.value for word in settings.DAYPASS_KMS_KEYS)


def _make(purpose: SigningKey.Purpose, state: SigningKey.State, now: datetime) -> SigningKey:
    """A key that is not kept yet: from KMS where the settings say so, otherwise a new sealed one.

    Raises KeyUnavailable.
    """
    if not in_kms(purpose):
        return _generate(purpose, state, now)
    for arn in unused_kms_keys(purpose):
        try:
            return _from_kms(arn, purpose, state, now)
        except BadInput:  # a replica, in another region, of one that was brought in
            continue
    raise KeyUnavailable(
        cause=f"Every KMS key that DAYPASS_KMS_KEYS names for {purpose.value} was used already.",
        remedy=f"Create another (`{kms.CREATE}`) and add its ARN "
        f"to DAYPASS_KMS_KEYS, or bring it in with `manage.py signing_keys adopt {purpose.value} ARN`.",
    )


def _from_kms(
    arn: str, purpose: SigningKey.Purpose, state: SigningKey.State, now: datetime
) -> SigningKey:
    """A key in KMS, not yet kept. Its certificate is signed by KMS, which shows that it signs for us."""
    kms.region_of(arn)
    private_key = load(arn)
    algorithm = _algorithm_of(private_key.public_key())
    _fit_for(purpose, algorithm, what=f"The KMS key {arn}")
    kid = _thumbprint(private_key.public_key())
    if SigningKey.objects.filter(kid=kid).exists():
        raise BadInput(
            f"The KMS key {arn} was brought in already, as {kid}. Every key has one purpose and one turn.",
            code="key_known",
        )
    certificate = _certificate(private_key, purpose, now)
    certificate.verify_directly_issued_by(certificate)
    return SigningKey(
        kid=kid,
        purpose=purpose,
        algorithm=algorithm,
        state=state,
        backend=Backend.KMS,
        kms_key_arn=arn,
        certificate=certificate.public_bytes(serialization.Encoding.PEM).decode(),
        created_at=now,
        signing_since=now if state == State.SIGNING else None,
        expires_at=certificate.not_valid_after_utc,
    )


def _generate(purpose: SigningKey.Purpose, state: SigningKey.State, now: datetime) -> SigningKey:
    """A new key, sealed, not yet kept: made outside any transaction, for it takes a tenth of a second."""
    algorithm = next_algorithm(purpose)
    private_key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = (
        ec.generate_private_key(ec.SECP256R1())
        if algorithm == ES256
        else rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    )
    kid = _thumbprint(private_key.public_key())
    pem = private_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    certificate = _certificate(private_key, purpose, now)
    return SigningKey(
        kid=kid,
        purpose=purpose,
        algorithm=algorithm,
        state=state,
        private_sealed=seal(pem, place=_place(kid)),
        certificate=certificate.public_bytes(serialization.Encoding.PEM).decode(),
        created_at=now,
        signing_since=now if state == State.SIGNING else None,
        expires_at=certificate.not_valid_after_utc,
    )


def _certificate(
    private_key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
    purpose: SigningKey.Purpose,
    now: datetime,
) -> x509.Certificate:
    """Self-signed, because metadata and `x5c` carry keys in certificates; nobody is asked to trust its chain."""
    host = urlsplit(settings.DAYPASS_ORIGIN).hostname or "daypass"
    name = x509.Name(
        [
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Daypass"),
            x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{purpose.value} signing, {host}"[:64]),
        ]
    )
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + CERTIFICATE_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(private_key.public_key()), critical=False
        )
        .sign(private_key, hashes.SHA256())
    )


def _algorithm_of(key: object) -> str:
    """The one algorithm that goes with a public key; "" for a key of any other kind, curve or size."""
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= KEY_BITS:
        return RS256
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return ES256
    return ""


def _members(key: object) -> dict[str, str]:
    """RFC 7518, sections 6.2.1 and 6.3.1: the coordinates of a point have the full length of its curve."""
    if isinstance(key, ec.EllipticCurvePublicKey) and _algorithm_of(key) == ES256:
        point = key.public_numbers()
        x, y = (_base64url(value.to_bytes(32, "big")) for value in (point.x, point.y))
        return {"kty": "EC", "crv": "P-256", "x": x, "y": y}
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        return {
            "kty": "RSA",
            "n": _base64url(_bytes(numbers.n)),
            "e": _base64url(_bytes(numbers.e)),
        }
    raise KeyUnavailable(cause="There is a signing key of a kind that Daypass does not sign with.")


def _thumbprint(key: object) -> str:
    """RFC 7638: SHA-256 over the key's required members in lexical order, without blanks."""
    members = json.dumps(_members(key), separators=(",", ":"), sort_keys=True)
    return _base64url(hashlib.sha256(members.encode()).digest())


@lru_cache(maxsize=64)
def _public_key(kid: str, state: str, certificate_pem: str) -> PublicKey:
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    public = certificate.public_key()
    algorithm = _algorithm_of(public)
    if not algorithm or _thumbprint(public) != kid:
        raise KeyUnavailable(cause=f"The certificate of signing key {kid} is not of that key.")
    der = certificate.public_bytes(serialization.Encoding.DER)
    return PublicKey(kid, state, algorithm, _members(public), base64.b64encode(der).decode())


def _bytes(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _place(kid: str) -> str:
    return f"signing-key:{kid}"
