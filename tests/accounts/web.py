"""A browser for sign-in tests: it keeps cookies and knows the page that leads to a provider."""

from __future__ import annotations

import re
from html import unescape
from urllib.parse import parse_qs, urlsplit

from django.test import Client

ORIGIN = "https://daypass.test"


def browser() -> Client:
    return Client(headers={"host": "daypass.test"}, raise_request_exception=True)


def start(client: Client, slug: str, *, to: str = "", fresh: bool = False) -> str:
    """Begin a sign-in; the address at the provider to which the page leads."""
    fields = {}
    if to:
        fields["to"] = to
    if fresh:
        fields["fresh"] = "1"
    answer = client.post(f"/sign-in/{slug}/", fields, secure=True)
    assert answer.status_code == 200, answer.content
    return destination(answer)


def destination(answer) -> str:
    """Where a page that leads on by itself goes."""
    found = re.search(r'http-equiv="refresh" content="0;url=([^"]+)"', answer.content.decode())
    assert found, answer.content.decode()
    return unescape(found[1])


def query(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def is_signed_in(client: Client) -> bool:
    return "_auth_user_id" in client.session
