"""The OpenID Connect corpus: ID tokens signed by another library, over real HTTP, through the real doors.

Here: what is honest, and everything about keys and signatures. The rooms beside it hold the claims, the exchange, the
provider's other answers and the back channel.
"""

from __future__ import annotations

import base64
import datetime
import hmac
import json
import zlib
from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from django.test import override_settings
from joserfc.jwk import ECKey, OctKey, RSAKey

from accounts import services
from accounts.models import IdentityProvider
from accounts.rules import PRESETS
from tests.accounts import web
from tests.accounts.idp_oidc import OidcIdp
from tests.attacks import oidc_claims, oidc_exchange, oidc_logout, oidc_provider  # noqa: F401
from tests.attacks.registry import attack, control
from tests.attacks.stages import BY, OidcStage

SIGNATURE = {"requirements": "R5", "protocol": "oidc", "door": "callback"}
HONEST = {"protocol": "oidc", "door": "callback"}


def b64(raw: bytes | dict[str, Any]) -> str:
    raw = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def claims_of(token: str) -> dict[str, Any]:
    return dict(json.loads(unb64(token.split(".")[1])))


# --- The honest


@control("signatures", **HONEST)
def an_honest_code(stage: OidcStage) -> Any:
    return stage.sign_in()


@control("signatures", **HONEST)
def a_provider_with_an_elliptic_curve_key(stage: OidcStage) -> Any:
    op = OidcIdp(algorithm="ES256", client_id="curve")
    stage.others.append(op)
    with override_settings(DAYPASS_PRIVATE_PROVIDERS=[op.authority]):
        stage.connect("curve", op)
        return web.oidc_sign_in(stage.browser(), op, "curve")


@control(
    "signatures",
    **HONEST,
    cases={
        "no type": lambda header: header.pop("typ"),
        "no key id, with one key": lambda header: header.pop("kid"),
        "a thumbprint": lambda header: header.update({"x5t": "abc", "x5t#S256": "def"}),
    },
)
def a_header_as_providers_write_it(stage: OidcStage, bend: Callable) -> Any:
    stage.op.bend_header = bend
    return stage.sign_in()


@control("keys", **HONEST, cases={"the old one": 0, "the new one": 1})
def one_of_two_keys_that_the_provider_announced(stage: OidcStage, which: int) -> Any:
    keys = [stage.op.key, stage.op.new_key()]
    stage.op.bend_keys = lambda document: document.update(
        keys=[key.as_dict(private=False) for key in keys]
    )
    services.refresh_provider(stage.row.pk)
    stage.op.key = keys[which]
    return stage.sign_in()


@control("client authentication", **HONEST)
def a_provider_that_takes_the_secret_by_http_basic(stage: OidcStage) -> Any:
    stage.op.in_the_header = True
    stage.op.client_secret = "a:b c/d+e%é"
    stage.connect("basic", client_id="daypass2")
    stage.op.client_id = "daypass2"
    return web.oidc_sign_in(stage.browser(), stage.op, "basic")


@control(
    "claims",
    **HONEST,
    cases={
        "audience as a list of one": lambda c: c.update(aud=[c["aud"]]),
        "authorised party": lambda c: c.update(azp=c["aud"]),
        "no at_hash": lambda c: c.pop("at_hash"),
        "hashes of other flows": lambda c: c.update(c_hash="x", s_hash="y"),
        "amr as a text": lambda c: c.update(amr="mfa"),
        "auth_time with a fraction": lambda c: c.update(auth_time=c["auth_time"] - 0.5),
        "a name in another script": lambda c: c.update(name="Žofie 😀 <b>"),
        "claims that nobody asked for": lambda c: c.update(address={"a": [{"b": None}]}, x=[1.5]),
    },
)
def claims_as_providers_write_them(stage: OidcStage, bend: Callable) -> Any:
    stage.op.bend_claims = bend
    return stage.sign_in()


@control("groups", **HONEST, groups=("aws-admins",))
def groups_as_one_text(stage: OidcStage) -> Any:
    stage.op.bend_claims = lambda claims: claims.update(groups="aws-admins")
    return stage.sign_in()


@control("groups", **HONEST, groups=())
def no_groups_at_all(stage: OidcStage) -> Any:
    stage.op.bend_claims = lambda claims: claims.pop("groups")
    return stage.sign_in()


@control("groups", **HONEST, groups=("one", "two"))
def groups_in_userinfo(stage: OidcStage) -> Any:
    IdentityProvider.objects.filter(pk=stage.row.pk).update(groups_from_userinfo=True)
    stage.op.bend_userinfo = lambda claims: claims.update(groups=["one", "two"])
    return stage.sign_in()


