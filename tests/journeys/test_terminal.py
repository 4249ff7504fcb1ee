"""What people do who work in a terminal: let it in from the browser, by a code from elsewhere, and end it again.

AWS's client here is botocore as it is installed; the CLI's own part, a listener on loopback, is played by the test.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from playwright.sync_api import expect

from tests.journeys.steps import prove, sign_in, sign_out

DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


def client_of(demo, service: str):
    return boto3.client(
        service,
        region_name="eu-central-1",
        endpoint_url=f"{demo.stage.origin}/aws",
        config=Config(signature_version=UNSIGNED, retries={"total_max_attempts": 1}),
    )


class Listener:
    """Where the CLI waits for its code, on a port of its own."""

    def __init__(self) -> None:
        self.came: list[dict[str, list[str]]] = []
        came = self.came

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = urlsplit(self.path)
                if asked.path == "/oauth/callback":
                    came.append(parse_qs(asked.query))
                self.send_response(200)
                self.send_header("Content-Type", "text/plain")
                self.end_headers()
                self.wfile.write(b"You can close this window.")

            def log_message(self, *_: object) -> None:
                """Nothing of tests on the screen."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/oauth/callback"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def listener() -> Iterator[Listener]:
    waiting = Listener()
    yield waiting
    waiting.server.shutdown()
    waiting.server.server_close()


def begin(demo, listener: Listener) -> tuple[dict, str, str]:
    """What `aws sso login` does before it opens the browser: (registration, verifier, address to open)."""
    registration = client_of(demo, "sso-oidc").register_client(
        clientName="botocore-client-northwind",
        clientType="public",
        scopes=["sso:account:access"],
        grantTypes=["authorization_code", "refresh_token"],
        redirectUris=["http://127.0.0.1/oauth/callback"],
    )
    verifier = secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest())
    query = {
        "response_type": "code",
        "client_id": registration["clientId"],
        "redirect_uri": listener.address,
        "state": "the-state-of-this-sign-in",
        "code_challenge_method": "S256",
        "scopes": "sso:account:access",
        "code_challenge": challenge.rstrip(b"=").decode(),
    }
    return registration, verifier, f"/authorize?{urlencode(query)}"


def test_a_terminal_is_let_in_from_the_browser_and_ended_there(demo, listener, page):
    registration, verifier, address = begin(demo, listener)
    sign_in(page, demo, "maya", at=address)

    expect(page.get_by_role("heading", name="terminal in?")).to_be_visible()
    expect(page.get_by_text("botocore-client-northwind")).to_be_visible()
    expect(page.get_by_text("unverified")).to_be_visible()
    page.get_by_role("button", name="Let it in").click()
    page.wait_for_url(f"{listener.address}?**")

    (answer,) = listener.came
    assert answer["state"] == ["the-state-of-this-sign-in"]
    oidc = client_of(demo, "sso-oidc")
    bound = {
        "clientId": registration["clientId"],
        "clientSecret": registration["clientSecret"],
    }
    tokens = oidc.create_token(
        **bound,
        grantType="authorization_code",
        code=answer["code"][0],
        codeVerifier=verifier,
        redirectUri=listener.address,
    )
    tokens = oidc.create_token(
        **bound, grantType="refresh_token", refreshToken=tokens["refreshToken"]
    )
    page.goto(f"{demo.stage.origin}/terminal/")
    row = page.locator("li.session", has_text="botocore-client-northwind").first
    row.get_by_role("link", name="End").click()
    expect(page.get_by_text("AWS cannot take them back")).to_be_visible()
    page.get_by_role("button", name="End terminal").click()
    expect(page.get_by_role("heading", name="Terminal ended")).to_be_visible()
    page.locator("#dialog").get_by_role("button", name="Close").last.click()
    with pytest.raises(ClientError, match="InvalidGrantException"):
        oidc.create_token(**bound, grantType="refresh_token", refreshToken=tokens["refreshToken"])


def test_no_is_said_here_first_and_then_to_the_program(demo, listener, page):
    _, _, address = begin(demo, listener)
    sign_in(page, demo, "aiko", at=address)

    page.get_by_role("button", name="No", exact=True).click()
    expect(page.get_by_role("heading", name="Not let in")).to_be_visible()
    assert not listener.came
    page.get_by_role("link", name="Tell the program").click()
    page.wait_for_url(f"{listener.address}?**")

    assert listener.came == [
        {"error": ["access_denied"], "state": ["the-state-of-this-sign-in"]},
    ]


def test_a_computer_elsewhere_is_let_in_by_its_code_after_a_fresh_sign_in(demo, page):
    oidc = client_of(demo, "sso-oidc")
    registration = oidc.register_client(
        clientName="botocore-client-buildserver", clientType="public"
    )
    bound = {
        "clientId": registration["clientId"],
        "clientSecret": registration["clientSecret"],
    }
    started = oidc.start_device_authorization(**bound, startUrl=f"{demo.stage.origin}/start")
    with pytest.raises(ClientError, match="AuthorizationPendingException"):
        oidc.create_token(**bound, grantType=DEVICE, deviceCode=started["deviceCode"])

    page.goto(started["verificationUriComplete"])
    expect(page.get_by_text("This needs a new sign-in")).to_be_visible()
    prove(page, demo, "maya")
    expect(page.get_by_label("Code")).to_have_value("")
    page.get_by_label("Code").fill(started["userCode"].lower())
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Let this computer in?")).to_be_visible()
    expect(page.get_by_text(started["userCode"])).to_be_visible()
    expect(page.get_by_text("If somebody sent you this code, say no.")).to_be_visible()
    page.get_by_role("button", name="Let it in").click()
    expect(page.get_by_role("heading", name="It is let in")).to_be_visible()

    tokens = oidc.create_token(**bound, grantType=DEVICE, deviceCode=started["deviceCode"])
    assert tokens["accessToken"] and tokens["refreshToken"]
    page.goto(f"{demo.stage.origin}/terminal/")
    expect(page.locator("li.session", has_text="by code").first).to_be_visible()
    sign_out(page)
    with pytest.raises(ClientError, match="InvalidGrantException"):
        oidc.create_token(**bound, grantType="refresh_token", refreshToken=tokens["refreshToken"])


def test_a_token_for_scripts_is_shown_once_and_hidden_until_asked_for(demo, page):
    sign_in(page, demo, "maya", at="/terminal/")

    page.get_by_text("Make a token").click()
    page.get_by_label("Name").fill("nightly backup")
    page.get_by_role("button", name="Make the token").click()
    token = page.locator("[data-text]")
    expect(token).to_be_hidden()
    page.get_by_role("button", name="Show").click()
    expect(token).to_be_visible()
    secret = token.inner_text()
    assert secret.startswith("daypass_script_")

    page.goto(f"{demo.stage.origin}/terminal/")
    expect(page.get_by_text("nightly backup").first).to_be_visible()
    assert secret not in page.content()
