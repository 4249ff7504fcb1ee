"""The provider says from server to server that somebody signed out: their sessions end, and nothing else happens."""

from __future__ import annotations

import time
from urllib.parse import urlencode

import pytest
from django.contrib.sessions.models import Session

from accounts import services
from accounts.models import ConsumedMessage, IdentityProvider
from broker.audit.models import AuditEvent
from tests.accounts import web
from tests.accounts.conftest import BY

EVENT = "http://schemas.openid.net/event/backchannel-logout"
FORM = "application/x-www-form-urlencoded"


def post(token: str, slug: str = "globex", *, by=None):
    return (by or web.browser()).post(
        f"/oidc/{slug}/logout/",
        urlencode({"logout_token": token}),
        content_type=FORM,
        secure=True,
    )


def signed_in(op, *, sid=None, sub=None):
    op.bend_claims = lambda claims: claims.update(
        {name: value for name, value in (("sid", sid), ("sub", sub)) if value}
    )
    browser = web.browser()
    web.oidc_sign_in(browser, op)
    assert web.is_signed_in(browser)
    return browser


def still_signed_in(browser) -> bool:
    return browser.get("/", secure=True).status_code == 200


def endings():
    events = AuditEvent.objects.filter(kind="sign_in.ended")
    return list(events.values_list("actor", "data__how"))


def test_every_session_of_the_subject_ends(oidc_row, op):
    laptop, phone = signed_in(op, sid="one"), signed_in(op, sid="two")

    answer = post(op.logout_token())

    assert answer.status_code == 200
    assert answer["Cache-Control"] == "no-store"
    assert not answer.cookies
    assert not still_signed_in(laptop) and not still_signed_in(phone)
    assert endings() == [("ada", "signed out at the provider")] * 2


def test_one_session_ends_where_the_provider_names_one(oidc_row, op):
    laptop, phone = signed_in(op, sid="one"), signed_in(op, sid="two")

    post(op.logout_token(sid="one"))

    assert not still_signed_in(laptop)
    assert still_signed_in(phone)


def test_the_name_of_the_session_is_enough(oidc_row, op):
    laptop, phone = signed_in(op, sid="one"), signed_in(op, sid="two")
    op.bend_logout = lambda claims: claims.pop("sub")

    post(op.logout_token(sid="two"))

    assert still_signed_in(laptop)
    assert not still_signed_in(phone)


def test_somebody_else_stays_signed_in(oidc_row, op):
    grace = signed_in(op, sub="somebody-else")

    assert post(op.logout_token()).status_code == 200

    assert still_signed_in(grace)


def test_a_provider_ends_nobody_elses_sessions(oidc_row, op):
    """The same subject at another provider is another person."""
    ada = signed_in(op)
    services.create_oidc_provider(
        slug="twin",
        name="Twin",
        issuer=op.issuer,
        client_id="twin",
        secret="x",
        by=BY,
        enabled=True,
    )
    op.bend_logout = lambda claims: claims.update(aud="twin")

    assert post(op.logout_token(), "twin").status_code == 200

    assert still_signed_in(ada)


@pytest.mark.parametrize("kind", ["logout+jwt", "JWT"])
def test_older_providers_write_another_type(oidc_row, op, kind):
    browser = signed_in(op)

    assert post(op.logout_token(typ=kind)).status_code == 200

    assert not still_signed_in(browser)


def test_nobody_being_signed_in_is_no_mistake(oidc_row, op):
    assert post(op.logout_token()).status_code == 200


def test_the_browser_that_carries_it_is_left_alone(oidc_row, op):
    """The message counts, not the cookie beside it: not even a session is loaded."""
    ada = signed_in(op)
    op.bend_logout = lambda claims: claims.update(sub="somebody-else")

    answer = post(op.logout_token(), by=ada)

    assert (answer.status_code, dict(answer.cookies)) == (200, {})
    assert still_signed_in(ada)


@pytest.fixture
def refused(oidc_row, op, refusals):
    """Send a token and see it refused quietly: no session ends, nothing is kept, the reason is in the log."""
    ada = signed_in(op)
    sessions = Session.objects.count()
    kept = ConsumedMessage.objects.count()

    def check(token: str, reason: str, code: str = "oidc_refused") -> None:
        answer = post(token)
        assert answer.status_code == 400
        assert answer["Cache-Control"] == "no-store"
        assert answer["Content-Type"] == "application/json"
        assert answer.json()["error"] == "invalid_request"
        assert set(answer.json()) == {"error", "reference"}
        assert still_signed_in(ada)
        assert (Session.objects.count(), ConsumedMessage.objects.count()) == (sessions, kept)
        ((told, why),) = refusals()
        assert told == code
        assert reason in why
        assert AuditEvent.objects.get(reference=answer.json()["reference"])

    return check


def _now(offset):
    return lambda: int(time.time()) + offset


def _with(**changed):
    return lambda claims: claims.update({k: v() if callable(v) else v for k, v in changed.items()})


def _without(*names):
    return lambda claims: [claims.pop(name) for name in names]