@control("groups", **HONEST, groups=("one", "two"))
def groups_nested_in_the_token(stage: OidcStage) -> Any:
    stage.row.claim_map = PRESETS["keycloak-oidc"].to_json()
    services.save_provider(stage.row, by=BY)
    stage.op.bend_claims = lambda claims: claims.update(realm_access={"roles": ["one", "two"]})
    return stage.sign_in()


# --- Signatures


@attack("foreign keys", **SIGNATURE)
def a_token_signed_by_a_stranger_under_the_providers_key_id(stage: OidcStage) -> Any:
    honest = stage.op.key
    stage.op.key = stage.op.new_key()
    stage.op.bend_header = lambda header: header.update(kid=honest.kid)
    return stage.sign_in()


def instead(stage: OidcStage, make: Callable[[OidcStage, str], Any]) -> Any:
    """A sign-in whose ID token is replaced by what `make` makes of the honest one."""
    stage.op.bend_token = lambda token: make(stage, token)
    return stage.sign_in()


def unsigned(name: str, keep: bool = False) -> Callable[[OidcStage, str], str]:
    def make(stage: OidcStage, token: str) -> str:
        _, body, signature = token.split(".")
        head = b64({"alg": name, "typ": "JWT", "kid": stage.op.key.kid})
        return f"{head}.{body}.{signature if keep else ''}"

    return make


@attack(
    "no signature",
    **SIGNATURE,
    cases={
        "none": unsigned("none"),
        "None": unsigned("None"),
        "nOnE": unsigned("nOnE"),
        "none with the honest signature": unsigned("none", keep=True),
        "the pinned name and an empty signature": lambda s, t: t.rpartition(".")[0] + ".",
        "no third part": lambda s, t: t.rpartition(".")[0],
        "an empty name": unsigned(""),
    },
)
def a_token_that_nobody_signed(stage: OidcStage, make: Callable) -> Any:
    return instead(stage, make)


def with_secret(secret: Callable[[OidcStage], bytes]) -> Callable[[OidcStage, str], str]:
    def make(stage: OidcStage, token: str) -> str:
        signed = f"{b64({'alg': 'HS256', 'kid': stage.op.key.kid})}.{token.split('.')[1]}"
        return f"{signed}.{b64(hmac.digest(secret(stage), signed.encode(), 'sha256'))}"

    return make


@attack(
    "key confusion",
    **SIGNATURE,
    cases={
        "the client secret": with_secret(lambda s: s.op.client_secret.encode()),
        "the public key as PEM": with_secret(lambda s: s.op.key.as_pem(private=False)),
        "the public key as DER": with_secret(lambda s: s.op.key.as_der(private=False)),
        "the modulus": with_secret(lambda s: unb64(s.op.key.as_dict(private=False)["n"])),
        "the public key as JWK": with_secret(
            lambda s: json.dumps(s.op.key.as_dict(private=False)).encode()
        ),
        "nothing": with_secret(lambda s: b""),
        "the key id": with_secret(lambda s: s.op.key.kid.encode()),
    },
)
def a_shared_secret_in_place_of_a_key(stage: OidcStage, make: Callable) -> Any:
    return instead(stage, make)


def self_signed(key: RSAKey) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "login.example.com")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key)
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key.private_key, hashes.SHA256())
    )
    return base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()


def brought(header: Callable[[OidcStage, Any], dict[str, Any]]) -> Callable:
    """Signed by the attacker's key, which the header brings along."""

    def make(stage: OidcStage, token: str) -> str:
        key = stage.op.new_key(kid=stage.op.key.kid)
        return stage.op.sign_text(unb64(token.split(".")[1]), key, **header(stage, key))

    return make


@attack(
    "keys from the header",
    **SIGNATURE,
    cases={
        "jwk": brought(lambda s, key: {"jwk": key.as_dict(private=False)}),
        "jwk without a key id": brought(
            lambda s, key: {"jwk": key.as_dict(private=False), "kid": ""}
        ),
        "jku": brought(lambda s, key: {"jku": "https://evil.example/jwks"}),
        "jku at the provider": brought(lambda s, key: {"jku": f"{s.op.issuer}/elsewhere"}),
        "x5u": brought(lambda s, key: {"x5u": "https://evil.example/key.pem"}),
        "x5c": brought(lambda s, key: {"x5c": [self_signed(key)]}),
    },
)
def a_token_that_brings_its_own_key(stage: OidcStage, make: Callable) -> Any:
    page = instead(stage, make)
    assert "/elsewhere" not in stage.op.asked
    return page


@attack(
    "key ids",
    **SIGNATURE,
    cases={
        "a file": "../../../../dev/null",
        "a statement": "' OR '1'='1",
        "an address": "https://evil.example/key",
        "very long": "k" * 5000,
        "markup": "<script>alert(1)</script>",
    },
)
def a_key_id_that_is_not_one(stage: OidcStage, kid: str) -> Any:
    stage.op.bend_header = lambda header: header.update(kid=kid)
    return stage.sign_in()


