"""System checks: half a configuration does not start. Every check has an id and a hint (docs/configuration.md).

Checks tagged `deploy` run with `check --deploy`, which the container runs before it serves.
"""

from __future__ import annotations

import base64
import binascii
import http.client
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Critical, Error, register, run_checks
from django.core.exceptions import ImproperlyConfigured

from broker.arns import endpoints_of
from broker.demands import Demand, among, at_most, exactly, unmet, unset


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
    for name in (
        "DAYPASS_STS_ENDPOINT",
        "DAYPASS_SIGNIN_ENDPOINT",
        "DAYPASS_KMS_ENDPOINT",
        "DAYPASS_S3_ENDPOINT",
        "DAYPASS_IAM_ENDPOINT",
        "DAYPASS_ORGANIZATIONS_ENDPOINT",
    ):
        for value in endpoints_of(getattr(settings, name)):
            if settings.DEMO or urlsplit(value).scheme == "https":
                continue
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


@register("daypass")
def kms_keys(app_configs: Any, **_: Any) -> Sequence[CheckMessage]:
    form = re.compile(r"(oidc|saml)=arn:[a-z-]+:kms:[a-z0-9-]+:\d{12}:key/[\w-]+", re.ASCII)
    arns = [word.partition("=")[2] for word in settings.DAYPASS_KMS_KEYS]
    found = [
        Error(
            f"DAYPASS_KMS_KEYS has {word!r}.",
            hint="Write oidc=ARN or saml=ARN with the ARN of a key (not of an alias), separated by blanks.",
            id="daypass.E022",
        )
        for word in settings.DAYPASS_KMS_KEYS
        if form.fullmatch(word) is None
    ]
    if len(set(arns)) < len(arns):
        found.append(
            Error(
                "DAYPASS_KMS_KEYS names one key twice.",
                hint="Every key has one purpose and one turn.",
                id="daypass.E022",
            )
        )
    return found


@register("daypass")
def token_algorithm(app_configs: Any, **_: Any) -> Sequence[CheckMessage]:
    if settings.DAYPASS_TOKEN_ALGORITHM in ("RS256", "ES256"):
        return []
    return [
        Error(
            f"DAYPASS_TOKEN_ALGORITHM is {settings.DAYPASS_TOKEN_ALGORITHM!r}.",
            hint="Set it to RS256 or ES256, or leave it unset for RS256. It decides of what kind the next key for "
            "tokens is (docs/keys.md).",
            id="daypass.E024",
        )
    ]


# --- Settings whose other values would be unsafe (threats.md R62). They are in the code and not in the environment, so
# what is caught here is an own settings module, or a change of ours.


def _policy_is_strict(policy: Any) -> bool:
    directives: Mapping[str, Iterable[str]] = (policy or {}).get("DIRECTIVES", {})
    everything = {str(source) for sources in directives.values() for source in sources}
    loose = {"*", "http:", "https:", "data:", "'unsafe-inline'", "'unsafe-eval'", "'unsafe-hashes'"}
    scripts = {str(source) for source in directives.get("script-src", ())}
    return (
        not (policy or {}).get("EXCLUDE_URL_PREFIXES")
        and all(
            list(directives.get(name, ())) == ["'none'"]
            for name in ("default-src", "base-uri", "frame-ancestors", "object-src")
        )
        and bool(directives.get("form-action"))
        and not everything & (loose - {"data:"})
        and not scripts & loose
    )


def _hosts_are_ours(hosts: Any) -> bool:
    """By name, none of them a pattern; which of them is answered, broker.middleware.canonical_origin decides."""
    names = [str(host) for host in hosts or ()]
    wild = [name for name in names if "*" in name or name.startswith(".")]
    return urlsplit(settings.DAYPASS_ORIGIN).hostname in names and not wild


def _hashers_are_slow(hashers: Any) -> bool:
    good = ("Scrypt", "Argon2", "PBKDF2PasswordHasher", "BCryptSHA256")
    names = [str(hasher).rpartition(".")[2] for hasher in hashers or ()]
    return bool(names) and all(name.startswith(good) for name in names)


def _templates_escape(templates: Any) -> bool:
    options = [engine.get("OPTIONS", {}) for engine in templates or ()]
    return bool(options) and all(
        option.get("autoescape", True) is True and not option.get("debug") for option in options
    )


_TEN = 10 * 365 * 24 * 3600

