"""The internet on loopback: every https address, through one proxy, with certificates of one authority."""

from __future__ import annotations

import threading
from collections.abc import Callable
from socket import socket
from socketserver import BaseRequestHandler, ThreadingTCPServer
from urllib.parse import urlsplit

Page = bytes | Callable[[], bytes]


class Internet:
    """A proxy whose tunnels end in TLS servers of its own: `pages` holds what each path answers."""

    def __init__(self, context_for: Callable[[str], object]) -> None:
        self.pages: dict[str, Page] = {}
        self.answers: dict[str, bytes] = {}
        """Path -> a whole answer, in place of a page."""
        self.down = False
        internet = self

        class Handler(BaseRequestHandler):
            def handle(self) -> None:
                head = _head(self.request)
                if internet.down:
                    return
                host = head.split(b" ")[1].partition(b":")[0].decode()
                self.request.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                with context_for(host).wrap_socket(self.request, server_side=True) as secure:
                    path = urlsplit(_head(secure).split(b" ")[1].decode()).path
                    secure.sendall(internet.answer(path))

        class Server(ThreadingTCPServer):
            daemon_threads = True

            def handle_error(self, *args: object) -> None:
                pass  # a client that does not like the certificate

        self._server = Server(("127.0.0.1", 0), Handler)
        self.proxy = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, path: str) -> bytes:
        if path in self.answers:
            return self.answers[path]
        page = self.pages.get(path)
        if page is None:
            return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        body = page() if callable(page) else page
        return (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
            + str(len(body)).encode()
            + b"\r\n\r\n"
            + body
        )

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _head(connection: socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = connection.recv(1)
        if not piece:
            break
        head += piece
    return head
