"""/v1/authorize: for which role `aws login` is let in, what the person is told, and where the answer goes."""

from __future__ import annotations

import base64
import hashlib
import re
import uuid
from datetime import timedelta
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from django.utils import timezone
from lxml import html

from accounts.places import find
from broker.audit.models import AuditEvent
from broker.awssso import rules, services, signin
from broker.awssso.models import Terminal, TerminalPolicy, TerminalToken
from broker.entitlements.models import AwsRole, Mapping
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
BACK = "http://127.0.0.1:40127/oauth/callback"
THERE = "https://daypass.test/v1/sessions/confirmation"
STATE = "0b9c2f1e-5a3d-4d8a-9f58-2f9a3b1c7d10"
REMOTE = {"client_id": signin.CROSS_DEVICE, "redirect_uri": THERE}


def asked(extra: str = "", **changes: str | None) -> str:
    """The address that `aws login` opens."""
    query = {
        "response_type": "code",
        "client_id": signin.SAME_DEVICE,
        "state": STATE,
        "code_challenge_method": "SHA-256",
        "scope": "openid",
        "redirect_uri": BACK,
        "code_challenge": CHALLENGE,
        **changes,
    }
    return f"/v1/authorize?{urlencode({k: v for k, v in query.items() if v is not None})}{extra}"


def exchanged(code: str, *, client_id: str = signin.SAME_DEVICE, back: str = BACK) -> Terminal:
    return services.exchange_code(
        code,
        client_digest=rules.digest(client_id),
        redirect_uri=back,
        verifier=VERIFIER,
        now=timezone.now(),
    )


def links(answer) -> list[str]:
    return html.document_fromstring(answer.content.decode()).xpath("//main//a/@href")


# --- Choosing


def test_the_roles_are_shown_with_their_accounts_and_nothing_is_let_in(
    browser, developer, page_text
):
    answer = browser.get(asked())

    text = page_text(answer)
    assert answer.status_code == 200
    assert "Which role for aws login?" in text and "unverified" in text
    assert "Payments production" in text and "111122223333" in text and "Developer" in text
    assert not Terminal.objects.exists()


def test_choosing_leads_to_a_question_that_names_everything(browser, developer, page_text):
    (choose,) = [link for link in links(browser.get(asked())) if "role=" in link]

    text = page_text(browser.get(choose))

    assert "Let aws login work as Developer?" in text
    assert "Payments production 111122223333" in text
    assert "unverified" in text and "at 127.0.0.1" in text
    assert "This is a production account." in text
    assert "Give that address to nobody" in text
    assert not Terminal.objects.exists()


def test_roles_without_keys_are_shown_with_the_reason_and_cannot_be_chosen(
    browser, group, payments, page_text
):
    console = make.role("Auditor", of=payments)
    make.mapping(group, console, allow_keys=False)

    answer = browser.get(asked())

    assert "Auditor" in page_text(answer)
    assert html.document_fromstring(answer.content.decode()).xpath(
        "//p[@class='role-trouble']/text()"
    )
    assert not [link for link in links(answer) if "role=" in link]
    refused = browser.post(asked(), {"answer": "yes", "role": str(console.pk)})
    assert refused.status_code == 403
    assert not Terminal.objects.exists()


def test_two_thousand_roles_are_searched_and_paged(browser, group, page_text):
    accounts = [make.account(f"Account {n:02}") for n in range(20)]
    roles = [make.role(f"Role-{n:04}", of=accounts[n % 20]) for n in range(2000)]
    make.mapping(group, *roles)

    first = browser.get(asked())
    second = browser.get(asked("&page=2"))
    last = browser.get(asked("&page=9999999"))
    found = browser.get(asked("&q=role-1234"))

    assert "2,000 roles, page 1 of 40" in page_text(first)
    assert "page 2 of 40" in page_text(second)
    assert last.status_code == 200
    assert "1 role matches" in page_text(found)
    for answer in (first, second, found):
        assert len(answer.content) < 100_000
    assert [link for link in links(first) if "page=2" in link]
    (choose,) = [link for link in links(found) if "role=" in link]
    assert "Let aws login work as Role-1234?" in page_text(browser.get(choose))


def test_the_search_keeps_what_the_program_asked(browser, developer):
    form = html.document_fromstring(browser.get(asked()).content.decode()).xpath("//main//form")[0]

    fields = dict(form.form_values())
    assert fields["state"] == STATE and fields["code_challenge"] == CHALLENGE
    again = browser.get("/v1/authorize", {**fields, "q": "nowhere"})
    assert b"No role matches" in again.content


