"""OpenID Connect attacks: truly signed ID tokens that say something else, or say it so that two readers differ."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from tests.attacks.registry import attack
from tests.attacks.stages import OidcStage

CLAIMS = {"requirements": "R6", "protocol": "oidc", "door": "callback"}
READING = {"requirements": "R5 R52", "protocol": "oidc", "door": "callback"}

Bend = Callable[[dict[str, Any]], Any]


def said(**changed: Any) -> Bend:
    return lambda claims: claims.update(
        {name: value() if callable(value) else value for name, value in changed.items()}
    )


def left_out(*names: str) -> Bend:
    return lambda claims: [claims.pop(name) for name in names]


def later(seconds: float) -> Callable[[], int]:
    return lambda: int(time.time() + seconds)


def bent(stage: OidcStage, bend: Bend) -> Any:
    stage.op.bend_claims = bend
    return stage.sign_in()


@attack(
    "issuer",
    **CLAIMS,
    cases={
        "missing": left_out("iss"),
        "foreign": said(iss="https://evil.example"),
        "null": said(iss=None),
        "a list with the right one": lambda c: c.update(iss=[c["iss"]]),
        "with a slash more": lambda c: c.update(iss=c["iss"] + "/"),
        "in capitals": lambda c: c.update(iss=c["iss"].upper()),
        "with a blank": lambda c: c.update(iss=c["iss"] + " "),
        "very long": said(iss="https://evil.example/" + "x" * 50_000),
    },
)
def the_issuer_is_not_the_one(stage: OidcStage, bend: Bend) -> Any:
    return bent(stage, bend)


@attack(
    "audience",
    **CLAIMS,
    cases={
        "missing": left_out("aud"),
        "foreign": said(aud="another"),
        "null": said(aud=None),
        "true": said(aud=True),
        "an empty list": said(aud=[]),
        "us and another": said(aud=["daypass", "another"]),
        "us twice": said(aud=["daypass", "daypass"]),
        "a list in a list": said(aud=[["daypass"]]),
        "an object": said(aud={"daypass": "daypass"}),
        "a part of our name": said(aud="daypas"),
        "our name in a text": said(aud="daypass another"),
        "very many": said(aud=["daypass"] * 5000),
    },
)
def the_audience_is_not_us_alone(stage: OidcStage, bend: Bend) -> Any:
    return bent(stage, bend)


@attack(
    "authorised party",
    **CLAIMS,
    cases={
        "foreign": said(azp="another"),
        "null": said(azp=None),
        "a list": said(azp=["daypass"]),
        "empty": said(azp=""),
    },
)
def the_token_was_given_to_somebody_else(stage: OidcStage, bend: Bend) -> Any:
    return bent(stage, bend)


@attack(
    "times",
    **CLAIMS,
    cases={
        "no expiry": left_out("exp"),
        "expired": said(exp=later(-90)),
        "expiry in a week": said(exp=later(7 * 86400)),
        "expiry at the end of time": said(exp=2**62),
        "expiry as a text": said(exp=lambda: str(int(time.time()) + 300)),
        "expiry as a fraction": said(exp=lambda: time.time() + 300.5),
        "expiry true": said(exp=True),
        "expiry null": said(exp=None),
        "expiry below zero": said(exp=-1),
        "expiry as a list": said(exp=lambda: [int(time.time()) + 300]),
        "no issue time": left_out("iat"),
        "issued an hour ago": said(iat=later(-3600)),
        "issued in an hour": said(iat=later(3600), exp=later(7200)),
        "issued as a text": said(iat="now"),
        "issued as a fraction": said(iat=lambda: time.time() - 0.5),
        "not yet valid": said(nbf=later(600)),
        "not before as a text": said(nbf="now"),
        "not before null": said(nbf=None),
        "authenticated in an hour": said(auth_time=later(3600)),
        "authenticated as a text": said(auth_time="now"),
        "authenticated true": said(auth_time=True),
        "authenticated null": said(auth_time=None),
        "authenticated at the end of time": said(auth_time=1e300),
    },
)
def a_time_that_is_not_one(stage: OidcStage, bend: Bend) -> Any:
    return bent(stage, bend)


@attack(
    "nonce",
    **CLAIMS,
    cases={
        "missing": left_out("nonce"),
        "foreign": said(nonce="another"),
        "null": said(nonce=None),
        "empty": said(nonce=""),
        "a list with the right one": lambda c: c.update(nonce=[c["nonce"]]),
        "with a letter more": lambda c: c.update(nonce=c["nonce"] + "x"),
        "in capitals": lambda c: c.update(nonce=c["nonce"].swapcase()),
        "outside ASCII": said(nonce="né"),
        "very long": said(nonce="x" * 50_000),
    },
)
def the_nonce_is_not_ours(stage: OidcStage, bend: Bend) -> Any:
    return bent(stage, bend)


@attack(
    "access token",
    **CLAIMS,
    cases={
        "foreign": said(at_hash="AAAAAAAAAAAAAAAAAAAAAA"),
        "null": said(at_hash=None),
        "empty": said(at_hash=""),
        "a list": lambda c: c.update(at_hash=[c["at_hash"]]),
        "with padding": lambda c: c.update(at_hash=c["at_hash"] + "=="),
        "the whole digest": lambda c: c.update(at_hash=c["at_hash"] * 2),
    },
)
def the_token_hash_does_not_fit(stage: OidcStage, bend: Bend) -> Any:
    return bent(stage, bend)


@attack(
    "subject",
    "R6 R7",
    protocol="oidc",
    door="callback",
    cases={
        "missing": left_out("sub"),
        "null": said(sub=None),
        "a number": said(sub=248289761001),
        "true": said(sub=True),
        "empty": said(sub=""),
        "blank": said(sub="   "),
        "a list": said(sub=["248289761001"]),
        "an object": said(sub={"id": "248289761001"}),
        "with a blank before": said(sub=" 248289761001"),
        "with a line end": said(sub="248289761001\n"),
        "with an invisible letter": said(sub="248289761001\u200b"),
        "in other digits": said(sub="".join(chr(ord(c) + 0xFEE0) for c in "248289761001")),
        "very long": said(sub="x" * 256),
    },
)
def a_subject_that_could_be_mistaken(stage: OidcStage, bend: Bend) -> Any:
    return bent(stage, bend)


@attack(
    "types",
    **CLAIMS,
    cases={
        "session id as a number": said(sid=7),
        "session id as a list": said(sid=["x"]),
        "session id very long": said(sid="x" * 5000),
        "token id as an object": said(jti={}),
        "context as a number": said(acr=2),
        "context as a list": said(acr=["mfa"]),
        "methods as an object": said(amr={"mfa": True}),
        "methods as numbers": said(amr=[1]),
        "methods null": said(amr=None),
        "methods in a list in a list": said(amr=[["mfa"]]),
    },
)
def a_claim_of_another_type(stage: OidcStage, bend: Bend) -> Any:
    return bent(stage, bend)


@attack(
    "groups",
    "R6 R9",
    protocol="oidc",
    door="callback",
    cases={
        "an object": said(groups={"aws-admins": True}),
        "numbers": said(groups=[1]),
        "a list in a list": said(groups=[["aws-admins"]]),
        "with null": said(groups=["aws-admins", None]),
        "too many": said(groups=[f"g{n}" for n in range(2001)]),
        "too long": said(groups=["x" * 5000]),
        "with a control character": said(groups=["aws-\u0007admins"]),
        "left out for being too many": lambda c: (
            c.pop("groups"),
            c.update(_claim_names={"groups": "s"}, _claim_sources={"s": {"endpoint": "https://x"}}),
        ),
    },
)
def groups_that_cannot_be_taken_literally(stage: OidcStage, bend: Bend) -> Any:
    return bent(stage, bend)


def rewritten(change: Callable[[str], str | bytes]) -> Callable[[OidcStage, dict], bytes]:
    """The claims as text, changed in a way that only the text can be."""

    def write(stage: OidcStage, claims: dict[str, Any]) -> bytes:
        text = change(json.dumps(claims))
        return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")

    return write


def added(text: str) -> Callable[[OidcStage, dict], bytes]:
    return rewritten(lambda whole: f"{whole[:-1]},{text}}}")


@attack(
    "strict reading",
    **READING,
    cases={
        "the subject twice": added('"sub":"somebody-else"'),
        "the subject twice, once escaped": added('"\\u0073ub":"somebody-else"'),
        "the issuer twice": added('"iss":"https://evil.example"'),
        "the groups twice": added('"groups":["aws-owners"]'),
        "a key twice, deep inside": added('"x":{"y":[{"z":1,"z":2}]}'),
        "not a number": added('"x":NaN'),
        "infinity": added('"x":-Infinity'),
        "infinity in digits": added('"x":1e999'),
        "a number beyond 64 bits": added('"x":99999999999999999999999'),
        "a number of many digits": added('"x":' + "9" * 20_000),
        "half a character": added('"name":"\\ud800"'),
        "a NUL": added('"name":"a\\u0000b"'),
        "a NUL in a key": added('"a\\u0000b":1'),
        "nested very deeply": added('"x":' + "[" * 20_000 + "]" * 20_000),
        "nested deeply": added('"x":' + "[" * 60 + "]" * 60),
        "a byte order mark": rewritten(lambda text: "\ufeff" + text),
        "UTF-16": rewritten(lambda text: text.encode("utf-16")),
        "UTF-32": rewritten(lambda text: text.encode("utf-32")),
        "Latin-1": rewritten(lambda text: text.replace("Ada", "Adé").encode("latin-1")),
        "overlong UTF-8": rewritten(lambda text: text.encode().replace(b"Ada", b"\xc0\xc1da")),
        "a surrogate in UTF-8": rewritten(lambda text: text.replace("Ada", "\ud800")),
        "something after the end": rewritten(lambda text: text + "{}"),
        "a comment": rewritten(lambda text: text + "// really"),
        "single quotes": rewritten(lambda text: text.replace('"', "'")),
        "a comma too many": rewritten(lambda text: text[:-1] + ",}"),
        "a raw line end in a text": rewritten(lambda text: text.replace("Ada", "A\nda")),
        "a list": rewritten(lambda text: f"[{text}]"),
        "a text": rewritten(json.dumps),
        "null": rewritten(lambda text: "null"),
        "nothing": rewritten(lambda text: ""),
    },
)
def claims_that_two_readers_could_read_differently(stage: OidcStage, write: Callable) -> Any:
    def again(token: str) -> str:
        return stage.op.sign_text(write(stage, made[-1]))

    made: list[dict[str, Any]] = []
    stage.op.bend_claims = lambda claims: made.append(dict(claims))
    stage.op.bend_token = again
    return stage.sign_in()


@attack("strict reading", **READING)
def a_header_that_names_its_algorithm_twice(stage: OidcStage) -> Any:
    from tests.attacks.oidc import b64, signature

    def again(token: str) -> str:
        head = b64(b'{"alg":"none","kid":"%s","alg":"RS256"}' % stage.op.key.kid.encode())
        signed = f"{head}.{token.split('.')[1]}"
        return f"{signed}.{b64(signature(stage, signed))}"

    stage.op.bend_token = again
    return stage.sign_in()
