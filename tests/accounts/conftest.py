"""Providers of both protocols, connected as an administrator would connect them."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.db import connection, connections

from accounts import services
from accounts.rules import PRESETS
from broker.audit.models import AuditEvent
from tests.accounts.idp_oidc import OidcIdp
from tests.accounts.idp_saml import SamlIdp

BY = services.By(id="task:test", name="test")


@pytest.fixture(scope="session")
def idp() -> SamlIdp:
    return SamlIdp()


@pytest.fixture(scope="session")
def other_idp() -> SamlIdp:
    """Another company's provider, with keys of its own."""
    return SamlIdp(
        entity_id="https://other.example/metadata",
        sso_url="https://other.example/sso",
        slo_url="https://other.example/slo",
    )


@pytest.fixture
def saml_row(db, idp):
    """An enabled SAML provider from pasted metadata."""
    return services.create_provider_from_metadata(
        slug="acme", name="Acme", metadata_xml=idp.metadata, by=BY, enabled=True
    )


@pytest.fixture
def op(settings):
    """An OpenID Connect provider on loopback, which the operator allows to be called."""
    made = OidcIdp()
    settings.DAYPASS_PRIVATE_PROVIDERS = [made.authority]
    yield made
    made.close()


@pytest.fixture
def oidc_row(db, op):
    """An enabled OpenID Connect provider, discovered over real HTTP."""
    return services.create_oidc_provider(
        slug="globex",
        name="Globex",
        issuer=op.issuer,
        client_id=op.client_id,
        secret=op.client_secret,
        by=BY,
        enabled=True,
        claim_map=PRESETS["oidc"],
    )


@pytest.fixture
def published(settings):
    """Metadata at an address: `published.document` is what stands there."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.server.asked.append(self.path)
            body = self.server.document.encode()
            self.send_response(self.server.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads = True
    made.status = 200
    made.asked = []
    made.document = ""
    made.url = f"http://127.0.0.1:{made.server_port}/metadata"
    settings.DAYPASS_PRIVATE_PROVIDERS = [f"127.0.0.1:{made.server_port}"]
    threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def refusals(db):
    """The real reasons of refused sign-ins, as the audit log has them: (code, reason)."""

    def read() -> list[tuple[str, str]]:
        rows = AuditEvent.objects.filter(kind="sign_in.refused").order_by("seq")
        return [(row.data["code"], row.data["reason"]) for row in rows]

    return read


@pytest.fixture
def together(transactional_db, tmp_path):
    """Do something in several threads at the same moment, each with a database connection of its own.

    The in-memory SQLite of tests locks in its own way, so the threads share a file, as processes do; what they did
    is copied back. Answers what each returned or raised.
    """
    path = str(tmp_path / "together.sqlite3")
    sqlite = connection.vendor == "sqlite"

    def in_threads(work: Callable[[], Any], *, times: int) -> list[Any]:
        if sqlite:
            connection.ensure_connection()
            with sqlite3.connect(path) as file:
                connection.connection.backup(file)
            file.close()
        barrier = threading.Barrier(times)
        results: list[Any] = []

        def run() -> None:
            if sqlite:
                own = connection.copy()
                own.settings_dict["NAME"] = path
                connections["default"] = own
            try:
                barrier.wait(timeout=20)
                results.append(work())
            except BaseException as problem:
                results.append(problem)
            finally:
                connections["default"].close()

        threads = [threading.Thread(target=run) for _ in range(times)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if sqlite:
            with sqlite3.connect(path) as file:
                file.backup(connection.connection)
            file.close()
        return results

    return in_threads
