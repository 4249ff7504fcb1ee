"""System checks of sign-in: what is unsafe or contradictory stops the start, with an id and a hint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Critical, Error, Tags, Warning, register

_DEMANDED: dict[str, object] = {
    "SOCIALACCOUNT_EMAIL_AUTHENTICATION": False,
    "SOCIALACCOUNT_EMAIL_AUTHENTICATION_AUTO_CONNECT": False,
    "SOCIALACCOUNT_LOGIN_ON_GET": False,
    "SOCIALACCOUNT_STORE_TOKENS": False,
    "SESSION_COOKIE_HTTPONLY": True,
    "SESSION_COOKIE_SAMESITE": "Lax",
    "MFA_TRUST_ENABLED": False,
    "MFA_PASSKEY_SIGNUP_ENABLED": False,
}
"""Settings whose other values would let somebody in who should not be (threats.md R8, R25, R62)."""


@register("daypass")
def safe_settings(app_configs: Any, **_: Any) -> Sequence[CheckMessage]:
    return [
        Critical(
            f"{name} is {getattr(settings, name, None)!r}.",
            hint=f"It has to be {value!r}: other values let people in by an e-mail address, or without a proof.",
            id="accounts.E001",
        )
        for name, value in _DEMANDED.items()
        if getattr(settings, name, None) != value
    ]


@register("daypass")
def providers_only_from_the_database(app_configs: Any, **_: Any) -> Sequence[CheckMessage]:
    found: list[CheckMessage] = []
    if getattr(settings, "SOCIALACCOUNT_PROVIDERS", None):
        found.append(
            Critical(
                "SOCIALACCOUNT_PROVIDERS is set.",
                hint="Identity providers are rows that administrators keep; remove the setting.",
                id="accounts.E002",
            )
        )
    foreign = [
        app for app in settings.INSTALLED_APPS if app.startswith("allauth.socialaccount.providers.")
    ]
    if foreign:
        found.append(
            Critical(
                f"{foreign[0]} is installed beside accounts.provider.",
                hint="Remove it: Daypass brings its own SAML and OpenID Connect providers.",
                id="accounts.E003",
            )
        )
    return found


@register("daypass")
def session_limits(app_configs: Any, **_: Any) -> Sequence[CheckMessage]:
    if settings.DAYPASS_SESSION_IDLE > settings.DAYPASS_SESSION_ABSOLUTE:
        return [
            Error(
                "DAYPASS_SESSION_IDLE is longer than DAYPASS_SESSION_ABSOLUTE.",
                hint="A session that may be idle for longer than it may live has no idle limit: make it shorter.",
                id="accounts.E004",
            )
        ]
    return []


@register("daypass")
def xml_libraries(app_configs: Any, **_: Any) -> Sequence[CheckMessage]:
    """lxml and xmlsec bring libxml2 along; two series of it in one process do not work."""
    try:
        import xmlsec
        from lxml import etree
    except Exception as error:
        return [
            Critical(
                f"lxml and xmlsec cannot be used together: {error}",
                hint="Install exactly the versions of requirements.txt; they are pinned as a pair.",
                id="accounts.E005",
            )
        ]
    ours, theirs = etree.LIBXML_COMPILED_VERSION, xmlsec.get_libxml_compiled_version()
    if ours[:2] != theirs[:2]:
        return [
            Critical(
                f"lxml was built with libxml2 {ours}, xmlsec with {theirs}.",
                hint="Install exactly the versions of requirements.txt; they are pinned as a pair.",
                id="accounts.E005",
            )
        ]
    return []


@register("daypass")
def private_providers(app_configs: Any, **_: Any) -> Sequence[CheckMessage]:
    found: list[CheckMessage] = []
    for entry in settings.DAYPASS_PRIVATE_PROVIDERS:
        if "/" in entry or "*" in entry or "@" in entry:
            found.append(
                Error(
                    f"DAYPASS_PRIVATE_PROVIDERS holds {entry!r}, which is not a host.",
                    hint="List hosts, with a port where it is not the usual one: login.corp.example:8443.",
                    id="accounts.E006",
                )
            )
    bundle = settings.DAYPASS_CA_BUNDLE
    if bundle and not Path(bundle).is_file():
        found.append(
            Error(
                f"DAYPASS_CA_BUNDLE is {bundle!r}, and there is no such file.",
                hint="Name a PEM file with your own certificate authorities, or unset it.",
                id="accounts.E007",
            )
        )
    return found


@register(Tags.database)
def stray_allauth_apps(app_configs: Any, databases: Any = None, **_: Any) -> Sequence[CheckMessage]:
    """allauth's own table of apps is not read; a row in it shows that somebody thinks it is."""
    if not databases:
        return []
    from allauth.socialaccount.models import SocialApp
    from django.db import DatabaseError

    try:
        stray = SocialApp.objects.exists()
    except DatabaseError:
        return []  # not migrated yet
    if stray:
        return [
            Warning(
                "There are rows in allauth's own table of social applications.",
                hint="They have no effect: identity providers are kept under Identity providers. Delete them.",
                id="accounts.W001",
            )
        ]
    return []
