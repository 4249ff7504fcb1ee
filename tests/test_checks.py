"""Half a configuration does not start: every system check, by id."""

from __future__ import annotations

import http.client
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from broker import checks, demands
from tests.environment import but

ROOT = Path(__file__).resolve().parent.parent

GOOD = {
    "DAYPASS_ORIGIN": "https://daypass.example.com",
    "DAYPASS_SECRET_KEY": "correct horse battery staple, as they say, and fifty letters",
    "DAYPASS_SEALING_KEYS": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    "REDIS_URL": "redis://127.0.0.1:6379/0",
}


def check(tmp_path: Path, **changes: str | None) -> subprocess.CompletedProcess[str]:
    """`manage.py check --deploy` as an operator would run it, with nothing but these variables."""
    environment = {"PATH": os.environ["PATH"], "DAYPASS_DATA_DIR": str(tmp_path), **GOOD}
    for name, value in changes.items():
        environment.pop(name, None)
        if value is not None:
            environment[name] = value
    return subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_whole_configuration_passes_without_a_warning(tmp_path):
    done = check(tmp_path)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("changes", "identifier"),
    [
        ({"DAYPASS_MODE": "debug"}, "daypass.E001"),
        ({"DAYPASS_ORIGIN": None}, "daypass.E002"),
        ({"DAYPASS_ORIGIN": "https://daypass.example.com/path"}, "daypass.E002"),
        ({"DAYPASS_MODE": "demo"}, "daypass.E003"),
        ({"DAYPASS_ORIGIN": "http://daypass.example.com"}, "daypass.E004"),
        ({"DAYPASS_SECRET_KEY": None}, "daypass.E010"),
        ({"DAYPASS_SECRET_KEY": "short"}, "daypass.E010"),
        ({"DAYPASS_SEALING_KEYS": None}, "daypass.E011"),
        ({"DAYPASS_SEALING_KEYS": "c2hvcnQ="}, "daypass.E012"),
        ({"REDIS_URL": None}, "daypass.E013"),
        ({"DAYPASS_STS_ENDPOINT": "http://sts.example.com"}, "daypass.E020"),
        ({"DAYPASS_SIGNIN_ENDPOINT": "http://signin.example.com"}, "daypass.E020"),
        (
            {"DAYPASS_STS_ENDPOINT": "eu-west-1=https://a.example,eu-west-2=http://b.example"},
            "daypass.E020",
        ),
        ({"DAYPASS_STS_ENDPOINT": "eu-west-1"}, "daypass.E020"),
        ({"DAYPASS_KMS_ENDPOINT": "http://kms.example.com"}, "daypass.E020"),
        ({"DAYPASS_KMS_KEYS": "oidc=arn:aws:kms:eu-west-1:111122223333:alias/x"}, "daypass.E022"),
        ({"DAYPASS_KMS_KEYS": "saml"}, "daypass.E022"),
        ({"DAYPASS_TOKEN_ALGORITHM": "ES384"}, "daypass.E024"),
        ({"DAYPASS_TOKEN_ALGORITHM": "none"}, "daypass.E024"),
        ({"DAYPASS_S3_ENDPOINT": "http://s3.example.com"}, "daypass.E020"),
        ({"DAYPASS_IAM_ENDPOINT": "http://iam.example.com"}, "daypass.E020"),
        ({"DAYPASS_PUBLISH_TO": "/srv/issuer"}, "daypass.E023"),
        ({"DAYPASS_PUBLISH_TO": "s3://bucket/prefix"}, "daypass.E023"),
        (
            {
                "DAYPASS_KMS_KEYS": "oidc=arn:aws:kms:eu-west-1:111122223333:key/x "
                "saml=arn:aws:kms:eu-west-1:111122223333:key/x"
            },
            "daypass.E022",
        ),
        ({"DAYPASS_ISSUER": "https://daypass.example.com:8443"}, "daypass.E021"),
        ({"DAYPASS_ISSUER": "http://issuer.example.com"}, "daypass.E021"),
    ],
)
def test_half_a_configuration_is_refused_with_an_id_and_a_hint(tmp_path, changes, identifier):
    done = check(tmp_path, **changes)

    assert done.returncode != 0
    assert identifier in done.stderr
    assert "HINT" in done.stderr


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"DAYPASS_SESSION_IDLE": "soon"}, "DAYPASS_SESSION_IDLE"),
        ({"DAYPASS_SESSION_IDLE": "-5"}, "DAYPASS_SESSION_IDLE"),
        ({"DAYPASS_MEMBERSHIP_MAX_AGE": "90000"}, "DAYPASS_MEMBERSHIP_MAX_AGE"),
        ({"DAYPASS_SECRET_KEY_FILE": "/nowhere"}, "DAYPASS_SECRET_KEY"),
    ],
)
def test_a_value_that_cannot_be_understood_names_its_variable(tmp_path, changes, named):
    done = check(tmp_path, **changes)

    assert done.returncode != 0
    assert named in done.stderr