def test_the_number_of_roles_follows_the_search(browser, developer):
    page = html.document_fromstring(browser.get(asked()).content.decode())

    (search,) = page.xpath("//form[@role='search']")
    assert search.get("hx-select-oob") == "#count:innerHTML"
    assert page.get_element_by_id("count").text_content() == "1 role"


def test_whoever_has_no_role_is_told_so(page_text):
    text = page_text(sign_in(make.person("grace", at=make.provider("acme"))).get(asked()))

    assert "You have no AWS roles yet" in text
    assert "Why I have none" in text
    assert "Go on only if" not in text


# --- Yes and no


def test_yes_sends_a_code_to_the_program_on_this_computer(browser, developer, ada):
    answer = browser.post(asked(), {"answer": "yes", "role": str(developer.pk)})

    assert answer.status_code == 302
    back = urlsplit(answer["Location"])
    sent = parse_qs(back.query)
    assert f"{back.scheme}://{back.netloc}{back.path}" == BACK
    assert sent["state"] == [STATE]
    assert "no-store" in answer["Cache-Control"]
    assert answer["Referrer-Policy"] == "no-referrer"
    terminal = exchanged(sent["code"][0])
    assert (terminal.person, terminal.kind, terminal.flow) == (ada, "login", "browser")
    assert terminal.role == developer
    assert AuditEvent.objects.get(kind="terminal.let_in").data["role"] == str(developer.pk)


@pytest.mark.parametrize("answered", [{"answer": "no"}, {}, {"answer": "YES"}])
def test_anything_but_yes_lets_nothing_in_and_offers_the_way_back(
    browser, developer, page_text, answered
):
    answer = browser.post(asked(), {**answered, "role": str(developer.pk)})

    assert answer.status_code == 200
    assert "Not let in" in page_text(answer)
    (link,) = [one for one in links(answer) if one.startswith("http://127")]
    assert parse_qs(urlsplit(link).query) == {"error": ["access_denied"], "state": [STATE]}
    assert not Terminal.objects.exists()


def test_yes_without_a_role_only_asks_which(browser, developer, page_text):
    for role in ("", "Developer", "0"):
        answer = browser.post(asked(), {"answer": "yes", "role": role})

        assert "Which role for aws login?" in page_text(answer)
    assert not Terminal.objects.exists()


def test_a_role_of_others_is_not_found_in_either_way(browser, developer, payments):
    other = make.role("Admin", of=payments)
    make.mapping(make.group("admins"), other)

    for role in (str(other.pk), str(uuid.uuid4())):
        assert browser.get(asked(f"&role={role}")).status_code == 404
        assert browser.post(asked(), {"answer": "yes", "role": role}).status_code == 404
    assert not Terminal.objects.exists()


def test_what_is_refused_just_now_says_why_and_leads_to_a_new_sign_in(
    browser, developer, page_text
):
    Mapping.objects.update(require_mfa=True)

    answer = browser.get(asked(f"&role={developer.pk}"))

    assert answer.status_code == 403
    assert "aws login gets no keys for Developer" in page_text(answer)
    assert "Production Developer in Payments production" in page_text(answer)
    assert "Sign in with MFA" in page_text(answer)
    (shown,) = [link for link in links(answer) if link.startswith("/roles/")]
    assert browser.get(shown).status_code == 200
    (again,) = [link for link in links(answer) if link.startswith("/sign-in/")]
    query = parse_qs(urlsplit(again).query)
    assert query["fresh"] == ["1"]
    assert find(query["to"][0]) == asked(f"&role={developer.pk}")
    assert browser.post(asked(), {"answer": "yes", "role": str(developer.pk)}).status_code == 403
    assert not Terminal.objects.exists()


def test_the_form_of_the_page_may_lead_to_that_program_and_no_other(browser, developer):
    policy = browser.get(asked(f"&role={developer.pk}"))["Content-Security-Policy"]

    actions = re.search(r"form-action ([^;]+)", policy)[1].split()
    assert [one for one in actions if one.startswith("http:")] == ["http://127.0.0.1:40127"]


def test_no_other_page_may_lead_there(browser, developer):
    for page in (asked(), asked(**REMOTE), asked(f"&role={developer.pk}", **REMOTE)):
        assert "http:" not in browser.get(page)["Content-Security-Policy"]


def test_a_form_of_another_site_lets_nothing_in(ada, developer):
    browser = sign_in(ada, enforce_csrf_checks=True)

    answer = browser.post(asked(), {"answer": "yes", "role": str(developer.pk)})

    assert answer.status_code == 403
    assert not Terminal.objects.exists()


