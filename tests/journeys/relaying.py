"""A company whose AWS trusts its own provider: Daypass in front of moto, and the provider's pages on another site.

Browsers tell sites apart by scheme and host, not by port. So what is to be another site is at another name of this
machine: `localhost` for Daypass behind TLS, `127.0.0.1` for the provider.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import sys
import threading
from datetime import UTC, datetime, timedelta
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.accounts.idp_oidc import ADA, OidcIdp
from tests.accounts.idp_saml import SamlIdp
from tests.product import Product
from tests.relay.test_relayed_assertion import DEVELOPER, PROVIDER_ARN, Application
from tests.servers import free_port, start_aws, start_valkey, wait_for_port

ACCOUNT = "111122223333"


class Company:
    """Daypass under gunicorn with one account: `Developer` by relayed assertion, `Reader` by relayed ID token.

    secure: behind TLS, as `https://localhost`; otherwise in plain http, as the demo is, at `http://127.0.0.1`. The
    provider is at `http://127.0.0.1` always.
    """

    def __init__(self, folder: Path, *, secure: bool) -> None:
        folder.mkdir()
        self.valkey = start_valkey()
        self.aws = start_aws()
        self.sign_in_service = OidcIdp()
        self.port = free_port()
        self.tls = TlsFront(folder, self.port) if secure else None
        self.origin = (
            f"https://localhost:{self.tls.port}" if self.tls else f"http://127.0.0.1:{self.port}"
        )
        self.application = ApplicationPage(f"{self.origin}/saml/globex/aws/")
        self.product = Product(
            folder,
            redis_url=self.valkey.url,
            DAYPASS_MODE="demo",  # production takes no AWS in plain http; everything else is the same
            DAYPASS_ORIGIN=self.origin,
            DAYPASS_BIND=f"127.0.0.1:{self.port}",
            DAYPASS_WEB_PROCESSES="1",
            DAYPASS_STATIC_ROOT=str(folder / "static"),
            DAYPASS_STS_ENDPOINT=self.aws.url,
            DAYPASS_SIGNIN_ENDPOINT=self.aws.signin,
        )
        self.product.manage("collectstatic", "--noinput", "--skip-checks", "-v0")
        (folder / "metadata.xml").write_text(self.application.idp.metadata)
        self.product.python(
            f"""
            from accounts import services
            from accounts.rules import PRESETS
            from tests import factories as make
            by = services.By(id="task:test", name="test")
            globex = services.create_oidc_provider(
                slug="globex", name="Globex", issuer={self.sign_in_service.issuer!r}, by=by, enabled=True,
                client_id={self.sign_in_service.client_id!r}, secret={self.sign_in_service.client_secret!r},
                claim_map=PRESETS["oidc"],
            )
            services.save_application(
                globex, start_url={self.application.url!r}, by=by,
                metadata_xml=open({str(folder / "metadata.xml")!r}).read(),
            )
            payments = make.account("Payments", account_id={ACCOUNT!r}, region="eu-west-1")
            make.role("Developer", of=payments, trust="relayed_assertion", relay_provider=globex)
            reader = make.role("Reader", of=payments, trust="relayed_token", relay_provider=globex)
            make.mapping(make.group("aws-readers", at=globex), reader)
            """
        )
        web = self.product.start([sys.executable, "-m", "gunicorn", "broker.wsgi"])
        wait_for_port(self.port, web, seconds=60)

    def stop(self) -> None:
        self.product.stop()
        self.application.close()
        self.sign_in_service.close()
        if self.tls:
            self.tls.close()
        self.aws.process.terminate()
        self.aws.process.wait(timeout=10)
        self.valkey.stop()


class ApplicationPage:
    """The provider's application for AWS: a page that makes the browser post a signed response to the door at once."""

    def __init__(self, door: str) -> None:
        self.idp = SamlIdp(entity_id="https://idp.example/aws-application")
        page = self
        made = Application(self.idp)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path != "/start/aws":
                    self.send_error(404)
                    return
                answer = made.answer(name_id=str(ADA["sub"]), roles=[f"{DEVELOPER},{PROVIDER_ARN}"])
                body = page.html(door, answer).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/start/aws"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @staticmethod
    def html(door: str, answer: str) -> str:
        return (
            "<!doctype html><title>Globex</title>"
            f'<form method="post" action="{escape(door)}">'
            f'<input type="hidden" name="SAMLResponse" value="{escape(answer)}"></form>'
            "<script>document.forms[0].submit()</script>"
        )

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class TlsFront:
    """The TLS proxy that stands in front of Daypass, with a certificate that nobody vouches for."""

    def __init__(self, folder: Path, behind: int) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate_in(folder))
        self.behind = behind
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.listening.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with (
                self.context.wrap_socket(connection, server_side=True) as outside,
                socket.create_connection(("127.0.0.1", self.behind)) as inside,
            ):
                back = threading.Thread(target=_pass_on, args=(inside, outside), daemon=True)
                back.start()
                _pass_on(outside, inside)
                back.join()
        except OSError:
            return  # a browser that goes away is none of this proxy's business


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return


def certificate_in(folder: Path) -> Path:
    """A new key and a certificate for localhost, signed by itself, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "tls.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path
