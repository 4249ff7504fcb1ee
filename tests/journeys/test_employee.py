"""What employees do: sign in for real, find a role, open its console or take its keys, or be told why not."""

from __future__ import annotations

import json
import re

import boto3
import pytest
from playwright.sync_api import expect

from tests.journeys.steps import prove, role_row, sign_in, sign_out, wait_for_the_fleet

DESTINATION = "https://eu-west-1.console.aws.amazon.com/cloudwatch/home?region=eu-west-1"


def test_staff_sign_in_by_saml_and_open_a_console(demo, page):
    sign_in(page, demo, "maya")

    expect(page.get_by_role("heading", name="Roles", level=1)).to_be_visible()
    expect(page.get_by_text("12 roles in 7 accounts")).to_be_visible()
    expect(page.get_by_text("Data lake")).to_have_count(0)

    page.keyboard.press("/")
    page.keyboard.type("shop staging dev")
    expect(page.locator("li.role")).to_have_count(1)
    with page.context.expect_page() as opened:
        page.get_by_role("button", name="Open console").click()
    console = opened.value

    arn = console.locator("#arn").inner_text()
    assert re.fullmatch(r"arn:aws:sts::210000000202:assumed-role/Developer/maya\..+", arn)
    assert "eu-central-1.console.aws.amazon.com" in console.locator("#destination").inner_text()
    assert "SigninToken" not in console.url
    page.goto(f"{demo.stage.origin}/sessions/")
    expect(page.get_by_text("Web shop staging").first).to_be_visible()


def test_a_contractor_signs_in_by_openid_connect_and_uses_keys(demo, page):
    sign_in(page, demo, "aiko")
    role_row(page, "Web shop staging", "Developer").get_by_role("button", name="Get keys").click()
    keys = page.locator("[data-keys]")
    expect(keys.get_by_role("heading", name="Keys for Developer")).to_be_visible()

    document = json.loads(keys.locator("#tab-credential_process [data-text]").text_content())
    sts = boto3.client(
        "sts",
        region_name="eu-central-1",
        endpoint_url=demo.stage.aws,
        aws_access_key_id=document["AccessKeyId"],
        aws_secret_access_key=document["SecretAccessKey"],
        aws_session_token=document["SessionToken"],
    )
    caller = sts.get_caller_identity()

    prefix, _, session_name = caller["Arn"].rpartition("/")
    assert prefix == "arn:aws:sts::210000000202:assumed-role/Developer"
    assert session_name.startswith("aiko.")
    assert document["Version"] == 1
    # Shown once: going back or reloading does not bring them again.
    page.reload()
    assert document["SecretAccessKey"] not in page.content()


@pytest.mark.parametrize(
    ("form", "pattern"),
    [
        ("bash", r"export AWS_ACCESS_KEY_ID='ASIA\w+'"),
        ("fish", r"set -gx AWS_ACCESS_KEY_ID '?ASIA\w+'?"),
        ("powershell", r"(?i)\$env:AWS_ACCESS_KEY_ID ?= ?'ASIA\w+'"),
        ("cmd", r'set "?AWS_ACCESS_KEY_ID=ASIA\w+'),
        ("credentials_file", r"aws_access_key_id ?= ?ASIA\w+"),
        ("dotenv", r"AWS_ACCESS_KEY_ID=\W?ASIA\w+"),
    ],
)
def test_keys_come_in_the_form_that_the_terminal_takes(keys_of_zoe, form, pattern):
    assert re.search(pattern, keys_of_zoe[form])


@pytest.fixture(scope="module")
def keys_of_zoe(demo, browser) -> dict[str, str]:
    context = browser.new_context()
    page = context.new_page()
    sign_in(page, demo, "zoe")
    expect(page.get_by_role("button", name="Open console")).to_have_count(0)
    page.get_by_role("button", name="Get keys").click()
    page.locator("[data-keys]").wait_for()
    forms = {
        tab.get_attribute("data-tab"): tab.locator("[data-text]").text_content()
        for tab in page.locator("[data-keys] [data-tab]").all()
    }
    browser.close(context)
    return forms


