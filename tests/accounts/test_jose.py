"""Signed tokens and keys, read in one way only. Tokens are made by joserfc, keys by cryptography."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

from accounts import jose, oidc
from broker.errors import BadInput, SignInRefused

RSA = RSAKey.generate_key(2048, {"kid": "one"}, private=True)
EC = ECKey.generate_key("P-256", {"kid": "one"}, private=True)
PUBLIC = RSA.as_dict(private=False)


def keys(*found: dict) -> dict:
    return jose.check_keys({"keys": list(found)})


def token(payload: bytes = b"{}", key=RSA, **header) -> str:
    header = {"alg": "RS256" if key is RSA else "ES256", "kid": "one"} | header
    registry = jws.JWSRegistry(algorithms=[header["alg"]], strict_check_header=False)
    return jws.serialize_compact(header, payload, key, registry=registry)


def opened(text: str, stored=None, algorithm: str = "RS256") -> jose.Signed:
    return jose.open_signed(text, keys=stored or keys(PUBLIC), algorithm=algorithm)


@given(st.binary(max_size=80))
def test_base64url_is_read_back(raw):
    assert not raw or jose.unbase64url(jose.base64url(raw)) == raw


@given(st.text("ABCabc019-_+/= \n.é", max_size=12))
def test_base64url_has_one_form(text):
    """Whatever is read at all is written the same way again."""
    try:
        raw = jose.unbase64url(text)
    except ValueError:
        return
    assert jose.base64url(raw) == text


@pytest.mark.parametrize("text", ["", "A", "AA==", "AB", "AAB", "A A", "AA\n", "++", "éé", "AAAAA"])
def test_what_is_not_base64url_in_its_one_form_is_refused(text):
    with pytest.raises(ValueError):
        jose.unbase64url(text)


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (EC, "ES256")])
def test_a_good_token_is_opened(key, algorithm):
    found = opened(token(b'{"a": 1}', key), keys(key.as_dict(private=False)), algorithm=algorithm)

    assert found.claims == {"a": 1}
    assert found.kid == "one"


def test_a_signature_written_in_another_way_is_the_same_message():
    """(r, s) and (r, n - s) both fit a curve: what is remembered as used is what was signed, not how."""
    n = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    text = token(key=EC)
    head, body, signature = text.split(".")
    raw = jose.unbase64url(signature)
    other = raw[:32] + (n - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    twin = f"{head}.{body}.{jose.base64url(other)}"
    stored = keys(EC.as_dict(private=False))

    first, second = (opened(one, stored, "ES256") for one in (text, twin))

    assert text != twin
    assert first.digest == second.digest


def test_the_payload_is_not_even_parsed_before_the_signature_fits(monkeypatch):
    parsed: list[bytes] = []
    read = jose.strict_json
    monkeypatch.setattr(jose, "strict_json", lambda raw: parsed.append(raw) or read(raw))
    stranger = RSAKey.generate_key(2048, {"kid": "one"}, private=True)

    with pytest.raises(SignInRefused):
        opened(token(b'{"secret": 1}', stranger, alg="RS256"))

    assert len(parsed) == 1  # the header


def test_an_unknown_key_is_told_apart_from_a_wrong_signature():
    with pytest.raises(jose.UnknownKey):
        opened(token(kid="two"))
    wrong = token(key=RSAKey.generate_key(2048, {"kid": "one"}, private=True), alg="RS256")
    with pytest.raises(SignInRefused) as refusal:
        opened(wrong)
    assert not isinstance(refusal.value, jose.UnknownKey)


# --- Keys


def number(value: int) -> str:
    return jose.base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))


@pytest.mark.parametrize(
    "changed",
    [
        {"e": number(3)},
        {"e": number(65536)},
        {"e": number(2**32 + 1)},
        {"e": jose.base64url(b"\0")},
        {"n": number(2**2047 - 1)},
        {"n": number(2**2048 - 2)},
        {"n": number(2**8192 + 1)},
        {"n": PUBLIC["n"] + "=="},
        {"n": base64.b64encode(b"\xff" * 256).decode()},
        {"n": 7},
        {"use": "enc"},
        {"use": None},
        {"alg": "RS512"},
        {"alg": "none"},
        {"key_ops": ["sign"]},
        {"key_ops": "verify"},
        {"kid": ""},
        {"kid": 7},
        {"kid": "x" * 300},
        {"kty": "oct", "k": "c2VjcmV0"},
        {"kty": ["RSA"]},
        {"kty": "OKP", "crv": "Ed25519"},
        {"kty": "EC"},
    ],
)
def test_a_key_that_is_not_one_is_left_out(changed):
    with pytest.raises(BadInput, match="no RSA key of 2048 bits"):
        keys({**PUBLIC, **changed})

    assert keys(PUBLIC, {**PUBLIC, "kid": "two", **changed})["keys"] == keys(PUBLIC)["keys"]


@pytest.mark.parametrize(
    "changed",
    [
        {"x": number(1)},
        {"x": jose.base64url(b"\0" * 32)},
        {"x": jose.base64url(b"\0" + jose.unbase64url(EC.as_dict(private=False)["x"]))},
        {"crv": "P-384"},
        {"crv": "secp256k1"},
    ],
)
def test_a_point_that_is_not_on_the_curve_is_no_key(changed):
    with pytest.raises(BadInput):
        keys({**EC.as_dict(private=False), **changed})


def test_nothing_private_and_nothing_else_is_kept():
    (kept,) = keys({**PUBLIC, "x5c": ["abc"], "x5t": "def", "key_ops": ["verify"], "y": "z"})[
        "keys"
    ]

    assert set(kept) <= {"kty", "kid", "use", "alg", "n", "e", "crv", "x", "y"}


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ([PUBLIC, {**PUBLIC, "e": "AQAD"}], "same kid"),
        ([RSA.as_dict(private=True)], "private key"),
        ([PUBLIC, "x"], "not a key"),
        ([PUBLIC] * 51, "at most 50"),
        ({"one": PUBLIC}, "not a list"),
        (None, "not a list"),
        ([], "no RSA key"),
    ],
)
def test_a_key_set_that_cannot_be_trusted_is_refused_whole(found, why):
    with pytest.raises(BadInput, match=why):
        jose.check_keys({"keys": found})


def test_the_same_key_twice_is_one_key():
    assert len(keys(PUBLIC, dict(PUBLIC))["keys"]) == 1


# --- Discovery


DOCUMENT = {
    "issuer": "https://login.example",
    "authorization_endpoint": "https://login.example/authorize",
    "token_endpoint": "https://tokens.example/token",
    "jwks_uri": "https://keys.example:8443/jwks",
    "userinfo_endpoint": "https://login.example/userinfo",
}


def test_the_origins_of_a_provider_are_those_of_its_document():
    assert oidc.origins(DOCUMENT) == {
        "https://login.example",
        "https://tokens.example",
        "https://keys.example:8443",
    }


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"token_endpoint_auth_methods_supported": ["private_key_jwt"]}, "client secrets neither"),
        ({"token_endpoint_auth_methods_supported": "client_secret_post"}, "not a list"),
        ({"scopes_supported": [1]}, "list of words"),
        ({"id_token_signing_alg_values_supported": ["x" * 300]}, "list of words"),
        ({"authorization_response_iss_parameter_supported": "true"}, "neither true nor false"),
        ({"authorization_endpoint": "https://login.example/?nonce=x"}, "part of the request"),
        ({"token_endpoint": "https://login.example/#x"}, "after #"),
        ({"jwks_uri": "https://lögin.example/"}, "outside ASCII"),
        ({"jwks_uri": ""}, "has to be an address"),
    ],
)
def test_a_discovery_document_that_says_something_odd_is_refused(changed, why):
    with pytest.raises(BadInput, match=why):
        oidc.check_discovery({**DOCUMENT, **changed}, DOCUMENT["issuer"])


def test_an_authorization_endpoint_may_have_a_query_of_its_own():
    document = {**DOCUMENT, "authorization_endpoint": "https://login.example/?policy=b2c"}
    exchange = oidc.Exchange(state="s", nonce="n", verifier="v" * 43)

    url = oidc.authorization_url(
        oidc.check_discovery(document, DOCUMENT["issuer"]),
        exchange,
        client_id="daypass",
        redirect_uri="https://daypass.test/",
        scopes=["openid"],
    )

    assert url.startswith("https://login.example/?policy=b2c&client_id=daypass&")


def test_what_a_token_answer_holds_is_not_printed():
    assert "secret" not in repr(oidc.Tokens(unverified_id_token="secret", access_token="secret"))
