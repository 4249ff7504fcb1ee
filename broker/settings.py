"""Django settings of Daypass. From the environment only; docs/configuration.md describes every variable.

Production is the default mode. What is missing or contradictory is reported by the system checks (broker/checks.py,
accounts/checks.py) with an id and a hint, and the server does not start.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dj_database_url
from celery.schedules import crontab
from csp.constants import NONCE, NONE, SELF
from redis.backoff import NoBackoff
from redis.retry import Retry

from broker import environment as env
from broker.arns import PARTITIONS, endpoints_of
from broker.reach import looks_public

BASE_DIR = Path(__file__).resolve().parent.parent


def _origins(url: str) -> list[str]:
    """The origin of an absolute URL, as a list for the content security policy; empty for anything else."""
    parts = urlsplit(url)
    return [f"{parts.scheme}://{parts.netloc}"] if parts.scheme and parts.netloc else []


# --- Mode
# "production" (the default) or "demo" (the stage set of `make run`: loopback only, made-up people, moto as AWS).
DAYPASS_MODE = env.text("DAYPASS_MODE", "production")
DEMO = DAYPASS_MODE == "demo"
DEBUG = False
DATA_DIR = Path(env.text("DAYPASS_DATA_DIR", str(BASE_DIR / "var")))

# --- The one canonical origin
# Every link, issuer, entity id and redirect is built from it, never from the Host header.
DAYPASS_ORIGIN = env.text("DAYPASS_ORIGIN").rstrip("/")
_origin = urlsplit(DAYPASS_ORIGIN)
SECURE_ORIGIN = _origin.scheme == "https"
ALLOWED_HOSTS = [_origin.hostname] if _origin.hostname else []
# How many proxies in front add themselves to X-Forwarded-For; 0 means the connection's own address counts.
DAYPASS_TRUSTED_PROXIES = env.integer("DAYPASS_TRUSTED_PROXIES", 0, most=10)

# --- Secrets
SECRET_KEY = env.secret("DAYPASS_SECRET_KEY")
SECRET_KEY_FALLBACKS = env.secret_words("DAYPASS_SECRET_KEY_FALLBACKS")
# base64url of 32 bytes each; the first seals, all open (broker/sealing.py).
DAYPASS_SEALING_KEYS = env.secret_words("DAYPASS_SEALING_KEYS")

# --- How the product calls itself
DAYPASS_COMPANY = env.text("DAYPASS_COMPANY", "Your company")
DAYPASS_LOGO_URL = env.text("DAYPASS_LOGO_URL")
DAYPASS_HELP_URL = env.text("DAYPASS_HELP_URL")
DAYPASS_HELP_TEXT = env.text(
    "DAYPASS_HELP_TEXT", "Ask the people who run AWS access in your company."
)

# --- Rules of sign-in
# A membership that came with a sign-in counts for this long; then "sign in again".
DAYPASS_MEMBERSHIP_MAX_AGE = timedelta(
    seconds=env.integer("DAYPASS_MEMBERSHIP_MAX_AGE", 8 * 3600, least=300, most=24 * 3600)
)
DAYPASS_SESSION_IDLE = timedelta(seconds=env.integer("DAYPASS_SESSION_IDLE", 2 * 3600, least=60))
DAYPASS_SESSION_ABSOLUTE = timedelta(
    seconds=env.integer("DAYPASS_SESSION_ABSOLUTE", 10 * 3600, least=300)
)

# Identity providers with private addresses that sign-in may call, as host or host:port. Addresses of the private
# network are refused otherwise, so that nobody turns Daypass into a way into it.
DAYPASS_PRIVATE_PROVIDERS = env.words("DAYPASS_PRIVATE_PROVIDERS")
# Sign-ins begun from one address, messages refused from one address, answers taken for one provider, each in a minute
# (accounts/limits.py, docs/operations.md).
DAYPASS_STARTS_PER_ADDRESS = env.integer("DAYPASS_STARTS_PER_ADDRESS", 3000, least=1)
DAYPASS_REFUSALS_PER_ADDRESS = env.integer("DAYPASS_REFUSALS_PER_ADDRESS", 300, least=1)
DAYPASS_ANSWERS_PER_PROVIDER = env.integer("DAYPASS_ANSWERS_PER_PROVIDER", 3000, least=1)
# As gunicorn.conf.py reads it: how many threads there are to share.
DAYPASS_WEB_THREADS = env.integer("DAYPASS_WEB_THREADS", 8, least=1)
# The company's own certificate authorities (a PEM file), for identity providers that have their certificates from it.
DAYPASS_CA_BUNDLE = env.text("DAYPASS_CA_BUNDLE")
# The proxy through which calls to identity providers leave, as http://host:port; user and password may stand in it.
DAYPASS_EGRESS_PROXY = env.secret("DAYPASS_EGRESS_PROXY")

# Processes in which SAML messages are read, for each web process; they can do nothing else (accounts/confined).
DAYPASS_XML_PROCESSES = env.integer("DAYPASS_XML_PROCESSES", 2, least=1, most=16)

# --- AWS
# The issuer AWS sees; the broker's own origin unless the documents are published elsewhere.
DAYPASS_ISSUER = env.text("DAYPASS_ISSUER", DAYPASS_ORIGIN).rstrip("/")
DAYPASS_AUDIENCE = env.text("DAYPASS_AUDIENCE", "sts.amazonaws.com")
DAYPASS_SAML_ENTITY_ID = env.text("DAYPASS_SAML_ENTITY_ID", f"{DAYPASS_ORIGIN}/aws/saml/metadata")
# Endpoint overrides: only the demo and tests set them; a check refuses them in production unless they are https.
DAYPASS_STS_ENDPOINT = env.text("DAYPASS_STS_ENDPOINT")
DAYPASS_SIGNIN_ENDPOINT = env.text("DAYPASS_SIGNIN_ENDPOINT")
# Whether the doctor looks at every role once a day by itself.
DAYPASS_CHECK_ROLES = env.boolean("DAYPASS_CHECK_ROLES")

# --- Signing keys (docs/keys.md)
# How long a key signs before the next one follows; 0: only by hand.
DAYPASS_KEY_ROTATION_DAYS = env.integer("DAYPASS_KEY_ROTATION_DAYS", 90, most=1000)
DAYPASS_SAML_KEY_ROTATION_DAYS = env.integer("DAYPASS_SAML_KEY_ROTATION_DAYS", 365, most=1000)
# What the next key for tokens is made for: RS256, or ES256; assertions are signed with RSA always.
DAYPASS_TOKEN_ALGORITHM = env.text("DAYPASS_TOKEN_ALGORITHM", "RS256")
# Where the issuer's documents are written, when AWS cannot read them here: file:///directory or s3://bucket/prefix.
DAYPASS_PUBLISH_TO = env.text("DAYPASS_PUBLISH_TO")
# Keys in AWS KMS, as purpose=ARN: "oidc=arn:... saml=arn:...". A purpose that is named has keys nowhere else.
DAYPASS_KMS_KEYS = env.words("DAYPASS_KMS_KEYS")
DAYPASS_KMS_ENDPOINT = env.text("DAYPASS_KMS_ENDPOINT")
DAYPASS_S3_ENDPOINT = env.text("DAYPASS_S3_ENDPOINT")
DAYPASS_IAM_ENDPOINT = env.text("DAYPASS_IAM_ENDPOINT")
DAYPASS_ORGANIZATIONS_ENDPOINT = env.text("DAYPASS_ORGANIZATIONS_ENDPOINT")
# AWS cannot read anything of ours: then roles are given SAML trust unless somebody says otherwise.
DAYPASS_NOTHING_PUBLIC = env.boolean(
    "DAYPASS_NOTHING_PUBLIC", default=not (DEMO or looks_public(DAYPASS_ISSUER))
)
DAYPASS_DEFAULT_TRUST = "saml" if DAYPASS_NOTHING_PUBLIC else "web_identity"

# --- Applications
INSTALLED_APPS = [
    "accounts.apps.AccountsConfig",
    "broker",
    "broker.apps.DaypassAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "allauth",
    "allauth.account",
    "allauth.socialaccount",
    "allauth.mfa",
    "accounts.apps.BrowserSessionsConfig",
    "django_htmx",
    "template_partials",
    "csp",
]

MIDDLEWARE = [
    "broker.middleware.health",
    "broker.middleware.canonical_origin",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "broker.middleware.response_headers",
    "broker.middleware.plain_requests",
    "accounts.limits.doors",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "broker.middleware.own_forms",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "allauth.usersessions.middleware.UserSessionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "accounts.middleware.session_limits",
    "accounts.middleware.principal",
    "broker.middleware.words_for_browsers",
]

ROOT_URLCONF = "broker.urls"
WSGI_APPLICATION = "broker.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
                "broker.portal.context.product",
            ],
            "libraries": {"portal": "broker.portal.tags"},
        },
    }
]

# --- Database: PostgreSQL by DATABASE_URL, SQLite (WAL) as the embedded default
DATABASES = {
    "default": dj_database_url.parse(
        env.secret("DATABASE_URL") or f"sqlite:///{DATA_DIR / 'daypass.sqlite3'}",
        conn_max_age=300,
        conn_health_checks=True,
    )
}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATA_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
    DATABASES["default"]["ENGINE"] = "broker.sqlite"
    # Tests in memory, in every worker of pytest-xdist; it knows that of Django's own engine only.
    DATABASES["default"]["TEST"] = {"NAME": ":memory:"}
    DATABASES["default"]["OPTIONS"] = {
        # IMMEDIATE: a transaction that will write takes the lock at its start, so none fails half-way.
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;",
    }
else:
    DATABASES["default"]["OPTIONS"] = {"connect_timeout": 5, "options": "-c lock_timeout=10000"}

# --- Redis or Valkey: Celery's transport and the cache; the database stays the source of truth
REDIS_URL = env.secret("REDIS_URL")
CACHES: dict[str, dict[str, Any]] = {
    "default": {
        "BACKEND": "broker.cache.ForgetfulCache",
        "LOCATION": REDIS_URL or "redis://127.0.0.1:6379/0",
        "KEY_PREFIX": "daypass",
        # A Redis that hangs is one that is away: nobody waits for it.
        "OPTIONS": {
            "socket_timeout": 1,
            "socket_connect_timeout": 1,
            "retry": Retry(NoBackoff(), 0),
        },
    }
}
CELERY_BROKER_URL = CACHES["default"]["LOCATION"]
CELERY_RESULT_BACKEND = None
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_TIME_LIMIT = 120
CELERY_TASK_SOFT_TIME_LIMIT = 100
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TIMEZONE = "UTC"
# A message whose worker died comes back after visibility_timeout (longer than any task) plus one restore sweep.
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 180,
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
}
CELERY_BEAT_SCHEDULE_FILENAME = str(DATA_DIR / "celerybeat-schedule")
CELERY_BEAT_SCHEDULE = {
    "resolve-pending-sessions": {"task": "broker.sessions.tasks.resolve_pending", "schedule": 15.0},
    "expire-sessions": {"task": "broker.sessions.tasks.expire_due", "schedule": 60.0},
    "verify-audit": {
        "task": "broker.audit.tasks.verify_recent",
        "schedule": crontab(minute="*/15"),
    },
    "verify-audit-whole": {
        "task": "broker.audit.tasks.verify_whole",
        "schedule": crontab(hour="3", minute="17"),
    },
    "refresh-providers": {
        # Who is asked is decided there: each provider about once an hour, and not all in the same minute.
        "task": "accounts.tasks.refresh_providers",
        "schedule": crontab(minute="*/5"),
    },
    "warn-certificates": {
        "task": "accounts.tasks.warn_certificates",
        "schedule": crontab(minute="13"),
    },
    "turn-keys": {"task": "broker.upkeep.tasks.turn_keys", "schedule": crontab(minute="*/10")},
    "publish-keys": {
        "task": "broker.upkeep.tasks.publish_copy",
        "schedule": crontab(minute="5-59/10"),
    },
    "saml-providers": {
        "task": "broker.upkeep.tasks.follow_up_all",
        "schedule": crontab(minute="27"),
    },
    # Reads only accounts that have a discovery role.
    "discover": {
        "task": "broker.discovery.tasks.discover_all",
        "schedule": crontab(hour="4", minute="37"),
    },
    # Does nothing unless DAYPASS_CHECK_ROLES is on; which roles are due is decided there.
    "check-roles": {"task": "broker.doctor.tasks.check_due", "schedule": crontab(minute="*/10")},
    # Looks rarely: when is decided there (broker/awssso/checks.py).
    "header-of-aws-clients": {
        "task": "broker.awssso.checks.test_header",
        "schedule": 60.0,
    },
    "record-refusals": {"task": "accounts.tasks.record_refusals", "schedule": 60.0},
    "clear-relayed": {"task": "accounts.tasks.clear_relayed", "schedule": 60.0},
    "clear-terminals": {
        "task": "broker.awssso.tasks.clear_terminals",
        "schedule": crontab(minute="*/5"),
    },
    "clear-expired": {"task": "accounts.tasks.clear_expired", "schedule": crontab(minute="41")},
}

# --- People and sign-in
AUTH_USER_MODEL = "accounts.Person"
AUTHENTICATION_BACKENDS = ["accounts.backends.PersonBackend"]
LOGIN_URL = "sign_in"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "signed_out"
ACCOUNT_ADAPTER = "accounts.adapters.AccountAdapter"
ACCOUNT_USER_MODEL_USERNAME_FIELD = "handle"
ACCOUNT_USER_MODEL_EMAIL_FIELD = "email"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_UNIQUE_EMAIL = False
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_REAUTHENTICATION_REQUIRED = True
ACCOUNT_EMAIL_NOTIFICATIONS = False
SOCIALACCOUNT_ADAPTER = "accounts.adapters.SocialAccountAdapter"
SOCIALACCOUNT_AUTO_SIGNUP = True
SOCIALACCOUNT_EMAIL_AUTHENTICATION = False
SOCIALACCOUNT_EMAIL_AUTHENTICATION_AUTO_CONNECT = False
SOCIALACCOUNT_EMAIL_VERIFICATION = "none"
SOCIALACCOUNT_QUERY_EMAIL = False
SOCIALACCOUNT_LOGIN_ON_GET = False
SOCIALACCOUNT_STORE_TOKENS = False
SOCIALACCOUNT_REQUESTS_TIMEOUT = 8
MFA_ADAPTER = "accounts.adapters.MfaAdapter"
MFA_FORMS = {
    "authenticate": "accounts.second_factor.AuthenticateForm",
    "reauthenticate": "accounts.second_factor.ReauthenticateForm",
    "deactivate_totp": "accounts.second_factor.RemoveAppForm",
    "authenticate_webauthn": "accounts.second_factor.UseKeyForm",
    "reauthenticate_webauthn": "accounts.second_factor.ConfirmWithKeyForm",
    "add_webauthn": "accounts.second_factor.AddKeyForm",
    "edit_webauthn": "accounts.second_factor.RenameKeyForm",
}
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_TOTP_ISSUER = "Daypass"
MFA_TOTP_TOLERANCE = 1
MFA_RECOVERY_CODES_SHOW_ONCE = True
MFA_TRUST_ENABLED = False
MFA_PASSKEY_LOGIN_ENABLED = False
MFA_PASSKEY_SIGNUP_ENABLED = False
ACCOUNT_LOGOUT_ON_GET = False
ACCOUNT_SESSION_REMEMBER = True
USERSESSIONS_TRACK_ACTIVITY = False
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.ScryptPasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 14},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
]

# --- Cookies, CSRF and headers
_prefix = "__Host-" if SECURE_ORIGIN else ""
SESSION_COOKIE_NAME = f"{_prefix}daypass_session"
SESSION_COOKIE_SECURE = SECURE_ORIGIN
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = int(DAYPASS_SESSION_ABSOLUTE.total_seconds())
SESSION_SERIALIZER = "django.contrib.sessions.serializers.JSONSerializer"
SESSION_ENGINE = "django.contrib.sessions.backends.db"
CSRF_COOKIE_NAME = f"{_prefix}daypass_csrf"
CSRF_COOKIE_SECURE = SECURE_ORIGIN
CSRF_COOKIE_HTTPONLY = True
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_FAILURE_VIEW = "broker.portal.errors.csrf_failure"
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"
X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SECURE_HSTS_SECONDS = 63072000 if SECURE_ORIGIN else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_ORIGIN
SECURE_HSTS_PRELOAD = SECURE_ORIGIN
# TLS ends at the proxy in front; canonical_origin answers for the scheme, and plain http never reaches a browser.
SECURE_SSL_REDIRECT = False
SILENCED_SYSTEM_CHECKS = ["security.W008"]
# Chromium checks form-action on every redirect that follows a form: opening the console is one, and ends at AWS.
_aws_pages = sorted(
    f"https://{host}"
    for partition in PARTITIONS.values()
    for host in {
        partition.signin_host,
        partition.regional_signin_host.format(region="*"),
        partition.console_domain,
        f"*.{partition.console_domain}",
    }
)
_stand_ins = [
    origin
    for url in endpoints_of(DAYPASS_SIGNIN_ENDPOINT)
    for origin in _origins(url.replace("{region}", "*"))
]
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF, NONCE],
        "style-src": [SELF, NONCE],
        "img-src": [SELF, "data:", *_origins(DAYPASS_LOGO_URL)],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF, *_aws_pages, *_stand_ins],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
        "object-src": [NONE],
    }
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 1000
FILE_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024

# --- Language, time, static
LANGUAGE_CODE = "en"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = Path(env.text("DAYPASS_STATIC_ROOT", str(DATA_DIR / "static")))
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

# --- Logs: one JSON object a line, on standard error, at the edges, with ids; never claims, tokens or queries
LOG_LEVEL = env.text("DAYPASS_LOG_LEVEL", "INFO")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "broker.logs.JsonFormatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {
        "daypass": {"level": LOG_LEVEL},
        "django": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
        # Every 4xx is a line of it otherwise: strangers would write our log.
        "django.request": {"level": "ERROR"},
        "django.server": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
        "celery": {"level": "INFO"},
        # These print whole requests, keys included, at DEBUG: held at WARNING whatever else is asked for.
        "boto3": {"level": "WARNING"},
        "botocore": {"level": "WARNING"},
        "urllib3": {"level": "WARNING"},
        "requests": {"level": "WARNING"},
    },
}
