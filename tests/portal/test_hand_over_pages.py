"""Opening the console and taking keys through the pages: who may, what is answered, and what is never kept."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from broker.audit.models import AuditEvent
from broker.sessions.models import Session
from tests import factories as make
from tests.aws.servers import SECRET, TOKEN, sts_error
from tests.portal.conftest import sign_in

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("signing_keys")]
HTMX = {"HX-Request": "true"}


def audited(reference: str) -> set[str]:
    return set(AuditEvent.objects.filter(reference=reference).values_list("kind", flat=True))


def reference_on(response) -> str:
    html = response.content.decode()
    start = html.index("Reference <code>") + len("Reference <code>")
    return html[start : html.index("</code>", start)]


# ---- The console


def test_one_post_leads_into_the_console_and_is_kept_by_nobody(
    browser, developer, sts_stand_in, signin_stand_in
):
    answer = browser.post(f"/console/{developer.id}/")

    assert answer.status_code == 303
    assert answer["Location"].startswith(signin_stand_in.url)
    assert answer["Cache-Control"] == "no-store, private"
    assert answer["Referrer-Policy"] == "no-referrer"
    assert answer.content == b""
    assert Session.objects.get().state == "active"


def test_the_console_lands_where_the_person_wanted(
    browser, developer, sts_stand_in, signin_stand_in
):
    answer = browser.post(
        f"/console/{developer.id}/", {"service": "s3", "region": "eu-central-1", "seconds": "900"}
    )

    query = parse_qs(urlsplit(answer["Location"]).query)
    assert query["Destination"] == [
        "https://eu-central-1.console.aws.amazon.com/s3/home?region=eu-central-1"
    ]
    assert Session.objects.get().seconds == 900


@pytest.mark.parametrize(
    "fields",
    [
        {"destination": "https://evil.example/"},
        {"destination": "javascript:alert(1)"},
        {"service": "s3", "region": "cn-north-1"},
        {"service": "no-such-service"},
        {"region": "EU WEST"},
        {"seconds": "12"},
        {"seconds": "soon"},
    ],
)
def test_what_cannot_be_understood_issues_nothing(browser, developer, sts_stand_in, fields):
    answer = browser.post(f"/console/{developer.id}/", fields)

    html = answer.content.decode()
    assert answer.status_code == 400
    assert "evil.example" not in html and "The console was not opened" in html
    assert f'<a class="button primary" href="/roles/{developer.id}/">Choose again</a>' in html
    assert "Developer</strong> in Payments production" in html
    assert not Session.objects.exists()
    assert sts_stand_in.requests == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"service": "no-such-service"}, "a console page that Daypass does not know."),
        ({"region": "EU WEST"}, "That is no region. Write it as AWS does"),
        (
            {"service": "s3", "region": "cn-north-1"},
            "This account cannot use cn-north-1. Choose a region",
        ),
        ({"seconds": "12"}, "A session lasts from 15 minutes to 12 hours"),
        ({"seconds": "soon"}, "A session lasts from 15 minutes to 12 hours"),
        ({"seconds": "99999"}, "A session lasts from 15 minutes to 12 hours"),
        ({"destination": "x" * 3000}, "This address is too long: at most 2048 characters."),
    ],
)
def test_what_was_wrong_is_said_in_plain_words(browser, developer, page_text, fields, said):
    assert said in page_text(browser.post(f"/console/{developer.id}/", fields))


@pytest.mark.parametrize("door", ["console", "keys"])
def test_a_mistake_about_somebody_elses_role_does_not_name_it(browser, door, page_text):
    theirs = make.role("Treasurer")
    make.mapping(make.group("treasurers"), theirs)

    answer = browser.post(f"/{door}/{theirs.id}/", {"seconds": "12"})

    assert answer.status_code == 400
    assert "Treasurer" not in page_text(answer) and "Choose again" not in page_text(answer)


def test_a_role_with_the_saml_form_sends_the_browser_to_aws_itself(
    browser, group, payments, signin_stand_in
):
    role = make.role("Federated", of=payments, trust="saml", console="saml_form")
    make.mapping(group, role)

    answer = browser.post(f"/console/{role.id}/")

    html = answer.content.decode()
    assert answer.status_code == 200
    assert f'action="{signin_stand_in.url}/saml"' in html
    assert 'name="SAMLResponse"' in html and "data-send-at-once" in html
    assert 'name="csrfmiddlewaretoken"' not in html
    assert answer["Cache-Control"] == "no-store, private"
    assert answer["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("door", ["console", "keys"])
def test_only_a_post_opens_a_door(browser, developer, door):
    assert browser.get(f"/{door}/{developer.id}/").status_code == 405


@pytest.mark.parametrize("door", ["console", "keys"])
def test_a_door_is_closed_to_somebody_who_is_not_signed_in(client, developer, door):
    answer = client.post(f"/{door}/{developer.id}/")

    assert answer.status_code == 302
    assert answer["Location"].startswith("/sign-in/")
    assert not Session.objects.exists()


@pytest.mark.parametrize("door", ["console", "keys"])
def test_a_form_of_another_site_opens_no_door(ada, developer, door, page_text):
    browser = sign_in(ada, enforce_csrf_checks=True)

    answer = browser.post(f"/{door}/{developer.id}/", headers={"Origin": "https://evil.example"})

    assert answer.status_code == 403
    assert "This page is out of date" in page_text(answer)
    assert not Session.objects.exists()


@pytest.mark.parametrize("door", ["console", "keys"])
def test_somebody_elses_role_is_refused_without_saying_that_it_exists(browser, door, page_text):
    theirs = make.role("Treasurer")
    make.mapping(make.group("treasurers"), theirs)
    nothing = "00000000-0000-4000-8000-000000000000"

    answers = [browser.post(f"/{door}/{role_id}/") for role_id in (theirs.id, nothing)]

    assert [one.status_code for one in answers] == [404, 404]
    assert page_text(answers[0]) == page_text(answers[1])
    assert "Treasurer" not in page_text(answers[0])
    assert not Session.objects.exists()


# ---- A refusal, a failure


def test_a_refusal_names_the_rule_the_way_out_and_a_reference(browser, group, payments, page_text):
    role = make.role("Administrator", of=payments)
    make.mapping(group, role, require_mfa=True)

    answer = browser.post(f"/console/{role.id}/")

    text = page_text(answer)
    assert answer.status_code == 403
    assert "No console for Administrator" in text
    assert "developers" in text
    assert "Sign in with MFA" in text
    assert audited(reference_on(answer)) == {"role.refused"}


def test_a_deny_shows_the_reason_that_the_administrator_wrote(browser, group, developer, page_text):
    make.deny(group=group, role=developer, reason="Frozen until Monday.")

    assert "Frozen until Monday." in page_text(browser.post(f"/keys/{developer.id}/"))


def test_in_the_dialog_a_refusal_comes_without_the_page_around_it(browser, group, payments):
    role = make.role("Auditor", of=payments)
    make.mapping(group, role, allow_keys=False)

    answer = browser.post(f"/keys/{role.id}/", headers=HTMX)

    html = answer.content.decode()
    assert answer.status_code == 403
    assert "<html" not in html and '<h2 id="dialog-title"' in html
    assert 'formaction="/console/' in html or f'action="/console/{role.id}/"' in html


def test_when_aws_refuses_the_page_says_so_and_the_reference_leads_to_the_cause(
    browser, developer, sts_stand_in, page_text
):
    sts_stand_in.will(sts_error("AccessDenied", "Not authorized: canary detail", status=403))

    answer = browser.post(f"/keys/{developer.id}/")

    text = page_text(answer)
    assert answer.status_code == 502
    assert "AWS said no" in text and "AccessDenied" in text
    assert "Developer in Payments production" in text
    assert text.count("Trying again will not help.") == 1
    assert "Ask the people who run AWS access in your company." in text
    assert "canary detail" not in text
    assert audited(reference_on(answer)) == {"role.authorised", "session.failed"}


def test_an_administrator_sees_the_cause_and_the_remedy_at_once(
    ada, developer, sts_stand_in, page_text
):
    ada.is_staff = True
    ada.save()
    sts_stand_in.will(sts_error("AccessDenied", status=403))

    answer = sign_in(ada).post(f"/keys/{developer.id}/")

    text = page_text(answer)
    assert "For you as an administrator." in text
    assert f'href="/admin/find/?q={reference_on(answer)}"' in answer.content.decode()
    assert Session.objects.get().failure[:40] in text


def test_when_trying_again_helps_the_page_offers_it_with_everything_that_was_asked(
    browser, developer, sts_stand_in
):
    sts_stand_in.will(*[sts_error("InternalFailure", status=500)] * 9)

    answer = browser.post(f"/keys/{developer.id}/", {"seconds": "900"})

    html = answer.content.decode()
    assert answer.status_code == 503
    assert "AWS could not do it just now" in html and "AWS does not answer" not in html
    assert f'action="/keys/{developer.id}/"' in html
    assert 'name="seconds" value="900"' in html
    assert "Try again" in html


def test_an_aws_that_says_nothing_is_told_from_one_that_could_not(
    browser, developer, settings, page_text
):
    settings.DAYPASS_STS_ENDPOINT = "http://127.0.0.1:1"

    answer = browser.post(f"/keys/{developer.id}/")

    assert answer.status_code == 503
    assert "AWS does not answer" in page_text(answer)


# ---- Keys


def test_keys_are_in_the_answer_once_and_nowhere_else(browser, developer, sts_stand_in, page_text):
    answer = browser.post(f"/keys/{developer.id}/", headers=HTMX)

    html = answer.content.decode()
    assert answer.status_code == 200
    assert "<html" not in html
    assert answer["Cache-Control"] == "no-store, private"
    assert "Keys for Developer" in html and "This is a production account." in html
    assert 'datetime="' in html and "Shown once" in html
    for title in ("bash, zsh", "fish", "PowerShell", "cmd", "Credentials file", ".env", "JSON"):
        assert f'data-title="{title}"' in html
    assert html.count(TOKEN) == 7
    again = browser.get("/").content.decode() + browser.get("/sessions/").content.decode()
    assert TOKEN not in again and SECRET not in again


def test_keys_stay_hidden_until_asked_for(browser, developer, sts_stand_in):
    from lxml import html

    tree = html.document_fromstring(browser.post(f"/keys/{developer.id}/").content.decode())

    for shown in tree.xpath("//*[not(ancestor-or-self::details)]/text()"):
        assert SECRET not in shown and TOKEN not in shown
    assert not tree.xpath("//details[@data-reveal and @open]")
    assert not tree.xpath("//@*[contains(., 'canary')]")


def test_without_javascript_keys_come_as_a_page_that_works(browser, developer, sts_stand_in):
    answer = browser.post(f"/keys/{developer.id}/")

    html = answer.content.decode()
    assert "<h1" in html and "Show the secrets" in html
    assert answer["Referrer-Policy"] == "no-referrer"
    assert 'name="csrfmiddlewaretoken"' not in html


# ---- Links


FROM_ADDRESS_BAR = {
    "Sec-Fetch-Site": "none",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
}


def test_a_link_issues_nothing_and_asks_with_a_form(browser, developer, page_text):
    destination = "https://eu-west-1.console.aws.amazon.com/s3/home"

    answer = browser.get("/go/111122223333/Developer/", {"destination": destination})

    html = answer.content.decode()
    assert answer.status_code == 200
    assert f'action="/console/{developer.id}/"' in html
    assert f'name="destination" value="{destination}"' in html
    assert "Open Developer in Payments production?" in page_text(answer)
    assert not Session.objects.exists()


def test_a_link_that_the_person_typed_is_followed_at_once(browser, developer):
    answer = browser.get("/go/111122223333/Developer/", headers=FROM_ADDRESS_BAR)

    assert "data-send-at-once" in answer.content.decode()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {**FROM_ADDRESS_BAR, "Sec-Fetch-Site": "cross-site"},
        {**FROM_ADDRESS_BAR, "Sec-Fetch-Site": "same-site"},
        {**FROM_ADDRESS_BAR, "Sec-Fetch-Dest": "iframe"},
        {**FROM_ADDRESS_BAR, "Sec-Fetch-Mode": "no-cors"},
        {**FROM_ADDRESS_BAR, "Sec-Purpose": "prefetch"},
    ],
)
def test_a_link_that_somebody_else_followed_costs_a_click(browser, developer, headers):
    answer = browser.get("/go/111122223333/Developer/", headers=headers)

    assert "data-send-at-once" not in answer.content.decode()


def test_a_link_to_a_role_that_cannot_be_used_now_is_not_sent_at_once(browser, group, payments):
    make.mapping(group, make.role("Administrator", of=payments), require_mfa=True)

    answer = browser.get("/go/111122223333/Administrator/", headers=FROM_ADDRESS_BAR)

    assert "data-send-at-once" not in answer.content.decode()


def test_a_link_survives_signing_in(client, developer):
    from accounts import places

    address = "/go/111122223333/Developer/?destination=https://eu-west-1.console.aws.amazon.com/"

    answer = client.get(address)

    token = parse_qs(urlsplit(answer["Location"]).query)["to"][0]
    assert places.find(token) == address


def test_links_to_what_is_not_theirs_and_to_nothing_look_the_same(browser, page_text):
    make.role("Treasurer", of=make.account("Treasury", account_id="444455556666"))

    answers = [
        browser.get(address) for address in ("/go/444455556666/Treasurer/", "/go/x/Nothing/")
    ]

    assert [one.status_code for one in answers] == [404, 404]
    assert page_text(answers[0]) == page_text(answers[1])
