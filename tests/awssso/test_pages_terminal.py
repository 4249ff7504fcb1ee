"""The page Terminal: what a person let in, ending it, and tokens for scripts."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.identity import proof_as_json
from broker.audit.models import AuditEvent
from broker.awssso import services
from broker.awssso.models import Terminal, TerminalPolicy, TerminalToken
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


def let_in(person, **fields) -> Terminal:
    now = timezone.now()
    fields.setdefault("kind", "sso")
    fields.setdefault("flow", "browser")
    fields.setdefault("client_name", "botocore-client-laptop")
    fields.setdefault("ends_at", now + timedelta(hours=8))
    fields.setdefault("asked_from", "192.0.2.7")
    fields.setdefault("proof", proof_as_json(make.proof(of=person.provider)))
    return Terminal.objects.create(person=person, epoch=person.epoch, **fields)


def test_live_terminals_come_first_with_where_and_when(ada, browser, page_text):
    now = timezone.now()
    let_in(
        ada,
        client_name="botocore-client-server",
        flow="device",
        used_at=now - timedelta(minutes=3),
        used_from="203.0.113.9",
        used_by="aws-cli/2.38.1 md/awscrt#0.38.1 ua/2.1 os/linux#6.1",
    )
    let_in(ada, client_name="old-one", ended_at=now, ended_because="reused")

    text = page_text(browser.get("/terminal/"))

    assert text.index("Let in now") < text.index("botocore-client-server") < text.index("Ended")
    assert "unverified" in text and "by code" in text and "7 h 59 min left" in text
    assert "Used 3 min ago from 203.0.113.9 by AWS CLI 2.38.1 on Linux" in text
    assert text.index("Ended") < text.index("old-one") < text.index("came twice")


def test_production_is_marked_where_aws_login_was_let_in_for_a_role(ada, browser, developer):
    let_in(ada, kind="login", client_name="aws login", role=developer)
    let_in(ada)

    shown = browser.get("/terminal/").content.decode()

    assert shown.count('<li class="session" data-colour="red">') == 1
    assert shown.count('<li class="session">') == 1
    assert shown.count('<span class="role-production">Production</span>') == 1


def test_the_page_costs_no_more_with_more_terminals(
    ada, browser, developer, django_assert_num_queries
):
    let_in(ada, kind="login", client_name="aws login", role=developer)
    browser.get("/terminal/")
    with CaptureQueriesContext(connection) as few:
        browser.get("/terminal/")
    for number in range(5):
        account = make.account(environment=make.environment(f"Stage {number}"))
        let_in(ada, kind="login", client_name="aws login", role=make.role(of=account))

    with django_assert_num_queries(len(few)):
        browser.get("/terminal/")


def test_without_terminals_the_page_says_how_there_will_be_one(browser, page_text):
    assert "run aws sso login there" in page_text(browser.get("/terminal/"))


def test_the_page_is_in_the_navigation_and_above_the_keys(browser):
    page = browser.get("/terminal/").content.decode()

    assert '<a href="/terminal/" aria-current="page">Terminal</a>' in page
    assert '<a href="/terminal/">Terminal</a>' in browser.get("/").content.decode()


def test_ending_says_first_what_cannot_be_called_back(ada, browser, page_text):
    mine = let_in(ada)

    text = page_text(browser.get(f"/terminal/{mine.id}/end/"))

    assert "It gets no more keys, from this moment on" in text
    assert "already has keep working until they expire" in text
    mine.refresh_from_db()
    assert mine.ended_at is None


def test_a_terminal_ends_by_a_post(ada, browser, page_text):
    mine = let_in(ada)

    answer = browser.post(f"/terminal/{mine.id}/end/", headers={"HX-Request": "true"})

    mine.refresh_from_db()
    assert mine.ended_because == "person"
    assert "Terminal ended" in page_text(answer)
    assert "<html" not in answer.content.decode()
    event = AuditEvent.objects.get(kind="terminal.ended")
    assert (event.actor_id, event.subject_id) == (str(ada.pk), str(mine.id))


@pytest.mark.parametrize("alive", [True, False])
def test_a_terminal_that_was_not_me_ends_and_is_told_to_administrators(
    ada, browser, page_text, alive
):
    over = {} if alive else {"ended_at": timezone.now(), "ended_because": "client"}
    mine = let_in(ada, **over)

    answer = browser.post(f"/terminal/{mine.id}/end/", {"not_me": "1"})

    mine.refresh_from_db()
    assert mine.ended_because == ("person" if alive else "client")
    assert "Your administrators are told" in page_text(answer)
    event = AuditEvent.objects.get(kind="terminal.disowned")
    assert event.subject_id == str(mine.id)
    assert event.data["asked_from"] == "192.0.2.7"


def test_nobody_sees_or_ends_what_somebody_else_let_in(browser, page_text):
    theirs = let_in(make.person("eve"), client_name="eves-laptop")

    assert "eves-laptop" not in page_text(browser.get("/terminal/"))
    assert browser.get(f"/terminal/{theirs.id}/end/").status_code == 404
    assert browser.post(f"/terminal/{theirs.id}/end/").status_code == 404
    assert browser.post(f"/terminal/{theirs.id}/end/", {"not_me": "1"}).status_code == 404
    theirs.refresh_from_db()
    assert theirs.ended_at is None
    assert not AuditEvent.objects.filter(kind__startswith="terminal").exists()


def test_ending_twice_is_harmless(ada, browser, page_text):
    mine = let_in(ada, ended_at=timezone.now(), ended_because="person")

    assert "It was over already" in page_text(browser.post(f"/terminal/{mine.id}/end/"))


def test_another_site_ends_and_makes_nothing(ada, developer):
    mine = let_in(ada)
    strict = sign_in(ada, enforce_csrf_checks=True)

    assert strict.post(f"/terminal/{mine.id}/end/").status_code == 403
    assert strict.post("/terminal/token/", {"label": "x", "seconds": "900"}).status_code == 403
    mine.refresh_from_db()
    assert mine.ended_at is None
    assert Terminal.objects.count() == 1


def test_what_nobody_came_for_is_not_kept_as_let_in(ada, browser, page_text):
    """Somebody said yes when the program had been stopped already."""
    long_ago = timezone.now() - timedelta(minutes=16)
    orphan = let_in(ada, client_name="stopped", created_at=long_ago)
    used = let_in(ada, client_name="used", created_at=long_ago)
    services.give_tokens(used, now=timezone.now())
    script = let_in(ada, kind="script", flow="portal", label="script", created_at=long_ago)
    young = let_in(ada, client_name="young")

    services.expire_due(timezone.now())

    live = Terminal.objects.filter(ended_at__isnull=True)
    assert set(live) == {used, script, young}
    orphan.refresh_from_db()
    assert orphan.ended_because == "expired"


# --- Tokens for scripts


def token_of(answer) -> str:
    return re.search(r"data-text[^>]*>([^<]+)</pre>", answer.content.decode())[1]


def test_a_token_is_shown_once_and_hidden_until_asked_for(ada, browser, developer, page_text):
    answer = browser.post(
        "/terminal/token/", {"label": "nightly", "seconds": "3600", "role": str(developer.id)}
    )

    assert answer.status_code == 200
    assert "no-store" in answer["Cache-Control"]
    token = token_of(answer)
    assert token.startswith("daypass_script_")
    hidden = re.search(r"data-masked[^>]*>([^<]+)</pre>", answer.content.decode())[1]
    assert token[20:] not in hidden
    text = page_text(answer)
    assert "nightly" in text and "Developer in Payments production" in text
    found = services.bearer(
        token, {TerminalToken.Kind.SCRIPT}, services.Asker("192.0.2.9"), now=timezone.now()
    )
    assert found.principal.person_id == ada.pk
    assert found.terminal.role_id == developer.id
    assert found.terminal.ends_at - found.terminal.created_at == timedelta(hours=1)
    listed = browser.get("/terminal/").content.decode()
    assert token not in listed and "nightly" in listed


def test_a_token_may_be_for_all_roles(browser, developer, page_text):
    answer = browser.post("/terminal/token/", {"label": "ci", "seconds": "900", "role": ""})

    assert "for all of your roles" in page_text(answer)
    assert Terminal.objects.get().role_id is None


def test_no_token_is_for_a_role_that_is_not_theirs(browser, developer, page_text):
    other = make.role("Treasurer")

    answer = browser.post(
        "/terminal/token/", {"label": "x", "seconds": "900", "role": str(other.id)}
    )

    assert answer.status_code == 400
    assert "You have no such role" in page_text(answer)
    assert not Terminal.objects.exists()


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"label": "", "seconds": "900"}, "Give it a name"),
        ({"label": "x" * 65, "seconds": "900"}, "at most 64 characters"),
    ],
)
def test_a_form_that_is_wrong_says_where(browser, developer, page_text, sent, said):
    answer = browser.post("/terminal/token/", sent)

    assert answer.status_code == 400
    assert said in page_text(answer)
    assert "<title>Error: Terminal" in answer.content.decode()
    assert 'aria-invalid="true" autofocus>' in answer.content.decode()
    assert not Terminal.objects.exists()


def test_a_token_lives_no_longer_than_the_policy_says(browser, developer, page_text):
    TerminalPolicy.objects.create(longest_seconds=1800)

    offered = re.search(
        r'name="seconds">(.*?)</select>', browser.get("/terminal/").content.decode(), re.DOTALL
    )[1]
    browser.post("/terminal/token/", {"label": "x", "seconds": "604800"})

    assert re.findall(r'value="(\d+)"', offered) == ["1800", "900"]
    made = Terminal.objects.get()
    assert made.ends_at - made.created_at == timedelta(minutes=30)


def test_administrators_may_switch_tokens_off(browser, developer, page_text):
    TerminalPolicy.objects.create(script_tokens=False)

    assert "Make a token" not in page_text(browser.get("/terminal/"))
    answer = browser.post("/terminal/token/", {"label": "x", "seconds": "900"})
    assert answer.status_code == 403
    assert "do not allow tokens for scripts" in page_text(answer)


def test_administrators_may_switch_all_of_it_off(browser, developer, page_text):
    TerminalPolicy.objects.create(enabled=False)

    text = page_text(browser.get("/terminal/"))

    assert "Your administrators have switched this off" in text
    assert "as below" not in text
    assert "Make a token" not in text


def test_signing_out_ends_what_was_let_in_from_that_browser(ada, browser, developer):
    browser.post("/terminal/token/", {"label": "x", "seconds": "900"})

    browser.post("/sign-out/")

    assert Terminal.objects.get().ended_because == "signed_out"


def test_whoever_has_no_role_is_told_why_the_file_is_empty(ada, browser, page_text):
    assert "no profile is in this file" in page_text(browser.get("/terminal/"))


def test_whoever_has_a_role_is_not(browser, developer, page_text):
    assert "no profile is in this file" not in page_text(browser.get("/terminal/"))


def test_every_page_has_one_heading_and_labels(ada, browser, developer):
    from lxml import html

    mine = let_in(ada)
    pages = [
        browser.get("/terminal/"),
        browser.get(f"/terminal/{mine.id}/end/"),
        browser.get("/device"),
        browser.get("/authorize"),
        browser.post("/terminal/token/", {"label": "x", "seconds": "900"}),
    ]

    for answer in pages:
        tree = html.document_fromstring(answer.content.decode())
        assert len(tree.xpath("//h1")) == 1
        labelled = set(tree.xpath("//label/@for"))
        for field in tree.xpath("//input[not(@type='hidden')]|//select|//textarea"):
            assert field.get("id") in labelled, html.tostring(field)
        for control in tree.xpath("//button|//a"):
            assert control.text_content().strip() or control.get("aria-label")
        ids = tree.xpath("//@id")
        assert len(ids) == len(set(ids))
        assert "unsafe" not in answer["Content-Security-Policy"]
        assert "no-store" in answer["Cache-Control"]
