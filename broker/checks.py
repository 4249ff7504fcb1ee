"""System checks: half a configuration does not start. Every check has an id and a hint (docs/configuration.md).

Checks tagged `deploy` run with `check --deploy`, which the container runs before it serves.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Critical, Error, register
from django.core.exceptions import ImproperlyConfigured


@register("daypass")
def mode(app_configs: Any, **_: Any) -> Sequence[CheckMessage]:
    if settings.DAYPASS_MODE not in ("production", "demo"):
        return [
            Critical(
                f"DAYPASS_MODE is {settings.DAYPASS_MODE!r}.",
                hint="Leave it unset for production; only `make run` sets it to demo.",
                id="daypass.E001",
            )
        ]
    return []


@register("daypass")
def origin(app_configs: Any, **_: Any) -> Sequence[CheckMessage]:
    parts = urlsplit(settings.DAYPASS_ORIGIN)
    if not parts.hostname or parts.path or parts.query or parts.fragment or parts.username:
        return [
            Critical(
                f"DAYPASS_ORIGIN is {settings.DAYPASS_ORIGIN!r}, which is not an origin.",
                hint="Set it to the address people open, such as https://daypass.example.com, without a path.",
                id="daypass.E002",
            )
        ]
    loopback = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if settings.DEMO and not loopback:
        return [
            Critical(
                "The demo was asked to serve a public address.",
                hint="The demo serves loopback only. For a real address leave DAYPASS_MODE unset.",
                id="daypass.E003",
            )
        ]
    if not settings.DEMO and parts.scheme != "https":
        return [
            Critical(
                f"DAYPASS_ORIGIN is {settings.DAYPASS_ORIGIN!r}; production is served over https only.",
                hint="Put a TLS proxy in front and set DAYPASS_ORIGIN to its https:// address.",
                id="daypass.E004",
            )
        ]
    return []


@register("daypass")
def secrets(app_configs: Any, **_: Any) -> Sequence[CheckMessage]:
    found: list[CheckMessage] = []
    try:
        key = settings.SECRET_KEY
    except ImproperlyConfigured:  # Django refuses to hand out an empty one
        key = ""
    if len(key) < 50:
        found.append(
            Critical(
                "DAYPASS_SECRET_KEY is missing or shorter than 50 characters.",
                hint="Generate one: python -c 'import secrets; print(secrets.token_urlsafe(48))'",
                id="daypass.E010",
            )
        )
    if not settings.DAYPASS_SEALING_KEYS:
        found.append(
            Critical(
                "DAYPASS_SEALING_KEYS is missing: the broker's signing keys could not be sealed.",
                hint="`manage.py new_sealing_key` prints one. Keep it apart from the database's backups.",
                id="daypass.E011",
            )
        )
    for number, key in enumerate(settings.DAYPASS_SEALING_KEYS, start=1):
        try:
            length = len(base64.urlsafe_b64decode(key.encode()))
        except (binascii.Error, ValueError):
            length = 0
        if length != 32:
            found.append(
                Critical(
                    f"Sealing key number {number} is not 32 bytes in base64url.",
                    hint="`manage.py new_sealing_key` prints one.",
                    id="daypass.E012",
                )
            )
    return found


@register("daypass")
def redis(app_configs: Any, **_: Any) -> Sequence[CheckMessage]:
    if settings.REDIS_URL:
        return []
    return [
        Critical(
            "REDIS_URL is missing: there would be no background work and no cache.",
            hint="Set it to your Redis or Valkey, such as rediss://:password@redis.example.com:6379/0.",
            id="daypass.E013",
        )
    ]


@register("daypass")
def endpoints(app_configs: Any, **_: Any) -> Sequence[CheckMessage]:
    found: list[CheckMessage] = []
    for name in ("DAYPASS_STS_ENDPOINT", "DAYPASS_SIGNIN_ENDPOINT"):
        value = getattr(settings, name)
        if value and not settings.DEMO and urlsplit(value).scheme != "https":
            found.append(
                Error(
                    f"{name} is {value!r}: credentials would travel without TLS.",
                    hint=f"Leave {name} unset to use AWS's own endpoints.",
                    id="daypass.E020",
                )
            )
    issuer = urlsplit(settings.DAYPASS_ISSUER)
    if not settings.DEMO and (
        issuer.scheme != "https"
        or issuer.query
        or issuer.port is not None
        or len(settings.DAYPASS_ISSUER) > 255
    ):
        found.append(
            Error(
                f"DAYPASS_ISSUER is {settings.DAYPASS_ISSUER!r}, which IAM does not take.",
                hint="An issuer is an https URL of at most 255 characters without port or query. If the "
                "origin has a port, set DAYPASS_ISSUER to an address without one.",
                id="daypass.E021",
            )
        )
    return found
