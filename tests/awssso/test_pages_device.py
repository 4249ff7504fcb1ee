"""/device: a code is typed by whoever reads it, seen for what it is, and answered after a fresh sign-in."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from broker.audit.models import AuditEvent
from broker.awssso import registrations, services
from broker.awssso.models import DeviceRequest, Terminal, TerminalPolicy
from broker.awssso.services import Asker
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

SERVER = Asker(
    "203.0.113.9", "aws-cli/2.38.1 md/awscrt#0.38.1 ua/2.1 os/linux#6.1 lang/python#3.13"
)


@pytest.fixture
def waiting():
    """A computer that shows a code: (user code, device code, registration)."""
    now = timezone.now()
    registration, _ = registrations.register(
        {"clientName": "botocore-client-server", "clientType": "public"}, now=now
    )
    started = services.start_device(registration, SERVER, now=now)
    return started.user_code, started.device_code, registration


def ticket_of(answer) -> str:
    return re.search(r'name="ticket" value="([^"]+)"', answer.content.decode())[1]


def poll(waiting):
    _, device_code, registration = waiting
    return services.poll_device(
        device_code, client_digest=registration.digest, asker=SERVER, now=timezone.now()
    )


def test_a_typed_code_shows_which_computer_it_is(browser, developer, waiting, page_text):
    answer = browser.post("/device", {"user_code": waiting[0].lower().replace("-", " ")})

    text = page_text(answer)
    assert answer.status_code == 200
    assert waiting[0] in text
    assert "botocore-client-server unverified" in text
    assert "203.0.113.9" in text and "AWS CLI 2.38.1 on Linux" in text
    assert "If somebody sent you this code, say no" in text
    assert "It is in another network than this browser" in text
    assert "primary" not in re.search(r"<button[^>]*>Let it in", answer.content.decode())[0]
    assert "1 role in 1 account" in text and "Developer" in text
    assert not Terminal.objects.exists()


def test_the_same_network_is_no_cause_for_alarm(browser, developer, page_text):
    now = timezone.now()
    registration, _ = registrations.register({"clientName": "x", "clientType": "public"}, now=now)
    code = services.start_device(registration, Asker("127.0.0.1"), now=now).user_code

    answer = browser.post("/device", {"user_code": code})

    assert "another network" not in page_text(answer)
    assert "primary" in re.search(r"<button[^>]*>Let it in", answer.content.decode())[0]


def test_yes_lets_that_computer_in_as_whoever_said_it(browser, ada, developer, waiting, page_text):
    shown = browser.post("/device", {"user_code": waiting[0]})

    answer = browser.post("/device", {"ticket": ticket_of(shown), "answer": "yes"})

    assert "It is let in" in page_text(answer)
    terminal = poll(waiting)
    assert f"/terminal/{terminal.id}/end/" in answer.content.decode()
    assert (terminal.person, terminal.flow) == (ada, "device")
    assert (terminal.asked_from, terminal.approved_from) == ("203.0.113.9", "127.0.0.1")
    assert AuditEvent.objects.filter(kind="terminal.let_in").count() == 1


def test_no_uses_the_code_up(browser, developer, waiting, page_text):
    shown = browser.post("/device", {"user_code": waiting[0]})

    answer = browser.post("/device", {"ticket": ticket_of(shown), "answer": "no"})

    assert "its code is used up" in page_text(answer)
    assert DeviceRequest.objects.get().state == "denied"
    again = browser.post("/device", {"ticket": ticket_of(shown), "answer": "yes"})
    assert again.status_code == 400
    assert "Run the command again for a new code." in page_text(again)
    assert 'class="button primary" href="/device">Type the new code' in again.content.decode()
    assert not Terminal.objects.exists()


def test_sensitive_roles_are_left_out_and_said_so(
    browser, developer, group, payments, waiting, page_text
):
    make.mapping(group, make.role("Treasurer", of=payments, sensitive=True))

    text = page_text(browser.post("/device", {"user_code": waiting[0]}))

    assert "Not this sensitive role: Treasurer in Payments production. No code gives it." in text
    assert "1 role in 1 account" in text


def test_the_address_never_fills_a_code_in(browser, developer, waiting):
    answer = browser.get(f"/device?user_code={waiting[0]}")

    assert waiting[0] not in answer.content.decode()
    assert "data-send-at-once" not in answer.content.decode()


def test_nobody_types_a_code_without_a_fresh_sign_in(ada, developer, waiting, page_text):
    stale = sign_in(ada, at=timezone.now() - timedelta(minutes=6))

    for answer in (
        stale.get("/device"),
        stale.post("/device", {"user_code": waiting[0]}),
        stale.post("/device", {"ticket": "x", "answer": "yes"}),
    ):
        assert "Sign in once more" in page_text(answer)
        assert "fresh=1" in answer.content.decode()
        assert "203.0.113.9" not in answer.content.decode()
    assert not Terminal.objects.exists()


def test_a_sign_in_that_grew_old_on_the_page_does_not_count(ada, developer, waiting):
    fresh = sign_in(ada)
    ticket = ticket_of(fresh.post("/device", {"user_code": waiting[0]}))
    kept = fresh.session
    kept["daypass"]["proof"]["at"] -= 301
    kept.save()

    fresh.post("/device", {"ticket": ticket, "answer": "yes"})

    assert DeviceRequest.objects.get().state == "waiting"


def test_where_the_provider_tells_no_time_the_session_has_to_be_young(
    ada, developer, waiting, page_text
):
    untold = sign_in(ada)
    kept = untold.session
    kept["daypass"]["proof"]["at_told"] = False
    kept.save()
    assert "Type the code" in page_text(untold.get("/device"))

    kept["daypass"]["began"] -= 301
    kept.save()
    assert "Sign in once more" in page_text(untold.get("/device"))


def test_a_stranger_signs_in_freshly_first(client):
    answer = client.get("/device")

    assert answer.status_code == 302
    assert answer["Location"].startswith("/sign-in/?") and "fresh=1" in answer["Location"]


@pytest.mark.parametrize("typed", ["", "BCDF", "AEIO-UAEI", "12345678", "BCDF-GHJK-LMNP"])
def test_what_is_no_code_is_said_at_the_field(browser, developer, typed, page_text):
    answer = browser.post("/device", {"user_code": typed})

    assert answer.status_code == 400
    assert "Type the code from your terminal" in page_text(answer)
    assert 'role="alert"><p class="error">' in answer.content.decode()


def test_guessing_ends_after_a_few_wrong_codes(browser, developer, waiting, page_text):
    for _ in range(5):
        assert browser.post("/device", {"user_code": "BCDF-GHJK"}).status_code == 400

    answer = browser.post("/device", {"user_code": waiting[0]})

    assert answer.status_code == 403
    html = answer.content.decode()
    assert "<title>Too many wrong codes · Daypass" in html and "Reference" in page_text(answer)
    assert re.search(r"<h1[^>]*>Too many wrong codes</h1>", html)


def test_a_ticket_is_of_one_person_in_one_browser(browser, ada, developer, group, waiting):
    ticket = ticket_of(browser.post("/device", {"user_code": waiting[0]}))
    eve = make.person("eve", groups=[group])

    for other in (sign_in(eve), sign_in(ada)):
        assert other.post("/device", {"ticket": ticket, "answer": "yes"}).status_code == 400
    assert browser.post("/device", {"ticket": ticket[:-2], "answer": "yes"}).status_code == 400
    assert not Terminal.objects.exists()


def test_another_site_cannot_say_yes_to_a_computer(ada, developer, waiting):
    ticket = ticket_of(sign_in(ada).post("/device", {"user_code": waiting[0]}))
    strict = sign_in(ada, enforce_csrf_checks=True)

    assert strict.post("/device", {"ticket": ticket, "answer": "yes"}).status_code == 403
    assert strict.post("/device", {"user_code": waiting[0]}).status_code == 403


def test_administrators_may_switch_codes_off(browser, developer, waiting, page_text):
    TerminalPolicy.objects.create(device_codes=False)

    for answer in (browser.get("/device"), browser.post("/device", {"user_code": waiting[0]})):
        assert answer.status_code == 403
        assert "do not allow sign-in by device code" in page_text(answer)
        html = answer.content.decode()
        assert "<title>Not allowed · Daypass" in html
        assert '<code class="unbroken">aws sso login</code>' in html and "`" not in html


def test_administrators_may_name_the_networks(browser, developer, waiting, page_text):
    TerminalPolicy.objects.create(device_networks=["192.0.2.0/24"])

    answer = browser.get("/device")

    assert answer.status_code == 403
    assert "127.0.0.1 is in none of them" in page_text(answer)


def test_a_code_is_over_after_its_time(browser, developer, waiting):
    shown = browser.post("/device", {"user_code": waiting[0]})
    DeviceRequest.objects.update(expires_at=timezone.now())

    assert browser.post("/device", {"user_code": waiting[0]}).status_code == 400
    late = browser.post("/device", {"ticket": ticket_of(shown), "answer": "yes"})
    assert late.status_code == 400
    assert not Terminal.objects.exists()
