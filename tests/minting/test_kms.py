"""Keys in AWS KMS, as moto plays it over HTTP: what they sign is verified by other people's libraries."""

from __future__ import annotations

import base64
import json
import pickle
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256, SHA512
from django.core.management import CommandError, call_command
from django.utils import timezone
from joserfc import jwt
from joserfc.jwk import KeySet
from lxml import etree
from signxml import DigestAlgorithm, SignatureConfiguration, SignatureMethod, XMLVerifier
from signxml.exceptions import InvalidDigest, InvalidSignature

from broker.audit.models import AuditEvent
from broker.audit.services import Actor
from broker.aws import clients, kms
from broker.errors import BadInput, KeyUnavailable
from broker.minting import keys
from broker.minting.kms import load
from broker.minting.models import SigningKey
from broker.minting.oidc import key_set, mint_web_identity_token
from broker.minting.saml import metadata, mint_saml_response
from tests.minting.claims import SAML as SAML_NAMES
from tests.minting.claims import assertion, web_identity
from tests.minting.conftest import KMS_REGION, new_key
from tests.servers import free_port

OIDC, SAML = SigningKey.Purpose.OIDC, SigningKey.Purpose.SAML
BOB = Actor(id="b0b", name="bob")

pytestmark = pytest.mark.django_db


@pytest.fixture
def in_kms(kms_admin, settings) -> dict[str, str]:
    arns = {"oidc": new_key(kms_admin), "saml": new_key(kms_admin)}
    settings.DAYPASS_KMS_KEYS = [f"{purpose}={arn}" for purpose, arn in arns.items()]
    return arns


def verify_token(text: str) -> dict[str, Any]:
    keyset = KeySet.import_key_set(key_set(now=timezone.now()))
    return jwt.decode(text, keyset, algorithms=["RS256"]).claims


def verify_response(raw: bytes, location: str) -> str:
    found = etree.fromstring(metadata(now=timezone.now())).findtext(
        ".//ds:X509Certificate", namespaces=SAML_NAMES
    )
    result = XMLVerifier().verify(
        raw,
        x509_cert=x509.load_der_x509_certificate(base64.b64decode(found)),
        expect_config=SignatureConfiguration(
            location=location,
            expect_references=1,
            signature_methods=frozenset({SignatureMethod.RSA_SHA256}),
            digest_algorithms=frozenset({DigestAlgorithm.SHA256}),
        ),
    )
    return etree.QName(result.signed_xml).localname


ASSERTION = f"./{{{SAML_NAMES['saml']}}}Assertion/"


def test_a_token_signed_by_kms_is_verified_by_joserfc_from_the_key_set(in_kms):
    token = mint_web_identity_token(web_identity(), now=timezone.now())

    assert verify_token(token.reveal())["aud"] == "sts.amazonaws.com"
    row = SigningKey.objects.get(purpose=OIDC)
    assert (row.backend, row.kms_key_arn, row.private_sealed) == ("kms", in_kms["oidc"], "")
    assert token.key_id == row.kid


@pytest.mark.parametrize(("location", "tag"), [("./", "Response"), (ASSERTION, "Assertion")])
def test_both_signatures_of_a_response_by_kms_are_verified_by_signxml(in_kms, location, tag):
    token = mint_saml_response(assertion(), now=timezone.now())

    assert verify_response(base64.b64decode(token.reveal()), location) == tag


@pytest.mark.parametrize("location", ["./", ASSERTION])
def test_a_response_signed_by_kms_is_refused_when_anything_in_it_was_changed(in_kms, location):
    raw = base64.b64decode(mint_saml_response(assertion(), now=timezone.now()).reveal())
    forged = raw.replace(b"alice-7Q2M", b"mallory-7Q")
    assert forged != raw

    with pytest.raises((InvalidDigest, InvalidSignature)):
        verify_response(forged, location)


def test_the_certificate_of_a_key_in_kms_is_signed_by_kms(in_kms):
    keys.ensure_keys(timezone.now())

    for row in SigningKey.objects.all():
        certificate = x509.load_pem_x509_certificate(row.certificate.encode())
        certificate.verify_directly_issued_by(certificate)
        public = load(row.kms_key_arn).public_key()
        assert certificate.public_key() == public


