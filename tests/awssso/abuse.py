"""The attacker's tools: AWS's requests as bare JSON, every answer examined, every secret remembered and looked for.

`Cli` speaks through whatever `ask` it is given: Django's test client here, a socket to gunicorn elsewhere.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from django.apps import apps
from django.conf import settings
from django.test import Client
from redis import Redis

from tests.awssso.conformity import Reply, faults, manners
from tests.test_no_secret_stays import encodings

DEVICE = "urn:ietf:params:oauth:grant-type:device_code"

OPERATIONS: Mapping[str, tuple[str, str, str]] = {
    "RegisterClient": ("sso-oidc", "POST", "/aws/client/register"),
    "StartDeviceAuthorization": ("sso-oidc", "POST", "/aws/device_authorization"),
    "CreateToken": ("sso-oidc", "POST", "/aws/token"),
    "ListAccounts": ("sso", "GET", "/aws/assignment/accounts"),
    "ListAccountRoles": ("sso", "GET", "/aws/assignment/roles"),
    "GetRoleCredentials": ("sso", "GET", "/aws/federation/credentials"),
    "Logout": ("sso", "POST", "/aws/logout"),
    "CreateOAuth2Token": ("signin", "POST", "/aws/v1/token"),
}
"""Operation -> service, method, address."""

SECRETS = {
    *("clientSecret", "deviceCode", "userCode", "accessToken", "refreshToken"),
    *("secretAccessKey", "sessionToken", "idToken"),
}
"""Members of answers that nobody else may ever see."""

Ask = Callable[[str, str, bytes | None, Mapping[str, str]], Reply]


def through(client: Client) -> Ask:
    """Ask in this process, with Django's own check of forged posts switched on by whoever made the client."""

    def ask(method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
        more = {k: v for k, v in headers.items() if k.lower() != "content-type"}
        kind = next((v for k, v in headers.items() if k.lower() == "content-type"), "")
        answer = client.generic(
            method,
            path,
            data=body or b"",
            content_type=kind or "application/json",
            secure=True,
            headers=more,
        )
        found = {name.lower(): value for name, value in answer.items()}
        if answer.cookies:
            found["set-cookie"] = answer.cookies.output(header="", sep=";")
        return Reply(answer.status_code, found, answer.content)

    return ask


def stranger(address: str = "198.51.100.23", **cookies: str) -> Client:
    """A program somewhere that Daypass has never seen."""
    made = Client(
        enforce_csrf_checks=True,
        raise_request_exception=False,
        headers={"host": "daypass.test", "user-agent": "aws-cli/2.38.1 os/linux"},
        REMOTE_ADDR=address,
    )
    made.cookies.load(cookies)
    return made


@dataclass
class Cli:
    """A client of AWS's protocols that checks whatever it is told, and keeps all secrets it ever saw in `seen`."""

    ask: Ask
    seen: list[str] = field(default_factory=list)
    id: str = ""
    secret: str = ""

    def call(
        self,
        operation: str,
        members: Mapping[str, object] | None = None,
        *,
        bearer: str | None = None,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One call. Whatever is answered has to be what the operation's model allows."""
        service, method, path = OPERATIONS[operation]
        sent = {"Content-Type": "application/json", **(headers or {})}
        if bearer is not None:
            sent["x-amz-sso_bearer_token"] = bearer
        body = raw
        if method == "GET":
            path += f"?{urlencode(dict(members or {}))}" if members else ""
        elif body is None and service != "sso":
            body = json.dumps(members or {}).encode()
        reply = self.ask(method, path, body, sent)
        told = faults(service, operation, reply)
        assert told == [], (operation, members, reply.status, reply.body[:500], told)
        self.remember(reply)
        return reply

    def remember(self, reply: Reply) -> None:
        def walk(value: Any) -> None:
            if isinstance(value, dict):
                for name, inner in value.items():
                    if name in SECRETS and isinstance(inner, str):
                        self.seen.append(inner)
                    else:
                        walk(inner)

        walk(reply.json)

    def register(self, **more: object) -> Reply:
        """Register as the AWS CLI does for the code flow, or as `more` says; it is this client from now on."""
        wish: dict[str, object] = {
            "clientName": "botocore-client-test",
            "clientType": "public",
            "scopes": ["sso:account:access"],
            "grantTypes": ["authorization_code", "refresh_token"],
            "redirectUris": ["http://127.0.0.1/oauth/callback"],
            "issuerUrl": "https://identitycenter.amazonaws.com/ssoins-test",
        } | more
        reply = self.call("RegisterClient", {k: v for k, v in wish.items() if v is not None})
        if not reply.fault:
            self.id, self.secret = reply.json["clientId"], reply.json["clientSecret"]
        return reply

    def register_for_device(self, **more: object) -> Reply:
        return self.register(grantTypes=None, redirectUris=None, issuerUrl=None, **more)

    @property
    def itself(self) -> dict[str, object]:
        return {"clientId": self.id, "clientSecret": self.secret}

    def start(self) -> Reply:
        return self.call(
            "StartDeviceAuthorization", {**self.itself, "startUrl": "https://daypass.test/start"}
        )

    def token(self, grant: str, **members: object) -> Reply:
        return self.call("CreateToken", {**self.itself, "grantType": grant, **members})

    def poll(self, device_code: str) -> Reply:
        return self.token(DEVICE, deviceCode=device_code)

    def exchange(self, code: str, verifier: object, redirect: object) -> Reply:
        self.seen.append(code)
        return self.token(
            "authorization_code", code=code, codeVerifier=verifier, redirectUri=redirect
        )

    def refresh(self, token: str) -> Reply:
        return self.token("refresh_token", refreshToken=token)

    def accounts(self, bearer: str) -> Reply:
        return self.call("ListAccounts", bearer=bearer)

    def roles(self, bearer: str, account: str) -> Reply:
        return self.call("ListAccountRoles", {"account_id": account}, bearer=bearer)

    def credentials(self, bearer: str, account: str, role: str) -> Reply:
        return self.call(
            "GetRoleCredentials", {"account_id": account, "role_name": role}, bearer=bearer
        )

    def logout(self, bearer: str) -> Reply:
        return self.call("Logout", bearer=bearer)

    def odd(
        self,
        operation: str,
        body: bytes | None = None,
        *,
        method: str = "",
        path: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Something that is no call: it has to be refused with good manners and without a server error."""
        _, usual, address = OPERATIONS[operation]
        sent = {"Content-Type": "application/json", **(headers or {})}
        reply = self.ask(method or usual, path or address, body, sent)
        told = list(manners(reply))
        assert told == [], (operation, method, path, (body or b"")[:80], reply.status, told)
        assert 400 <= reply.status < 500, (operation, (body or b"")[:80], reply.status, reply.body)
        assert reply.fault, (operation, reply.status)
        return reply


# --- Looking for what was seen


class Everything(logging.Handler):
    """Every log record of this process, of whatever level, with all that hangs on it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage() + repr(
            {k: v for k, v in record.__dict__.items() if k not in ("msg", "args")}
        )
        if record.exc_info:
            text += logging.Formatter().formatException(record.exc_info)
        self.texts.append(text)


@contextmanager
def listening() -> Iterator[Everything]:
    """All loggers at DEBUG, those that keep to themselves too, into one list."""
    ear = Everything()
    root = logging.getLogger()
    named = [logging.getLogger(name) for name in [*logging.root.manager.loggerDict]]
    alone = [root, *(one for one in named if not one.propagate)]
    before = {one: one.level for one in (root, *named)}
    for one in (root, *named):
        if one is root or one.name.split(".")[0] in ("daypass", "django", "broker", "accounts"):
            one.setLevel(logging.DEBUG)
    for one in alone:
        one.addHandler(ear)
    try:
        yield ear
    finally:
        for one in alone:
            one.removeHandler(ear)
        for one, level in before.items():
            one.setLevel(level)


def database_text() -> dict[str, str]:
    """Everything that every table holds, as text; browser sessions also decoded."""
    kept = {
        model._meta.db_table: repr(list(model._base_manager.values_list()))
        for model in apps.get_models(include_auto_created=True)
        if model._meta.managed
    }
    from django.contrib.sessions.models import Session as BrowserSession

    kept["decoded sessions"] = repr([one.get_decoded() for one in BrowserSession.objects.all()])
    return kept


def cache_text() -> str:
    """Everything that Valkey holds."""
    store = Redis.from_url(str(settings.CACHES["default"]["LOCATION"]))
    readers = {b"string": store.get, b"hash": store.hgetall, b"set": store.smembers}
    return repr(
        [
            (key, readers.get(store.type(key), lambda name: store.dump(name))(key))
            for key in store.keys("*")
        ]
    )


def where_is(secrets: list[str], ear: Everything | None = None) -> set[tuple[str, str]]:
    """(place, begin of the secret) for each secret that was kept somewhere."""
    places = database_text() | {"cache": cache_text()}
    if ear is not None:
        places["logs"] = "\n".join(ear.texts)
    found = set()
    for secret in secrets:
        forms = {secret.encode(), *encodings(secret)} if len(secret) > 16 else {secret.encode()}
        for place, text in places.items():
            if any(form in text.encode("utf-8", "surrogatepass") for form in forms):
                found.add((place, secret[:14]))
    return found
