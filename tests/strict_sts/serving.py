"""An HTTP server on loopback, and one that publishes documents."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


class Server:
    """An HTTP server on loopback in threads of this process."""

    def __init__(self) -> None:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                owner.answer(self, body)

            do_GET = do_POST = _any  # noqa: N815  (the names that http.server looks for)

            def log_message(self, *args: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *args: object) -> None:
                pass

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.closing = threading.Event()
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )
        self._thread.start()

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        raise NotImplementedError

    @staticmethod
    def send(
        handler: BaseHTTPRequestHandler, status: int, body: bytes, type_: str, **more: str
    ) -> None:
        handler.send_response_only(status)
        for name, value in (
            {"Content-Type": type_, "Content-Length": str(len(body))} | more
        ).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    def stop(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *args: object) -> None:
        self.stop()


class Published(Server):
    """Where an issuer's documents stand: path -> bytes, or a function that makes them. `fetched` counts by path."""

    def __init__(self, documents: Mapping[str, bytes | Callable[[], bytes]] | None = None) -> None:
        self.documents: dict[str, bytes | Callable[[], bytes]] = dict(documents or {})
        self.fetched: dict[str, int] = {}
        self.slow = 0.0
        super().__init__()

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        path = urlsplit(handler.path).path
        self.fetched[path] = self.fetched.get(path, 0) + 1
        if self.slow:
            self.closing.wait(self.slow)
        found = self.documents.get(path)
        if found is None:
            return self.send(handler, 404, b"", "text/plain")
        content = found() if callable(found) else found
        return self.send(handler, 200, content, "application/json")

    def publish_daypass(self, client: Any, *, below: str = "") -> None:
        """Put Daypass's two documents here as they are served now, as a company does that publishes them elsewhere.

        below: the issuer's path, if it has one; here they stand at the root.
        """
        for name in ("openid-configuration", "jwks.json"):
            served = client.get(f"{below}/.well-known/{name}")
            assert served.status_code == 200, served
            self.documents[f"/.well-known/{name}"] = served.content