@pytest.mark.parametrize(("spec", "algorithm"), [("RSA_2048", "RS256"), ("ECC_NIST_P256", "ES256")])
def test_a_message_too_long_for_kms_is_signed_by_its_digest(
    kms_admin, settings, monkeypatch, spec, algorithm
):
    """moto does not know MessageType DIGEST and hashes again: it is taught here what KMS's documentation says."""
    from moto.kms.responses import KmsResponse

    settings.DAYPASS_KMS_KEYS = [f"oidc={new_key(kms_admin, spec)}"]
    plain = KmsResponse.sign
    digests = []

    def sign(self):
        if self._get_param("MessageType") != "DIGEST":
            assert len(self._get_param("Message")) <= 4096
            return plain(self)
        key = self.kms_backend.describe_key(self._get_param("KeyId"))
        digests.append(self._get_param("Message"))
        ways = {
            "RSASSA_PKCS1_V1_5_SHA_256": (padding.PKCS1v15(), Prehashed(SHA256())),
            "ECDSA_SHA_256": (ECDSA(Prehashed(SHA256())),),
        }
        signature = key.private_key.private_key.sign(
            digests[-1], *ways[self._get_param("SigningAlgorithm")]
        )
        return json.dumps({"KeyId": key.arn, "Signature": base64.b64encode(signature).decode()})

    monkeypatch.setattr(KmsResponse, "sign", sign)
    tags = {f"Tag{number}": "v" * 200 for number in range(20)}
    claims = web_identity(session_tags=tags, transitive_tag_keys=())

    token = mint_web_identity_token(claims, now=timezone.now())

    assert [len(digest) for digest in digests] == [32]
    assert len(token.reveal()) > 4096
    keyset = KeySet.import_key_set(key_set(now=timezone.now()))
    assert jwt.decode(token.reveal(), keyset, algorithms=[algorithm]).claims["sub"]


def test_a_key_in_kms_does_nothing_but_sign_with_rs256(in_kms):
    key = load(in_kms["oidc"])

    with pytest.raises(TypeError):
        key.private_bytes(None, None, None)
    with pytest.raises(TypeError):
        key.private_numbers()
    with pytest.raises(TypeError):
        key.decrypt(b"", padding.PKCS1v15())
    with pytest.raises(ValueError):
        key.sign(b"", padding.PKCS1v15(), SHA512())
    with pytest.raises(ValueError):
        key.sign(b"", padding.PSS(padding.MGF1(SHA256()), 32), SHA256())
    with pytest.raises(Exception):  # noqa: B017
        pickle.dumps(keys.signing_key(OIDC, now=timezone.now()))


def test_where_keys_have_to_be_in_kms_none_is_made_outside_it(in_kms):
    now = timezone.now()
    keys.ensure_keys(now)

    with pytest.raises(KeyUnavailable) as caught:
        keys.publish_next(OIDC, now=now, actor=BOB)

    assert "create-key" in caught.value.remedy
    assert set(SigningKey.objects.values_list("backend", flat=True)) == {"kms"}


def test_the_next_key_named_for_the_purpose_is_published(in_kms, kms_admin, settings):
    now = timezone.now()
    keys.ensure_keys(now)
    following = new_key(kms_admin)
    settings.DAYPASS_KMS_KEYS = [*settings.DAYPASS_KMS_KEYS, f"oidc={following}"]

    key = keys.publish_next(OIDC, now=now, actor=BOB)
    keys.rotate(OIDC, now + timedelta(days=1), BOB)

    assert key.kms_key_arn == following
    token = mint_web_identity_token(web_identity(), now=timezone.now())
    assert token.key_id == key.kid
    assert verify_token(token.reveal())


def test_a_revoked_key_in_kms_is_not_followed_by_one_outside(in_kms, kms_admin):
    now = timezone.now()
    stolen = keys.signing_key(OIDC, now=now).kid

    keys.revoke(stolen, now=now, actor=BOB)

    assert SigningKey.objects.get(purpose=OIDC).state == "revoked"
    with pytest.raises(KeyUnavailable):
        keys.signing_key(OIDC, now=now)
    key = keys.adopt(OIDC, new_key(kms_admin), now=now, actor=BOB)
    keys.rotate(OIDC, now, BOB, at_once=True)
    assert keys.signing_key(OIDC, now=now).kid == key.kid


def test_a_replica_in_another_region_is_no_next_key_and_stops_no_revocation(kms_admin, settings):
    """It has an ARN of its own and is the same key."""
    made = kms_admin.create_key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY", MultiRegion=True)
    arn, key_id = made["KeyMetadata"]["Arn"], made["KeyMetadata"]["KeyId"]
    replica = kms_admin.replicate_key(KeyId=key_id, ReplicaRegion="eu-west-2")
    there = replica["ReplicaKeyMetadata"]["Arn"]
    following = new_key(kms_admin)
    settings.DAYPASS_KMS_KEYS = [f"oidc={one}" for one in (arn, there, following)]
    now = timezone.now()
    stolen = keys.signing_key(OIDC, now=now).kid

    keys.revoke(stolen, now=now, actor=BOB)

    assert SigningKey.objects.get(kid=stolen).state == "revoked"
    assert SigningKey.objects.get(state="signing").kms_key_arn == following
    keys.revoke(keys.signing_key(OIDC, now=now).kid, now=now, actor=BOB)
    with pytest.raises(KeyUnavailable):
        keys.signing_key(OIDC, now=now)


