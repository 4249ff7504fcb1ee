"""What the first administrator does: from an empty Daypass to an employee in the console, all in the browser."""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct
import time

import pytest
from playwright.sync_api import expect

from broker.demo.cast import PASSWORD, STAFF
from tests.journeys.steps import give_the_password, somebody
from tests.servers import Demo


def one_time_code(secret: str) -> str:
    """What an authenticator app shows now (RFC 6238)."""
    counter = struct.pack(">Q", int(time.time()) // 30)
    digest = hmac.new(base64.b32decode(secret), counter, hashlib.sha1).digest()
    place = digest[-1] & 15
    number = struct.unpack(">I", digest[place : place + 4])[0] & 0x7FFFFFFF
    return f"{number % 1_000_000:06}"


def break_the_glass(page, demo: Demo) -> None:
    """Sign in with the local account and set up the second factor, without which nothing else opens."""
    give_the_password(page, demo)
    secret = page.locator(".copy-line code").inner_text()
    page.goto(f"{demo.stage.origin}/admin/")
    expect(page.get_by_label("Authenticator code")).to_be_visible()
    secret = page.locator(".copy-line code").inner_text()
    page.get_by_label("Authenticator code").fill(one_time_code(secret))
    page.get_by_role("button", name="Set up").click()
    page.wait_for_load_state()


def save(page) -> None:
    """Save a new thing; what is wrong with the form would keep its address."""
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url(lambda url: not url.endswith("/add/"))
    page.wait_for_load_state()


def choose(page, field: str, words: str) -> None:
    """Pick the one answer of a search field (select2) by typing."""
    page.locator(f"#id_{field} + .select2 .select2-selection").click()
    page.locator(".select2-search__field").last.fill(words)
    option = page.locator(".select2-results__option", has_text=words)
    expect(option).to_have_count(1)
    option.click()


def step(page, demo: Demo, title: str, state: str) -> None:
    """The guide on the first page shows where a step stands."""
    page.goto(f"{demo.stage.origin}/admin/")
    expect(page.locator("li.step", has_text=title).locator(".chip")).to_have_text(state)


@pytest.mark.journey
def test_an_administrator_goes_from_nothing_to_an_employee_in_the_console(empty, page, browser):
    origin = empty.stage.origin
    break_the_glass(page, empty)

    # Connect the company's identity provider by the address of its metadata.
    page.goto(f"{origin}/admin/")
    page.get_by_role("link", name="Connect a provider").click()
    page.get_by_role("link", name="SAML 2.0").click()
    page.get_by_label("Name", exact=True).fill("Northwind staff")
    page.get_by_label("Short name").fill(STAFF)
    page.get_by_label("Address of its metadata").fill("http://127.0.0.1:9/nobody")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".errorlist").first).to_be_visible()
    page.get_by_label("Address of its metadata").fill(f"{empty.stage.idp}/saml/metadata")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text(f"{origin}/saml/{STAFF}/acs/").first).to_be_visible()

    # Try it without granting anything, then switch it on.
    page.get_by_role("button", name="Test sign-in").click()
    page.get_by_label(somebody("maya").name).check()
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("platform-oncall").first).to_be_visible()
    expect(page.get_by_text("Maya Lindqvist").first).to_be_visible()
    step(page, empty, "Try a test sign-in", "done")
    page.get_by_role("link", name="Identity providers").first.click()
    page.get_by_role("link", name="Northwind staff").click()
    page.get_by_role("button", name="Switch on").click()
    expect(page.get_by_role("link", name="Switch off")).to_be_visible()

    # A group, an account, a role, and the mapping between them.
    page.goto(f"{origin}/admin/accounts/directorygroup/add/")
    page.get_by_label("Key", exact=True).fill("platform-oncall")
    page.get_by_label("Provider").select_option(label="Northwind staff")
    save(page)
    page.goto(f"{origin}/admin/broker/awsaccount/add/")
    page.get_by_label("Account id").fill("1111-2222-333")
    page.get_by_label("Name", exact=True).fill("Payments production")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("12 digits").first).to_be_visible()
    page.get_by_label("Account id").fill("1111-2222-3333")
    save(page)
    page.goto(f"{origin}/admin/broker/awsrole/add/")
    page.get_by_label("ARN", exact=True).fill("arn:aws:iam::111122223333:role/Developer")
    save(page)
    page.goto(f"{origin}/admin/broker/mapping/add/")
    choose(page, "group", "platform-oncall")
    choose(page, "roles", "Developer")
    save(page)
    step(page, empty, "Map a directory group to roles", "done")

    # An employee signs in, in a browser of their own.
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(f"{origin}/")
    tab.get_by_label(somebody("maya").name).check()
    tab.get_by_label("Password").fill(PASSWORD)
    tab.get_by_role("button", name="Sign in").click()
    with context.expect_page() as opened:
        tab.get_by_role("button", name="Open console").click()
    arn = opened.value.locator("#arn").inner_text()
    browser.close(context)

    assert arn.startswith("arn:aws:sts::111122223333:assumed-role/Developer/maya.")
    page.goto(f"{origin}/admin/")
    expect(page.get_by_text("From nothing to the first employee at work")).to_have_count(0)
