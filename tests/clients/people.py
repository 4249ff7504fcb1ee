"""What a person does in their browser for a client: let it in, type its code, end it, take a file or a token."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.journeys.steps import prove
from tests.servers import Demo


class Person:
    """Somebody of the demo's cast in a browser of their own."""

    def __init__(self, page, demo: Demo, login: str) -> None:
        self.page, self.demo, self.login = page, demo, login

    def open(self, address: str) -> None:
        """Open a page of Daypass; where it asks who they are, they say so, also when they said so before."""
        self.page.goto(address if "://" in address else f"{self.demo.stage.origin}{address}")
        again = self.page.get_by_role("link", name="Sign in and come back")
        if again.is_visible():
            again.click()
        if "/sign-in" in self.page.url:
            prove(self.page, self.demo, self.login)

    def let_in(self, address: str) -> str:
        """The page that a client opened: read it and agree. Answers what it showed."""
        self.open(address)
        shown: str = self.page.locator("main").inner_text()
        self.page.get_by_role("button", name="Let it in").click()
        return shown

    def say_no(self, address: str) -> None:
        self.open(address)
        self.page.get_by_role("button", name="No", exact=True).click()
        self.page.get_by_role("link", name="Tell the program").click()

    def type_code(self, address: str, code: str) -> str:
        """The page of codes: type one, compare it, agree. Answers what was to be compared."""
        self.open(address)
        field = self.page.get_by_label("Code")
        expect(field).to_have_value("")
        field.fill(code)
        self.page.get_by_role("button", name="Continue").click()
        shown: str = self.page.locator("main").inner_text()
        self.page.get_by_role("button", name="Let it in").click()
        expect(self.page.get_by_role("heading", name="It is let in")).to_be_visible()
        return shown

    def choose_role(self, address: str, account: str, role: str) -> str:
        """The page that `aws login` opened: choose, read, agree. Answers what it showed."""
        self.open(address)
        self.page.locator("section.account", has_text=account).get_by_role(
            "link", name=f"Choose {role}"
        ).click()
        shown: str = self.page.locator("main").inner_text()
        self.page.get_by_role("button", name="Let it in").click()
        return shown

    def choose_role_elsewhere(self, address: str, account: str, role: str) -> str:
        """The same for a terminal on another computer. Answers the code that is to be typed there."""
        self.choose_role(address, account, role)
        return str(self.page.locator("[data-keys] [data-text]").text_content()).strip()

    def config(self, **wish: str) -> str:
        """The file that the page Terminal offers."""
        address = f"{self.demo.stage.origin}/terminal/config"
        answer = self.page.request.get(address, params=wish, max_redirects=0)
        if not answer.ok:
            self.open("/terminal/")
            answer = self.page.request.get(address, params=wish, max_redirects=0)
        assert answer.ok, answer.text()
        text: str = answer.text()
        return text

    def script_token(self, label: str) -> str:
        self.open("/terminal/")
        self.page.locator("summary", has_text="Make a token").click()
        self.page.get_by_label("Name", exact=True).fill(label)
        self.page.get_by_role("button", name="Make the token").click()
        token = self.page.locator("[data-keys] [data-text]").first
        expect(token).to_be_attached()
        return str(token.text_content()).strip()

    def end_newest_terminal(self) -> None:
        self.open("/terminal/")
        self.page.get_by_role("link", name=re.compile("^End")).first.click()
        self.page.get_by_role("button", name="End terminal").click()
        expect(self.page.get_by_role("heading", name="Terminal ended")).to_be_visible()
