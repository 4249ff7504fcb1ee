"""What the server's main loop refuses by itself is what the usual way refuses, in the same words, and nothing else."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable
from datetime import timedelta
from urllib.parse import unquote_to_bytes, urlencode

import pytest
from django.core.wsgi import get_wsgi_application
from django.utils import timezone

from accounts import early, limits, refusals, saml, throttle
from accounts.models import IdentityProvider
from accounts.throttle import Count
from broker.audit.models import AuditEvent
from tests.accounts import web
from tests.accounts.test_limits import recorded, within_a_minute

HOST = "daypass.test"
ACS, CALLBACK = "/saml/acme/acs/", "/oidc/globex/callback/"

Raw = tuple[bytes, bytes]


@pytest.fixture(autouse=True)
def behind_a_proxy(settings):
    settings.DAYPASS_TRUSTED_PROXIES = 1


@pytest.fixture
def server(transactional_db) -> Callable[..., tuple[int, dict[str, str], bytes]]:
    """Give a message to the application as gunicorn does: its status, headers and body."""
    application = early.Remembering(get_wsgi_application())

    def usual(message: Raw) -> tuple[int, dict[str, str], bytes]:
        head, body = message
        line, *lines = head.decode().rstrip("\r\n").split("\r\n")
        method, target, _ = line.split(" ")
        path, _, query = target.partition("?")
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "RAW_URI": target,
            "SERVER_NAME": HOST,
            "SERVER_PORT": "443",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "wsgi.url_scheme": "https",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
        }
        for each in lines:
            name, _, value = each.partition(":")
            key = name.upper().replace("-", "_")
            key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
            environ[key] = value.strip()
        said: list[tuple[str, list[tuple[str, str]]]] = []
        content = application(environ, lambda status, headers: said.append((status, headers)))
        [(status, headers)] = said
        return int(status[:3]), {k.lower(): v for k, v in headers}, b"".join(content)

    return usual


def post(
    path: str, body: bytes, *more: str, kind: str = web.FORM, address: str = "192.0.2.1"
) -> Raw:
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {HOST}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        f"X-Forwarded-For: {address}",
        *more,
    ]
    return ("\r\n".join(lines) + "\r\n").encode(), body


def get(path: str, *more: str, address: str = "192.0.2.1") -> Raw:
    lines = [f"GET {path} HTTP/1.1", f"Host: {HOST}", f"X-Forwarded-For: {address}", *more]
    return ("\r\n".join(lines) + "\r\n").encode(), b""


def response(answers: str = "", *, padding: int = 0) -> bytes:
    to = f'InResponseTo="{answers}"' if answers else ""
    xml = f'<p:Response xmlns:p="urn:oasis:names:tc:SAML:2.0:protocol" ID="_x" {to}>{"<x/>" * padding}</p:Response>'
    return base64.b64encode(xml.encode())


def form(message: bytes, **fields: str) -> bytes:
    return urlencode({**fields, "SAMLResponse": message}).encode()


JUNK = form(b"anVuaw==")
MADE_UP = f"_{int(time.time()):08x}.{'0' * 32}.{'0' * 32}"


def flooded(server, message: Raw, *, addresses: int = refusals.OF_PROVIDER + 2) -> None:
    """So many strangers that the rest of them is only counted."""
    within_a_minute()
    head, body = message
    for n in range(addresses):
        server((head.replace(b"192.0.2.1", b"198.51.100.%d" % n), body))


def early_said(message: Raw) -> tuple[int, dict[str, str], bytes] | None:
    said = early.answer(*message, "127.0.0.1")
    if said is None:
        return None
    head, _, body = said.partition(b"\r\n\r\n")
    line, *lines = head.decode().split("\r\n")
    return int(line[9:12]), dict(each.lower().split(": ", 1) for each in lines), body


REFUSED = {
    "junk": post(ACS, JUNK),
    "an answer to nothing of ours": post(ACS, form(response(MADE_UP, padding=2000))),
    "an answer that nobody asked for": post(ACS, form(response())),
    "an answer to another provider's request": post(
        ACS, form(response(saml.request_id("other", purpose="sign-in")))
    ),
    "with a relay state": post(ACS, form(response(MADE_UP), RelayState="/x?y=z")),
    "with a relay state at the end": post(ACS, form(response(MADE_UP)) + b"&RelayState=x"),
    "with blanks in it": post(ACS, form(b" ".join([response(MADE_UP), b"\r\n"]))),
    "every letter encoded": post(
        ACS, b"SAMLResponse=" + b"".join(b"%%%02X" % c for c in response(MADE_UP, padding=9000))
    ),
    "with a cookie": post(ACS, JUNK, "Cookie: a=b"),
    "a document type": post(ACS, form(base64.b64encode(b"<!DOCTYPE x><x/>"))),
    "a made-up state": get(CALLBACK + "?code=x&state=made-up"),
    "no state": get(CALLBACK + "?error=access_denied"),
    "two made-up states": get(CALLBACK + "?state=a&state=b"),
}


@pytest.mark.parametrize("message", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused_early_is_refused_in_the_same_words(
    saml_row, oidc_row, server, message: Raw
):
    flooded(server, message)

    said = early_said(message)
    usual = server(message)

    assert said is not None
    status, headers, body = said
    assert (status, body) == (usual[0], usual[2])
    assert headers.pop("connection") == "close"
    assert headers.pop("date")
    assert headers == {name: value.lower() for name, value in usual[1].items()}


def test_what_is_too_long_is_refused_early_as_too_long(saml_row, server):
    message = post(ACS, b"SAMLResponse=" + b"A" * 300_000)
    flooded(server, message)

    said = early_said(message)

    assert said is not None
    assert said[0] == server(message)[0] == 413


def test_before_there_is_a_flood_every_message_goes_the_usual_way(saml_row, server, monkeypatch):
    monkeypatch.setattr(refusals, "AT_ONCE", 1000)
    message = post(ACS, JUNK)
    for n in range(refusals.OF_PROVIDER):
        assert early_said(message) is None
        server(post(ACS, JUNK, address=f"198.51.100.{n}"))

    assert len(recorded()) == refusals.OF_PROVIDER


def test_one_loud_address_at_two_providers_is_not_yet_a_flood(
    saml_row, oidc_row, server, monkeypatch
):
    monkeypatch.setattr(refusals, "AT_ONCE", 1000)
    within_a_minute()
    for n in range(refusals.OF_ADDRESS + 4):
        server(post(ACS, JUNK) if n % 2 else get(CALLBACK + "?state=x"))

    assert early_said(post(ACS, JUNK, address="203.0.113.7")) is None


NOT_FOR_CERTAIN = {
    "an answer to a request of ours": lambda: post(
        ACS, form(response(saml.request_id("acme", purpose="sign-in")))
    ),
    "a state of ours": lambda: get(
        CALLBACK + "?code=x&state=" + saml.request_id("globex", purpose="oidc sign-in")
    ),
    "another host": lambda: (post(ACS, JUNK)[0].replace(b"daypass.test", b"other.test"), JUNK),
    "no host": lambda: (post(ACS, JUNK)[0].replace(b"Host: daypass.test\r\n", b""), JUNK),
    "a header twice": lambda: post(ACS, JUNK, "X-Forwarded-For: 192.0.2.9"),
    "a folded header": lambda: post(ACS, JUNK, "X-A: b", "  c"),
    "a charset": lambda: post(ACS, JUNK, kind=web.FORM + "; charset=utf-8"),
    "another type": lambda: post(ACS, JUNK, kind="text/plain"),
    "another field": lambda: post(ACS, JUNK + b"&x=y"),
    "the field twice": lambda: post(ACS, JUNK + b"&" + JUNK),
    "letters beyond ASCII": lambda: post(ACS, b"SAMLResponse=%C3%A9"),
    "another door": lambda: post("/saml/acme/sls/", JUNK),
    "another provider": lambda: post("/saml/other/acs/", JUNK),
    "a query": lambda: post(ACS + "?x=y", JUNK),
    "an older protocol": lambda: (
        post(ACS, JUNK)[0].replace(b"HTTP/1.1", b"HTTP/1.0"),
        JUNK,
    ),
}


@pytest.mark.parametrize("make", NOT_FOR_CERTAIN.values(), ids=NOT_FOR_CERTAIN.keys())
def test_what_is_not_certain_to_be_refused_goes_the_usual_way(saml_row, oidc_row, server, make):
    flooded(server, post(ACS, JUNK))
    flooded(server, get(CALLBACK + "?state=x"))

    assert early_said(make()) is None
    assert early_said(post(ACS, JUNK)) is not None


def test_where_anybody_may_begin_only_junk_is_certain(saml_row, server):
    IdentityProvider.objects.filter(pk=saml_row.pk).update(idp_initiated=True)
    flooded(server, post(ACS, JUNK))

    assert early_said(post(ACS, form(response()))) is None
    assert early_said(post(ACS, form(response(MADE_UP)))) is not None


def test_an_address_that_sent_too_much_is_told_to_wait(saml_row, server, settings):
    settings.DAYPASS_REFUSALS_PER_ADDRESS = 40
    loud = post(ACS, JUNK, address="203.0.113.7")
    flooded(server, post(ACS, JUNK))
    for _ in range(settings.DAYPASS_REFUSALS_PER_ADDRESS + 1):
        usual = server(loud)

    said = early_said(loud)

    assert said is not None
    assert (said[0], said[2]) == (usual[0], usual[2])
    assert said[0] == 429
    assert said[1]["retry-after"] == "60"
    other = early_said(post(ACS, JUNK, address="203.0.113.8"))
    assert other is not None
    assert other[0] == 403


def test_every_tenth_of_an_address_goes_the_usual_way_and_all_processes_hear_of_it(
    saml_row, server
):
    flooded(server, post(ACS, JUNK))
    loud = post(ACS, JUNK, address="203.0.113.7")

    ways = []
    for _ in range(throttle.STEP * 2):
        ways.append(early_said(loud) is not None)
        if not ways[-1]:
            server(loud)

    assert ways == ([True] * (throttle.STEP - 1) + [False]) * 2
    assert throttle.count(Count("refused", "203.0.113.7", 60, by=0))[0] == throttle.STEP * 2


ANSWERS = {
    "SAML": lambda answers: post(ACS, form(response(answers))),
    "OpenID Connect": lambda answers: get(f"{CALLBACK}?code=x&state={answers}"),
}
REQUESTS = {
    "SAML": lambda: saml.request_id("acme", purpose="sign-in"),
    "OpenID Connect": lambda: saml.request_id("globex", purpose="oidc sign-in"),
}


@pytest.mark.parametrize("protocol", ["SAML", "OpenID Connect"])
def test_answers_to_a_request_that_was_answered_too_often_are_refused_early(
    saml_row, oidc_row, server, protocol
):
    answers = REQUESTS[protocol]()
    message = ANSWERS[protocol](answers)
    within_a_minute()
    for _ in range(limits.ANSWERS_TO_ONE_REQUEST):
        assert early_said(message) is None
        server(message)
    assert early_said(message) is None
    flooded(server, message)

    said = early_said(message)
    usual = server(message)

    assert said is not None
    assert (said[0], said[2]) == (usual[0], usual[2])
    assert said[0] == 403
    assert early_said(ANSWERS[protocol](REQUESTS[protocol]())) is None


@pytest.mark.parametrize("protocol", ["SAML", "OpenID Connect"])
def test_while_no_more_answers_of_a_provider_are_read_they_are_refused_early(
    saml_row, oidc_row, server, settings, monkeypatch, protocol
):
    settings.DAYPASS_ANSWERS_PER_PROVIDER = 5
    within_a_minute()

    def message() -> Raw:
        return ANSWERS[protocol](REQUESTS[protocol]())

    for _ in range(settings.DAYPASS_ANSWERS_PER_PROVIDER):
        assert server(message())[0] != 503
        assert early_said(message()) is None
    for n in range(refusals.OF_PROVIDER + 2):
        assert server(ANSWERS[protocol](REQUESTS[protocol]()))[0] in (429, 503), n

    said = early_said(message())
    usual = server(message())

    assert said is not None
    status, headers, body = said
    assert (status, body) == (usual[0], usual[2])
    assert status == 503
    assert headers["retry-after"] == str(limits.LANE)
    other = {"SAML": "OpenID Connect", "OpenID Connect": "SAML"}[protocol]
    assert early_said(ANSWERS[other](REQUESTS[other]())) is None
    moment = time.monotonic() + early.SHUT
    monkeypatch.setattr(early.time, "monotonic", lambda: moment)
    assert early_said(message()) is None


def test_one_address_that_is_slowed_down_shuts_its_provider_to_nobody(saml_row, server):
    within_a_minute()
    for _ in range(limits.BAD_OF_ADDRESS + 1):
        limits.note_bad("acme", "203.0.113.7")
    flooded(server, post(ACS, JUNK))

    def answer(address: str) -> Raw:
        sent = form(response(saml.request_id("acme", purpose="sign-in")))
        return post(ACS, sent, address=address)

    statuses = [
        server(answer("203.0.113.7"))[0]
        for _ in range(limits.LANE_OF_ADDRESS + refusals.OF_PROVIDER)
    ]

    assert statuses[-1] == 503
    assert early_said(answer("203.0.113.8")) is None


def test_what_is_refused_early_is_counted_under_the_number_it_shows(saml_row, server):
    flooded(server, post(ACS, JUNK))
    said = early_said(post(ACS, form(response(MADE_UP))))
    assert said is not None

    refusals.record_tallies(now=timezone.now() + timedelta(minutes=2))

    told = AuditEvent.objects.filter(kind="sign_in.refused").latest("seq")
    assert "1 unsolicited" in told.data["reason"]
    assert told.reference.encode() in said[2]


def test_an_answer_is_kept_for_seconds_and_never_into_the_next_minute(
    saml_row, server, monkeypatch
):
    message = post(ACS, JUNK)
    flooded(server, message)
    assert early_said(message) is not None

    with monkeypatch.context() as later:
        moment = time.monotonic() + early.KEPT + 1
        later.setattr(early.time, "monotonic", lambda: moment)
        assert early_said(message) is None
    with monkeypatch.context() as later:
        moment = time.time() + 60
        later.setattr(early.time, "time", lambda: moment)
        assert early_said(message) is None


def test_an_encoded_message_is_cut_behind_all_that_is_looked_at():
    """However it is encoded, the beginning that `saml.in_response_to` reads is whole."""
    whole = response(MADE_UP, padding=9000)
    kind = {"content-type": web.FORM}
    for plain in (0, 1, 2, 3, 50, 24_000):
        encoded = whole[:plain] + b"".join(b"%%%02X" % c for c in whole[plain:])
        sent = b"SAMLResponse=" + encoded
        assert early._junk("acme", kind, sent, asked_for=True) == (403, "unsolicited")
        assert len(unquote_to_bytes(encoded[: early._BEGINNING])) >= 24_000


def test_what_gunicorn_serves_can_answer_early():
    from broker.wsgi import application

    assert application.early_answer is early.answer