def test_a_person_without_any_mapping_sees_why_there_is_nothing(demo, page):
    sign_in(page, demo, "nina")

    expect(page.get_by_role("heading", name="You have no AWS roles yet")).to_be_visible()
    expect(page.get_by_text("which gives no role in AWS")).to_be_visible()
    page.get_by_text("Groups that arrived").click()
    expect(page.get_by_text("facilities")).to_be_visible()
    expect(page.get_by_text("#aws-access")).to_be_visible()


def test_a_role_that_is_not_mine_is_not_told_apart_from_none(demo, page):
    answers = []
    for role in ("ReadOnly", "NoSuchRole"):
        sign_in(page, demo, "nina", at=f"/go/northwind-payments/{role}")
        answers.append(page.get_by_role("main").inner_text().replace(role, "ROLE"))
        page.context.clear_cookies()

    assert answers[0] == answers[1]
    assert "Payments" not in answers[0]


def test_production_needs_a_second_factor_and_says_so(demo, page):
    sign_in(page, demo, "maya")

    row = role_row(page, "Payments production", "OnCall")
    expect(row.get_by_role("button", name="Open console")).to_have_count(0)
    expect(row).to_contain_text(re.compile("second factor|multi-factor|MFA", re.IGNORECASE))

    row.get_by_role("link", name="Sign in with MFA").click()
    prove(page, demo, "maya", mfa=True)
    expect(row.get_by_role("button", name="Open console")).to_be_visible()


def test_a_deny_beats_a_mapping_and_is_shown_with_its_reason(demo, page):
    sign_in(page, demo, "aiko", at="/go/northwind-shop/ReadOnly")
    page.get_by_role("button", name="Open console").click()

    expect(page.get_by_role("heading", name="No console for ReadOnly")).to_be_visible()
    expect(page.get_by_role("main")).to_contain_text("stay out of its production account")


def test_a_deep_link_survives_the_sign_in(demo, page):
    address = f"/go/northwind-payments/ReadOnly?destination={DESTINATION.replace('?', '%3F')}"
    sign_in(page, demo, "maya", at=address)
    # The sign-in came back from another site, so Daypass asks before it opens anything.
    page.get_by_role("button", name="Open console").click()

    expect(page.locator("#arn")).to_contain_text("210000000101:assumed-role/ReadOnly/maya.")
    expect(page.locator("#destination")).to_have_text(DESTINATION)


def test_a_role_that_signs_the_browser_in_directly_posts_an_assertion_to_aws(demo, page):
    sign_in(page, demo, "maya")
    row = role_row(page, "Web shop development", "Administrator")
    with page.context.expect_page() as opened:
        row.get_by_role("button", name="Open console").click()
    console = opened.value

    expect(console.locator("#arn")).to_contain_text("210000000203:assumed-role/Administrator/maya.")
    expect(console.get_by_text("a signed SAML assertion")).to_be_visible()


def test_two_thousand_roles_are_found_by_typing(demo, page):
    wait_for_the_fleet(demo)
    sign_in(page, demo, "sam")

    expect(page.get_by_text(re.compile(r"2,0\d\d roles in 20\d accounts"))).to_be_visible()
    assert len(page.content()) < 500_000
    page.get_by_role("searchbox").fill("fleet 117 database")
    expect(page.locator("li.role")).to_have_count(1)
    expect(page.locator("li.role")).to_contain_text("DatabaseOperator")


@pytest.mark.parametrize("login", ["maya", "aiko"])
def test_signing_out_ends_it_here_and_at_the_provider(demo, page, login):
    sign_in(page, demo, login)

    sign_out(page)

    expect(
        page.get_by_role("heading", name=re.compile("signed out", re.IGNORECASE))
    ).to_be_visible()
    page.goto(f"{demo.stage.origin}/")
    expect(page.get_by_role("button", name="Northwind staff")).to_be_visible()
    page.goto(f"{demo.stage.idp}/")
    expect(page.get_by_text("not signed in here")).to_be_visible()
