"""A TLS proxy in front of the demo, for clients that want a start URL with https: it passes HEAD and GET on."""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from tests.journeys.relaying import certificate_in


@contextmanager
def tls_front(folder: Path, origin: str) -> Iterator[tuple[str, Path, list[str]]]:
    """Where it is, the certificate that clients have to trust, and the methods that came by."""
    behind = urlsplit(origin)
    came: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def _pass_on(self) -> None:
            came.append(self.command)
            connection = http.client.HTTPConnection("127.0.0.1", behind.port, timeout=30)
            try:
                connection.request(self.command, self.path, headers={"Host": behind.netloc})
                answer = connection.getresponse()
                content = answer.read()
            finally:
                connection.close()
            self.send_response(answer.status)
            if answer.getheader("Location"):
                self.send_header("Location", str(answer.getheader("Location")))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = _pass_on  # noqa: N815  (http.server's names)

        def log_message(self, *_: object) -> None:
            """Nothing is written down."""

    certificate = certificate_in(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"https://localhost:{server.server_address[1]}", certificate, came
    finally:
        server.shutdown()
        server.server_close()
