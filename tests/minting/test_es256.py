"""Tokens signed with ES256: chosen by a setting, beside RS256 in one key set, and never taken for each other."""

from __future__ import annotations

import base64
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import jwt as pyjwt
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from django.core.management import call_command
from django.utils import timezone
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, RSAKey

from broker.audit.models import AuditEvent
from broker.audit.services import Actor
from broker.errors import KeyUnavailable
from broker.minting import keys
from broker.minting.kms import handle, load
from broker.minting.models import SigningKey
from broker.minting.oidc import key_set, mint_web_identity_token
from broker.minting.saml import mint_saml_response
from broker.sealing import seal
from broker.upkeep import look, services
from tests.minting.claims import assertion, parts_of, web_identity
from tests.minting.conftest import new_key
from tests.strict_sts import Published, StrictRole, StrictSts
from tests.upkeep.conftest import ACCOUNT, OIDC_PROVIDER, trusting

OIDC, SAML = SigningKey.Purpose.OIDC, SigningKey.Purpose.SAML
DISCOVERY, JWKS = "/.well-known/openid-configuration", "/.well-known/jwks.json"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/Developer"
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
DAY = timedelta(days=1)
BOB = Actor(id="b0b", name="bob")

pytestmark = pytest.mark.django_db


@pytest.fixture
def es256(settings) -> None:
    settings.DAYPASS_TOKEN_ALGORITHM = "ES256"


def signing(purpose: SigningKey.Purpose = OIDC) -> SigningKey:
    return SigningKey.objects.get(purpose=purpose, state="signing")


def verified(token: str, client: Any, *algorithms: str) -> dict[str, Any]:
    """By another library, from what the view serves, with these algorithms alone."""
    published = KeySet.import_key_set(client.get(JWKS).json())
    return jwt.decode(token, published, algorithms=list(algorithms)).claims


def algorithms(client: Any) -> list[str]:
    return client.get(DISCOVERY).json()["id_token_signing_alg_values_supported"]


# --- What is published and signed


def test_another_library_verifies_a_token_from_the_served_documents(es256, client):
    token = mint_web_identity_token(web_identity(), now=timezone.now())

    assert verified(token.reveal(), client, "ES256")["jti"] == token.id
    header, _ = parts_of(token.reveal())
    assert header == {"alg": "ES256", "typ": "JWT", "kid": signing().kid}
    # JWS takes R and S side by side (RFC 7518, section 3.4), not the DER of X.509.
    signature = token.reveal().rpartition(".")[2]
    assert len(base64.urlsafe_b64decode(signature + "==")) == 64
    with pytest.raises(JoseError):
        verified(token.reveal(), client, "RS256")


def test_the_published_key_is_one_of_p_256_under_its_thumbprint_with_its_certificate(es256, client):
    [key] = client.get(JWKS).json()["keys"]

    assert set(key) == {"kty", "crv", "x", "y", "alg", "use", "kid", "x5c"}
    assert (key["kty"], key["crv"], key["alg"], key["use"]) == ("EC", "P-256", "ES256", "sig")
    theirs = ECKey.import_key({name: key[name] for name in ("kty", "crv", "x", "y")})
    assert theirs.thumbprint() == key["kid"] == signing().kid
    certificate = x509.load_der_x509_certificate(base64.b64decode(key["x5c"][0]))
    certificate.verify_directly_issued_by(certificate)
    assert certificate.public_key() == theirs.public_key
    assert signing().algorithm == "ES256"


def test_a_coordinate_that_begins_with_zeros_keeps_its_length():
    """RFC 7518, section 6.2.1.2. One key in 128 has one."""
    found = next(
        public
        for secret in range(1, 5000)
        for public in [ec.derive_private_key(secret, ec.SECP256R1()).public_key()]
        if public.public_numbers().x < 1 << 248
    )

    members = keys._members(found)

    assert [len(members[name]) for name in ("x", "y")] == [43, 43]
    assert ECKey.import_key(members).thumbprint() == keys._thumbprint(found)


def test_discovery_names_the_algorithms_of_the_published_keys_and_rs256_always(settings, client):
    assert algorithms(client) == ["RS256"]
    keys.ensure_keys(NOW)
    settings.DAYPASS_TOKEN_ALGORITHM = "ES256"
    assert algorithms(client) == ["RS256"]

    waiting = keys.publish_next(OIDC, now=NOW, actor=BOB)
    assert algorithms(client) == ["RS256", "ES256"]

    keys.revoke(waiting.kid, now=NOW, actor=BOB)
    assert algorithms(client) == ["RS256"]


