"""What stands between clients of S3 and moto: notes whose keys a request is signed with, and passes it on.

Tools that only read and write objects never say who they are; their requests do.
"""

from __future__ import annotations

import http.client
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import boto3


class Counter:
    """An S3 at `url`. keys: the access keys that came by, in their order."""

    def __init__(self, aws: str) -> None:
        self.keys: list[str] = []
        self._aws = aws
        counter, behind = self, urlsplit(aws).netloc

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass_on(self) -> None:
                signed = re.search(r"Credential=(\w+)/", self.headers.get("Authorization", ""))
                if signed:
                    counter.keys.append(signed[1])
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                connection = http.client.HTTPConnection(behind, timeout=30)
                try:
                    connection.request(self.command, self.path, body, dict(self.headers))
                    answer = connection.getresponse()
                    content = answer.read()
                finally:
                    connection.close()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() in ("content-type", "etag", "last-modified"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on  # noqa: N815  (http.server's names)

            def log_message(self, *_: object) -> None:
                """Nothing is written down."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def who_came(self) -> list[str]:
        """The ARNs behind the keys, as AWS tells them."""
        return [whose(key, self._aws) for key in dict.fromkeys(self.keys)]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def whose(key: str, aws: str) -> str:
    """moto asks for no signature: the name of a key is enough to be told whose it is."""
    sts = boto3.client(
        "sts",
        region_name="eu-west-1",
        endpoint_url=aws,
        aws_access_key_id=key,
        aws_secret_access_key="not asked for",
    )
    arn: str = sts.get_caller_identity()["Arn"]
    return arn


@contextmanager
def counting(aws: str) -> Iterator[Counter]:
    counter = Counter(aws)
    try:
        yield counter
    finally:
        counter.close()
