"""Every address of Daypass: who may pass, and that none shows its inside to somebody without the right.

The list is complete by test: a new address has to say here for whom it is.
"""

from __future__ import annotations

import re
import uuid

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from tests import factories as make
from tests.accounts import web
from tests.accounts.test_break_glass import break_glass
from tests.aws.servers import _sts_server, sts_stand_in  # noqa: F401  (fixtures)
from tests.portal.conftest import sign_in

pytestmark = pytest.mark.django_db

STRANGERS = {
    "sign_in": "begins a sign-in",
    "sign_in_start": "begins a sign-in, by POST",
    "local_sign_in": "the break-glass door",
    "account_login": "the break-glass door",
    "mfa_authenticate": "its second step, for whoever took the first",
    "sign_out": "ends a session, by POST",
    "signed_out": "says that it ended",
    "saml_metadata": "public by its nature",
    "saml_acs": "takes answers of providers",
    "saml_acs_finish": "takes the kept answer, of the browser that brought it",
    "saml_confirm": "asks before a sign-in that began at the provider",
    "saml_sls": "takes signed logout messages",
    "relay_aws": "takes answers for AWS that somebody here asked for",
    "relay_aws_finish": "takes the kept one, of the session that asked",
    "oidc_callback": "takes authorization responses",
    "oidc_logout": "takes signed logout tokens",
    "openid_configuration": "public by its nature",
    "jwks": "public by its nature",
    "aws_saml_metadata": "public by its nature",
    "terminal_start": "leads to the page Terminal, and AWS's clients to an identifier",
    "header_test": "says what became of a header",
    "sso_register_client": "registers a client of AWS, which proves nothing",
    "sso_start_device": "gives a registered client a code for somebody to type",
    "sso_create_token": "takes codes and refresh tokens of clients that were let in",
    "login_authorize": "asks whoever a client of AWS sent to sign in, or says what is wrong",
    "login_confirmation": "says that there is nothing to see",
    "login_token": "takes codes and refresh tokens of aws login, with a proof of its key",
    "sso_list_accounts": "wants the token of a client that somebody let in",
    "sso_list_account_roles": "wants the token of a client that somebody let in",
    "sso_get_role_credentials": "wants the token of a client that somebody let in",
    "sso_logout": "wants the token of a client that somebody let in",
    "machine_process": "wants a script token",
    "machine_container": "wants a script token",
    "sso_unknown": "says to AWS's clients that there is nothing",
    "authorize": "says what is wrong with a program's request, or begins a sign-in",
}
"""Address -> why a stranger may knock."""

PEOPLE = {"home", "role", "pin", "open_console", "get_keys", "go", "sessions", "live"}
PEOPLE |= {"session_end", "relay_start"}
PEOPLE |= {"device", "terminal", "terminal_end", "script_token", "terminal_config"}
PEOPLE |= {"terminal_compare", "terminal_room"}
STAFF = {"provider_test_start", "provider_test_result"}
BREAK_GLASS = "mfa_ account_"
"""Names that begin so: only for the local account."""


def patterns() -> list[tuple[str, str]]:
    """(name, path) of every address outside the admin, which tests/admin/test_doors.py walks."""
    found = []

    def walk(entries: list, before: str) -> None:
        for entry in entries:
            route = before + str(entry.pattern)
            if isinstance(entry, URLResolver):
                if entry.namespace != "admin":
                    walk(entry.url_patterns, route)
            else:
                assert isinstance(entry, URLPattern)
                found.append((str(entry.name), "/" + _filled(route)))

    walk(get_resolver().url_patterns, "")
    return found


def _filled(route: str) -> str:
    route = re.sub(r"<uuid:\w+>", str(uuid.UUID(int=1)), route)
    route = re.sub(r"<int:\w+>", "1", route)
    return re.sub(r"<(?:slug|str):\w+>", "acme", route)