def test_nothing_on_the_pages_is_sent_by_itself(browser, developer):
    for page in (asked(), asked(f"&role={developer.pk}"), asked(f"&role={developer.pk}", **REMOTE)):
        shown = browser.get(page).content.decode()
        assert "data-send-at-once" not in shown and "http-equiv" not in shown
        assert "autofocus" not in shown


def test_the_terminal_ends_no_later_than_administrators_say(browser, developer):
    TerminalPolicy.objects.create(longest_seconds=1800)

    browser.post(asked(), {"answer": "yes", "role": str(developer.pk)})

    assert Terminal.objects.get().ends_at <= timezone.now() + timedelta(seconds=1800)


def test_where_terminals_are_switched_off_nothing_is_let_in(browser, developer, page_text):
    TerminalPolicy.objects.create(enabled=False)

    yes = {"answer": "yes", "role": str(developer.pk)}
    for answer in (browser.get(asked()), browser.post(asked(), yes)):
        assert answer.status_code == 403
        assert "do not allow" in page_text(answer)
    assert not Terminal.objects.exists()


# --- Who is not signed in


def test_a_stranger_signs_in_first_and_comes_back(client):
    answer = client.get(asked(), secure=True)

    assert answer.status_code == 302
    query = parse_qs(urlsplit(answer["Location"]).query)
    assert find(query["to"][0]) == asked()
    assert "fresh" not in query


def test_for_another_computer_the_sign_in_has_to_be_new(client):
    query = parse_qs(urlsplit(client.get(asked(**REMOTE), secure=True)["Location"]).query)

    assert query["fresh"] == ["1"]


WRONG = {
    "another client": {"client_id": "arn:aws:signin:::devtools/other"},
    "no client": {"client_id": None},
    "another host": {"redirect_uri": "http://evil.example/oauth/callback"},
    "a host that begins well": {"redirect_uri": "http://127.0.0.1.evil.example:1/oauth/callback"},
    "a user name": {"redirect_uri": "http://127.0.0.1:1@evil.example/oauth/callback"},
    "a name for loopback": {"redirect_uri": "http://localhost:40127/oauth/callback"},
    "another path": {"redirect_uri": "http://127.0.0.1:40127/other"},
    "another scheme": {"redirect_uri": "https://127.0.0.1:40127/oauth/callback"},
    "a query": {"redirect_uri": BACK + "?x=1"},
    "a fragment": {"redirect_uri": BACK + "#x"},
    "a line break": {"redirect_uri": BACK + "\r\nX: y"},
    "no address": {"redirect_uri": None},
    "the page of the other client": {"redirect_uri": THERE},
    "the address of the other client": {"client_id": signin.CROSS_DEVICE},
    "the page of another host": {
        "client_id": signin.CROSS_DEVICE,
        "redirect_uri": "https://evil.example/v1/sessions/confirmation",
    },
    "the page with a query": {"client_id": signin.CROSS_DEVICE, "redirect_uri": THERE + "?x=1"},
    "no proof key": {"code_challenge": None},
    "a plain proof key": {"code_challenge_method": "plain"},
    "no method": {"code_challenge_method": None},
    "the method of another protocol": {"code_challenge_method": "S256"},
    "a short proof key": {"code_challenge": "abc"},
    "the implicit grant": {"response_type": "token"},
    "another scope": {"scope": "openid email"},
    "no state": {"state": None},
    "a short state": {"state": "1"},
    "a state with a line break": {"state": "abcdefgh\n"},
    "a state with markup": {"state": "<b>abcdefgh</b>"},
    "a state without end": {"state": "a" * 600},
}


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG.keys())
def test_what_cannot_be_trusted_is_answered_here_and_never_by_a_redirect(
    client, browser, developer, page_text, method, changes
):
    for who in (client, browser):
        data = {"answer": "yes", "role": str(developer.pk)} if method == "post" else {}
        path = asked(**changes)
        answer = (
            who.post(path, data, secure=True) if method == "post" else who.get(path, secure=True)
        )

        assert answer.status_code == 400
        assert "cannot go on" in page_text(answer)
        assert "evil.example" not in answer.content.decode()
    assert not Terminal.objects.exists()


@pytest.mark.parametrize("name", signin.PARAMETERS)
def test_an_address_that_says_something_twice_is_not_taken(browser, developer, name):
    value = parse_qs(urlsplit(asked()).query)[name][0]

    assert browser.get(asked("&" + urlencode({name: value}))).status_code == 400


# --- Another computer


