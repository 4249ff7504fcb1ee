"""Small things: addresses, names, XML."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any
from urllib.request import HTTPRedirectHandler, ProxyHandler, build_opener
from xml.sax.saxutils import escape

from tests.strict_sts.values import Refusal


class _NoRedirect(HTTPRedirectHandler):
    """A redirect is no answer."""

    def redirect_request(self, *args: Any) -> None:
        return None


opener = build_opener(ProxyHandler({}), _NoRedirect)


def _below(url: str, prefix: str) -> bool:
    return url == prefix or url.startswith(prefix.rstrip("/") + "/")


def letters(count: int) -> str:
    return "".join(secrets.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") for _ in range(count))


def path_of(role_arn: str) -> str:
    path = role_arn.split(":role", 1)[1]
    return path[: path.rindex("/") + 1]


def session_arn(role_arn: str, name: str) -> str:
    """AWS drops the role's path."""
    _, partition, _, _, account, _ = role_arn.split(":", 5)
    return f"arn:{partition}:sts::{account}:assumed-role/{role_arn.rsplit('/', 1)[-1]}/{name}"


def account_in(form: Mapping[str, str]) -> str:
    return next((form[name].split(":")[4] for name in ("RoleArn",) if name in form), "")


def no_entity(message: str) -> Refusal:
    return Refusal("NoSuchEntity", message, 404)


def _xml(value: Mapping[str, Any]) -> str:
    parts = []
    for name, item in value.items():
        for one in item if isinstance(item, list) else [item]:
            inner = _xml(one) if isinstance(one, Mapping) else escape(str(one))
            parts.append(f"<{name}>{inner}</{name}>")
    return "".join(parts)


def envelope(action: str, result: str, namespace: str) -> str:
    return (
        f'<{action}Response xmlns="{namespace}"><{action}Result>{result}</{action}Result>'
        f"<ResponseMetadata><RequestId>{secrets.token_hex(8)}</RequestId></ResponseMetadata></{action}Response>"
    )
