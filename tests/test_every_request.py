"""What holds for every request: one canonical origin, private answers, health without either."""

from __future__ import annotations

import pytest
from django.test import Client


def test_a_request_for_another_host_is_told_the_right_address():
    response = Client(headers={"host": "evil.example"}).get("/")

    assert response.status_code == 400
    assert b"https://daypass.test/" in response.content
    assert b"evil.example" not in response.content


@pytest.mark.django_db
@pytest.mark.parametrize("header", ["x-forwarded-host", "x-forwarded-proto", "x-forwarded-port"])
def test_forwarding_headers_change_no_address(client, header):
    plain = client.get("/.well-known/openid-configuration").content

    forged = client.get(
        "/.well-known/openid-configuration", headers={header: "evil.example"}
    ).content

    assert forged == plain
    assert b"https://daypass.test" in plain


def test_live_answers_whatever_host_a_probe_names():
    response = Client(headers={"host": "10.0.0.7"}).get("/health/live")

    assert response.status_code == 200
    assert response.json() == {"status": "live"}


@pytest.mark.django_db
def test_ready_names_its_parts():
    response = Client().get("/health/ready")

    assert response.status_code == 200
    assert response.json() == {"status": "ready", "database": "ok", "redis": "ok"}


@pytest.mark.django_db
def test_ready_says_which_part_is_away_and_not_why(settings):
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": "redis://:hidden@127.0.0.1:1/0",
        }
    }

    response = Client().get("/health/ready")

    assert response.status_code == 503
    assert response.json()["redis"] == "failed"
    assert b"hidden" not in response.content


@pytest.mark.django_db
def test_pages_are_private_and_guarded(client):
    response = client.get("/sign-in/")

    assert response["Cache-Control"] == "no-store"
    policy = response["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Cross-Origin-Opener-Policy"] == "same-origin"
    assert response["Strict-Transport-Security"].startswith("max-age=63072000")
