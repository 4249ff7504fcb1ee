"""Unsafe or contradictory settings of sign-in do not start; addresses are believed only from our own proxies."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from allauth.socialaccount.models import SocialAccount
from django.core.checks import run_checks
from django.db import IntegrityError, transaction
from django.test import RequestFactory

from accounts import adapters, checks
from accounts.models import IdentityProvider
from accounts.network import client_address
from broker import demands
from tests.accounts.web import browser, saml_sign_in
from tests.environment import but


def ids(**options) -> set[str]:
    return {found.id for found in run_checks(**options) if found.id}


def test_the_settings_as_they_are_pass():
    assert not {i for i in ids() if i.startswith("accounts.")}


UNSAFE = {
    "AUTH_USER_MODEL": "auth.User",
    "AUTHENTICATION_BACKENDS": ["django.contrib.auth.backends.ModelBackend"],
    "ACCOUNT_ADAPTER": "allauth.account.adapter.DefaultAccountAdapter",
    "SOCIALACCOUNT_ADAPTER": "allauth.socialaccount.adapter.DefaultSocialAccountAdapter",
    "MFA_ADAPTER": "allauth.mfa.adapter.DefaultMFAAdapter",
    "SOCIALACCOUNT_EMAIL_AUTHENTICATION": True,
    "SOCIALACCOUNT_EMAIL_AUTHENTICATION_AUTO_CONNECT": True,
    "SOCIALACCOUNT_QUERY_EMAIL": True,
    "SOCIALACCOUNT_LOGIN_ON_GET": True,
    "SOCIALACCOUNT_STORE_TOKENS": True,
    "SOCIALACCOUNT_FORMS": {"signup": "somebody.Form"},
    "ACCOUNT_LOGIN_METHODS": {"username", "email"},
    "ACCOUNT_PREVENT_ENUMERATION": False,
    "ACCOUNT_REAUTHENTICATION_REQUIRED": False,
    "ACCOUNT_LOGOUT_ON_GET": True,
    "ACCOUNT_LOGIN_BY_CODE_ENABLED": True,
    "ACCOUNT_SIGNUP_FORM_CLASS": "somebody.Form",
    "ACCOUNT_RATE_LIMITS": False,
    "MFA_RATE_LIMITS": {"authenticate": None},
    "MFA_SUPPORTED_TYPES": ["recovery_codes"],
    "MFA_FORMS": {},
    "MFA_TOTP_INSECURE_BYPASS_CODE": "123456",
    "MFA_TOTP_TOLERANCE": 10,
    "MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN": True,
    "MFA_TRUST_ENABLED": True,
    "MFA_PASSKEY_LOGIN_ENABLED": True,
    "MFA_PASSKEY_SIGNUP_ENABLED": True,
    "DAYPASS_MEMBERSHIP_MAX_AGE": timedelta(hours=25),
}
"""For every setting that sign-in makes demands on: a value that nobody should start with."""


@pytest.mark.parametrize("name", [demand.name for demand in checks._DEMANDED])
def test_an_unsafe_setting_is_found(monkeypatch, name):
    monkeypatch.setattr(demands, "settings", but(**{name: UNSAFE[name]}))

    found = checks.safe_settings(None)

    assert [message.id for message in found] == ["accounts.E001"]
    assert name in found[0].msg
    assert len(found[0].hint) > 30


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("SOCIALACCOUNT_PROVIDERS", {"saml": {}}, "accounts.E002"),
        ("DAYPASS_PRIVATE_PROVIDERS", ["https://x/"], "accounts.E006"),
        ("DAYPASS_PRIVATE_PROVIDERS", ["*.corp"], "accounts.E006"),
        ("DAYPASS_CA_BUNDLE", "/no/such/file.pem", "accounts.E007"),
    ],
)
def test_what_is_unsafe_is_found(settings, name, value, found):
    setattr(settings, name, value)

    assert found in ids()


@pytest.mark.parametrize(
    "door", ["allauth.socialaccount.providers.saml", "allauth.headless", "allauth.idp.oidc"]
)
def test_allauths_own_doors_beside_ours_are_found(settings, monkeypatch, door):
    monkeypatch.setattr(checks, "settings", but(INSTALLED_APPS=[*settings.INSTALLED_APPS, door]))

    assert [message.id for message in checks.providers_only_from_the_database(None)] == [
        "accounts.E003"
    ]


def test_an_idle_limit_beyond_the_absolute_one_is_found(settings):
    settings.DAYPASS_SESSION_IDLE = settings.DAYPASS_SESSION_ABSOLUTE * 2

    assert "accounts.E004" in ids()


def test_a_row_in_allauths_own_table_is_found(db):
    from allauth.socialaccount.models import SocialApp

    SocialApp.objects.create(provider="saml", name="stray", client_id="x")

    assert "accounts.W001" in ids(include_deployment_checks=True, databases=["default"])


def test_an_account_of_nobody_we_know_is_found(saml_row, idp):
    client = browser()
    saml_sign_in(client, idp)
    assert "accounts.W002" not in ids(databases=["default"], tags=["daypass"])

    SocialAccount.objects.update(provider="saml")

    assert "accounts.W002" in ids(databases=["default"], tags=["daypass"])


def test_two_providers_never_share_what_they_are_known_by(saml_row, oidc_row, monkeypatch):
    assert "accounts.E008" not in ids(databases=["default"], tags=["daypass"])

    class Same:
        provider_id = "saml"

    monkeypatch.setattr(adapters, "social_app", lambda row: Same)

    assert "accounts.E008" in ids(databases=["default"], tags=["daypass"])


@pytest.mark.parametrize(
    ("field", "of"), [("slug", "saml"), ("entity_id", "saml"), ("issuer", "oidc")]
)
def test_the_database_keeps_two_providers_apart(saml_row, oidc_row, field, of):
    row = saml_row if of == "saml" else oidc_row
    names = {"slug": "another", "entity_id": "https://another", "client_id": row.client_id}
    names["issuer"] = row.issuer
    names[field] = getattr(row, field)

    with pytest.raises(IntegrityError), transaction.atomic():
        IdentityProvider.objects.create(name="Twin", protocol=row.protocol, **names)


# --- lxml and xmlsec


def with_broken_xmlsec(tmp_path: Path, body: str, *command: str) -> subprocess.CompletedProcess:
    """A command where importing xmlsec does this."""
    (tmp_path / "xmlsec.py").write_text(body)
    return subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "DAYPASS_DATA_DIR": str(tmp_path)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


MISMATCH = "raise ImportError('lxml & xmlsec libxml2 library version mismatch')"


@pytest.mark.parametrize(
    "command", [("manage.py", "check", "--deploy"), ("-c", "import broker.wsgi")]
)
def test_libraries_that_do_not_fit_end_the_start_with_what_to_do(tmp_path, command):
    done = with_broken_xmlsec(tmp_path, MISMATCH, *command)

    assert done.returncode != 0
    assert "lxml and xmlsec cannot be used together" in done.stderr
    assert "version mismatch" in done.stderr
    assert "exactly the versions of requirements.txt" in done.stderr
    assert "accounts.E005" in done.stderr


@pytest.mark.parametrize(
    ("body", "said"), [(MISMATCH, "version mismatch"), ("import os; os.abort()", "ended with -6")]
)
def test_libraries_that_die_in_a_child_are_told_too(tmp_path, monkeypatch, body, said):
    (tmp_path / "xmlsec.py").write_text(body)
    assert checks.xml_libraries_in_a_child(None) == []

    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (found,) = checks.xml_libraries_in_a_child(None)

    assert found.id == "accounts.E005"
    assert said in found.msg


@pytest.mark.parametrize(
    ("trusted", "forwarded", "remote", "address"),
    [
        (0, None, "198.51.100.7", "198.51.100.7"),
        (0, "203.0.113.9", "198.51.100.7", "198.51.100.7"),
        (1, "203.0.113.9", "10.0.0.1", "203.0.113.9"),
        (1, "1.2.3.4, 203.0.113.9", "10.0.0.1", "203.0.113.9"),
        (2, "1.2.3.4, 203.0.113.9, 10.0.0.2", "10.0.0.1", "203.0.113.9"),
        (2, "203.0.113.9", "10.0.0.1", ""),
        (1, "junk", "10.0.0.1", ""),
        (1, None, "10.0.0.1", ""),
        (2, None, "10.0.0.1", ""),
        (1, "203.0.113.9:4711", "10.0.0.1", "203.0.113.9"),
        (1, "[2001:db8::1]:4711", "10.0.0.1", "2001:db8::1"),
        (0, None, "2001:DB8::1", "2001:db8::1"),
        (0, None, "::ffff:198.51.100.7", "198.51.100.7"),
        (0, None, "", ""),
        (0, None, "unix:", ""),
    ],
)
def test_an_address_is_believed_from_our_own_proxies_only(
    settings, trusted, forwarded, remote, address
):
    settings.DAYPASS_TRUSTED_PROXIES = trusted
    headers = {"X-Forwarded-For": forwarded} if forwarded is not None else {}

    request = RequestFactory().get("/", headers=headers, REMOTE_ADDR=remote)

    assert client_address(request) == address
