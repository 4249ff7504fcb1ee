"""Tokens for AWS: one role, one audience, five minutes; verified by another JOSE library from the served key set."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from cryptography import x509
from django.utils import timezone
from joserfc import jwt
from joserfc.errors import BadSignatureError, InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from broker.arns import parse_role_arn
from broker.audit.services import Actor
from broker.errors import BadInput, KeyUnavailable
from broker.minting import keys
from broker.minting.models import SigningKey
from broker.minting.oidc import mint_web_identity_token, subject_claim
from tests.minting.claims import ALICE, ROLE, parts_of, web_identity

NOW = datetime(2026, 3, 2, 9, 0, 0, 750_000, tzinfo=UTC)
OIDC = SigningKey.Purpose.OIDC
BOB = Actor(id="b0b", name="bob")

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("signing_keys")]


def served_keys(client) -> KeySet:
    discovery = client.get("/.well-known/openid-configuration").json()
    path = discovery["jwks_uri"].removeprefix("https://daypass.test")
    return KeySet.import_key_set(client.get(path).json())


def verified(token: str, trusted: KeySet) -> dict:
    """As a relying party does it: RS256 only, key by kid from the set, issuer, audience and times checked."""
    decoded = jwt.decode(token, trusted, algorithms=["RS256"])
    jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": "https://daypass.test"},
        aud={"essential": True, "value": "sts.amazonaws.com"},
        sub={"essential": True},
        iat={"essential": True},
        exp={"essential": True},
    ).validate(decoded.claims)
    return decoded.claims


def test_another_library_verifies_a_token_from_the_served_documents(client):
    token = mint_web_identity_token(web_identity(), now=timezone.now())

    claims = verified(token.reveal(), served_keys(client))

    assert claims["jti"] == token.id


def test_a_token_says_exactly_this():
    token = mint_web_identity_token(web_identity(), now=NOW)

    header, payload = parts_of(token.reveal())

    issued_at = int(NOW.timestamp())
    assert header == {"alg": "RS256", "typ": "JWT", "kid": SigningKey.objects.get(purpose=OIDC).kid}
    assert payload == {
        "iss": "https://daypass.test",
        "sub": f"role/111122223333/Developer/person/{ALICE}",
        "aud": "sts.amazonaws.com",
        "iat": issued_at,
        "exp": issued_at + 300,
        "jti": token.id,
        "amr": ["mfa"],
        "https://aws.amazon.com/source_identity": "alice",
        "https://aws.amazon.com/roles": ROLE,
        "https://aws.amazon.com/tags": {
            "principal_tags": {"CostCentre": ["12345"], "Team": ["blue"]},
            "transitive_tag_keys": ["Team"],
        },
    }
    assert type(payload["iat"]) is type(payload["exp"]) is int
    assert token.key_id == header["kid"]
    assert token.expires_at.timestamp() == payload["exp"]


def test_without_tags_and_second_factor_their_claims_are_absent():
    claims = web_identity(session_tags={}, transitive_tag_keys=(), mfa=False)

    _, payload = parts_of(mint_web_identity_token(claims, now=NOW).reveal())

    assert "https://aws.amazon.com/tags" not in payload
    assert "amr" not in payload


def test_tags_without_transitive_ones_name_no_transitive_keys():
    claims = web_identity(session_tags={"Team": "blue"}, transitive_tag_keys=())

    _, payload = parts_of(mint_web_identity_token(claims, now=NOW).reveal())

    assert payload["https://aws.amazon.com/tags"] == {"principal_tags": {"Team": ["blue"]}}


def test_two_tokens_are_never_the_same_even_in_the_same_moment():
    first, second = (mint_web_identity_token(web_identity(), now=NOW) for _ in range(2))

    assert first.id != second.id
    assert first.reveal() != second.reveal()


def test_the_issuer_and_the_audience_are_the_configured_ones(settings):
    settings.DAYPASS_ISSUER = "https://keys.example.com/daypass"
    settings.DAYPASS_AUDIENCE = "aws-production"

    _, payload = parts_of(mint_web_identity_token(web_identity(), now=NOW).reveal())

    assert (payload["iss"], payload["aud"]) == (
        "https://keys.example.com/daypass",
        "aws-production",
    )


def test_a_token_that_was_tampered_with_does_not_verify(client):
    token = mint_web_identity_token(web_identity(), now=timezone.now()).reveal()
    trusted = served_keys(client)
    head, body, signature = token.split(".")
    _, payload = parts_of(token)
    payload["https://aws.amazon.com/roles"] = "arn:aws:iam::111122223333:role/Administrator"
    forged = base64.urlsafe_b64encode(json.dumps(payload).encode()).rstrip(b"=").decode()

    with pytest.raises(BadSignatureError):
        verified(f"{head}.{forged}.{signature}", trusted)
    assert verified(f"{head}.{body}.{signature}", trusted)


def test_a_token_is_dead_after_five_minutes(client):
    late = timezone.now() - timedelta(minutes=5, seconds=1)
    token = mint_web_identity_token(web_identity(), now=late).reveal()

    with pytest.raises(JoseError) as caught:
        verified(token, served_keys(client))

    assert caught.value.error == "expired_token"


def test_what_a_retired_key_signed_still_verifies_and_what_a_revoked_one_signed_does_not(client):
    token = mint_web_identity_token(web_identity(), now=timezone.now())
    keys.rotate(OIDC, timezone.now(), BOB, at_once=True)

    assert verified(token.reveal(), served_keys(client))
    fresh = mint_web_identity_token(web_identity(), now=timezone.now())
    assert fresh.key_id != token.key_id
    assert verified(fresh.reveal(), served_keys(client))

    keys.revoke(token.key_id, now=timezone.now(), actor=BOB)

    with pytest.raises((InvalidKeyIdError, ValueError)):
        verified(token.reveal(), served_keys(client))
    assert verified(fresh.reveal(), served_keys(client))


def test_the_key_for_assertions_is_not_in_the_key_set(client):
    keys.ensure_keys(timezone.now())

    kids = {key.kid for key in served_keys(client).keys}

    assert kids == set(SigningKey.objects.filter(purpose="oidc").values_list("kid", flat=True))


def test_every_published_key_carries_its_certificate_and_nothing_that_aws_stumbles_over(client):
    keys.ensure_keys(timezone.now())
    keys.publish_next(OIDC, now=timezone.now(), actor=BOB)

    published = client.get("/.well-known/jwks.json").json()["keys"]

    assert len(published) == 2
    for key in published:
        assert set(key) == {"kty", "use", "alg", "kid", "n", "e", "x5c"}
        assert (key["kty"], key["use"], key["alg"]) == ("RSA", "sig", "RS256")
        (certificate,) = (
            x509.load_der_x509_certificate(base64.b64decode(text)) for text in key["x5c"]
        )
        numbers = certificate.public_key().public_numbers()
        assert numbers.n == int.from_bytes(base64.urlsafe_b64decode(key["n"] + "=="), "big")
        assert numbers.e == int.from_bytes(base64.urlsafe_b64decode(key["e"] + "=="), "big")


@pytest.mark.parametrize(
    ("role", "subject"),
    [
        (ROLE, f"role/111122223333/Developer/person/{ALICE}"),
        ("arn:aws:iam::111122223333:role/Developer", f"role/111122223333/Developer/person/{ALICE}"),
        ("arn:aws:iam::444455556666:role/Developer", f"role/444455556666/Developer/person/{ALICE}"),
        (
            "arn:aws-cn:iam::111122223333:role/Developer+1",
            f"role/111122223333/Developer+1/person/{ALICE}",
        ),
    ],
)
def test_the_subject_names_the_account_and_the_role_so_that_a_trust_policy_can_pin_it(
    role, subject
):
    assert subject_claim(parse_role_arn(role), ALICE) == subject


def test_the_longest_names_still_make_a_subject_that_aws_takes():
    claims = web_identity(role_arn=f"arn:aws:iam::111122223333:role/{'r' * 64}", subject="p" * 128)

    _, payload = parts_of(mint_web_identity_token(claims, now=NOW).reveal())

    assert 6 <= len(payload["sub"]) <= 255


@pytest.mark.parametrize(
    "wrong",
    [
        {"role_arn": "arn:aws:iam::111122223333:user/alice"},
        {"role_arn": "arn:aws:iam::111122223333:role/Dev;arn:aws:iam::111122223333:role/Admin"},
        {"role_arn": "arn:aws:iam::111122223333:role/*"},
        {"role_arn": ""},
        {"subject": ""},
        {"subject": "alice/../bob"},
        {"subject": "*"},
        {"subject": "alice\n"},
        {"subject": "a" * 129},
        {"source_identity": ""},
        {"source_identity": "a"},
        {"source_identity": "a" * 65},
        {"source_identity": "alice smith"},
        {"source_identity": "zoë"},
        {"source_identity": "aws:alice"},
        {"session_tags": {"aws:Team": "x"}, "transitive_tag_keys": ()},
        {"session_tags": {"AWS:Team": "x"}, "transitive_tag_keys": ()},
        {"session_tags": {"": "x"}, "transitive_tag_keys": ()},
        {"session_tags": {"k" * 129: "x"}, "transitive_tag_keys": ()},
        {"session_tags": {"Team": "v" * 257}, "transitive_tag_keys": ()},
        {"session_tags": {"Team": "a\x00b"}, "transitive_tag_keys": ()},
        {"session_tags": {"Team": "a,b"}, "transitive_tag_keys": ()},
        {"session_tags": {"Team": "<b>"}, "transitive_tag_keys": ()},
        {"session_tags": {"Team": "a", "team": "b"}, "transitive_tag_keys": ()},
        {"session_tags": {f"k{n}": "v" for n in range(51)}, "transitive_tag_keys": ()},
        {"session_tags": {"Team": "a"}, "transitive_tag_keys": ("Other",)},
    ],
    ids=str,
)
def test_what_aws_would_not_take_is_not_signed(wrong):
    with pytest.raises(BadInput):
        mint_web_identity_token(web_identity(**wrong), now=NOW)


@pytest.mark.parametrize(
    "right",
    [
        {"source_identity": "al"},
        {"source_identity": "a" * 64},
        {"source_identity": "a.b+c=d,e@f-g_h"},
        {"session_tags": {"Abteilung": "Überprüfung Süd_1.2:3/4=5+6-7@8"}},
        {"session_tags": {"部門": "東京"}},
        {"session_tags": {"Team": ""}},
        {"session_tags": {f"k{n}": "v" for n in range(50)}},
    ],
    ids=str,
)
def test_what_aws_takes_is_signed(right):
    claims = web_identity(**({"transitive_tag_keys": ()} | right))

    assert mint_web_identity_token(claims, now=NOW).reveal()


def test_the_refusal_tells_the_person_nothing_and_the_administrator_which_tag():
    claims = web_identity(session_tags={"Team": "red,blue"}, transitive_tag_keys=())

    with pytest.raises(BadInput) as caught:
        mint_web_identity_token(claims, now=NOW)

    assert "Team" not in caught.value.message
    assert "'Team'" in caught.value.cause


def test_a_token_longer_than_aws_takes_is_refused_with_what_to_do():
    tags = {f"{n:02}{'k' * 126}": "\N{CJK UNIFIED IDEOGRAPH-6771}" * 256 for n in range(50)}

    with pytest.raises(BadInput) as caught:
        mint_web_identity_token(web_identity(session_tags=tags, transitive_tag_keys=()), now=NOW)

    assert "20000" in caught.value.cause
    assert "shorter session tags" in caught.value.remedy


def test_without_a_key_nothing_is_signed(settings):
    settings.DAYPASS_SEALING_KEYS = []

    with pytest.raises(KeyUnavailable):
        mint_web_identity_token(web_identity(), now=NOW)


def test_tags_are_told_in_one_order_whatever_order_they_came_in():
    orders = ({"b": "2", "a": "1"}, {"a": "1", "b": "2"})

    texts = [
        json.dumps(
            parts_of(
                mint_web_identity_token(
                    web_identity(session_tags=tags, transitive_tag_keys=()), now=NOW
                ).reveal()
            )[1]["https://aws.amazon.com/tags"]
        )
        for tags in orders
    ]

    assert all(one == other for one, other in pairwise(texts))