def test_a_secret_can_come_from_a_file(tmp_path):
    (tmp_path / "key").write_text("from a file, and quite long enough for production use\n")

    done = check(tmp_path, DAYPASS_SECRET_KEY=None, DAYPASS_SECRET_KEY_FILE=str(tmp_path / "key"))

    assert done.returncode == 0, done.stderr


LOOSE = {
    "DEBUG": True,
    "DEBUG_PROPAGATE_EXCEPTIONS": True,
    "ALLOWED_HOSTS": ["*"],
    "CSRF_TRUSTED_ORIGINS": ["https://other.example"],
    "USE_X_FORWARDED_HOST": True,
    "USE_X_FORWARDED_PORT": True,
    "SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https"),
    "SESSION_ENGINE": "django.contrib.sessions.backends.cache",
    "SESSION_SERIALIZER": "somebody.PickleSerializer",
    "SESSION_COOKIE_DOMAIN": ".daypass.test",
    "SESSION_COOKIE_PATH": "/admin/",
    "SESSION_COOKIE_HTTPONLY": False,
    "SESSION_COOKIE_SAMESITE": "None",
    "SESSION_COOKIE_AGE": 14 * 86400,
    "SESSION_SAVE_EVERY_REQUEST": True,
    "CSRF_COOKIE_DOMAIN": ".daypass.test",
    "CSRF_COOKIE_HTTPONLY": False,
    "CSRF_COOKIE_SAMESITE": "None",
    "MESSAGE_STORAGE": "django.contrib.messages.storage.cookie.CookieStorage",
    "SIGNING_BACKEND": "somebody.Signer",
    "PASSWORD_HASHERS": ["django.contrib.auth.hashers.MD5PasswordHasher"],
    "AUTH_PASSWORD_VALIDATORS": [],
    "X_FRAME_OPTIONS": "SAMEORIGIN",
    "SECURE_CONTENT_TYPE_NOSNIFF": False,
    "SECURE_REFERRER_POLICY": "unsafe-url",
    "SECURE_CROSS_ORIGIN_OPENER_POLICY": "unsafe-none",
    "CONTENT_SECURITY_POLICY": {"DIRECTIVES": {"default-src": ["'self'"]}},
    "CONTENT_SECURITY_POLICY_REPORT_ONLY": {"DIRECTIVES": {}, "REPORT_PERCENTAGE": 100},
    "TEMPLATES": [{"OPTIONS": {"autoescape": False}}],
    "DATA_UPLOAD_MAX_MEMORY_SIZE": None,
    "DATA_UPLOAD_MAX_NUMBER_FIELDS": None,
    "DATA_UPLOAD_MAX_NUMBER_FILES": 10_000,
    "CELERY_ACCEPT_CONTENT": ["json", "pickle"],
    "CELERY_TASK_SERIALIZER": "pickle",
    "CELERY_RESULT_BACKEND": "redis://",
    "ADMINS": [("Ada", "ada@example.com")],
    "MANAGERS": [("Ada", "ada@example.com")],
    "DEFAULT_EXCEPTION_REPORTER_FILTER": "somebody.Filter",
    "USE_TZ": False,
    "TIME_ZONE": "Europe/Zurich",
    "SILENCED_SYSTEM_CHECKS": ["daypass.E030"],
    "SESSION_COOKIE_SECURE": False,
    "CSRF_COOKIE_SECURE": False,
    "SESSION_COOKIE_NAME": "session",
    "CSRF_COOKIE_NAME": "csrf",
    "SECURE_HSTS_SECONDS": 60,
}
"""For every setting that demands are made on: a value that nobody should start with."""


