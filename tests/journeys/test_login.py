"""`aws login` in a real browser: the role is picked, the code arrives, and boto3 works and renews by itself."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

import boto3
import jwt
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.credentials import _build_add_dpop_header_handler

from tests.journeys.steps import prove, role_row, sign_in

crypto = pytest.importorskip("awscrt.crypto")

SAME, CROSS = (f"arn:aws:signin:::devtools/{name}-device" for name in ("same", "cross"))


class Cli:
    """What AWS's CLI does for `aws login`: a listener, an address to open, a key, and botocore's own client."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.arrived: list[dict[str, list[str]]] = []
        self.state = str(uuid.uuid4())
        self.verifier = secrets.token_urlsafe(48)
        cli = self

        class Listener(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                cli.arrived.append(parse_qs(urlsplit(self.path).query))
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(b"<title>Done</title><h1>You can close this window</h1>")

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Listener)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.callback = f"http://127.0.0.1:{self.server.server_port}/oauth/callback"
        self.key = crypto.EC.new_generate(crypto.ECType.P_256)
        self.signin = boto3.session.Session().client(
            "signin",
            region_name="eu-west-1",
            endpoint_url=f"{origin}/aws",
            config=Config(signature_version=UNSIGNED),
        )
        self.signin.meta.events.register(
            "before-call.signin.CreateOAuth2Token", _build_add_dpop_header_handler(self.key)
        )

    def address(self, *, remote: bool = False) -> str:
        self.client_id = CROSS if remote else SAME
        self.redirect_uri = f"{self.origin}/v1/sessions/confirmation" if remote else self.callback
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return f"{self.origin}/v1/authorize?" + urlencode(
            {
                "response_type": "code",
                "client_id": self.client_id,
                "state": self.state,
                "code_challenge_method": "SHA-256",
                "scope": "openid",
                "redirect_uri": self.redirect_uri,
                "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            }
        )

    def exchange(self, code: str) -> dict[str, object]:
        return self._token(
            grantType="authorization_code",
            code=code,
            codeVerifier=self.verifier,
            redirectUri=self.redirect_uri,
        )

    def renew(self, token: str) -> dict[str, object]:
        return self._token(grantType="refresh_token", refreshToken=token)

    def _token(self, **body: str) -> dict[str, object]:
        whole = {"clientId": self.client_id, **body}
        found: dict[str, object] = self.signin.create_o_auth2_token(tokenInput=whole)["tokenOutput"]
        return found

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def cli(demo) -> Iterator[Cli]:
    started = Cli(demo.stage.origin)
    yield started
    started.close()


def choose(page, account: str, role: str) -> None:
    page.get_by_role("searchbox").fill(f"{account} {role}")
    row = role_row(page, account, role)
    row.get_by_role("link", name="Choose").click()


def test_a_role_is_picked_and_the_program_on_this_computer_gets_its_keys(page, demo, cli):
    page.goto(cli.address())
    prove(page, demo, "maya")
    choose(page, "Web shop staging", "Developer")
    page.get_by_role("button", name="Let it in").click()
    page.get_by_role("heading", name="You can close this window").wait_for()

    (arrived,) = [one for one in cli.arrived if "code" in one]
    assert arrived["state"] == [cli.state]
    first = cli.exchange(arrived["code"][0])
    identity = jwt.decode(first["idToken"], options={"verify_signature": False})["sub"]
    assert ":assumed-role/Developer/" in identity
    renewed = cli.renew(first["refreshToken"])
    assert renewed["accessToken"]["accessKeyId"] != first["accessToken"]["accessKeyId"]

    page.goto(f"{demo.stage.origin}/terminal/")
    page.get_by_text("aws login", exact=True).first.wait_for()


def test_a_code_is_carried_to_another_computer(page, demo, cli):
    page.goto(cli.address(remote=True))
    prove(page, demo, "maya")
    choose(page, "Web shop staging", "Developer")
    page.get_by_role("button", name="Let it in").click()
    shown = page.locator("[data-text]").inner_text()

    assert "code=" not in page.url
    carried = parse_qs(base64.b64decode(shown).decode())
    assert carried["state"] == [cli.state]
    assert cli.exchange(carried["code"][0])["accessToken"]


def test_no_is_told_to_the_program_when_the_person_likes(page, demo, cli):
    sign_in(page, demo, "maya")
    page.goto(cli.address())
    choose(page, "Web shop staging", "Developer")
    page.get_by_role("button", name="No", exact=True).click()
    page.get_by_role("link", name="Tell the program").click()
    page.get_by_role("heading", name="You can close this window").wait_for()

    (arrived,) = [one for one in cli.arrived if "error" in one]
    assert arrived == {"error": ["access_denied"], "state": [cli.state]}
    assert json.dumps(cli.arrived).count("code") == 0