def test_every_address_says_for_whom_it_is():
    names = {name for name, _ in patterns()}
    assert len(names) > 30

    local = {name for name in names if name.startswith(tuple(BREAK_GLASS.split()))}
    known = set(STRANGERS) | PEOPLE | STAFF | local

    assert names - known == set()
    assert (set(STRANGERS) | PEOPLE | STAFF) - names == set()


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete", "options", "trace"])
def test_a_stranger_gets_no_further_than_the_doors(method):
    client = Client(headers={"host": "daypass.test"})
    for name, path in patterns():
        answer = getattr(client, method)(path, secure=True)
        assert answer.status_code < 500, (method, path)
        if name in STRANGERS:
            continue
        assert answer.status_code in (302, 403, 404, 405), (method, path, answer.status_code)
        if answer.status_code == 302:
            assert answer["Location"].startswith(("/sign-in/", "/admin/login/")), path


@pytest.mark.parametrize("method", ["get", "post"])
def test_an_employee_gets_no_further_than_their_own_pages(method):
    client = sign_in(make.person("grace", at=make.provider("acme")))
    for name, path in patterns():
        if name in PEOPLE or name in STRANGERS:
            continue
        answer = getattr(client, method)(path, secure=True)
        assert answer.status_code in (403, 404, 405), (method, path, answer.status_code)


def test_the_break_glass_account_reaches_no_role_and_no_keys():
    password = break_glass()
    client = web.browser()
    client.post("/sign-in/local/", {"login": "break-glass", "password": password}, secure=True)

    for name, path in patterns():
        if name not in PEOPLE:
            continue
        answer = client.get(path, secure=True)  # no second factor yet
        assert (answer.status_code, answer["Location"]) == (302, reverse("mfa_activate_totp"))


DIAGNOSTICS = (
    *("debug", "__debug__", "metrics", "status", "server-status", "info", "version", "env"),
    *("config", "trace", "silk", "flower", "actuator", "actuator/health", "phpinfo", "heapdump"),
    *("health", "health/", "healthz", "readyz", "api", "api/", "docs", "schema", "openapi.json"),
    *(".env", ".git/HEAD", "admin/doc/", "admin/jsi18n/../../debug", "static/", "static/../x"),
)


@pytest.mark.parametrize("path", DIAGNOSTICS)
def test_there_is_no_diagnostic_address(path):
    for client in (web.browser(), sign_in(make.person("grace", at=make.provider("acme")))):
        answer = client.get(f"/{path}", secure=True)

        assert answer.status_code in (301, 302, 400, 403, 404), path
        assert "Traceback" not in answer.content.decode()


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
def test_health_says_no_more_than_well_or_not(path, settings):
    answer = Client().get(path)

    assert set(answer.json()) <= {"status", "database", "redis"}
    assert set(answer.json().values()) <= {"live", "ready", "ok"}
    for secret in ("valkey", "redis://", settings.SECRET_KEY, "5.2"):
        assert secret not in answer.content.decode()


# --- What travels with every answer


def test_pages_of_people_are_kept_by_nobody_and_differ_by_cookie():
    """A shared cache must not show one person's page to another (threats.md R64)."""
    client = sign_in(make.person("grace", at=make.provider("acme")))
    for path in ("/", "/sessions/", "/sessions/live/"):
        answer = client.get(path, secure=True)

        assert answer.status_code == 200, path
        assert "no-store" in answer["Cache-Control"], path
        assert "Cookie" in answer["Vary"], path


def test_what_is_not_public_is_never_cacheable():
    client = Client(headers={"host": "daypass.test"})
    public = {"saml_metadata", "openid_configuration", "jwks", "aws_saml_metadata"}
    for name, path in patterns():
        if name not in public:
            answer = client.get(path, secure=True)
            assert "no-store" in answer["Cache-Control"], path
            assert "public" not in answer["Cache-Control"], path


def test_the_page_with_keys_tells_nobody_anything(sts_stand_in, signing_keys):  # noqa: F811
    """Its headers one by one (threats.md R26)."""
    person = make.person("ada", groups=[make.group("developers")])
    role = make.role("Developer")
    make.mapping(person.memberships.get().group, role)
    client = sign_in(person)

    answer = client.post(f"/keys/{role.pk}/", secure=True)

    assert answer.status_code == 200
    assert "no-store" in answer["Cache-Control"]
    assert answer["Referrer-Policy"] in ("no-referrer", "same-origin")
    assert answer["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer["Cross-Origin-Resource-Policy"] == "same-origin"
    assert answer["X-Frame-Options"] == "DENY"
    policy = answer["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in policy and "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', answer.content.decode())
