"""An administrator at work in a real browser. The `page` of a journey fails on any message of its console, so that
these also show that the admin lives under the strict content security policy, autocomplete and all."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.journeys.steps import sign_in

LISTS = (
    "accounts/identityprovider",
    "accounts/person",
    "accounts/directorygroup",
    "broker/awsaccount",
    "broker/awsrole",
    "broker/environment",
    "broker/mapping",
    "broker/deny",
    "broker/session",
    "broker/auditevent",
    "broker/signingkey",
)
OTHERS = (
    "",
    "health/",
    "find/?q=pay",
    "accounts/identityprovider/add/?protocol=saml",
    "accounts/identityprovider/add/?protocol=oidc",
    "accounts/directorygroup/add/",
    "broker/awsaccount/add/",
    "broker/awsrole/add/",
    "broker/awsrole/bulk/",
    "aws-setup/?account=1",
    "broker/environment/add/",
    "broker/mapping/add/",
    "broker/deny/add/",
)


WIDER = """() => document.documentElement.scrollWidth <= window.innerWidth ? [] :
  [...document.querySelectorAll("body *")]
    .filter((one) => one.getBoundingClientRect().right > window.innerWidth + 1)
    .map((one) => `${one.tagName}.${one.className}`).slice(0, 5)
    .concat([`${document.documentElement.scrollWidth} of ${window.innerWidth}`])"""


def wider_than_the_screen(page) -> list[str]:
    """The elements that make the page scroll sideways."""
    return page.evaluate(WIDER)


@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_of_the_admin_obeys_the_policy_and_fits_the_screen(demo, page, width):
    page.set_viewport_size({"width": width, "height": 844})
    sign_in(page, demo, "omar", at="/admin/")
    admin = f"{demo.stage.origin}/admin/"
    wide = {}

    for address in OTHERS:
        page.goto(admin + address)
        wide[address] = wider_than_the_screen(page)
    for address in LISTS:
        page.goto(f"{admin}{address}/")
        wide[address] = wider_than_the_screen(page)
        first = page.locator("#result_list tbody th a").first
        if first.count():
            first.click()
            page.wait_for_load_state("networkidle")
            wide[page.url] = wider_than_the_screen(page)

    assert {address: found for address, found in wide.items() if found} == {}


def test_from_an_account_number_to_a_role_on_the_first_page_of_an_employee(demo, page):
    sign_in(page, demo, "omar", at="/admin/")
    admin = f"{demo.stage.origin}/admin/"

    page.goto(f"{admin}broker/awsrole/bulk/")
    page.get_by_label("Role ARNs").fill(
        "arn:aws:iam::777788889999:role/NightWatch\narn:aws:iam::777788889999:user/eve"
    )
    page.get_by_role("button", name="Register them").click()
    expect(page.get_by_role("heading", name="1 of 2 registered")).to_be_visible()

    page.get_by_role("link", name="arn:aws:iam::777788889999:role/NightWatch").click()
    expect(page.get_by_text("No mapping gives this role to anybody")).to_be_visible()
    page.get_by_text("Show the policy").click()
    assert '"sts:TagSession"' in page.locator("pre.listing").inner_text()

    page.get_by_role("link", name="Add a mapping").click()
    page.locator(".field-roles").get_by_title("NightWatch in 777788889999").wait_for()
    page.locator(".field-group .select2-selection").click()
    page.keyboard.type("security")
    page.get_by_role("option", name=re.compile("security")).first.click()
    page.get_by_text("You are in this group.").wait_for()
    page.get_by_label("Longest session").fill("30 min")
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url(f"{admin}broker/mapping/")

    page.goto(f"{demo.stage.origin}/?q=NightWatch")
    expect(page.get_by_text("NightWatch").first).to_be_visible()

    page.goto(admin)
    expect(page.get_by_text("raised their own rights").first).to_be_visible()