_ALWAYS = (
    exactly("DEBUG", False, "every error page would show code and settings."),
    unset("DEBUG_PROPAGATE_EXCEPTIONS", "errors would end in the server's own page."),
    Demand(
        "ALLOWED_HOSTS",
        _hosts_are_ours,
        "the host of DAYPASS_ORIGIN, without patterns",
        "requests for other hosts would be answered.",
    ),
    unset("CSRF_TRUSTED_ORIGINS", "pages of another origin could act for whoever is signed in."),
    unset("USE_X_FORWARDED_HOST", "a header could choose the host in our addresses."),
    unset("USE_X_FORWARDED_PORT", "a header could choose the port in our addresses."),
    unset("SECURE_PROXY_SSL_HEADER", "a header could say that a plain connection is safe."),
    exactly(
        "SESSION_ENGINE",
        "django.contrib.sessions.backends.db",
        "sessions would live outside the database: an emptied or restored cache ends or revives them.",
    ),
    exactly(
        "SESSION_SERIALIZER",
        "django.contrib.sessions.serializers.JSONSerializer",
        "what is in a session could run code.",
    ),
    unset("SESSION_COOKIE_DOMAIN", "neighbouring hosts would get the session's cookie."),
    exactly("SESSION_COOKIE_PATH", "/", "the browser would not keep a __Host- cookie."),
    exactly("SESSION_COOKIE_HTTPONLY", True, "scripts could read the session's cookie."),
    exactly("SESSION_COOKIE_SAMESITE", "Lax", "other sites' requests would carry the session."),
    Demand(
        "SESSION_COOKIE_AGE",
        lambda seconds: 0 < seconds <= settings.DAYPASS_SESSION_ABSOLUTE.total_seconds(),
        "at most DAYPASS_SESSION_ABSOLUTE",
        "the cookie would outlive the session.",
    ),
    unset("SESSION_SAVE_EVERY_REQUEST", "every request of a stranger would write to the database."),
    unset("CSRF_COOKIE_DOMAIN", "neighbouring hosts could set the token's cookie."),
    exactly("CSRF_COOKIE_HTTPONLY", True, "scripts could read the token's cookie."),
    among("CSRF_COOKIE_SAMESITE", ("Lax", "Strict"), "other sites' requests would carry it."),
    among(
        "MESSAGE_STORAGE",
        ("django.contrib.messages.storage.session.SessionStorage",),
        "messages would travel in a cookie.",
    ),
    exactly(
        "SIGNING_BACKEND",
        "django.core.signing.TimestampSigner",
        "signed values would be made by something that nobody read.",
    ),
    Demand(
        "PASSWORD_HASHERS",
        _hashers_are_slow,
        "scrypt, Argon2, PBKDF2 or bcrypt, and nothing else",
        "the break-glass password could be guessed from its hash.",
    ),
    Demand("AUTH_PASSWORD_VALIDATORS", bool, "a list of validators", "the password could be weak."),
    exactly("X_FRAME_OPTIONS", "DENY", "our pages could be framed."),
    exactly("SECURE_CONTENT_TYPE_NOSNIFF", True, "browsers would guess types."),
    among(
        "SECURE_REFERRER_POLICY",
        ("same-origin", "no-referrer"),
        "our addresses would be told to other sites.",
    ),
    exactly("SECURE_CROSS_ORIGIN_OPENER_POLICY", "same-origin", "other pages would hold ours."),
    Demand(
        "CONTENT_SECURITY_POLICY",
        _policy_is_strict,
        "closed, without unsafe sources or exceptions",
        "what slips through escaping could run.",
    ),
    unset("CONTENT_SECURITY_POLICY_REPORT_ONLY", "it would be easy to take for the policy itself."),
    Demand("TEMPLATES", _templates_escape, "escaping, without debug", "text could become markup."),
    at_most("DATA_UPLOAD_MAX_MEMORY_SIZE", 256 * 1024, "strangers could post more than is read."),
    at_most("DATA_UPLOAD_MAX_NUMBER_FIELDS", 1000, "parsing a form could take too long."),
    at_most("DATA_UPLOAD_MAX_NUMBER_FILES", 100, "parsing a form could take too long."),
    exactly("CELERY_ACCEPT_CONTENT", ["json"], "a message in the queue could run code."),
    exactly("CELERY_TASK_SERIALIZER", "json", "a message in the queue could run code."),
    unset("CELERY_RESULT_BACKEND", "results of tasks would be kept in Redis."),
    unset("ADMINS", "errors would be mailed, with what was in memory."),
    unset("MANAGERS", "broken links would be mailed."),
    exactly(
        "DEFAULT_EXCEPTION_REPORTER_FILTER",
        "django.views.debug.SafeExceptionReporterFilter",
        "reports of errors would hold secrets.",
    ),
    exactly("USE_TZ", True, "times would be local and ambiguous."),
    exactly("TIME_ZONE", "UTC", "times would be local and ambiguous."),
    Demand(
        "SILENCED_SYSTEM_CHECKS",
        lambda ids: set(ids or ()) <= {"security.W008"},
        "['security.W008']",
        "a check that found something would not be heard.",
    ),
)

