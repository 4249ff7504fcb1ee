"""Signing in with nothing but boto3, as the AWS CLI does: for SDKs that use a sign-in but bring none of their own."""

from __future__ import annotations

import base64
import configparser
import hashlib
import secrets
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import uuid4

import boto3
from botocore import UNSIGNED
from botocore.config import Config

from tests.clients.homes import Home


class Callback:
    """The address on this computer to which the browser brings the answer."""

    def __init__(self) -> None:
        self.answer: dict[str, str] = {}
        self._came = threading.Event()
        callback = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = parse_qs(urlsplit(self.path).query)
                if "code" in asked or "error" in asked:
                    callback.answer = {name: values[0] for name, values in asked.items()}
                    callback._came.set()
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"OK")

            def log_message(self, *_: object) -> None:
                """A code is no business of a log."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/oauth/callback"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def wait(self) -> dict[str, str]:
        assert self._came.wait(30), "the browser never came back"
        return self.answer

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def sign_in_by_pkce(home: Home, let_in: Callable[[str], None]) -> None:
    """Keep a token in the home as `aws sso login` would. let_in: opens an address in a browser and agrees there."""
    session, start_url, region = sso_session(home)
    oidc = boto3.client(
        "sso-oidc",
        region_name="eu-west-1",
        endpoint_url=f"{home.demo.stage.origin}/aws",
        config=Config(signature_version=UNSIGNED),
    )
    client = oidc.register_client(
        clientName="botocore-client-daypass",
        clientType="public",
        grantTypes=["authorization_code", "refresh_token"],
        redirectUris=["http://127.0.0.1/oauth/callback"],
        issuerUrl=start_url,
        scopes=["sso:account:access"],
    )
    verifier, state = secrets.token_urlsafe(48), str(uuid4())
    digest = hashlib.sha256(verifier.encode()).digest()
    callback = Callback()
    try:
        query = {
            "response_type": "code",
            "client_id": client["clientId"],
            "redirect_uri": callback.url,
            "state": state,
            "code_challenge_method": "S256",
            "scopes": "sso:account:access",
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        }
        let_in(f"{home.demo.stage.origin}/authorize?{urlencode(query)}")
        answer = callback.wait()
    finally:
        callback.close()
    assert answer.get("state") == state, answer
    given = oidc.create_token(
        clientId=client["clientId"],
        clientSecret=client["clientSecret"],
        grantType="authorization_code",
        code=answer["code"],
        codeVerifier=verifier,
        redirectUri=callback.url,
    )
    ends = datetime.now(UTC) + timedelta(seconds=given["expiresIn"])
    home.keep_token(
        hashlib.sha1(session.encode()).hexdigest(),
        {
            "startUrl": start_url,
            "region": region,
            "accessToken": given["accessToken"],
            "expiresAt": _written(ends),
            "clientId": client["clientId"],
            "clientSecret": client["clientSecret"],
            "registrationExpiresAt": _written(
                datetime.fromtimestamp(client["clientSecretExpiresAt"], UTC)
            ),
            "refreshToken": given["refreshToken"],
        },
    )


def sso_session(home: Home) -> tuple[str, str, str]:
    """Name, start URL and region of the session in the home's config."""
    config = configparser.RawConfigParser()
    config.read(home.config)
    section = next(name for name in config.sections() if name.startswith("sso-session "))
    return (
        section.removeprefix("sso-session "),
        config[section]["sso_start_url"],
        config[section]["sso_region"],
    )


def profile(home: Home, account: str, role: str) -> str:
    """The name of the profile of a role in the home's config."""
    config = configparser.RawConfigParser()
    config.read(home.config)
    return next(
        name.removeprefix("profile ")
        for name in config.sections()
        if config.get(name, "sso_account_id", fallback="") == account
        and config.get(name, "sso_role_name", fallback="") == role
    )


def _written(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")