@pytest.mark.parametrize(
    ("bend", "reason"),
    [
        (_with(iss="https://another.example"), "issuer"),
        (_without("iss"), "issuer"),
        (_with(aud="another"), "another client"),
        (_with(aud=["daypass", "another"]), "another client"),
        (_without("aud"), "another client"),
        (_with(iat=_now(-400)), "too long ago"),
        (_with(iat=_now(400)), "in the future"),
        (_with(iat="now"), "iat"),
        (_without("iat"), "iat"),
        (_without("exp"), "exp"),
        (_with(exp=_now(-120)), "expired"),
        (_with(exp=_now(2 * 3600)), "more than an hour"),
        (_with(exp=2**70), "beyond 64 bits"),
        (_with(nbf=_now(400)), "not valid yet"),
        (_without("jti"), "jti"),
        (_with(jti=""), "jti"),
        (_with(jti=7), "jti"),
        (_with(jti="x" * 300), "jti"),
        (_with(nonce="x"), "nonce"),
        (_with(nonce=None), "nonce"),
        (_without("events"), "events"),
        (_with(events=EVENT), "events"),
        (_with(events=[EVENT]), "events"),
        (_with(events={}), "events"),
        (_with(events={EVENT: None}), "events"),
        (_with(events={EVENT: []}), "events"),
        (_with(events={EVENT: {"x": 1}}), "events"),
        (_with(events={EVENT: {}, "https://another.example": {}}), "events"),
        (_with(events={EVENT + "/": {}}), "events"),
        (_without("sub"), "neither whose session nor which one"),
        (_with(sid=7), "sid"),
        (_with(sid=""), "sid"),
        (_with(sid=["x"]), "sid"),
    ],
)
def test_a_logout_token_that_breaks_a_rule_is_refused(refused, op, bend, reason):
    op.bend_logout = bend
    refused(op.logout_token(), reason)


@pytest.mark.parametrize("subject", [None, 42, "", " x", ["x"], "x" * 300])
def test_a_subject_that_could_be_mistaken_is_refused(refused, op, subject):
    op.bend_logout = _with(sub=subject)
    refused(op.logout_token(), "id of the person", code="subject_unusable")


def test_a_strangers_signature_is_refused(refused, op):
    refused(op.logout_token(key=op.new_key()), "signature does not fit")


def test_an_id_token_is_not_a_logout_token(refused, op):
    refused(op.id_token({"nonce": "x"}, "access"), "logout token")


@pytest.mark.parametrize("kind", ["at+jwt", "secevent+jwt", "LOGOUT+JWT", ""])
def test_another_type_of_token_is_refused(refused, op, kind):
    refused(op.logout_token(typ=kind), "another type")


@pytest.mark.parametrize("junk", ["", "x", "a.b", "é" * 10, "x" * 200_000])
def test_junk_is_refused(refused, junk):
    refused(junk, "compact JWS")


def test_a_token_is_taken_once(oidc_row, op, refusals):
    token = op.logout_token()
    assert post(token).status_code == 200
    ada = signed_in(op)

    assert post(token).status_code == 400

    assert still_signed_in(ada)
    assert refusals()[0][0] == "replayed"


def test_of_eight_at_once_one_ends_the_session(together, op):
    services.create_oidc_provider(
        slug="globex",
        name="Globex",
        issuer=op.issuer,
        client_id=op.client_id,
        secret=op.client_secret,
        by=BY,
        enabled=True,
    )
    signed_in(op)
    token = op.logout_token()

    results = together(lambda: post(token).status_code, times=8)

    assert sorted(results) == [200] + [400] * 7
    assert len(endings()) == 1


def test_an_unknown_key_is_asked_for_without_waiting(refused, op, monkeypatch):
    from accounts.services import queueing

    asked = []
    monkeypatch.setattr(queueing, "queue_refresh", lambda one: asked.append(one) or True)
    op.asked.clear()

    refused(op.logout_token(key=op.new_key(), kid="new"), "not among", code="key_unknown")

    assert len(asked) == 1
    assert op.asked == []


def test_strangers_do_not_use_up_what_sign_in_may_ask_for(oidc_row, op):
    """A forged logout token may ask once in half an hour; a sign-in that needs a new key asks all the same."""
    for _ in range(3):
        post(op.logout_token(key=op.new_key(), kid="unknown"))
    first = IdentityProvider.objects.get().refresh_asked_at
    IdentityProvider.objects.update(refresh_asked_at=None)

    post(op.logout_token(key=op.new_key(), kid="unknown"))

    assert first is not None
    assert IdentityProvider.objects.get().refresh_asked_at is None


@pytest.mark.parametrize("method", ["get", "put", "delete", "head"])
def test_other_methods_are_not_answered(oidc_row, method):
    answer = getattr(web.browser(), method)("/oidc/globex/logout/", secure=True)

    assert answer.status_code == 405


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", FORM),
        (b"logout_token=a&logout_token=b", FORM),
        (b"logout_token=a", "text/plain"),
        (b'{"logout_token": "a"}', "application/json"),
        (b"logout_token=a", FORM + "; charset=utf-16"),
        (b"x=" + b"y" * 300_000, FORM),
        (b"&".join(b"x=y" for _ in range(1100)), FORM),
        (b"\xff\xfe", FORM),
        (b"--x\r\n", "multipart/form-data; boundary=x"),
    ],
)
def test_what_is_not_such_a_form_is_answered_quietly(oidc_row, refusals, body, kind):
    answer = web.browser().post("/oidc/globex/logout/", data=body, content_type=kind, secure=True)

    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"
    assert refusals()[0][0] == "oidc_refused"


@pytest.mark.parametrize("slug", ["nobody", "acme"])
def test_there_is_no_such_door_at_other_providers(oidc_row, saml_row, op, slug):
    assert post(op.logout_token(), slug).status_code == 404


def test_a_flood_is_slowed_down(oidc_row, op, settings):
    settings.DAYPASS_REFUSALS_PER_ADDRESS = 2

    answers = [post("junk").status_code for _ in range(5)]

    assert (answers[0], answers[-1]) == (400, 429)