@pytest.mark.parametrize("name", [demand.name for demand in (*checks._ALWAYS, *checks._OVER_TLS)])
def test_an_unsafe_setting_is_found(monkeypatch, name):
    monkeypatch.setattr(demands, "settings", but(**{name: LOOSE[name]}))

    found = checks.safe_settings(None)

    assert [message.id for message in found] == ["daypass.E030"]
    assert name in found[0].msg
    assert len(found[0].hint) > 20


@pytest.mark.parametrize(
    ("directive", "sources"),
    [
        ("script-src", ["'self'", "'unsafe-inline'"]),
        ("script-src", ["'self'", "https:"]),
        ("script-src", ["data:"]),
        ("style-src", ["'unsafe-inline'"]),
        ("img-src", ["*"]),
        ("connect-src", ["http:"]),
        ("frame-ancestors", ["'self'"]),
        ("base-uri", []),
        ("form-action", []),
    ],
)
def test_a_looser_content_policy_is_found(settings, monkeypatch, directive, sources):
    policy = settings.CONTENT_SECURITY_POLICY
    looser = {"DIRECTIVES": {**policy["DIRECTIVES"], directive: sources}}
    assert not checks.safe_settings(None)

    monkeypatch.setattr(demands, "settings", but(CONTENT_SECURITY_POLICY=looser))

    assert [message.id for message in checks.safe_settings(None)] == ["daypass.E030"]


@pytest.mark.parametrize("change", ["without", "later"])
@pytest.mark.parametrize("name", checks._IN_THIS_ORDER)
def test_a_middleware_that_is_missing_or_comes_too_late_is_found(
    settings, monkeypatch, name, change
):
    order = [other for other in settings.MIDDLEWARE if other != name]
    if change == "later":
        order.append(name) if name != checks._IN_THIS_ORDER[-1] else order.insert(0, name)
    monkeypatch.setattr(checks, "settings", but(MIDDLEWARE=order))

    assert [message.id for message in checks.middleware_in_order(None)] == ["daypass.E031"]


@pytest.mark.parametrize("name", ["botocore", "urllib3", "django.db.backends", "kombu"])
def test_a_logger_that_would_print_requests_is_found(name):
    logger = logging.getLogger(name)
    level = logger.level
    assert not checks.quiet_loggers(None)
    try:
        logger.setLevel(logging.DEBUG)
        found = checks.quiet_loggers(None)
    finally:
        logger.setLevel(level)

    assert "daypass.E032" in {message.id for message in found}


def test_a_printing_http_client_is_found(monkeypatch):
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)

    assert [message.id for message in checks.quiet_loggers(None)] == ["daypass.E032"]


@pytest.mark.parametrize("app", ["corsheaders", "debug_toolbar", "silk.apps.SilkAppConfig"])
def test_further_doors_are_found(settings, monkeypatch, app):
    monkeypatch.setattr(checks, "settings", but(INSTALLED_APPS=[*settings.INSTALLED_APPS, app]))

    assert [message.id for message in checks.no_further_doors(None)] == ["daypass.E033"]


def test_an_opening_to_other_origins_is_found(settings):
    settings.CORS_ALLOW_ALL_ORIGINS = True

    assert [message.id for message in checks.no_further_doors(None)] == ["daypass.E033"]


@pytest.mark.parametrize(
    "command",
    [
        ["-c", "import broker.wsgi"],
        ["-m", "celery", "-A", "broker.celery", "worker", "-P", "solo"],
        ["-m", "celery", "-A", "broker.celery", "beat"],
    ],
)
def test_no_process_that_serves_starts_half_configured(tmp_path, command):
    environment = {"PATH": os.environ["PATH"], "DAYPASS_DATA_DIR": str(tmp_path), **GOOD}
    environment["DAYPASS_SEALING_KEYS"] = ""

    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode != 0
    assert "Daypass does not start like this" in done.stderr
    assert "daypass.E011" in done.stderr
    assert GOOD["DAYPASS_SECRET_KEY"] not in done.stderr + done.stdout
