"""What a provider said about somebody, passed on to AWS: in a browser, across sites, with moto as AWS."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import boto3
import pytest
from playwright.sync_api import expect

from tests.journeys.relaying import ACCOUNT, Company
from tests.journeys.steps import role_row

NOT_ACCEPTED = "This answer for AWS was not accepted"


@pytest.fixture
def any_certificate() -> bool:
    return True


@pytest.fixture(scope="module")
def globex(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    """Daypass at https://localhost, the provider at http://127.0.0.1: two sites."""
    company = Company(tmp_path_factory.mktemp("globex") / "https", secure=True)
    yield company
    company.stop()


@pytest.fixture
def plain(tmp_path) -> Iterator[Company]:
    """Daypass at http://127.0.0.1, as the demo is, and the provider on the same site."""
    company = Company(tmp_path / "http", secure=False)
    yield company
    company.stop()


@pytest.fixture
def posted(page):
    """What the provider's page made the browser send to the door, header by header, so far."""
    seen = []
    page.on("request", lambda sent: seen.append(sent) if sent.url.endswith("/aws/") else None)
    return lambda: [sent.all_headers() for sent in seen]


def sign_in(page, company: Company, at: str = "/") -> None:
    """There is one provider, so Daypass asks nothing, and it knows Ada already."""
    page.goto(f"{company.origin}{at}")
    page.wait_for_url(f"{company.origin}{at}")
    expect(page.get_by_text("Ada Lovelace").first).to_be_attached()


def cookies(headers: dict[str, str]) -> set[str]:
    return {pair.partition("=")[0] for pair in headers.get("cookie", "").split("; ") if pair}


def whose(page, company: Company) -> str:
    """Whose keys are shown on the page, as AWS says."""
    text = page.locator("#tab-credential_process [data-text]").text_content()
    document = json.loads(text)
    sts = boto3.client(
        "sts",
        region_name="eu-west-1",
        endpoint_url=company.aws.url,
        aws_access_key_id=document["AccessKeyId"],
        aws_secret_access_key=document["SecretAccessKey"],
        aws_session_token=document["SessionToken"],
    )
    return str(sts.get_caller_identity()["Arn"])


def test_a_role_leads_across_sites_to_the_application_and_back_to_its_console(globex, page, posted):
    sign_in(page, globex, f"/go/{ACCOUNT}/Developer/")
    page.get_by_role("button", name="Open console").click()
    expect(page.get_by_role("heading", name="No console for Developer")).to_be_visible()

    page.get_by_role("button", name="Ask it now").click()
    page.wait_for_url(f"{globex.origin}/go/{ACCOUNT}/Developer/")
    page.get_by_role("button", name="Open console").click()

    assumed = f"arn:aws:sts::{ACCOUNT}:assumed-role/Developer/ada@example.com"
    expect(page.locator("#arn")).to_have_text(assumed)
    [sent] = posted()
    assert sent["sec-fetch-site"] == "cross-site"
    # Of all of Daypass's cookies the one that is for this door came along, and the session stayed behind.
    assert cookies(sent) == {"__Secure-daypass_relay"}


def test_the_list_asks_the_application_and_then_gives_keys_of_what_it_named(globex, page):
    sign_in(page, globex)
    expect(page.locator("li.role", has_text="Developer")).to_have_count(0)

    page.get_by_role("button", name="Ask Globex").click()
    row = role_row(page, "Payments", "Developer")
    row.get_by_role("button", name="Get keys").click()
    page.locator("[data-keys]").wait_for()

    arn = whose(page, globex)
    assert arn == f"arn:aws:sts::{ACCOUNT}:assumed-role/Developer/ada@example.com"


def test_the_token_of_the_sign_in_gives_a_console_and_keys(globex, page):
    sign_in(page, globex)
    row = role_row(page, "Payments", "Reader")
    with page.context.expect_page() as opened:
        row.get_by_role("button", name="Open console").click()
    console = opened.value

    assumed = rf"arn:aws:sts::{ACCOUNT}:assumed-role/Reader/ada\."
    expect(console.locator("#arn")).to_have_text(re.compile(assumed))
    row.get_by_role("button", name="Get keys").click()
    page.locator("[data-keys]").wait_for()
    assert re.match(assumed, whose(page, globex))


def test_a_page_that_posts_what_nobody_asked_for_is_refused(globex, page, posted):
    sign_in(page, globex)

    page.goto(globex.application.url)

    expect(page.get_by_role("heading", name=NOT_ACCEPTED)).to_be_visible()
    [sent] = posted()
    assert cookies(sent) == set()
    page.get_by_role("link", name="Open Daypass").click()
    expect(page.get_by_role("button", name="Ask Globex")).to_be_visible()
    expect(page.locator("li.role", has_text="Developer")).to_have_count(0)


def test_in_plain_http_as_in_the_demo_it_works_on_one_host_alone(plain, page, posted):
    sign_in(page, plain)
    page.get_by_role("button", name="Ask Globex").click()
    expect(role_row(page, "Payments", "Developer")).to_be_visible()
    page.wait_for_url(f"{plain.origin}/")

    page.goto(plain.application.url.replace("127.0.0.1", "localhost"))
    expect(page.get_by_role("heading", name=NOT_ACCEPTED)).to_be_visible()

    same, other = posted()
    assert (same["sec-fetch-site"], other["sec-fetch-site"]) == ("same-site", "cross-site")
    assert "daypass_relay" in cookies(same) and cookies(other) == set()