def test_discovery_is_right_before_there_is_any_key(es256, client):
    assert algorithms(client) == ["RS256", "ES256"]
    assert not SigningKey.objects.exists()


def test_assertions_are_signed_with_rsa_whatever_tokens_are_signed_with(es256):
    keys.ensure_keys(NOW)

    assert (signing(OIDC).algorithm, signing(SAML).algorithm) == ("ES256", "RS256")
    assert mint_saml_response(assertion(), now=NOW).key_id == signing(SAML).kid


def test_the_private_half_rests_sealed_and_the_audit_says_of_what_kind_it_is(es256):
    keys.ensure_keys(NOW)
    row = signing()

    assert "PRIVATE" not in row.private_sealed
    assert AuditEvent.objects.get(subject_id=row.kid).data["algorithm"] == "ES256"
    secret = keys.signing_key(OIDC, now=NOW).for_tokens.private_numbers().private_value
    assert f"{secret:x}" not in row.private_sealed


def test_whoever_lists_the_keys_sees_their_algorithms(es256, capsys):
    call_command("signing_keys", "ensure")

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[3] for line in lines if "certificate ends" in line] == ["ES256", "RS256"]


# --- From one to the other


@pytest.mark.parametrize(("first", "then"), [("RS256", "ES256"), ("ES256", "RS256")])
def test_the_setting_decides_about_the_next_key_and_changes_none_that_is_there(
    settings, client, first, then
):
    settings.DAYPASS_TOKEN_ALGORITHM = first
    before = mint_web_identity_token(web_identity(), now=timezone.now())
    settings.DAYPASS_TOKEN_ALGORITHM = then
    keys.forget_opened_keys()

    same = mint_web_identity_token(web_identity(), now=timezone.now())
    keys.publish_next(OIDC, now=NOW, actor=BOB)
    keys.rotate(OIDC, NOW + DAY, BOB)
    after = mint_web_identity_token(web_identity(), now=timezone.now())

    assert same.key_id == before.key_id
    for token, algorithm in ((before, first), (same, first), (after, then)):
        assert verified(token.reveal(), client, algorithm)["jti"] == token.id
    kinds = {"RS256": "RSA", "ES256": "EC"}
    served = client.get(JWKS).json()["keys"]
    assert [key["kty"] for key in served] == [kinds[then], kinds[first]]


def test_a_revoked_key_is_followed_by_one_of_the_kind_that_is_set(settings):
    keys.ensure_keys(NOW)
    settings.DAYPASS_TOKEN_ALGORITHM = "ES256"

    keys.revoke(signing(OIDC).kid, now=NOW, actor=BOB)
    keys.revoke(signing(SAML).kid, now=NOW, actor=BOB)

    assert (signing(OIDC).algorithm, signing(SAML).algorithm) == ("ES256", "RS256")


def test_aws_refuses_nobody_while_the_schedule_goes_to_es256_and_back(settings, client):
    """Every two hours of twelve days, at an AWS that keeps a key set for 23 hours without a second look."""
    settings.DAYPASS_KEY_ROTATION_DAYS = 3
    settings.DAYPASS_SAML_KEY_ROTATION_DAYS = 0
    clock = [NOW]
    used: Counter[tuple[str, str]] = Counter()
    documents = {path: lambda path=path: client.get(path).content for path in (DISCOVERY, JWKS)}
    with (
        Published(dict.fromkeys(documents, b"")) as site,
        StrictSts(
            issuer_urls={settings.DAYPASS_ISSUER: site.url},
            jwks_cache_seconds=23 * 3600,
            clock=lambda: clock[0],
        ) as sts,
    ):
        sts.oidc_providers[OIDC_PROVIDER] = ["sts.amazonaws.com"]
        sts.roles[ROLE] = StrictRole(trust_policy=trusting("Developer", "web_identity"))
        aws = client_of(sts)
        keys.ensure_keys(NOW)
        for hours in range(0, 12 * 24, 2):
            clock[0] = NOW + timedelta(hours=hours)
            settings.DAYPASS_TOKEN_ALGORITHM = "ES256" if hours < 5 * 24 else "RS256"
            services.turn_keys(now=clock[0])
            site.documents.update({path: read() for path, read in documents.items()})
            token = mint_web_identity_token(web_identity(role_arn=ROLE), now=clock[0])
            enter(aws, token.reveal())
            used[token.key_id, parts_of(token.reveal())[0]["alg"]] += 1

        assert sts.refused() == []
    assert [algorithm for _, algorithm in used] == ["RS256", "ES256", "RS256", "RS256"]
    assert all(count >= 24 for count in list(used.values())[:3])


