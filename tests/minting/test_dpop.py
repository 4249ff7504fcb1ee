"""Proofs of a key, made by joserfc, PyJWT and AWS's own client, and read by neither; and the identity token."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, RSAKey

from broker.errors import BadInput
from broker.minting import dpop
from broker.minting.dpop import LoginIdentity, ProofRefused, verify_proof

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
URL = "https://daypass.test/aws/v1/token"
KEY = ECKey.generate_key("P-256", private=True)
PUBLIC = {name: KEY.as_dict(private=False)[name] for name in ("kty", "crv", "x", "y")}


def claims(**changed) -> dict:
    whole = {"htm": "POST", "htu": URL, "iat": int(NOW.timestamp()), "jti": "one"} | changed
    return {name: value for name, value in whole.items() if value is not None}


def signed(payload: bytes, header: dict, key) -> str:
    registry = jws.JWSRegistry(algorithms=[header["alg"]], strict_check_header=False)
    return jws.serialize_compact(header, payload, key, registry=registry)


def proof(payload: bytes | None = None, *, key=KEY, header: dict | None = None, **changed) -> str:
    whole = {"typ": "dpop+jwt", "alg": "ES256", "jwk": PUBLIC} | (header or {})
    whole = {name: value for name, value in whole.items() if value is not None}
    return signed(payload or json.dumps(claims(**changed)).encode(), whole, key)


def verified(text: str, *, url: str = URL, now: datetime = NOW, also=()) -> dpop.KeyProof:
    return verify_proof(text, method="POST", url=url, now=now, also=also)


def refused(text: str, **how) -> ProofRefused:
    with pytest.raises(ProofRefused) as caught:
        verified(text, **how)
    return caught.value


# --- What holds


def test_a_proof_by_joserfc_names_the_key_by_its_thumbprint():
    assert verified(proof()).thumbprint == KEY.thumbprint()


def test_a_proof_by_pyjwt_holds_too():
    private = ec.generate_private_key(ec.SECP256R1())
    jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(private.public_key()))
    text = jwt.encode(claims(), private, algorithm="ES256", headers={"typ": "dpop+jwt", "jwk": jwk})

    assert verified(text).thumbprint == ECKey.import_key(jwk).thumbprint()


def test_a_proof_by_the_aws_client_holds():
    crypto = pytest.importorskip("awscrt.crypto")
    from botocore.credentials import _build_dpop_header

    key = crypto.EC.new_generate(crypto.ECType.P_256)
    text = _build_dpop_header(key, URL, ts=int(NOW.timestamp()))

    assert len(verified(text).thumbprint) == 43


@pytest.mark.parametrize("short", ["x", "y"])
def test_a_key_holds_whose_leading_zeros_awscrt_left_out(short):
    crypto = pytest.importorskip("awscrt.crypto")
    from botocore.credentials import _build_dpop_header

    for _ in range(20_000):
        key = crypto.EC.new_generate(crypto.ECType.P_256)
        coordinate = getattr(key.get_public_coords(), short)
        if len(coordinate) < 32:
            break
    whole = serialization.load_der_public_key(key.export_key(crypto.ECExportFormat.SPKI))
    pem = whole.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    text = _build_dpop_header(key, URL, ts=int(NOW.timestamp()))

    assert len(coordinate) < 32
    assert verified(text).thumbprint == ECKey.import_key(pem).thumbprint()


def test_a_coordinate_of_more_than_32_bytes_is_no_coordinate():
    longer = base64.urlsafe_b64encode(b"\0" + base64.urlsafe_b64decode(PUBLIC["x"] + "=")).decode()

    refused(proof(header={"jwk": {**PUBLIC, "x": longer.rstrip("=")}}))


def test_the_thumbprint_is_that_of_rfc_7638():
    members = json.dumps(PUBLIC, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(members.encode()).digest()

    assert verified(proof()).thumbprint == base64.urlsafe_b64encode(digest).decode().rstrip("=")


def test_other_public_members_of_the_key_change_nothing():
    marked = proof(header={"jwk": {**PUBLIC, "kid": "mine", "use": "sig", "alg": "ES256"}})

    assert verified(marked).thumbprint == verified(proof()).thumbprint


def test_the_digest_names_key_and_jti_and_nothing_else():
    later = proof(iat=int(NOW.timestamp()) - 5)

    assert verified(proof()).digest == verified(later).digest
    assert verified(proof()).digest != verified(proof(jti="two")).digest
    other = ECKey.generate_key("P-256", private=True)
    theirs = proof(key=other, header={"jwk": other.as_dict(private=False)})
    assert verified(proof()).digest != verified(theirs).digest


@pytest.mark.parametrize(
    "told",
    [
        "HTTPS://DAYPASS.test/aws/v1/token",
        "https://daypass.test:443/aws/v1/token",
        URL + "?x-amz=1",
        URL + "#part",
    ],
)
def test_the_address_may_be_written_differently_where_it_means_the_same(told):
    assert verified(proof(htu=told))


def test_another_name_for_the_same_address_has_to_be_given_to_count():
    told = proof(htu="https://daypass.test/v1/token")

    assert verified(told, also=["https://daypass.test/v1/token"])
    refused(told, also=["https://daypass.test/v1/token/", "https://other.test/v1/token"])


def test_ports_and_plain_http_count():
    there = "http://127.0.0.1:8000/aws/v1/token"

    assert verified(proof(htu=there), url=there)
    refused(proof(htu=there), url="http://127.0.0.1:8001/aws/v1/token")


@pytest.mark.parametrize("age", [timedelta(0), timedelta(minutes=5), -timedelta(minutes=5)])
def test_a_clock_may_differ_by_minutes(age):
    assert verified(proof(), now=NOW + age)


def test_a_proof_can_be_forgotten_when_it_would_be_refused_anyway():
    found = verified(proof(iat=int((NOW + dpop.AHEAD).timestamp())))

    assert refused(proof(), now=found.forget_at + timedelta(seconds=1)).code == "proof_time"


# --- What does not


@pytest.mark.parametrize("age", [timedelta(minutes=5, seconds=1), -timedelta(minutes=5, seconds=1)])
def test_an_old_proof_and_one_of_the_future_are_refused_with_the_clock_as_the_reason(age):
    error = refused(proof(), now=NOW + age)

    assert error.code == "proof_time"
    assert "clock" in error.message


@pytest.mark.parametrize(
    "told",
    [
        "https://daypass.test/v1/token",
        "https://daypass.test/aws/v1/token/",
        "https://daypass.test/AWS/v1/token",
        "http://daypass.test/aws/v1/token",
        "https://daypass.test:8443/aws/v1/token",
        "https://signin.aws.amazon.com/aws/v1/token",
        "https://someone@daypass.test/aws/v1/token",
        "https://daypass.test:port/aws/v1/token",
        "/aws/v1/token",
        "",
        None,
        7,
        [URL],
    ],
)
def test_a_proof_for_another_address_is_refused_and_says_so(told):
    assert "address" in refused(proof(htu=told)).message


@pytest.mark.parametrize("method", ["GET", "post", "", None, ["POST"]])
def test_a_proof_for_another_method_is_refused(method):
    refused(proof(htm=method))


@pytest.mark.parametrize("moment", [None, "1772442000", True, [], 10**17, -(10**17), {}])
def test_a_time_that_is_none_is_refused(moment):
    refused(proof(iat=moment))


@pytest.mark.parametrize("token_id", [None, "", 7, ["one"], "x" * 257])
def test_a_proof_without_a_sensible_jti_is_refused(token_id):
    refused(proof(jti=token_id))


@pytest.mark.parametrize("type_", [None, "JWT", "DPOP+JWT", "at+jwt", 1])
def test_another_type_of_token_is_no_proof(type_):
    header = json.dumps({"typ": type_, "alg": "ES256", "jwk": PUBLIC}).encode()

    refused(by_hand(header, json.dumps(claims()).encode()))


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"]},
        {"b64": False},
        {"jku": "https://evil.example/keys"},
        {"x5u": "https://evil.example/cert"},
        {"x5c": []},
        {"kid": "one"},
        {"zip": "DEF"},
    ],
)
def test_nothing_else_in_the_header_is_followed(header):
    whole = {"typ": "dpop+jwt", "alg": "ES256", "jwk": PUBLIC, **header}
    text = by_hand(json.dumps(whole).encode(), json.dumps(claims()).encode())

    assert next(iter(header)) in refused(text).cause


def by_hand(header: bytes, payload: bytes) -> str:
    """A compact JWS of any bytes, signed with KEY."""

    def b64(raw: bytes) -> str:
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    signing_input = f"{b64(header)}.{b64(payload)}"
    der = KEY.private_key.sign(signing_input.encode(), ec.ECDSA(hashes.SHA256()))
    r, s = decode_dss_signature(der)
    return f"{signing_input}.{b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


HEADER = json.dumps({"typ": "dpop+jwt", "alg": "ES256", "jwk": PUBLIC}).encode()


def test_what_is_made_by_hand_holds():
    assert verified(by_hand(HEADER, json.dumps(claims()).encode()))


@pytest.mark.parametrize(
    "payload",
    [
        b"[]",
        b'"text"',
        b"",
        b"{",
        b"\xff{}",
        b"\xef\xbb\xbf{}",
        json.dumps(claims()).encode()[:-1] + b',"jti":"two"}',
        json.dumps(claims()).encode()[:-1] + b',"x":NaN}',
        json.dumps(claims()).encode()[:-1] + b',"x":"\\ud800"}',
    ],
)
def test_only_strict_json_is_read(payload):
    refused(by_hand(HEADER, payload))
    refused(by_hand(payload, json.dumps(claims()).encode()))


def test_a_header_with_two_keys_is_refused():
    twice = HEADER[:-1] + b',"jwk":' + json.dumps(PUBLIC).encode() + b"}"

    refused(by_hand(twice, json.dumps(claims()).encode()))


@pytest.mark.parametrize("part", ["d", "k", "p", "oth"])
def test_a_key_with_a_private_part_is_refused(part):
    jwk = {**PUBLIC, part: KEY.as_dict(private=True)["d"]}

    assert "private" in refused(proof(header={"jwk": jwk})).cause


@pytest.mark.parametrize(
    "jwk",
    [
        None,
        [],
        "key",
        {},
        {**PUBLIC, "kty": "RSA"},
        {**PUBLIC, "crv": "P-384"},
        {**PUBLIC, "x": PUBLIC["x"] + "="},
        {**PUBLIC, "x": PUBLIC["x"][:-2]},
        {**PUBLIC, "y": PUBLIC["x"]},
        {**PUBLIC, "x": 7},
        {**PUBLIC, "x": "", "y": ""},
        {**PUBLIC, "x": "A" * 43, "y": "A" * 43},
        RSAKey.generate_key(2048).as_dict(private=False),
        {"kty": "oct"},
    ],
)
def test_a_key_that_is_no_point_on_the_curve_is_refused(jwk):
    header = json.dumps({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk}).encode()

    refused(by_hand(header, json.dumps(claims()).encode()))


def test_a_key_of_somebody_else_does_not_fit():
    other = ECKey.generate_key("P-256", private=True)

    assert "signature" in refused(proof(header={"jwk": other.as_dict(private=False)})).cause


def test_no_other_algorithm_is_taken():
    payload = json.dumps(claims()).encode()
    secret = OctKey.import_key(json.dumps(PUBLIC).encode())
    rsa = RSAKey.generate_key(2048)

    refused(signed(payload, {"typ": "dpop+jwt", "alg": "HS256", "jwk": PUBLIC}, secret))
    refused(
        signed(payload, {"typ": "dpop+jwt", "alg": "RS256", "jwk": rsa.as_dict(private=False)}, rsa)
    )
    refused(by_hand(HEADER.replace(b"ES256", b"none"), payload).rpartition(".")[0] + ".")
    refused(by_hand(HEADER.replace(b"ES256", b"none"), payload))
    refused(by_hand(HEADER.replace(b"ES256", b"es256"), payload))


def test_a_signature_of_zeros_or_of_another_form_is_refused():
    head, body, signature = proof().split(".")
    for other in (
        "A" * 86,
        "_" * 85 + "w",
        "",
        signature[:-1],
        signature + "A",
        signature[:-1] + ("B" if signature[-1] == "A" else "A"),
    ):
        refused(f"{head}.{body}.{other}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "..",
        "a.b.c",
        "a.b",
        "x" * 5000,
        proof() + "\n",
        proof() + "," + proof(),
        "DPoP " + proof(),
    ],
)
def test_what_is_no_compact_token_is_refused(text):
    refused(text)


def test_a_proof_is_short():
    refused(proof(padding="x" * 5000))


@given(st.integers(0, 400), st.characters(codec="ascii"))
def test_a_proof_with_one_letter_changed_never_passes_for_another(place, letter):
    """Whatever is changed, it is refused: nothing of it is outside the signature."""
    text = proof()
    place %= len(text)
    if text[place] != letter:
        refused(text[:place] + letter + text[place + 1 :])


# --- The identity token

ADA = LoginIdentity(
    role_arn="arn:aws:iam::111122223333:role/teams/Developer",
    person="6a1f0b8e-0000-4000-8000-000000000001",
    handle="ada",
)


def test_the_identity_is_an_arn_of_account_role_and_person():
    assert dpop.identity_arn(ADA) == "arn:aws:sts::111122223333:assumed-role/Developer/ada"


def test_two_people_two_roles_and_two_accounts_have_different_identities():
    people = [
        LoginIdentity(role_arn=arn, person=person, handle=handle)
        for arn in (
            "arn:aws:iam::111122223333:role/Developer",
            "arn:aws:iam::111122223333:role/Reader",
            "arn:aws:iam::444455556666:role/Developer",
            "arn:aws-cn:iam::111122223333:role/Developer",
        )
        for person, handle in (
            ("1", "ada"),
            ("2", "ada lindqvist"),
            ("3", "ada/lindqvist"),
            ("4", "ada-lindqvist"),
            ("5", "å" * 70),
            ("6", "ö" * 70),
            ("7", ""),
        )
    ]

    arns = [dpop.identity_arn(one) for one in people]

    assert len(set(arns)) == len(people)
    assert all(len(arn) <= 200 and arn.isascii() and " " not in arn for arn in arns)


def test_the_identity_token_is_one_that_aws_can_never_take_for_ours(settings):
    text = dpop.mint_identity_token(ADA, client_id="arn:aws:signin:::devtools/same-device", now=NOW)

    header = jwt.get_unverified_header(text)
    told = jwt.decode(text, options={"verify_signature": False})
    assert header == {"alg": "HS256", "typ": "JWT"}
    assert told["sub"] == dpop.identity_arn(ADA)
    assert told["iss"] not in (settings.DAYPASS_ISSUER, settings.DAYPASS_ORIGIN)
    assert told["aud"] != settings.DAYPASS_AUDIENCE
    assert len(text) <= 4096


def test_the_identity_token_is_not_signed_with_the_sealing_key_itself(settings):
    text = dpop.mint_identity_token(ADA, client_id="c", now=NOW)

    signing_input, _, signature = text.rpartition(".")
    key = base64.urlsafe_b64decode(settings.DAYPASS_SEALING_KEYS[0])
    for secret in (key, settings.DAYPASS_SEALING_KEYS[0].encode()):
        made = hmac.digest(secret, signing_input.encode(), "sha256")
        assert base64.urlsafe_b64encode(made).decode().rstrip("=") != signature


def test_an_identity_needs_a_role():
    with pytest.raises(BadInput):
        dpop.identity_arn(LoginIdentity(role_arn="arn:aws:iam::1:user/x", person="1", handle="ada"))
