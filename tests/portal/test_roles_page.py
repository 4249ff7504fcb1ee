"""The role list: whose roles, how found, what is offered, how heavy."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from broker.portal.models import Favourite
from broker.sessions.models import Session
from tests import factories as make
from tests.portal.conftest import sign_in

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true", "HX-Target": "results"}


def test_somebody_who_is_not_signed_in_signs_in_and_comes_back(client):
    answer = client.get("/?q=prod")

    assert answer.status_code == 302
    assert answer["Location"].startswith("/sign-in/?to=")


def test_a_person_sees_their_own_roles_and_nobody_elses(browser, developer, page_text):
    other = make.role("Treasurer", of=make.account("Treasury"))
    make.mapping(make.group("treasurers"), other)

    text = page_text(browser.get("/"))

    assert "1 role in 1 account" in text
    assert "Payments production" in text and "111122223333" in text
    assert "Developer" in text and "Deploy and debug" in text and "up to 8 hours" in text
    assert "Treasur" not in text


def test_production_is_said_in_words_at_the_account_and_at_the_role(browser, developer):
    html = browser.get("/").content.decode()

    assert 'class="account" data-colour="red" data-production' in html
    assert '<span class="chip solid">Production</span>' in html
    assert '<span class="role-production">Production</span>' in html


def test_search_narrows_marks_what_matches_and_keeps_the_address(browser, developer, group):
    make.mapping(group, make.role("Billing", of=make.account("Ledger")))

    answer = browser.get("/", {"q": "PROD devel"}, headers=HTMX)

    html = answer.content.decode()
    assert "<mark>Devel</mark>oper" in html and "Payments <mark>prod</mark>uction" in html
    assert "Billing" not in html
    assert answer["HX-Replace-Url"] == "/?q=PROD+devel"
    assert "1 role matches" in html


def test_htmx_gets_the_results_without_the_page_around_them(browser, developer):
    html = browser.get("/", {"q": "dev"}, headers=HTMX).content.decode()

    assert "<html" not in html and "<h1" not in html
    assert 'hx-swap-oob="innerHTML"' in html


def test_an_emptied_search_gets_the_address_without_a_query(browser, developer):
    assert browser.get("/", {"q": ""}, headers=HTMX)["HX-Replace-Url"] == "/"


def test_no_match_says_what_is_searched_and_leads_back(browser, developer, page_text):
    text = page_text(browser.get("/", {"q": "zebra"}))

    assert "No role matches “zebra”" in text
    assert "Show all my roles" in text


@pytest.mark.parametrize("typed", ["zebra", "arn:aws:iam::999988887777:role/Boss"])
def test_who_misses_a_role_is_told_whom_to_ask(browser, developer, page_text, settings, typed):
    before = page_text(browser.get("/", {"q": typed}))
    settings.DAYPASS_HELP_URL = "https://help.example.com/aws"
    after = browser.get("/", {"q": typed}, headers=HTMX).content.decode()

    assert "Is a role missing? Ask the people who run AWS access in your company." in before
    assert "Ask for access" not in before
    assert after.index("Show all my roles") < after.index("Ask for access")
    assert '<a class="button" href="https://help.example.com/aws" rel="noreferrer">' in after


def test_without_roles_the_page_says_which_groups_arrived_and_whom_to_ask(browser, page_text):
    text = page_text(browser.get("/"))

    assert "You have no AWS roles yet" in text
    assert "you are in 1 group, which gives no role in AWS." in text and "developers" in text
    assert "Ask the people who run AWS access" in text
    assert "Search accounts" not in text


@pytest.mark.parametrize("groups", [0, 1, 2])
def test_who_has_no_roles_can_sign_out_on_the_spot(db, page_text, groups):
    okta = make.provider("okta")
    joined = [make.group(f"group-{n}", at=okta) for n in range(groups)]
    answer = sign_in(make.person("newcomer", at=okta, groups=joined)).get("/")

    assert "just now, sign out and in again" in page_text(answer)
    assert ("none of them gives a role in AWS" in page_text(answer)) == (groups == 2)
    assert answer.content.decode().count('action="/sign-out/"') == 2  # one is in the menu


def test_a_pasted_console_address_lands_there(browser, developer):
    url = "https://eu-west-1.console.aws.amazon.com/s3/buckets?region=eu-west-1"

    html = browser.get("/", {"q": url}).content.decode()

    assert 'name="destination" value="https://eu-west-1.console.aws.amazon.com/s3/buckets' in html
    assert "Developer" in html


@pytest.mark.parametrize(
    "pasted", ["https://example.com/s3", "arn:aws:iam::999988887777:role/Boss"]
)
def test_a_pasted_address_that_no_role_opens_is_not_taken_for_words(
    browser, developer, page_text, pasted
):
    text = page_text(browser.get("/", {"q": pasted}))

    assert "No role of yours opens this" in text
    assert "Every word" not in text


def test_a_pasted_address_of_another_site_is_only_searched_for(browser, developer):
    html = browser.get("/", {"q": "https://console.aws.amazon.com.evil.example/"}).content.decode()

    assert 'name="destination"' not in html


def test_a_role_that_needs_mfa_is_shown_with_the_way_to_it(browser, group, payments, page_text):
    make.mapping(group, make.role("Administrator", of=payments), require_mfa=True)

    answer = browser.get("/")

    assert "Sign in with MFA" in page_text(answer)
    assert "Open console" not in page_text(answer)
    assert 'href="/sign-in/?' in answer.content.decode()


def test_with_mfa_the_same_role_opens(ada, group, payments, page_text):
    make.mapping(group, make.role("Administrator", of=payments), require_mfa=True)

    text = page_text(sign_in(ada, mfa=True).get("/"))

    assert "Open console" in text and "Get keys" in text


def test_stale_memberships_lead_to_signing_in_again(ada, developer, page_text):
    ada.memberships.update(confirmed_at=timezone.now() - timedelta(days=3))

    text = page_text(sign_in(ada).get("/"))

    assert "Sign in again" in text
    assert "Get keys" not in text


def test_a_role_without_keys_offers_the_console_only(browser, group, payments, page_text):
    make.mapping(group, make.role("Auditor", of=payments), allow_keys=False)

    text = page_text(browser.get("/"))

    assert "Console only" in text and "Open console" in text
    assert "Get keys" not in text


def test_names_are_text_and_never_markup(browser, group):
    role = make.role(
        "Tester",
        of=make.account('<script>alert(1)</script> & "Co"'),
        description="<img src=x onerror=alert(1)>",
    )
    make.mapping(group, role)

    for address in ("/", "/?q=script", f"/roles/{role.id}/"):
        html = browser.get(address).content.decode()
        assert "<script>alert" not in html and "<img src=x" not in html
        assert "&lt;" in html


def test_two_thousand_roles_are_paged_and_the_page_stays_light(
    ada, browser, group, production, django_assert_max_num_queries, page_text
):
    account_rows = [
        make.account(f"Team {number:03} workload", environment=production) for number in range(200)
    ]
    roles = [
        make.role(f"Role{number}", of=account, description="d" * 80)
        for account in account_rows
        for number in range(10)
    ]
    make.mapping(group, *roles)
    for one in roles[-15:]:
        Favourite.objects.create(person=ada, role=one)

    with django_assert_max_num_queries(16):
        answer = browser.get("/")

    assert len(answer.content) < 100_000
    assert "2,000 roles in 200 accounts, page 1 of 40" in page_text(answer)
    assert 'rel="next"' in answer.content.decode()
    last = browser.get("/", {"page": 40})
    assert "Team 199 workload" in page_text(last)


def test_pinned_and_recent_roles_come_first(ada, browser, group, payments):
    pinned, recent, other = (make.role(name, of=payments) for name in ("Zeta", "Yankee", "Alpha"))
    make.mapping(group, pinned, recent, other)
    Session.objects.create(
        person=ada,
        role=recent,
        state="expired",
        hand_over="keys",
        session_name="ada-1",
        source_identity="ada",
        seconds=900,
    )

    answer = browser.post(f"/roles/{pinned.id}/pin/", {"pinned": "1"})

    assert answer.status_code == 302
    html = browser.get("/").content.decode()
    on_top = html[html.index("Pinned and recent") : html.index("</section>")]
    assert on_top.index("Zeta") < on_top.index("Yankee")
    assert "Alpha" not in on_top


def test_a_recent_role_that_was_taken_away_is_not_shown(ada, browser, developer, page_text):
    lost = make.role("Lost")
    Favourite.objects.create(person=ada, role=lost)

    assert "Lost" not in page_text(browser.get("/"))


def test_pinning_twice_is_pinning_once_and_unpinning_undoes_it(ada, browser, developer):
    address = f"/roles/{developer.id}/pin/"

    for _ in range(2):
        answer = browser.post(address, {"pinned": "1"}, headers={"HX-Request": "true"})
    assert 'aria-pressed="true"' in answer.content.decode()
    assert Favourite.objects.filter(person=ada).count() == 1

    browser.post(address, {"pinned": "0"})
    assert not Favourite.objects.exists()


def test_nobody_pins_without_end(ada, browser, group, page_text):
    roles = [make.role() for _ in range(31)]
    make.mapping(group, *roles)
    for role in roles[:30]:
        Favourite.objects.create(person=ada, role=role)

    answer = browser.post(f"/roles/{roles[30].id}/pin/", {"pinned": "1"})

    assert answer.status_code == 400
    assert "unpin one first" in page_text(answer)


def test_live_sessions_stand_above_the_roles(ada, browser, developer, page_text):
    now = timezone.now()
    Session.objects.create(
        person=ada,
        role=developer,
        state="active",
        hand_over="console",
        session_name="ada-1",
        source_identity="ada",
        seconds=3600,
        expires_at=now + timedelta(minutes=52, seconds=30),
    )

    for answer in (browser.get("/"), browser.get("/sessions/live/", headers=HTMX)):
        assert "1 live session" in page_text(answer)
        assert "52 min left" in page_text(answer)


def test_the_options_of_a_role_say_why_one_has_it_and_give_a_link(browser, developer, page_text):
    answer = browser.get(f"/roles/{developer.id}/")

    assert "https://daypass.test/go/111122223333/Developer/" in page_text(answer)
    assert "developers" in page_text(answer)
    assert '<option value="28800" selected>8 hours</option>' in answer.content.decode()


def test_the_options_of_somebody_elses_role_are_not_found(browser, page_text):
    role = make.role("Treasurer")
    make.mapping(make.group("treasurers"), role)

    answer = browser.get(f"/roles/{role.id}/")

    assert answer.status_code == 404
    assert "Treasurer" not in page_text(answer)


@pytest.mark.parametrize("method", ["post", "put", "delete"])
def test_the_role_list_is_only_read(browser, method):
    assert getattr(browser, method)("/").status_code == 405
