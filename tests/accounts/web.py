"""A browser for sign-in tests: it keeps cookies and knows the page that leads to a provider."""

from __future__ import annotations

import re
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from django.test import Client

ORIGIN = "https://daypass.test"


FORM = "application/x-www-form-urlencoded"


class Browser(Client):
    """Django's client, but a form is sent as browsers send one: Daypass's doors take nothing else."""

    def post(self, path: str, data: Any = None, content_type: str = FORM, **more: Any) -> Any:
        if content_type == FORM and not isinstance(data, str | bytes):
            data = urlencode(data or {}, doseq=True)
        return super().post(path, data, content_type, **more)


def browser() -> Client:
    return Browser(headers={"host": "daypass.test"}, raise_request_exception=True)


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


def destination(answer: Any) -> str:
    """Where a page that leads on by itself goes."""
    found = re.search(r'http-equiv="refresh" content="0;url=([^"]+)"', answer.content.decode())
    assert found, answer.content.decode()
    return unescape(found[1])


def query(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def is_signed_in(client: Client) -> bool:
    return "_auth_user_id" in client.session


def post_answer(client: Client, slug: str, answer: str, **fields: str) -> Any:
    """Post a SAML answer and follow to the page that reads it; the last response."""
    posted = client.post(f"/saml/{slug}/acs/", {"SAMLResponse": answer, **fields}, secure=True)
    if posted.status_code != 302:
        return posted
    return client.get(posted["Location"], secure=True)


def saml_sign_in(
    client: Client, idp: Any, slug: str = "acme", *, to: str = "", **answer: Any
) -> Any:
    """A whole SAML sign-in; the last response."""
    return post_answer(client, slug, idp.answer(start(client, slug, to=to), **answer))


def call_back(client: Client, callback: str) -> Any:
    """Follow a provider's redirect to Daypass."""
    assert callback.startswith(ORIGIN)
    return client.get(callback.removeprefix(ORIGIN), secure=True)


def oidc_sign_in(client: Client, op: Any, slug: str = "globex", *, to: str = "") -> Any:
    """A whole OpenID Connect sign-in; the last response."""
    return call_back(client, op.authorize(start(client, slug, to=to)))


def reference_of(answer: Any) -> str:
    """The number on a page that says the sign-in did not work."""
    found = re.search(r'<strong class="mono">([0-9A-Z]{8})</strong>', answer.content.decode())
    assert found, answer.content.decode()
    return found[1]
