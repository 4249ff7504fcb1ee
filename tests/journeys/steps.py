"""What people do in journeys, in their words."""

from __future__ import annotations

import re
import time

from broker.demo.cast import CAST, CastMember
from tests.servers import Demo


def somebody(login: str) -> CastMember:
    return next(person for person in CAST if person.login == login)


def sign_in(page, demo: Demo, login: str, *, mfa: bool = False, at: str = "/") -> None:
    """Open Daypass, choose the person's provider, and sign in there. Ends wherever Daypass then leads."""
    page.goto(f"{demo.stage.origin}{at}")
    prove(page, demo, login, mfa=mfa)


def prove(page, demo: Demo, login: str, *, mfa: bool = False) -> None:
    """From the page that asks for a provider, through the provider, to wherever Daypass then leads."""
    person = somebody(login)
    page.get_by_role("button", name=person.provider_name).click()
    page.get_by_label(person.name).check()
    if mfa:
        page.get_by_label("I also used a second factor").check()
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{demo.stage.origin}/**")


def give_the_password(page, demo: Demo) -> None:
    """The first step of the break-glass sign-in, from the admin's door. Ends at whatever Daypass asks for then."""
    password = re.search(r"password (\S+) \(shown this once\)", demo.greeting)[1]
    page.goto(f"{demo.stage.origin}/admin/")
    page.get_by_role("link", name="break-glass").click()
    page.get_by_label("Username").fill("break-glass")
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def role_row(page, account: str, role: str):
    """The row of a role under its account, not the one among what is pinned or recent."""
    account_section = page.locator("section.account:not(.on-top)", has_text=account)
    return account_section.locator("li.role", has_text=role)


def sign_out(page) -> None:
    """By the menu behind the person's name. Ends on the page that says so."""
    page.locator("header details > summary").last.click()
    page.locator("header").get_by_role("button", name="Sign out").click()
    page.get_by_role("heading", name=re.compile("signed out", re.IGNORECASE)).wait_for()


def wait_for_the_fleet(demo: Demo, *, seconds: float = 120) -> None:
    """The 2,000 roles are registered while the demo is open already."""
    until = time.monotonic() + seconds
    while not (demo.folder / "seeded").exists():
        assert time.monotonic() < until, "the fleet was not registered"
        time.sleep(0.2)
