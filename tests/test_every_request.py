"""What holds for every request: one canonical origin, private answers, health without either."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.test import Client

from tests import factories as make


def test_a_request_for_another_host_is_told_the_right_address():
    response = Client(headers={"host": "evil.example"}).get("/")

    assert response.status_code == 400
    assert b"https://daypass.test/" in response.content
    assert b"evil.example" not in response.content


@pytest.mark.django_db
@pytest.mark.parametrize("host", ["daypass.test:443", "DAYPASS.test"])
def test_the_same_address_written_differently_is_ours_and_comes_out_as_ours(client, host):
    plain = client.get("/.well-known/openid-configuration").content

    assert Client(headers={"host": host}).get("/.well-known/openid-configuration").content == plain
    assert Client(headers={"host": host}).get("/aws/header-test").status_code == 200


@pytest.mark.parametrize(
    "host", ["daypass.test:80", "daypass.test:8443", "daypass.test:", "daypass.test.", ""]
)
def test_another_port_or_name_is_another_address(host):
    assert Client(headers={"host": host}).get("/").status_code == 400


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

    assert response["Cache-Control"] == "private, no-store"
    assert "Cookie" in response["Vary"]
    policy = response["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Cross-Origin-Opener-Policy"] == "same-origin"
    assert response["Strict-Transport-Security"].startswith("max-age=63072000")


# --- Methods and paths


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
@pytest.mark.parametrize("path", ["/", "/sign-in/", "/admin/", "/saml/acme/acs/", "/nowhere/"])
def test_methods_that_no_page_has_are_refused_everywhere(client, method, path):
    answer = client.generic(method, path, secure=True)

    assert (answer.status_code, answer["Allow"]) == (405, "GET, HEAD, POST")
    assert "no-store" in answer["Cache-Control"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-Url"]
)
def test_no_header_makes_one_request_another(client, name):
    for value in ("POST", "DELETE", "/admin/"):
        plain = client.get("/sign-in/", secure=True)
        changed = client.get("/sign-in/", secure=True, headers={name: value})
        assert (changed.status_code, changed.resolver_match.url_name) == (200, "sign_in")
        assert len(changed.content) == len(plain.content)


@pytest.mark.parametrize(
    "sent",
    [
        "//sign-in/",
        "/sign-in//local/",
        "/./sign-in/",
        "/static/../sign-in/",
        "/sign-in/%2e%2e/admin/",
        "/sign-in%2Flocal/",
        "/sign-in%5clocal/",
        "/sign-in/%00",
        "/sign-in\\local/",
        "/sign-in/..",
    ],
)
def test_a_path_that_can_be_read_in_two_ways_is_refused(client, sent):
    """As gunicorn hands it over: the path as it was sent, beside the decoded one."""
    answer = client.get("/sign-in/", secure=True, RAW_URI=sent + "?x=/../")

    assert answer.status_code == 400


@pytest.mark.django_db
def test_a_query_may_hold_anything(client):
    answer = client.get("/sign-in/", secure=True, RAW_URI="/sign-in/?to=%2F..%2F//x")

    assert answer.status_code == 200


# --- Forms


@pytest.mark.django_db
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://daypass.test"},
        {"Origin": "https://daypass.test:8443"},
        {"Referer": "https://evil.example/"},
        {"Origin": "https://daypass.test", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://daypass.test", "Sec-Fetch-Site": "same-site"},
        {"Origin": "https://daypass.test", "Sec-Fetch-Site": "none"},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/sign-out/", "/sign-in/acme/", "/sign-in/local/"])
def test_a_form_with_a_good_token_still_has_to_come_from_here(path, headers):
    """Whoever can write a cookie for the host (a neighbour on its domain) has a good token, too."""
    make.provider("acme")
    strict, fields = with_token()

    assert strict.post(path, fields, secure=True, headers=headers).status_code == 403


@pytest.mark.django_db
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://daypass.test"},
        {"Origin": "https://daypass.test", "Sec-Fetch-Site": "same-origin"},
        {"Referer": "https://daypass.test/sign-in/"},
    ],
    ids=str,
)
def test_a_form_of_ours_arrives(headers):
    strict, fields = with_token()

    assert strict.post("/sign-out/", fields, secure=True, headers=headers).status_code == 302


def with_token():
    """A browser with a token in its cookie, and the fields of a form that carry it."""
    from django.middleware.csrf import _get_new_csrf_string

    from tests.accounts import web

    strict = web.Browser(headers={"host": "daypass.test"}, enforce_csrf_checks=True)
    token = _get_new_csrf_string()
    strict.cookies[settings.CSRF_COOKIE_NAME] = token
    return strict, {"csrfmiddlewaretoken": token}


def test_cookies_are_bound_to_this_host_and_to_https():
    for name in ("SESSION", "CSRF"):
        assert getattr(settings, f"{name}_COOKIE_NAME").startswith("__Host-")
        assert getattr(settings, f"{name}_COOKIE_SECURE")
        assert getattr(settings, f"{name}_COOKIE_HTTPONLY")
        assert getattr(settings, f"{name}_COOKIE_SAMESITE") == "Lax"
    assert settings.SESSION_COOKIE_DOMAIN is settings.CSRF_COOKIE_DOMAIN is None


# --- What AWS fetches


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/.well-known/jwks.json"])
def test_what_aws_fetches_has_no_limit_no_cookie_and_no_redirect(signing_keys, path, settings):
    settings.DAYPASS_STARTS_PER_ADDRESS = settings.DAYPASS_REFUSALS_PER_ADDRESS = 1
    client = Client(headers={"host": "daypass.test"})
    for _ in range(5):
        client.post(
            "/saml/acme/acs/", "SAMLResponse=x", content_type="application/x-www-form-urlencoded"
        )

    answers = [client.get(path, headers={"Cookie": "__Host-daypass_session=x"}) for _ in range(50)]

    for answer in answers:
        assert answer.status_code == 200
        assert "public" in answer["Cache-Control"] and "max-age" in answer["Cache-Control"]
        assert not answer.cookies
        assert "Cookie" not in answer.get("Vary", "")
