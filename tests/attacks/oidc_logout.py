"""OpenID Connect attacks on the back channel: nobody but the provider signs anybody out, and each word counts once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tests.attacks.registry import attack, control
from tests.attacks.stages import OidcStage

BACK_CHANNEL = {"protocol": "oidc", "door": "back-channel", "statuses": (400,)}
EVENT = "http://schemas.openid.net/event/backchannel-logout"


def post(stage: OidcStage, token: str, slug: str = "globex") -> Any:
    return stage.browser().post(f"/oidc/{slug}/logout/", {"logout_token": token}, secure=True)


def somebody_signed_in(stage: OidcStage) -> None:
    stage.op.bend_claims = lambda claims: claims.update(sid="s-1")
    stage.sign_in()
    stage.settled()


@control(
    "back-channel logout",
    protocol="oidc",
    door="back-channel",
    ends=True,
    cases={
        "by the subject": lambda claims: None,
        "by the session": lambda claims: (claims.pop("sub"), claims.update(sid="s-1")),
        "by both": lambda claims: claims.update(sid="s-1"),
        "with the audience as a list": lambda claims: claims.update(aud=[claims["aud"]]),
    },
)
def the_provider_signs_somebody_out(stage: OidcStage, bend: Callable) -> Any:
    somebody_signed_in(stage)
    stage.op.bend_logout = bend
    return post(stage, stage.op.logout_token())


def said(**changed: Any) -> Callable[[dict[str, Any]], None]:
    return lambda claims: claims.update(
        {name: value() if callable(value) else value for name, value in changed.items()}
    )


def left_out(*names: str) -> Callable[[dict[str, Any]], Any]:
    return lambda claims: [claims.pop(name) for name in names]


def later(seconds: int) -> Callable[[], int]:
    return lambda: int(time.time()) + seconds


@attack(
    "back-channel logout",
    "R34",
    **BACK_CHANNEL,
    stores_nothing=True,
    cases={
        "another issuer": said(iss="https://evil.example"),
        "no issuer": left_out("iss"),
        "another audience": said(aud="another"),
        "a second audience": said(aud=["daypass", "another"]),
        "no audience": left_out("aud"),
        "no issue time": left_out("iat"),
        "an old issue time": said(iat=later(-600)),
        "an issue time to come": said(iat=later(600)),
        "an issue time as a text": said(iat="now"),
        "no expiry": left_out("exp"),
        "an expiry that is over": said(exp=later(-120)),
        "an expiry in a day": said(exp=later(86400)),
        "an expiry as a fraction": said(exp=lambda: time.time() + 60.5),
        "no token id": left_out("jti"),
        "an empty token id": said(jti=""),
        "a number as token id": said(jti=1),
        "a very long token id": said(jti="x" * 10_000),
        "a nonce": said(nonce="x"),
        "null as the nonce": said(nonce=None),
        "no event": left_out("events"),
        "no event among the events": said(events={}),
        "another event": said(events={"https://evil.example/event": {}}),
        "another event beside it": said(events={EVENT: {}, "https://evil.example/event": {}}),
        "an event that is a text": said(events=EVENT),
        "a list of events": said(events=[EVENT]),
        "null in the event": said(events={EVENT: None}),
        "something in the event": said(events={EVENT: {"all": True}}),
        "neither subject nor session": left_out("sub"),
        "null as the subject": said(sub=None),
        "a number as the subject": said(sub=248289761001),
        "a list of subjects": said(sub=["248289761001"]),
        "a blank before the subject": said(sub=" 248289761001"),
        "an empty session": said(sid=""),
        "a number as the session": said(sid=1),
        "a list of sessions": said(sid=["s-1"]),
    },
)
def a_truly_signed_logout_with(stage: OidcStage, bend: Callable) -> Any:
    somebody_signed_in(stage)
    stage.op.bend_logout = bend
    return post(stage, stage.op.logout_token())


def unsigned(stage: OidcStage) -> str:
    from tests.attacks.oidc import b64

    body = stage.op.logout_token().split(".")[1]
    return f"{b64({'alg': 'none', 'typ': 'logout+jwt'})}.{body}."


def by_secret(stage: OidcStage) -> str:
    import hmac

    from tests.attacks.oidc import b64

    head = b64({"alg": "HS256", "typ": "logout+jwt", "kid": stage.op.key.kid})
    signed = f"{head}.{stage.op.logout_token().split('.')[1]}"
    digest = hmac.digest(stage.op.client_secret.encode(), signed.encode(), "sha256")
    return f"{signed}.{b64(digest)}"


def twice(stage: OidcStage) -> str:
    from tests.attacks.oidc import unb64

    text = unb64(stage.op.logout_token().split(".")[1]).decode()
    payload = f'{text[:-1]},"sub":"somebody-else"}}'.encode()
    return stage.op.sign_text(payload, typ="logout+jwt")


@attack(
    "back-channel logout",
    "R5 R34",
    **BACK_CHANNEL,
    stores_nothing=True,
    cases={
        "nobody signed": unsigned,
        "the client secret signed": by_secret,
        "a stranger signed": lambda s: s.op.logout_token(key=s.op.new_key()),
        "a stranger signed under a new key id": lambda s: s.op.logout_token(
            key=s.op.new_key(), kid="unknown"
        ),
        "brings its own key": lambda s: s.op.logout_token(jwk=s.op.key.as_dict(private=False)),
        "is an ID token": lambda s: s.op.id_token({"nonce": "x"}, "x"),
        "is an access token": lambda s: s.op.logout_token(typ="at+jwt"),
        "has a subject twice": twice,
        "is empty": lambda s: "",
        "is no token": lambda s: "<xml/>",
        "is very long": lambda s: "x" * 200_000,
        "has three parts of nothing": lambda s: "..",
        "has letters outside ASCII": lambda s: s.op.logout_token() + "é",
    },
)
def a_logout_token_that(stage: OidcStage, make: Callable[[OidcStage], str]) -> Any:
    somebody_signed_in(stage)
    return post(stage, make(stage))


@attack("back-channel logout", "R4 R34", **BACK_CHANNEL)
def a_logout_token_a_second_time(stage: OidcStage) -> Any:
    token = stage.op.logout_token()
    post(stage, token)
    somebody_signed_in(stage)
    return post(stage, token)


@attack("back-channel logout", "R34", **BACK_CHANNEL)
def a_logout_token_at_another_providers_door(stage: OidcStage) -> Any:
    stage.neighbour()
    somebody_signed_in(stage)
    return post(stage, stage.op.logout_token(), "other")


@attack("back-channel logout", "R34", **BACK_CHANNEL)
def a_neighbour_signs_our_people_out(stage: OidcStage) -> Any:
    """The neighbour's own, well-made token, with the same subject: at our door it is foreign."""
    other = stage.neighbour()
    somebody_signed_in(stage)
    return post(stage, other.logout_token())


@attack(
    "back-channel logout",
    "R27 R34",
    **BACK_CHANNEL,
    stores_nothing=True,
    cases={
        "nothing": ("", "application/x-www-form-urlencoded"),
        "two tokens": ("logout_token=a&logout_token=b", "application/x-www-form-urlencoded"),
        "a token under another name": ("token=a", "application/x-www-form-urlencoded"),
        "JSON": ('{"logout_token": "a"}', "application/json"),
        "a bare token": ("a.b.c", "application/jwt"),
        "a form of parts": ("--x\r\n", "multipart/form-data; boundary=x"),
        "another character set": (
            "logout_token=a",
            "application/x-www-form-urlencoded; charset=utf-16",
        ),
        "half a megabyte": ("x=" + "y" * 500_000, "application/x-www-form-urlencoded"),
        "thousands of fields": ("&".join(["x=y"] * 2000), "application/x-www-form-urlencoded"),
    },
)
def a_logout_request_of(stage: OidcStage, sent: tuple[str, str]) -> Any:
    somebody_signed_in(stage)
    return stage.browser().post(
        "/oidc/globex/logout/", data=sent[0], content_type=sent[1], secure=True
    )