def test_the_command_brings_a_key_in_beside_a_sealed_one(kms_admin, signing_keys, capsys):
    arn = new_key(kms_admin)

    call_command("signing_keys", "adopt", "saml", arn)

    row = SigningKey.objects.get(kms_key_arn=arn)
    assert (row.state, row.purpose) == ("published", "saml")
    assert row.kid in capsys.readouterr().out
    assert AuditEvent.objects.get(subject_id=row.kid).data["kms_key_arn"] == arn
    with pytest.raises(CommandError, match="brought in already"):
        call_command("signing_keys", "adopt", "oidc", arn)


@pytest.mark.parametrize(
    ("spec", "usage"),
    [
        ("RSA_4096", "SIGN_VERIFY"),
        ("ECC_NIST_P384", "SIGN_VERIFY"),
        ("ECC_SECG_P256K1", "SIGN_VERIFY"),
    ],
)
def test_a_key_of_a_wrong_kind_is_told_before_anything_is_published(kms_admin, spec, usage):
    with pytest.raises(KeyUnavailable) as caught:
        keys.adopt(OIDC, new_key(kms_admin, spec, usage), now=timezone.now(), actor=BOB)

    assert spec in caught.value.cause
    assert not SigningKey.objects.exists()


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:kms:eu-central-1:111122223333:alias/daypass",
        "1234abcd-12ab-34cd-56ef-1234567890ab",
        "arn:aws:iam::111122223333:role/Admin",
    ],
)
def test_what_is_not_the_arn_of_a_key_is_told(kms_admin, arn):
    with pytest.raises(KeyUnavailable, match="cannot sign"):
        kms.sign(arn, b"message")


def test_a_key_that_is_not_there_is_told_with_its_remedy(kms_admin):
    arn = f"arn:aws:kms:{KMS_REGION}:123456789012:key/00000000-0000-0000-0000-000000000000"

    with pytest.raises(KeyUnavailable) as caught:
        kms.sign(arn, b"message")

    assert "There is no KMS key" in caught.value.cause
    assert not caught.value.retry


def test_without_credentials_of_its_own_daypass_says_so(kms_admin, monkeypatch, tmp_path):
    arn = new_key(kms_admin)
    clients.forget_own("kms")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))

    with pytest.raises(KeyUnavailable) as caught:
        kms.sign(arn, b"message")

    assert "no AWS credentials" in caught.value.cause
    clients.forget_own("kms")


def test_a_kms_that_does_not_answer_costs_a_moment_and_no_key(in_kms, settings):
    keys.ensure_keys(timezone.now())
    settings.DAYPASS_KMS_ENDPOINT = f"http://127.0.0.1:{free_port()}"

    with pytest.raises(KeyUnavailable) as caught:
        mint_web_identity_token(web_identity(), now=timezone.now())

    assert caught.value.retry
    assert "did not answer" in caught.value.cause
    assert set(SigningKey.objects.values_list("state", "backend")) == {("signing", "kms")}


def test_the_key_set_is_served_while_kms_is_away(in_kms, settings):
    keys.ensure_keys(timezone.now())
    settings.DAYPASS_KMS_ENDPOINT = f"http://127.0.0.1:{free_port()}"

    assert len(key_set(now=timezone.now())["keys"]) == 1


def test_a_sealed_key_goes_on_beside_one_in_kms_and_is_resealed_alone(
    kms_admin, signing_keys, settings
):
    keys.adopt(OIDC, new_key(kms_admin), now=timezone.now(), actor=BOB)
    first = settings.DAYPASS_SEALING_KEYS[0]
    settings.DAYPASS_SEALING_KEYS = ["Y2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2M=", first]

    assert keys.reseal(actor=BOB) == 2


def test_one_key_never_serves_two_purposes(kms_admin):
    arn = new_key(kms_admin)
    keys.adopt(OIDC, arn, now=timezone.now(), actor=BOB)

    with pytest.raises(BadInput):
        keys.adopt(SAML, arn, now=timezone.now(), actor=BOB)
