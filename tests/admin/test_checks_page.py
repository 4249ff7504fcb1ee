"""What the system checks say stands where administrators look, and nobody else sees it."""

from __future__ import annotations

import logging

import pytest
from django.test import Client

pytestmark = pytest.mark.django_db


def test_administrators_see_that_nothing_is_wrong(admin_client):
    page = admin_client.get("/admin/health/").content.decode()

    assert "Checks of settings and libraries" in page
    assert "Nothing is wrong with them." in page


def test_what_is_found_is_shown_with_its_id_and_what_to_do(admin_client, settings):
    settings.SESSION_COOKIE_SAMESITE = "None"

    page = admin_client.get("/admin/health/").content.decode()
    first = admin_client.get("/admin/").content.decode()

    assert "daypass.E030" in page
    assert "SESSION_COOKIE_SAMESITE is &#x27;None&#x27;" in page
    assert "Otherwise" in page
    assert "1 of Daypass&#x27;s own checks fails." in first


def test_a_library_that_talks_is_told_while_it_does(admin_client):
    logger = logging.getLogger("botocore")
    level = logger.level
    try:
        logger.setLevel(logging.DEBUG)
        page = admin_client.get("/admin/health/").content.decode()
    finally:
        logger.setLevel(level)

    assert "daypass.E032" in page


def test_warnings_of_rows_are_shown_too(admin_client):
    from allauth.socialaccount.models import SocialApp

    SocialApp.objects.create(provider="saml", name="stray", client_id="x")

    assert "accounts.W001" in admin_client.get("/admin/health/").content.decode()


def test_nobody_else_sees_the_checks(employee_client):
    for client in (employee_client, Client(headers={"host": "daypass.test"})):
        answer = client.get("/admin/health/")

        assert answer.status_code in (302, 403)
        assert b"Checks of settings" not in answer.content
