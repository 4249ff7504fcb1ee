"""The break-glass account with a security key as its second factor, in a browser with a key in it."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from playwright.sync_api import expect

from tests.journeys.steps import give_the_password
from tests.servers import Demo


class Keys:
    """Security keys that are plugged into the browser of a page and are touched whenever they are asked."""

    def __init__(self, page) -> None:
        self.session = page.context.new_cdp_session(page)
        self.session.send("WebAuthn.enable")

    def plug_in(self) -> str:
        options = {"protocol": "ctap2", "transport": "usb", "automaticPresenceSimulation": True}
        answer = self.session.send("WebAuthn.addVirtualAuthenticator", {"options": options})
        return str(answer["authenticatorId"])

    def pull_out(self, key: str) -> None:
        self.session.send("WebAuthn.removeVirtualAuthenticator", {"authenticatorId": key})

    def what_is_on(self, key: str) -> list[dict]:
        answer = self.session.send("WebAuthn.getCredentials", {"authenticatorId": key})
        return list(answer["credentials"])

    def put_on(self, key: str, credential: dict) -> None:
        self.session.send(
            "WebAuthn.addCredential", {"authenticatorId": key, "credential": credential}
        )


def forged(credential: dict) -> dict:
    """One that says to be this one, without its private half."""
    private = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
    )
    return credential | {"privateKey": base64.b64encode(private).decode()}


def sign_out(page, demo: Demo) -> None:
    page.goto(f"{demo.stage.origin}/")
    page.locator("details.person summary").click()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_load_state()


@pytest.mark.journey
def test_a_security_key_alone_is_the_second_factor_of_the_emergency_account(empty, page):
    origin = empty.stage.origin
    keys = Keys(page)

    # The first second factor: the key, plugged in when it is asked for. Recovery codes are made with it, and the admin
    # opens.
    give_the_password(page, empty)
    page.get_by_role("link", name="a security key").click()
    expect(page.get_by_role("heading", name="Add a security key")).to_be_visible()
    page.get_by_label("Name").fill("In the safe")
    page.get_by_label("Name").press("Enter")
    expect(page.get_by_role("button", name="Add the key")).to_have_attribute("aria-busy", "true")
    mine = keys.plug_in()
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()
    page.get_by_role("link", name="Go on to the admin").click()
    expect(page.get_by_text("From nothing to the first employee at work")).to_be_visible()
    credential = keys.what_is_on(mine)[0]
    assert credential["rpId"] == "localhost"
    assert credential["isResidentCredential"] is False

    # The password and another key open nothing, nor does one that only claims to be the right one.
    sign_out(page, empty)
    keys.pull_out(mine)
    another = keys.plug_in()
    give_the_password(page, empty)
    page.get_by_role("button", name="Use the security key").click()
    expect(page.get_by_text("The key did not answer.")).to_be_visible()
    keys.put_on(another, forged(credential))
    page.get_by_role("button", name="Use the security key").click()
    expect(page.get_by_text("This is not a security key of this account.")).to_be_visible()
    page.goto(f"{origin}/admin/")
    expect(page.get_by_role("link", name="break-glass")).to_be_visible()

    # The password and the key open the admin.
    page.context.clear_cookies()
    keys.pull_out(another)
    keys.put_on(keys.plug_in(), credential)
    give_the_password(page, empty)
    page.get_by_role("button", name="Use the security key").click()
    page.get_by_role("link", name="Go to the admin").click()
    expect(page.get_by_text("From nothing to the first employee at work")).to_be_visible()
    page.goto(f"{origin}/sign-in/local/second-factor/keys/")
    expect(page.get_by_role("heading", name="In the safe")).to_be_visible()
    expect(page.get_by_text("Last used")).to_be_visible()

    # A key is added once.
    page.get_by_role("link", name="Add a security key").click()
    page.get_by_label("Name").press("Enter")
    expect(page.get_by_text("This key is added already.")).to_be_visible()
