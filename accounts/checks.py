"""System checks of sign-in: what is unsafe or contradictory stops the start, with an id and a hint."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Critical, Error, Tags, Warning, register

from broker.demands import Demand, exactly, unmet, unset
from broker.errors import BadInput

LONGEST_MEMBERSHIP = timedelta(hours=24)
"""How long groups that came with a sign-in may count at most, whatever is configured."""

_DEMANDED = (
    exactly("AUTH_USER_MODEL", "accounts.Person", "people would be kept where no service looks."),
    exactly(
        "AUTHENTICATION_BACKENDS",
        ["accounts.backends.PersonBackend"],
        "another backend would open accounts by a password or an email address.",
    ),
    exactly("ACCOUNT_ADAPTER", "accounts.adapters.AccountAdapter", "anybody could sign up."),
    exactly(
        "SOCIALACCOUNT_ADAPTER",
        "accounts.adapters.SocialAccountAdapter",
        "people would be signed in that no verified message admitted.",
    ),
    exactly(
        "MFA_ADAPTER", "accounts.adapters.MfaAdapter", "second factors would be kept unsealed."
    ),
    exactly(
        "SOCIALACCOUNT_EMAIL_AUTHENTICATION",
        False,
        "a provider could sign in anybody by stating their email address.",
    ),
    exactly(
        "SOCIALACCOUNT_EMAIL_AUTHENTICATION_AUTO_CONNECT",
        False,
        "a provider could take over an account by stating its email address.",
    ),
    exactly("SOCIALACCOUNT_QUERY_EMAIL", False, "email addresses would be asked for and kept."),
    exactly(
        "SOCIALACCOUNT_LOGIN_ON_GET", False, "a link on any page could begin somebody's sign-in."
    ),
    exactly("SOCIALACCOUNT_STORE_TOKENS", False, "providers' tokens would be kept in the clear."),
    unset("SOCIALACCOUNT_FORMS", "a form of somebody else's would stand in the way of sign-in."),
    exactly("ACCOUNT_LOGIN_METHODS", {"username"}, "the break-glass door would take more names."),
    exactly("ACCOUNT_PREVENT_ENUMERATION", True, "strangers could find out which accounts exist."),
    exactly(
        "ACCOUNT_REAUTHENTICATION_REQUIRED",
        True,
        "whoever finds an open browser could change the break-glass account's second factor.",
    ),
    exactly("ACCOUNT_LOGOUT_ON_GET", False, "a picture on any page could sign people out."),
    unset("ACCOUNT_LOGIN_BY_CODE_ENABLED", "a code by email would open the break-glass account."),
    unset("ACCOUNT_SIGNUP_FORM_CLASS", "there would be a way to sign up."),
    Demand(
        "ACCOUNT_RATE_LIMITS",
        lambda limits: isinstance(limits, dict) and all(limits.values()),
        "left unset, or limits without a gap",
        "passwords of the break-glass account could be tried without end.",
        missing={},
    ),
    Demand(
        "MFA_RATE_LIMITS",
        lambda limits: isinstance(limits, dict) and all(limits.values()),
        "left unset, or limits without a gap",
        "second factors could be tried without end.",
        missing={},
    ),
    Demand(
        "MFA_SUPPORTED_TYPES",
        lambda kinds: bool({"totp", "webauthn"} & set(kinds or ())),
        "with 'totp' or 'webauthn' in it",
        "the break-glass account could have no second factor.",
    ),
    Demand(
        "MFA_FORMS",
        lambda forms: (
            {"authenticate", "reauthenticate"} <= set(forms or ())
            and all(str(form).startswith("accounts.second_factor.") for form in forms.values())
        ),
        "the forms of accounts.second_factor",
        "a code could be used twice.",
    ),
    unset("MFA_TOTP_INSECURE_BYPASS_CODE", "one code would do for every second factor."),
    Demand(
        "MFA_TOTP_TOLERANCE",
        lambda steps: steps in (0, 1),
        "0 or 1",
        "a code that somebody looked at would be good for minutes.",
        missing=0,
    ),
    unset("MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN", "security keys would answer to other origins."),
    unset("MFA_TRUST_ENABLED", "a cookie would stand in for the second factor."),
    unset("MFA_PASSKEY_LOGIN_ENABLED", "there would be one factor where two belong."),
    unset("MFA_PASSKEY_SIGNUP_ENABLED", "there would be a way to sign up."),
    Demand(
        "DAYPASS_MEMBERSHIP_MAX_AGE",
        lambda age: isinstance(age, timedelta) and timedelta() < age <= LONGEST_MEMBERSHIP,
        "at most 24 hours",
        "somebody who was taken out of a group would keep its roles for longer than a day.",
    ),
)
"""Settings whose other values would let somebody in who should not be (threats.md R7, R8, R25, R46, R62)."""

_FOREIGN_DOORS = (
    "allauth.socialaccount.providers.",
    "allauth.headless",
    "allauth.idp",
)


@register("daypass")
def safe_settings(app_configs: Any, **_: Any) -> Sequence[CheckMessage]:
    return unmet(_DEMANDED, id="accounts.E001")


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
    foreign = [app for app in settings.INSTALLED_APPS if app.startswith(_FOREIGN_DOORS)]
    if foreign:
        found.append(
            Critical(
                f"{foreign[0]} is installed beside accounts.provider.",
                hint="Remove it: Daypass brings its own providers, and has no other doors.",
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


_PAIR = "lxml and xmlsec cannot be used together"
_PAIR_HINT = "Install exactly the versions of requirements.txt; they are pinned as a pair."


@register("daypass")
def xml_libraries(app_configs: Any, **_: Any) -> Sequence[CheckMessage]:
    """lxml and xmlsec bring libxml2 along; two series of it in one process do not work."""
    try:
        import xmlsec
        from lxml import etree
    except Exception as error:
        return [Critical(f"{_PAIR}: {error}", hint=_PAIR_HINT, id="accounts.E005")]
    ours, theirs = etree.LIBXML_COMPILED_VERSION, xmlsec.get_libxml_compiled_version()
    if ours[:2] != theirs[:2]:
        return [
            Critical(
                f"lxml was built with libxml2 {ours}, xmlsec with {theirs}.",
                hint=_PAIR_HINT,
                id="accounts.E005",
            )
        ]
    return []


@register("daypass", deploy=True)
def xml_libraries_in_a_child(app_configs: Any, **_: Any) -> Sequence[CheckMessage]:
    """The same in a process of its own: one that dies there takes nobody along, and is told here."""
    try:
        child = subprocess.run(
            [sys.executable, "-c", "from lxml import etree; import xmlsec"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        said = f"no child could be asked ({type(error).__name__})"
    else:
        if child.returncode == 0:
            return []
        lines = child.stderr.strip().splitlines()
        said = lines[-1][:300] if lines else f"the child ended with {child.returncode}"
    return [Critical(f"{_PAIR} in a child: {said}.", hint=_PAIR_HINT, id="accounts.E005")]


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


@register("daypass")
def egress_proxy(app_configs: Any, **_: Any) -> Sequence[CheckMessage]:
    from accounts import outbound

    try:
        outbound.egress_proxy()
    except BadInput as error:
        hint = "Write http://host:port; user and password may stand before the host."
        return [Error(error.message, hint=hint, id="accounts.E019")]
    return []


@register(Tags.database, "daypass")
def providers_apart(app_configs: Any, databases: Any = None, **_: Any) -> Sequence[CheckMessage]:
    """No two providers share what allauth, a message or a redirect URI knows them by (threats.md R7).

    The database's own constraints say so as well; this also looks at what our adapter makes of the rows.
    """
    if not databases:
        return []
    from django.db import DatabaseError

    from accounts.adapters import social_app
    from accounts.models import IdentityProvider, Protocol

    try:
        rows = list(IdentityProvider.objects.order_by("created_at", "pk"))
    except DatabaseError:
        return []  # not migrated yet
    found: list[CheckMessage] = []
    seen: dict[tuple[str, ...], IdentityProvider] = {}
    for row in rows:
        names = [("provider id", str(social_app(row).provider_id)), ("slug", row.slug)]
        if row.protocol == Protocol.SAML and row.entity_id:
            names.append(("entity id", row.entity_id))
        if row.protocol == Protocol.OIDC:
            names.append(("issuer and client id", f"{row.issuer} {row.client_id}"))
        for name in names:
            other = seen.setdefault(name, row)
            if other is not row:
                found.append(
                    Critical(
                        f"The providers {other.slug} and {row.slug} share the {name[0]} {name[1]!r}.",
                        hint="One could sign in the other's people. Switch one off and correct it.",
                        id="accounts.E008",
                    )
                )
    return found


@register(Tags.database, "daypass")
def stray_allauth_rows(app_configs: Any, databases: Any = None, **_: Any) -> Sequence[CheckMessage]:
    """allauth's own table of apps is not read; a row in it shows that somebody thinks it is."""
    if not databases:
        return []
    from allauth.socialaccount.models import SocialAccount, SocialApp
    from django.db import DatabaseError

    from accounts.models import IdentityProvider

    found: list[CheckMessage] = []
    try:
        if SocialApp.objects.exists():
            found.append(
                Warning(
                    "There are rows in allauth's own table of social applications.",
                    hint="They have no effect: identity providers are kept under Identity providers. Delete them in "
                    "manage.py shell: from allauth.socialaccount.models import SocialApp; "
                    "SocialApp.objects.all().delete()",
                    id="accounts.W001",
                )
            )
        known = [str(pk) for pk in IdentityProvider.objects.values_list("pk", flat=True)]
        if SocialAccount.objects.exclude(provider__in=known).exists():
            found.append(
                Warning(
                    "There are accounts of a provider that Daypass does not know.",
                    hint="Nobody signs in by them: they were not made by Daypass. Look who writes to this database.",
                    id="accounts.W002",
                )
            )
    except DatabaseError:
        return []  # not migrated yet
    return found