def with_header(**changed: Any) -> Callable[[OidcStage, str], str]:
    """The honest token under another header; the signature is the honest key's, over the changed header."""

    def make(stage: OidcStage, token: str) -> str:
        head, body, _ = token.split(".")
        header = json.loads(unb64(head)) | changed
        signed = f"{b64({k: v for k, v in header.items() if v is not ...})}.{body}"
        return f"{signed}.{b64(signature(stage, signed))}"

    return make


def signature(stage: OidcStage, signed: str) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

    return bytes(stage.op.key.private_key.sign(signed.encode(), PKCS1v15(), hashes.SHA256()))


@attack(
    "headers",
    **SIGNATURE,
    cases={
        "crit": with_header(crit=["exp"], exp=1),
        "an empty crit": with_header(crit=[]),
        "b64 switched off": with_header(b64=False, crit=["b64"]),
        "b64 switched on": with_header(b64=True),
        "compression": with_header(zip="DEF"),
        "encryption": with_header(enc="A256GCM"),
        "no algorithm": with_header(alg=...),
        "null as the algorithm": with_header(alg=None),
        "a list of algorithms": with_header(alg=["RS256"]),
        "the algorithm in small letters": with_header(alg="rs256"),
        "the algorithm with a blank": with_header(alg="RS256 "),
        "a number as the key id": with_header(kid=7),
        "a list as the key id": with_header(kid=["x"]),
        "null as the key id": with_header(kid=None),
        "the type of an access token": with_header(typ="at+jwt"),
        "the type of a logout token": with_header(typ="logout+jwt"),
        "the type of JSON serialisation": with_header(typ="JOSE+JSON"),
        "null as the type": with_header(typ=None),
        "a list as the type": with_header(typ=["JWT"]),
    },
)
def a_truly_signed_header_that_says_something_else(stage: OidcStage, make: Callable) -> Any:
    return instead(stage, make)


@attack(
    "algorithms",
    **SIGNATURE,
    cases={name: name for name in ("RS384", "RS512", "PS256", "PS512")},
)
def another_algorithm_of_the_same_key(stage: OidcStage, name: str) -> Any:
    """The provider's own key, and an algorithm that it was not pinned to."""
    plain = RSAKey.import_key({**stage.op.key.as_dict(private=True)})
    return instead(
        stage, lambda s, token: s.op.sign_text(unb64(token.split(".")[1]), plain, alg=name)
    )


@attack("algorithms", **SIGNATURE)
def an_elliptic_curve_signature_where_rsa_is_pinned(stage: OidcStage) -> Any:
    key = ECKey.generate_key("P-256", {"kid": stage.op.key.kid}, private=True)
    return instead(
        stage, lambda s, token: s.op.sign_text(unb64(token.split(".")[1]), key, alg="ES256")
    )


@attack("algorithms", **SIGNATURE)
def a_signature_by_an_oct_key_of_the_key_set(stage: OidcStage) -> Any:
    """A key set that also holds a shared secret, as some do by mistake."""
    secret = OctKey.generate_key(256, {"kid": "shared"}, private=True)
    stage.op.bend_keys = lambda document: document["keys"].append(secret.as_dict(private=True))
    services.refresh_provider(stage.row.pk)
    return instead(
        stage,
        lambda s, token: s.op.sign_text(
            unb64(token.split(".")[1]), secret, alg="HS256", kid="shared"
        ),
    )


def flipped(text: str) -> str:
    return text[:-1] + ("A" if text[-1] != "A" else "B")


@attack(
    "spelling",
    **SIGNATURE,
    cases={
        "padding": lambda s, t: t + "==",
        "padding within": lambda s, t: t.replace(".", "=.", 1),
        "a blank": lambda s, t: " " + t,
        "a line end": lambda s, t: t + "\n",
        "a line end within": lambda s, t: t[:50] + "\n" + t[50:],
        "four parts": lambda s, t: t + ".x",
        "five parts": lambda s, t: t + "..",
        "letters of another alphabet": lambda s, t: t[:-20] + "+/" + t[-18:],
        "letters outside ASCII": lambda s, t: t + "é",
        "stray bits in the signature": lambda s, t: t[:-1] + stray(t[-1]),
        "the signature cut off": lambda s, t: t[:-40],
        "the signature twice": lambda s, t: t + t.split(".")[2],
        "one bit of the signature": lambda s, t: (
            t.rpartition(".")[0] + "." + flipped(t.split(".")[2][:20]) + t.split(".")[2][20:]
        ),
        "one claim of the payload": lambda s, t: ".".join(
            [
                t.split(".")[0],
                b64(claims_of(t) | {"groups": ["aws-owners"]}),
                t.split(".")[2],
            ]
        ),
        "very long": lambda s, t: t + "A" * 200_000,
        "the flattened JSON form": lambda s, t: json.dumps(
            dict(zip(("protected", "payload", "signature"), t.split("."), strict=True))
        ),
        "deflated": lambda s, t: ".".join(
            [t.split(".")[0], b64(zlib.compress(unb64(t.split(".")[1]))), t.split(".")[2]]
        ),
    },
)
def a_token_spelled_in_another_way(stage: OidcStage, make: Callable) -> Any:
    return instead(stage, make)