def client_of(sts: StrictSts) -> Any:
    return boto3.client(
        "sts",
        region_name="us-east-1",
        endpoint_url=sts.url,
        config=Config(signature_version=UNSIGNED, retries={"total_max_attempts": 1}),
    )


def enter(aws: Any, token: str) -> None:
    aws.assume_role_with_web_identity(
        RoleArn=ROLE, RoleSessionName="alice-7Q2M", WebIdentityToken=token
    )


# --- Other keys, and algorithms that are confused


@pytest.fixture
def aws(es256, settings, client) -> Any:
    """An AWS that trusts what is published now, one key of each kind."""
    settings.DAYPASS_TOKEN_ALGORITHM = "RS256"
    keys.ensure_keys(timezone.now())
    settings.DAYPASS_TOKEN_ALGORITHM = "ES256"
    keys.publish_next(OIDC, now=timezone.now(), actor=BOB)
    keys.rotate(OIDC, timezone.now(), BOB, at_once=True)
    with Published() as site, StrictSts(issuer_urls={settings.DAYPASS_ISSUER: site.url}) as sts:
        site.publish_daypass(client)
        sts.oidc_providers[OIDC_PROVIDER] = ["sts.amazonaws.com"]
        sts.roles[ROLE] = StrictRole(trust_policy=trusting("Developer", "web_identity"))
        yield client_of(sts)


def claims() -> dict[str, Any]:
    token = mint_web_identity_token(web_identity(role_arn=ROLE), now=timezone.now())
    return parts_of(token.reveal())[1]


def signed_by(private: Any, *, alg: str, kid: str) -> str:
    return pyjwt.encode(claims(), private, algorithm=alg, headers={"kid": kid, "typ": "JWT"})


def test_aws_takes_what_daypass_signs_and_no_foreign_key_or_curve(aws):
    enter(aws, mint_web_identity_token(web_identity(role_arn=ROLE), now=timezone.now()).reveal())
    ours = signing().kid
    foreign = ec.generate_private_key(ec.SECP256R1())
    larger = ec.generate_private_key(ec.SECP384R1())

    for token in (
        signed_by(foreign, alg="ES256", kid=ours),
        signed_by(larger, alg="ES384", kid=ours),
        signed_by(foreign, alg="ES256", kid=keys._thumbprint(foreign.public_key())),
    ):
        with pytest.raises(ClientError, match="InvalidIdentityToken"):
            enter(aws, token)


def test_a_header_with_the_other_algorithm_opens_nothing(aws):
    """What an attacker can make of a token of ours: the head is not his to change."""
    rsa_kid = SigningKey.objects.get(purpose=OIDC, state="retired").kid
    token = mint_web_identity_token(web_identity(role_arn=ROLE), now=timezone.now()).reveal()
    _, payload, signature = token.split(".")

    for changed in (
        {"alg": "RS256", "kid": signing().kid},
        {"alg": "RS256", "kid": rsa_kid},
        {"alg": "ES256", "kid": rsa_kid},
        {"alg": "none", "kid": signing().kid},
    ):
        head = base64.urlsafe_b64encode(json.dumps(changed).encode()).rstrip(b"=").decode()
        with pytest.raises(ClientError, match="InvalidIdentityToken"):
            enter(aws, f"{head}.{payload}.{signature}")


@pytest.mark.parametrize("kind", ["RS256", "ES256"])
def test_a_key_never_signs_with_another_algorithm_than_its_own(settings, kind):
    """Whatever a row says of its key: what does not fit is not opened, and nothing is signed."""
    settings.DAYPASS_TOKEN_ALGORITHM = kind
    keys.ensure_keys(NOW)
    other = {"RS256": "ES256", "ES256": "RS256"}[kind]
    SigningKey.objects.filter(purpose=OIDC).update(algorithm=other)

    with pytest.raises(KeyUnavailable, match="sign") as caught:
        mint_web_identity_token(web_identity(), now=NOW)

    assert "is not that key" in caught.value.cause


def test_a_key_on_another_curve_is_neither_opened_nor_published(es256):
    keys.ensure_keys(NOW)
    row = signing()
    larger = ec.generate_private_key(ec.SECP384R1())
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    sealed = seal(
        larger.private_bytes(*pem, serialization.NoEncryption()), place=keys._place(row.kid)
    )
    certificate = keys._certificate(larger, OIDC, NOW)
    SigningKey.objects.filter(pk=row.pk).update(private_sealed=sealed)

    with pytest.raises(KeyUnavailable) as caught:
        keys.signing_key(OIDC, now=NOW)
    assert "is not that key" in caught.value.cause

    shown = certificate.public_bytes(serialization.Encoding.PEM).decode()
    SigningKey.objects.filter(pk=row.pk).update(certificate=shown)
    with pytest.raises(KeyUnavailable) as caught:
        key_set(now=NOW)
    assert "is not of that key" in caught.value.cause


