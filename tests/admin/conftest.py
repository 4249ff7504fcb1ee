"""A cast for the admin: an administrator by directory group, an employee, and browsers that are signed in as them."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from allauth.mfa.models import Authenticator
from django.test import Client, RequestFactory
from django.utils import timezone

from accounts import browser
from accounts.identity import Proof
from accounts.models import IdentityProvider, Person
from tests import factories as make


def sign_in(client: Client, person: Person, *, mfa: bool = True) -> Client:
    """What a finished sign-in leaves in the browser's session."""
    client.force_login(person, backend="accounts.backends.PersonBackend")
    provider = person.provider
    request = RequestFactory().get("/")
    request.session = client.session
    proof = Proof(
        provider_id=provider.pk if provider else None,
        provider_name=provider.name if provider else "",
        method=provider.protocol if provider else "local",
        at=timezone.now(),
        mfa=mfa,
    )
    browser.begin(request, person, proof, now=timezone.now())
    request.session.save()
    return client


def browser_at_origin() -> Client:
    return Client(headers={"host": "daypass.test"})


@pytest.fixture
def okta(db) -> IdentityProvider:
    return make.provider("okta", name="Okta")


@pytest.fixture
def ada(okta) -> Person:
    """An administrator: a directory group confers it."""
    admins = make.group("daypass-admins", at=okta, confers_staff=True)
    return make.person("ada", groups=[admins], is_staff=True, staff_from_group=True)


@pytest.fixture
def grace(okta) -> Person:
    """An employee."""
    return make.person("grace", at=okta, name="Grace Hopper")


@pytest.fixture
def admin_client(ada) -> Client:
    return sign_in(browser_at_origin(), ada)


@pytest.fixture
def employee_client(grace) -> Client:
    return sign_in(browser_at_origin(), grace)


@pytest.fixture
def emergency(db) -> Person:
    """The local break-glass account, with a second factor."""
    person = Person.objects.create_superuser("emergency", "correct horse battery staple")
    Authenticator.objects.create(
        user=person, type=Authenticator.Type.TOTP, data={"secret": "made up"}
    )
    return person


@dataclass
class Web:
    """A web server on loopback whose pages a test fills in."""

    url: str
    pages: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def json(self, path: str, document: object) -> None:
        self.pages[path] = ("application/json", json.dumps(document).encode())

    def xml(self, path: str, document: str) -> None:
        self.pages[path] = ("application/samlmetadata+xml", document.encode())


@pytest.fixture
def web(settings) -> Iterator[Web]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(self.path)
            kind, body = served.pages.get(self.path, ("text/plain", b"not here"))
            self.send_response(200 if self.path in served.pages else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    host = f"127.0.0.1:{server.server_port}"
    served = Web(f"http://{host}")
    settings.DAYPASS_PRIVATE_PROVIDERS = [host]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield served
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def errors_of() -> Callable[..., dict[str, str]]:
    """The errors of an admin form's answer, by field; above the form under ""."""

    def read(answer: object) -> dict[str, str]:
        form = answer.context["adminform"].form
        return {
            "" if name == "__all__" else name: " ".join(said) for name, said in form.errors.items()
        }

    return read
