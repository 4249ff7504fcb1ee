"""/authorize: who may ask, what the person is told, and where the answer goes."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import timedelta
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from django.utils import timezone

from accounts import browser as browser_session
from accounts.places import find
from broker.audit.models import AuditEvent
from broker.awssso import registrations, services
from broker.awssso.models import Terminal, TerminalPolicy
from tests import factories as make
from tests.portal.conftest import (
    ada,
    browser,
    developer,
    group,
    page_text,
    payments,
    production,
    sign_in,
)

__all__ = ["ada", "browser", "developer", "group", "page_text", "payments", "production"]

pytestmark = pytest.mark.django_db

VERIFIER = "v" * 64
CHALLENGE = (
    base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
)
BACK = "http://127.0.0.1:39953/oauth/callback"


def registered(name: str = "botocore-client-northwind", **more: object):
    asked = {
        "clientName": name,
        "clientType": "public",
        "scopes": ["sso:account:access"],
        "grantTypes": ["authorization_code", "refresh_token"],
        "redirectUris": ["http://127.0.0.1/oauth/callback"],
        **more,
    }
    return registrations.register(asked, now=timezone.now())[0]


def asked(registration=None, **changes: str | None) -> str:
    registration = registration or registered()
    query = {
        "response_type": "code",
        "client_id": registration.id,
        "redirect_uri": BACK,
        "state": "8b0ff1a2-state",
        "code_challenge_method": "S256",
        "scopes": "sso:account:access",
        "code_challenge": CHALLENGE,
        **changes,
    }
    return "/authorize?" + urlencode({k: v for k, v in query.items() if v is not None})


def test_the_page_says_who_asks_for_what_and_until_when(browser, developer, page_text):
    answer = browser.get(asked(), headers={"User-Agent": "Mozilla/5.0 (X11; Linux) Firefox/130.0"})

    text = page_text(answer)
    assert answer.status_code == 200
    assert "botocore-client-northwind unverified" in text
    assert "1 role in 1 account" in text and "Developer" in text
    assert "Firefox on Linux at 127.0.0.1" in text
    assert not Terminal.objects.exists()


def test_the_page_counts_what_the_program_gets_and_nothing_else(
    browser, developer, group, payments, page_text
):
    make.mapping(group, make.role("Auditor", of=payments), allow_keys=False)
    make.mapping(group, make.role("OnCall", of=payments), require_mfa=True)
    make.mapping(group, make.role("Operator", of=payments), networks=["192.0.2.0/24"])

    text = page_text(browser.get(asked()))

    assert "Get keys for 1 role in 1 account" in text
    assert "and for 1 more when its conditions are met" in text
    assert "Auditor" not in text and "OnCall" not in text


def test_who_gets_no_keys_is_told_so(browser, page_text):
    assert "no role of yours gives keys" in page_text(browser.get(asked()))


def test_yes_sends_a_code_to_the_program_that_asked(browser, developer, ada):
    registration = registered()
    page = asked(registration)

    answer = browser.post(page, {"answer": "yes"})

    assert answer.status_code == 302
    back = urlsplit(answer["Location"])
    sent = parse_qs(back.query)
    assert f"{back.scheme}://{back.netloc}{back.path}" == BACK
    assert sent["state"] == ["8b0ff1a2-state"]
    assert "no-store" in answer["Cache-Control"]
    exchanged = services.exchange_code(
        sent["code"][0],
        client_digest=registration.digest,
        redirect_uri=BACK,
        verifier=VERIFIER,
        now=timezone.now(),
    )
    assert (exchanged.person, exchanged.flow) == (ada, "browser")
    assert AuditEvent.objects.filter(kind="terminal.let_in").count() == 1


def test_the_page_warns_of_handing_on_where_it_leads(browser, developer, page_text):
    assert "Give that address to nobody" in page_text(browser.get(asked()))


def test_no_lets_nothing_in_and_offers_the_way_back(browser, developer, page_text):
    answer = browser.post(asked(), {"answer": "no"})

    assert answer.status_code == 200
    assert "Not let in" in page_text(answer)
    link = re.search(r'href="(http://127[^"]+)"', answer.content.decode())[1].replace("&amp;", "&")
    assert parse_qs(urlsplit(link).query) == {
        "error": ["access_denied"],
        "state": ["8b0ff1a2-state"],
    }
    assert not Terminal.objects.exists()


def test_the_form_of_the_page_may_lead_to_that_program_and_no_other(browser, developer):
    policy = browser.get(asked())["Content-Security-Policy"]

    actions = re.search(r"form-action ([^;]+)", policy)[1].split()
    assert "http://127.0.0.1:39953" in actions
    assert [one for one in actions if one.startswith("http:")] == ["http://127.0.0.1:39953"]


def test_nothing_on_the_page_is_sent_by_itself(browser, developer):
    page = browser.get(asked()).content.decode()

    assert "data-send-at-once" not in page and "http-equiv" not in page
    assert "autofocus" not in page


WRONG = {
    "an unknown client": {"client_id": "made-up"},
    "no client": {"client_id": None},
    "another host": {"redirect_uri": "http://evil.example/oauth/callback"},
    "a host that begins well": {"redirect_uri": "http://127.0.0.1.evil.example:1/oauth/callback"},
    "a user name": {"redirect_uri": "http://127.0.0.1:1@evil.example/oauth/callback"},
    "a name for loopback": {"redirect_uri": "http://localhost:39953/oauth/callback"},
    "another path": {"redirect_uri": "http://127.0.0.1:39953/other"},
    "another scheme": {"redirect_uri": "https://127.0.0.1:39953/oauth/callback"},
    "a query": {"redirect_uri": BACK + "?x=1"},
    "a fragment": {"redirect_uri": BACK + "#x"},
    "a line break": {"redirect_uri": BACK + "\r\nX: y"},
    "an address that was not registered": {"redirect_uri": "http://[::1]:39953/oauth/callback"},
    "no address": {"redirect_uri": None},
    "no proof key": {"code_challenge": None},
    "a plain proof key": {"code_challenge_method": "plain"},
    "no method": {"code_challenge_method": None},
    "the method of another protocol": {"code_challenge_method": "SHA-256"},
    "a short proof key": {"code_challenge": "abc"},
    "the implicit grant": {"response_type": "token"},
    "no state": {"state": None},
    "a state with a line break": {"state": "a\nb"},
    "a state without end": {"state": "a" * 600},
}


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG.keys())
@pytest.mark.parametrize("who", ["a stranger", "somebody"])
def test_what_cannot_be_trusted_is_answered_here_and_never_by_a_redirect(
    client, browser, page_text, method, changes, who
):
    asks = browser if who == "somebody" else client

    answer = getattr(asks, method)(asked(**changes), {"answer": "yes"} if method == "post" else {})

    assert answer.status_code == 400
    assert "Location" not in answer
    assert "This sign-in cannot go on" in page_text(answer)
    assert "evil.example" not in answer.content.decode()
    assert not Terminal.objects.exists()


def test_saying_something_twice_is_no_way_around_a_check(browser):
    twice = asked() + "&redirect_uri=http%3A%2F%2Fevil.example%2Foauth%2Fcallback"

    assert browser.get(twice).status_code == 400
    assert browser.post(twice, {"answer": "yes"}).status_code == 400


def test_a_client_of_the_device_grant_does_not_come_in_here(browser):
    device = registered(grantTypes=[registrations.DEVICE_CODE])

    assert browser.get(asked(device)).status_code == 400


def test_a_registration_that_is_over_is_told_what_to_delete(browser, page_text):
    old = registrations.register(
        {
            "clientName": "old",
            "clientType": "public",
            "grantTypes": ["authorization_code"],
            "redirectUris": ["http://127.0.0.1/oauth/callback"],
        },
        now=timezone.now() - timedelta(days=91),
    )[0]

    assert "~/.aws/sso/cache" in page_text(browser.get(asked(old)))


def test_somebody_who_is_not_signed_in_comes_back_to_this_very_page(client):
    page = asked(registered("x" * 100, scopes=["sso:account:access", "codewhisperer:completions"]))

    answer = client.get(page + "&unknown=1")

    assert answer.status_code == 302 and answer["Location"].startswith("/sign-in/?")
    token = parse_qs(urlsplit(answer["Location"]).query)["to"][0]
    assert find(token) == page


def test_a_yes_without_a_session_lets_nothing_in(client):
    answer = client.post(asked(), {"answer": "yes"})

    assert answer.status_code == 302 and answer["Location"].startswith("/sign-in/?")
    assert not Terminal.objects.exists()


def test_another_site_cannot_say_yes(ada, developer):
    strict = sign_in(ada, enforce_csrf_checks=True)

    assert strict.post(asked(), {"answer": "yes"}).status_code == 403
    for site in ("cross-site", "same-site", "none"):
        lax = sign_in(ada)
        answer = lax.post(asked(), {"answer": "yes"}, headers={"Sec-Fetch-Site": site})
        assert answer.status_code == 403
    assert not Terminal.objects.exists()


def test_a_policy_says_no_with_a_reference(browser, developer, page_text):
    TerminalPolicy.objects.create(enabled=False)

    assert "Let it in" not in page_text(browser.get(asked()))
    answer = browser.post(asked(), {"answer": "yes"})

    assert answer.status_code == 403
    assert "Your administrators do not allow AWS CLIs" in page_text(answer)
    assert "Reference" in page_text(answer)
    assert 'class="button primary" href="/">Show my roles</a>' in answer.content.decode()
    assert not Terminal.objects.exists()


def test_a_client_s_name_is_shown_as_text(browser, developer):
    answer = browser.get(asked(registered("<b>Acme</b> \u202eofficial")))

    page = answer.content.decode()
    assert "&lt;b&gt;Acme&lt;/b&gt;" in page and "\u202e" not in page


def test_what_is_let_in_ends_no_later_than_the_policy_says(browser, developer):
    TerminalPolicy.objects.create(longest_seconds=3600)

    browser.post(asked(), {"answer": "yes"})

    terminal = Terminal.objects.get()
    assert terminal.ends_at - terminal.created_at == timedelta(hours=1)


def test_what_is_let_in_is_of_the_line_of_the_browser(browser, developer, ada):
    browser.post(asked(), {"answer": "yes"})

    assert Terminal.objects.get().line == browser_session.line_of(browser.session) != ""


def test_the_other_loopback_works_as_well(browser, developer):
    registration = registered(redirectUris=["http://[::1]/oauth/callback"])
    page = asked(registration, redirect_uri="http://[::1]:40000/oauth/callback")

    answer = browser.post(page, {"answer": "yes"})

    assert answer["Location"].startswith("http://[::1]:40000/oauth/callback?code=")


def test_the_break_glass_account_lets_nothing_in(client):
    from tests.accounts import web
    from tests.accounts.test_break_glass import break_glass

    password = break_glass()
    local = web.browser()
    local.post("/sign-in/local/", {"login": "break-glass", "password": password}, secure=True)

    local.post(asked(), {"answer": "yes"}, secure=True)

    assert not Terminal.objects.exists()


def test_the_page_has_no_sensitive_roles_left_out(browser, group, payments, page_text):
    """What comes by a browser of the same computer gets what the person has."""
    make.mapping(group, make.role("Treasurer", of=payments, sensitive=True))

    assert "Treasurer" in page_text(browser.get(asked()))