def test_a_key_of_a_curve_signs_no_assertion_even_if_its_row_says_so(es256):
    keys.ensure_keys(NOW)
    SigningKey.objects.filter(purpose=SAML).delete()
    SigningKey.objects.filter(purpose=OIDC).update(purpose=SAML)

    with pytest.raises(KeyUnavailable) as caught:
        mint_saml_response(assertion(), now=NOW)

    assert "signed with RS256" in caught.value.cause


def test_no_key_is_made_for_an_algorithm_that_aws_does_not_take(settings):
    settings.DAYPASS_TOKEN_ALGORITHM = "EdDSA"

    with pytest.raises(KeyUnavailable) as caught:
        keys.ensure_keys(NOW)

    assert "DAYPASS_TOKEN_ALGORITHM" in caught.value.cause
    assert not SigningKey.objects.filter(purpose=OIDC).exists()


def test_a_discovery_document_from_before_the_change_is_one_that_is_stale(settings, client):
    keys.ensure_keys(NOW)
    with Published() as site:
        site.publish_daypass(client)
        settings.DAYPASS_ISSUER = "https://daypass.test"
        settings.DAYPASS_TOKEN_ALGORITHM = "ES256"
        keys.publish_next(OIDC, now=NOW, actor=BOB)

        answer = look.at_issuer(site.url, key_set(now=NOW))

    assert (answer.state, "algorithms" in answer.said) == ("stale", True)


# --- In AWS KMS


@pytest.fixture
def curve_in_kms(kms_admin) -> str:
    return new_key(kms_admin, "ECC_NIST_P256")


def test_a_token_signed_on_p_256_by_kms_is_verified_from_the_served_documents(
    curve_in_kms, settings, client
):
    settings.DAYPASS_KMS_KEYS = [f"oidc={curve_in_kms}"]

    tokens = [mint_web_identity_token(web_identity(), now=timezone.now()) for _ in range(20)]

    for token in tokens:  # R and S are shorter than 32 bytes now and then
        assert verified(token.reveal(), client, "ES256")["jti"] == token.id
    row = signing()
    assert (row.backend, row.algorithm, row.private_sealed) == ("kms", "ES256", "")
    assert parts_of(tokens[0].reveal())[0] == {"alg": "ES256", "typ": "JWT", "kid": row.kid}
    assert algorithms(client) == ["RS256", "ES256"]
    certificate = x509.load_pem_x509_certificate(row.certificate.encode())
    certificate.verify_directly_issued_by(certificate)


def test_a_curve_in_kms_is_not_taken_for_assertions(curve_in_kms):
    with pytest.raises(KeyUnavailable) as caught:
        keys.adopt(SAML, curve_in_kms, now=NOW, actor=BOB)

    assert curve_in_kms in caught.value.cause
    assert "signed with RS256" in caught.value.cause
    assert not SigningKey.objects.exists()


def test_a_curve_in_kms_does_nothing_but_sign_with_es256(curve_in_kms):
    key = load(curve_in_kms)

    signature = key.sign(b"message", ec.ECDSA(SHA256()))
    key.public_key().verify(signature, b"message", ec.ECDSA(SHA256()))
    with pytest.raises(InvalidSignature):
        key.public_key().verify(signature, b"another", ec.ECDSA(SHA256()))
    with pytest.raises(ValueError, match="SHA-256"):
        key.sign(b"message", ec.ECDSA(SHA384()))
    for forbidden in (
        key.private_numbers,
        key.private_bytes,
        lambda: key.exchange(ec.ECDH(), key.public_key()),
    ):
        with pytest.raises(TypeError):
            forbidden()
    with pytest.raises(KeyUnavailable, match="sign"):
        handle(curve_in_kms, ec.generate_private_key(ec.SECP384R1()).public_key())


def test_an_rsa_key_goes_on_beside_one_of_a_curve_in_kms(curve_in_kms, client):
    keys.ensure_keys(NOW)
    keys.adopt(OIDC, curve_in_kms, now=NOW, actor=BOB)
    before = mint_web_identity_token(web_identity(), now=timezone.now())
    keys.rotate(OIDC, NOW + DAY, BOB)
    after = mint_web_identity_token(web_identity(), now=timezone.now())

    assert verified(before.reveal(), client, "RS256")
    assert verified(after.reveal(), client, "ES256")
    served = {key["kid"]: key for key in client.get(JWKS).json()["keys"]}
    assert RSAKey.import_key(served[before.key_id]).thumbprint() == before.key_id