def stray(letter: str) -> str:
    """The letter beside it: the same bytes to a lenient reader, whose last bits are not looked at."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return alphabet[alphabet.index(letter) ^ 1]


@attack("foreign tokens", **SIGNATURE)
def the_signature_of_another_token(stage: OidcStage) -> Any:
    seen: list[str] = []
    stage.op.bend_token = lambda token: seen.append(token) or token
    stage.sign_in()
    stage.settled()
    stage.op.person = dict(stage.op.person) | {"groups": ["aws-owners"]}
    return instead(stage, lambda s, token: f"{token.rpartition('.')[0]}.{seen[0].split('.')[2]}")


@attack("foreign tokens", **SIGNATURE)
def a_token_nested_in_a_token(stage: OidcStage) -> Any:
    return instead(stage, lambda s, token: s.op.sign_text(token.encode(), cty="JWT"))


@attack(
    "keys",
    **SIGNATURE,
    cases={
        "a key of 1024 bits": lambda s: RSAKey.generate_key(1024, {"kid": "new"}, private=True),
        "a key with the exponent 3": lambda s: small_exponent(),
        "a curve of 384 bits": lambda s: ECKey.generate_key("P-384", {"kid": "new"}, private=True),
    },
)
def a_weak_key_that_the_key_set_brings(stage: OidcStage, make: Callable) -> Any:
    """What is too weak is not taken from the key set, so that nothing signed with it is believed."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        key = make(stage)
        public = key.as_dict(private=False) | {"kid": "new"}
        stage.op.bend_keys = lambda document: document["keys"].append(public)
        services.refresh_provider(stage.row.pk)
        algorithm = "ES384" if public["kty"] == "EC" else "RS256"
        made: list[str] = []

        def sign(s: OidcStage, token: str) -> str:
            made.append(s.op.sign_text(unb64(token.split(".")[1]), key, alg=algorithm, kid="new"))
            return made[0]

        return instead(stage, sign)


def small_exponent() -> RSAKey:
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=3, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return RSAKey.import_key(pem, {"kid": "new"})


@attack(
    "keys",
    **SIGNATURE,
    cases={
        "for encryption": {"use": "enc"},
        "for another algorithm": {"alg": "RS512"},
        "that may only encrypt": {"key_ops": ["encrypt"]},
        "with a number as its id": {"kid": 7},
        "with an even modulus": {"n": b64(b"\xc0" + b"\0" * 255)},
        "with an enormous modulus": {"n": b64(b"\xc1" * 4000)},
        "with an even exponent": {"e": b64(b"\1\0\0")},
        "with padding": {"n": b64(b"\xc1" * 256) + "=="},
    },
)
def a_key_of_the_key_set_that_is_not_for_this(stage: OidcStage, changed: dict[str, Any]) -> Any:
    key = stage.op.new_key(kid="new")
    public = {**key.as_dict(private=False), **changed}
    stage.op.bend_keys = lambda document: document["keys"].append(public)
    services.refresh_provider(stage.row.pk)
    return instead(
        stage, lambda s, token: s.op.sign_text(unb64(token.split(".")[1]), key, kid="new")
    )


@attack("keys", **SIGNATURE)
def a_second_key_under_the_first_ones_id(stage: OidcStage) -> Any:
    """The whole key set is refused: whichever of the two was meant, somebody else may have put the other there."""
    key = stage.op.new_key(kid=stage.op.key.kid)
    stage.op.bend_keys = lambda document: document["keys"].append(key.as_dict(private=False))
    services.refresh_provider(stage.row.pk)
    return instead(stage, lambda s, token: s.op.sign_text(unb64(token.split(".")[1]), key))


@attack("keys", **SIGNATURE)
def a_token_without_a_key_id_where_there_are_two_keys(stage: OidcStage) -> Any:
    key = stage.op.new_key()
    stage.op.bend_keys = lambda document: document["keys"].append(key.as_dict(private=False))
    services.refresh_provider(stage.row.pk)
    stage.settled()
    stage.op.bend_header = lambda header: header.pop("kid")
    return stage.sign_in()


@attack("keys", **SIGNATURE)
def a_provider_whose_keys_are_gone(stage: OidcStage) -> Any:
    """Without a key nothing is believed, least of all without a signature."""
    IdentityProvider.objects.filter(pk=stage.row.pk).update(jwks={"keys": []})
    stage.settled()
    return stage.sign_in()