_OVER_TLS = (
    exactly("SESSION_COOKIE_SECURE", True, "the session's cookie would travel in the clear."),
    exactly("CSRF_COOKIE_SECURE", True, "the token's cookie would travel in the clear."),
    Demand(
        "SESSION_COOKIE_NAME",
        lambda name: str(name).startswith("__Host-"),
        "a name that begins with __Host-",
        "a neighbouring host could plant the cookie.",
    ),
    Demand(
        "CSRF_COOKIE_NAME",
        lambda name: str(name).startswith("__Host-"),
        "a name that begins with __Host-",
        "a neighbouring host could plant the cookie.",
    ),
    Demand(
        "SECURE_HSTS_SECONDS",
        lambda seconds: isinstance(seconds, int) and 365 * 24 * 3600 <= seconds <= _TEN,
        "a year or more",
        "a browser could be led to a plain connection.",
    ),
)


@register("daypass")
def safe_settings(app_configs: Any, **_: Any) -> Sequence[CheckMessage]:
    demands = (*_ALWAYS, *_OVER_TLS) if settings.SECURE_ORIGIN else _ALWAYS
    return unmet(demands, id="daypass.E030")


_IN_THIS_ORDER = (
    "broker.middleware.canonical_origin",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "broker.middleware.response_headers",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "accounts.middleware.session_limits",
    "accounts.middleware.principal",
)


@register("daypass")
def middleware_in_order(app_configs: Any, **_: Any) -> Sequence[CheckMessage]:
    there = [name for name in settings.MIDDLEWARE if name in _IN_THIS_ORDER]
    if there == list(_IN_THIS_ORDER):
        return []
    missing = [name for name in _IN_THIS_ORDER if name not in there]
    return [
        Critical(
            f"MIDDLEWARE lacks {missing[0]}." if missing else "MIDDLEWARE is in another order.",
            hint="These have to be there, in this order, whatever is between them: "
            + ", ".join(_IN_THIS_ORDER),
            id="daypass.E031",
        )
    ]


_TALKATIVE = (
    *("", "boto3", "botocore", "s3transfer", "urllib3", "requests", "http.client"),
    *("django", "django.request", "django.db.backends", "django.template"),
    *("allauth", "onelogin", "kombu", "amqp", "celery", "redis"),
)


@register("daypass")
def quiet_loggers(app_configs: Any, **_: Any) -> Sequence[CheckMessage]:
    """At DEBUG these print requests, answers, parameters of statements or arguments of tasks (threats.md R17)."""
    found: list[CheckMessage] = [
        Critical(
            f"The logger {name or 'root'!r} is at DEBUG: it prints requests, keys included.",
            hint="Hold it at INFO or above in LOGGING; DAYPASS_LOG_LEVEL is for Daypass's own lines.",
            id="daypass.E032",
        )
        for name in _TALKATIVE
        if logging.getLogger(name).isEnabledFor(logging.DEBUG)
    ]
    if http.client.HTTPConnection.debuglevel:
        found.append(
            Critical(
                "http.client prints every request and answer (debuglevel).",
                hint="Remove what sets http.client.HTTPConnection.debuglevel.",
                id="daypass.E032",
            )
        )
    return found


_NOT_ON_A_SERVER = (
    *("corsheaders", "debug_toolbar", "silk", "django_extensions", "rest_framework"),
    *("django.contrib.admindocs", "django.contrib.flatpages", "hijack", "loginas", "su"),
)


@register("daypass")
def no_further_doors(app_configs: Any, **_: Any) -> Sequence[CheckMessage]:
    """Nothing that opens Daypass to other origins, shows its inside, or lets one person be another."""
    apps = [app for app in settings.INSTALLED_APPS if app.split(".apps")[0] in _NOT_ON_A_SERVER]
    switches = [name for name in dir(settings) if name.startswith("CORS_")]
    return [
        Critical(
            f"{name} has no place in Daypass.",
            hint="Remove it: nobody else's page may call Daypass, and nothing shows its inside.",
            id="daypass.E033",
        )
        for name in (*apps, *switches)
    ]


def refuse_to_start() -> None:
    """Raise ImproperlyConfigured with every serious finding, in processes that serve and would not look otherwise."""
    messages = run_checks(tags=["daypass"])
    found = sorted((m for m in messages if m.is_serious()), key=lambda m: (m.id or "", m.msg))
    if found:
        raise ImproperlyConfigured(
            "Daypass does not start like this:\n"
            + "\n".join(f"  {message.msg} {message.hint or ''} ({message.id})" for message in found)
        )