def test_the_code_for_another_computer_is_shown_once_and_stands_in_no_address(
    browser, developer, ada, page_text
):
    answer = browser.post(asked(**REMOTE), {"answer": "yes", "role": str(developer.pk)})

    assert answer.status_code == 200
    assert "no-store" in answer["Cache-Control"]
    assert answer["Referrer-Policy"] == "no-referrer"
    text = page_text(answer)
    assert "Give this code to nobody." in text and "for 5 min." in text
    assert "Developer in Payments production Production." in text
    assert b'data-colour="red" data-production' in answer.content
    shown = html.document_fromstring(answer.content.decode()).xpath("//pre[@data-text]/text()")[0]
    carried = parse_qs(base64.b64decode(shown, validate=True).decode())
    assert carried["state"] == [STATE]
    terminal = exchanged(carried["code"][0], client_id=signin.CROSS_DEVICE, back=THERE)
    assert (terminal.person, terminal.flow, terminal.role) == (ada, "device", developer)


def test_the_code_for_another_computer_lives_long_enough_to_be_carried(browser, developer):
    browser.post(asked(**REMOTE), {"answer": "yes", "role": str(developer.pk)})

    kept = TerminalToken.objects.get(kind="code")
    assert kept.expires_at - kept.created_at == timedelta(minutes=5)


@pytest.mark.parametrize("method", ["get", "post"])
def test_an_old_sign_in_lets_no_other_computer_in(ada, developer, page_text, method):
    browser = sign_in(ada, at=timezone.now() - timedelta(minutes=6))

    answer = getattr(browser, method)(
        asked(**REMOTE), {"answer": "yes", "role": str(developer.pk)} if method == "post" else None
    )

    assert "Sign in once more" in page_text(answer)
    (again,) = [link for link in links(answer) if link.startswith("/sign-in/")]
    query = parse_qs(urlsplit(again).query)
    assert query["fresh"] == ["1"] and find(query["to"][0]) == asked(**REMOTE)
    assert not Terminal.objects.exists()


def test_an_old_sign_in_is_good_enough_for_this_computer(ada, developer):
    browser = sign_in(ada, at=timezone.now() - timedelta(hours=3))

    answer = browser.post(asked(), {"answer": "yes", "role": str(developer.pk)})

    assert answer.status_code == 302


def test_the_pages_for_another_computer_warn_of_links_that_were_sent(browser, developer, page_text):
    for page in (asked(**REMOTE), asked(f"&role={developer.pk}", **REMOTE)):
        assert "If somebody sent you the link to this page, close it." in page_text(
            browser.get(page)
        )


def test_sensitive_roles_are_not_for_another_computer(browser, developer, page_text):
    AwsRole.objects.update(sensitive=True)

    answer = browser.get(asked(**REMOTE))

    assert "What to do Developer in Payments production" in page_text(answer)
    assert "never given to another computer by a code" in page_text(answer)
    (way_on,) = [link for link in links(answer) if "role=" in link]
    assert way_on == asked(f"&role={developer.pk}", **REMOTE)
    refused = browser.get(way_on)
    assert refused.status_code == 403
    assert "Use it in the console" in page_text(refused)
    yes = {"answer": "yes", "role": str(developer.pk)}
    assert browser.post(asked(**REMOTE), yes).status_code == 403
    assert not Terminal.objects.exists()
    assert browser.post(asked(), yes).status_code == 302


@pytest.mark.parametrize(
    "policy", [{"device_codes": False}, {"device_networks": ["198.51.100.0/24"]}]
)
def test_administrators_forbid_other_computers_and_it_is_said_at_once(
    browser, developer, page_text, policy
):
    TerminalPolicy.objects.create(**policy)

    answer = browser.get(asked(**REMOTE))

    assert answer.status_code == 403
    assert "administrators" in page_text(answer)
    yes = {"answer": "yes", "role": str(developer.pk)}
    assert browser.post(asked(**REMOTE), yes).status_code == 403
    assert not Terminal.objects.exists()
    assert browser.post(asked(), yes).status_code == 302


def test_the_address_of_the_code_shows_no_code(client, page_text):
    answer = client.get("/v1/sessions/confirmation?code=abc&state=def", secure=True)

    assert answer.status_code == 200
    assert "There is no code here" in page_text(answer)
    assert b"abc" not in answer.content


def test_what_aws_login_was_let_in_for_stands_in_the_portal(browser, developer, page_text):
    browser.post(asked(), {"answer": "yes", "role": str(developer.pk)})

    text = page_text(browser.get("/terminal/"))

    assert "aws login" in text and "Developer in Payments production" in text
