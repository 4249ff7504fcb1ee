"""Unsafe or contradictory settings of sign-in do not start; addresses are believed only from our own proxies."""

from __future__ import annotations

import pytest
from django.core.checks import run_checks
from django.test import RequestFactory

from accounts.network import client_address


def ids(**options) -> set[str]:
    return {found.id for found in run_checks(**options) if found.id}


def test_the_settings_as_they_are_pass():
    assert not {i for i in ids() if i.startswith("accounts.")}


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("SOCIALACCOUNT_EMAIL_AUTHENTICATION", True, "accounts.E001"),
        ("SOCIALACCOUNT_EMAIL_AUTHENTICATION_AUTO_CONNECT", True, "accounts.E001"),
        ("SOCIALACCOUNT_LOGIN_ON_GET", True, "accounts.E001"),
        ("SESSION_COOKIE_SAMESITE", "None", "accounts.E001"),
        ("SOCIALACCOUNT_PROVIDERS", {"saml": {}}, "accounts.E002"),
        ("DAYPASS_PRIVATE_PROVIDERS", ["https://x/"], "accounts.E006"),
        ("DAYPASS_PRIVATE_PROVIDERS", ["*.corp"], "accounts.E006"),
        ("DAYPASS_CA_BUNDLE", "/no/such/file.pem", "accounts.E007"),
    ],
)
def test_what_is_unsafe_is_found(settings, name, value, found):
    setattr(settings, name, value)

    assert found in ids()


def test_allauths_own_providers_beside_ours_are_found(settings):
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "allauth.socialaccount.providers.saml"]

    assert "accounts.E003" in ids()


def test_an_idle_limit_beyond_the_absolute_one_is_found(settings):
    settings.DAYPASS_SESSION_IDLE = settings.DAYPASS_SESSION_ABSOLUTE * 2

    assert "accounts.E004" in ids()


def test_a_row_in_allauths_own_table_is_found(db):
    from allauth.socialaccount.models import SocialApp

    SocialApp.objects.create(provider="saml", name="stray", client_id="x")

    assert "accounts.W001" in ids(include_deployment_checks=True, databases=["default"])


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
        (1, None, "10.0.0.1", "10.0.0.1"),
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
