"""What people do at providers, at Daypass, and in its admin, in their words."""

from __future__ import annotations

import re

import requests
from playwright.sync_api import expect

from tests.interop.people import PASSWORD
from tests.journeys.test_administrator import break_the_glass
from tests.servers import Demo


def metadata_of(origin: str, slug: str) -> bytes:
    """Daypass's metadata, as the provider's administrator fetches it."""
    answer = requests.get(f"{origin}/saml/{slug}/metadata/", timeout=10)
    assert answer.ok
    return answer.content


def choose(page, origin: str, slug: str, *, at: str = "/") -> None:
    """From Daypass's sign-in page to the provider."""
    page.goto(f"{origin}{at}")
    page.get_by_role("button", name=f"The people of {slug}").click()


def prove(page, login: str) -> None:
    """Fill in the provider's own page. SimpleSAMLphp and the scripts of this folder all ask for these two."""
    page.get_by_label("Username").fill(login)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Login").click()


def sign_in(page, origin: str, slug: str, login: str, *, at: str = "/") -> None:
    """All of it. Ends on the page of Daypass that then follows, whichever it is."""
    choose(page, origin, slug, at=at)
    prove(page, login)
    page.wait_for_url(f"{origin}/**")


def signed_in(page) -> None:
    expect(page.get_by_role("heading", level=1)).to_have_text(
        re.compile("Roles|You have no AWS roles yet")
    )


def sees_role(page, role: str) -> None:
    expect(page.locator("li.role", has_text=role).first).to_be_visible()


def sees_no_role(page) -> None:
    expect(page.get_by_role("heading", name="You have no AWS roles yet")).to_be_visible()


def sign_out(page) -> None:
    page.locator("header details > summary").last.click()
    page.locator("header").get_by_role("button", name="Sign out").click()


def is_signed_out(page, origin: str) -> None:
    """Daypass asks for a provider again."""
    page.goto(f"{origin}/")
    expect(page.get_by_role("heading", name="Sign in", exact=True)).to_be_visible()


class Administrator:
    """Somebody in the admin with the break-glass account."""

    def __init__(self, page, daypass: Demo) -> None:
        self.page = page
        self.origin = daypass.stage.origin
        break_the_glass(page, daypass)

    def connect(self, protocol: str, slug: str, **answers: str) -> None:
        """Add a provider by its form: labels and what is entered. Ends on the provider's page."""
        page = self.page
        page.goto(f"{self.origin}/admin/accounts/identityprovider/add/?protocol={protocol}")
        for folded in page.locator("fieldset details:not([open]) > summary").all()[::-1]:
            folded.click()
        page.get_by_label("Name", exact=True).fill(f"The people of {slug}")
        page.get_by_label("Short name").fill(slug)
        for label, answer in answers.items():
            page.get_by_label(label.replace("_", " ")).first.fill(answer)
        page.get_by_role("button", name="Save", exact=True).click()
        page.wait_for_url(re.compile(r"/admin/accounts/identityprovider/[0-9a-f-]{36}/"))

    def try_it(self, login: str) -> None:
        """From the page of a provider through a test sign-in, which grants nothing, and back to that page."""
        page, provider = self.page, self.page.url
        page.get_by_role("button", name="Test sign-in").click()
        prove(page, login)
        expect(page.get_by_text("This sign-in would be accepted.")).to_be_visible()
        page.goto(provider)

    def switch_on(self) -> None:
        self.page.get_by_role("button", name="Switch on").click()
        expect(self.page.get_by_role("link", name="Switch off")).to_be_visible()

    def believe(self, slug: str) -> None:
        """What a provider says anew, from the list of what waits on the admin's first page."""
        page = self.page
        page.goto(f"{self.origin}/admin/")
        row = page.locator("li", has_text=f"The people of {slug} says something new")
        row.get_by_role("link", name="Look at it").click()
        expect(page.get_by_text("new", exact=True).first).to_be_visible()
        page.get_by_role("button", name="Believe exactly this").click()
        expect(page.get_by_text("is believed from now on")).to_be_visible()

    def reason(self, refused) -> str:
        """What the administrator finds by the reference number on the page of somebody who was refused.

        That page is quiet: one sentence, the same for everything that a provider or a stranger sends.
        """
        expect(refused.get_by_role("heading", name="You are not signed in")).to_be_visible()
        main = refused.get_by_role("main").inner_text()
        assert "Try again. If it happens again" in main
        reference = re.search(r"Reference ([2-9A-Z]{8})", main)[1]
        self.page.goto(f"{self.origin}/admin/find/?q={reference}")
        found = str(self.page.get_by_role("main").inner_text())
        assert reference in found, found
        assert "Sign-in refused" in found, found
        return found
