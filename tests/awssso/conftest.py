"""Daypass over real HTTP in this process, and AWS's own clients pointed at it."""

from __future__ import annotations

import base64
import hashlib
import secrets
import threading
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from django.conf import settings as django_settings
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection, connections
from django.test import Client
from django.utils import timezone

from accounts import browser as browser_session
from accounts import services as accounts
from accounts.identity import Principal
from accounts.models import Person
from accounts.queries import principal_of
from broker.awssso import registrations, rules, services
from broker.awssso.models import Terminal
from broker.awssso.registrations import Registration
from broker.awssso.services import Asker, LetIn, Tokens
from tests import factories as make
from tests.aws.servers import _sts_server, sts_stand_in  # noqa: F401  (fixtures)

REDIRECT = "http://127.0.0.1:39953/oauth/callback"
SCOPE = "sso:account:access"
TERMINAL_ADDRESS = "198.51.100.23"
AWS_CLI = "aws-cli/2.38.1 md/awscrt#0.31 ua/2.1 os/linux"


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Nothing of tests on the screen."""


@dataclass
class Daypass:
    """Daypass behind one port of loopback. It answers one request at a time, each over a connection of its own."""

    url: str
    requests: list[tuple[str, str]] = field(default_factory=list)

    @property
    def aws(self) -> str:
        """What people write as endpoint_url."""
        return f"{self.url}/aws"

    def oidc(self, **config: Any) -> Any:
        """botocore's client of sso-oidc, as the AWS CLI makes it."""
        return self._client("sso-oidc", config)

    def sso(self, **config: Any) -> Any:
        """botocore's client of the sso portal."""
        return self._client("sso", config)

    def _client(self, service: str, config: dict[str, Any]) -> Any:
        config.setdefault("retries", {"max_attempts": 1})
        return boto3.session.Session().client(
            service,
            region_name="broker",
            endpoint_url=self.aws,
            config=Config(signature_version=UNSIGNED, **config),
        )

    def browser(self) -> Client:
        """A browser without a session, at this server's origin."""
        return Client(headers={"host": self.url.removeprefix("http://")})

    def sign_in(self, person: Person, *, at: datetime | None = None, mfa: bool = False) -> Client:
        """A browser in which the person signed in through their provider, as the sign-in itself would leave it."""
        client = self.browser()
        client.force_login(person, backend=django_settings.AUTHENTICATION_BACKENDS[0])
        session = client.session
        browser_session.begin(
            SimpleNamespace(session=session),
            person,
            make.proof(at=at, mfa=mfa, of=person.provider),
            now=timezone.now(),
        )
        session.save()
        return client


@pytest.fixture
def daypass(transactional_db, settings):
    """A live Daypass (see `Daypass`). Underscores in headers pass, as they have to everywhere."""
    server = WSGIServer(("127.0.0.1", 0), _Quiet)
    url = f"http://127.0.0.1:{server.server_port}"
    settings.DAYPASS_ORIGIN = url
    settings.ALLOWED_HOSTS = ["127.0.0.1"]
    stage = Daypass(url)
    handler = WSGIHandler()

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        stage.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        return handler(environ, start_response)

    server.set_app(application)
    in_memory = connection.vendor == "sqlite" and connection.is_in_memory_db()
    shared = connections["default"] if in_memory else None
    if shared is not None:
        shared.inc_thread_sharing()

    def serve() -> None:
        if shared is not None:
            connections["default"] = shared
        try:
            server.serve_forever(poll_interval=0.01)
        finally:
            if shared is None:
                connections.close_all()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield stage
    server.shutdown()
    thread.join(timeout=10)
    server.server_close()
    if shared is not None:
        shared.dec_thread_sharing()


# --- The same without HTTP: what the services give


def register(name: str = "botocore-client-dev", **more: object) -> tuple[Registration, str]:
    """A client as the AWS CLI registers itself for PKCE, unless said otherwise."""
    request: dict[str, object] = {
        "clientName": name,
        "clientType": "public",
        "scopes": [SCOPE],
        "grantTypes": ["authorization_code", "refresh_token"],
        "redirectUris": ["http://127.0.0.1/oauth/callback"],
    } | more
    return registrations.register(request, now=timezone.now())


def register_for_device(name: str = "botocore-client-dev") -> tuple[Registration, str]:
    return registrations.register({"clientName": name, "clientType": "public"}, now=timezone.now())


def pkce() -> tuple[str, str]:
    """A verifier and its challenge."""
    verifier = secrets.token_urlsafe(48)
    digest = hashlib.sha256(verifier.encode()).digest()
    return verifier, base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def principal(person: Person, *, at: datetime | None = None) -> Principal:
    return principal_of(person, make.proof(at=at, of=person.provider), address="198.51.100.7")


def let_in(
    person: Person,
    registration: Registration | None = None,
    *,
    kind: str = Terminal.Kind.SSO,
    flow: str = Terminal.Flow.BROWSER,
    line: str = "line-of-a-browser",
    relay: str = "",
    lasts: timedelta = timedelta(hours=8),
    now: datetime | None = None,
    **more: Any,
) -> Terminal:
    """A terminal of this person, let in just now from a browser session that lasts so long."""
    now = now or timezone.now()
    return services.let_in(
        principal(person, at=now),
        LetIn(
            kind=kind,
            flow=flow,
            client_name=registration.name if registration else "a client",
            client_digest=registration.digest if registration else rules.digest("a client"),
            asker=Asker(TERMINAL_ADDRESS, AWS_CLI),
            **more,
        ),
        line=line,
        relay=relay,
        browser_ends=now + lasts,
        now=now,
    )


def signed_in_terminal(
    person: Person, *, now: datetime | None = None, **more: Any
) -> tuple[Terminal, Tokens, Registration, str]:
    """A terminal with its first pair of tokens, and the registration (with its secret) that they are bound to."""
    registration, secret = register()
    terminal = let_in(person, registration, now=now, **more)
    tokens = services.give_tokens(terminal, now=now or timezone.now())
    return terminal, tokens, registration, secret


def browser_of(client: Client) -> tuple[str, str, datetime]:
    """line, relay and end of a signed-in test browser: what letting in wants to know of it."""
    session = client.session
    return (
        browser_session.line_of(session),
        accounts.relay_reference(session.session_key),
        browser_session.ends_at(session),
    )


@pytest.fixture
def ada(db) -> Person:
    """Somebody with one fresh group."""
    return make.person("ada", name="Ada Lindqvist", groups=[make.group("developers")])
