"""The three documents that AWS fetches: public, cacheable, without session, cookie or redirect."""

from __future__ import annotations

from types import ModuleType

import pytest
import requests
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from joserfc import jwt
from joserfc.jwk import KeySet

from broker.minting.models import SigningKey
from broker.minting.oidc import mint_web_identity_token
from broker.minting.urls import issuer_path, routes
from tests.minting.claims import parts_of, web_identity

DISCOVERY = "/.well-known/openid-configuration"
JWKS = "/.well-known/jwks.json"
METADATA = "/aws/saml/metadata"
EVERY = pytest.mark.parametrize("path", [DISCOVERY, JWKS, METADATA])

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("signing_keys")]


def test_discovery_says_what_iam_reads(client):
    answer = client.get(DISCOVERY)

    document = answer.json()
    assert answer["Content-Type"] == "application/json"
    assert document["issuer"] == "https://daypass.test"
    assert document["jwks_uri"] == "https://daypass.test/.well-known/jwks.json"
    assert document["response_types_supported"] == ["id_token"]
    assert document["subject_types_supported"] == ["public"]
    assert document["id_token_signing_alg_values_supported"] == ["RS256"]
    assert {"aud", "iat", "iss", "sub", "exp"} <= set(document["claims_supported"])


def test_every_claim_that_is_minted_is_among_the_supported_ones(client):
    _, payload = parts_of(mint_web_identity_token(web_identity(), now=timezone.now()).reveal())

    assert set(payload) <= set(client.get(DISCOVERY).json()["claims_supported"])


def test_the_very_first_fetch_makes_the_first_keys_and_the_next_one_does_not(client):
    SigningKey.objects.all().delete()

    first = client.get(JWKS).json()
    second = client.get(JWKS).json()

    assert first == second
    assert len(first["keys"]) == 1
    assert SigningKey.objects.count() == 2


@EVERY
def test_a_document_is_public_and_cacheable(client, path):
    answer = client.get(path)

    assert answer.status_code == 200
    directives = dict(
        part.strip().partition("=")[::2] for part in answer["Cache-Control"].split(",")
    )
    assert "public" in directives
    assert 300 <= int(directives["max-age"]) <= 3600
    assert "Cookie" not in answer.get("Vary", "")
    assert not answer.cookies


@EVERY
def test_a_document_does_not_look_at_sessions(path, django_assert_num_queries, settings):
    client = Client(headers={"host": "daypass.test"})
    client.get(path)
    client.cookies[settings.SESSION_COOKIE_NAME] = "f" * 32

    with django_assert_num_queries(1) as seen:
        answer = client.get(path)

    assert not answer.cookies
    assert not any("session" in query["sql"] for query in seen.captured_queries)
    assert not Session.objects.exists()


@EVERY
def test_a_document_that_did_not_change_is_not_sent_again(client, path):
    tag = client.get(path)["ETag"]

    again = client.get(path, headers={"if-none-match": tag})

    assert again.status_code == 304
    assert again.content == b""


@EVERY
@pytest.mark.parametrize("method", ["post", "put", "patch", "delete", "options"])
def test_a_document_is_read_only(client, path, method):
    assert getattr(client, method)(path).status_code == 405


@EVERY
def test_a_head_request_is_answered_without_a_body(client, path):
    answer = client.head(path)

    assert answer.status_code == 200
    assert answer.content == b""
    assert "max-age" in answer["Cache-Control"]


def test_documents_are_served_although_the_private_keys_cannot_be_opened(client, settings):
    client.get(JWKS)
    settings.DAYPASS_SEALING_KEYS = []

    assert client.get(JWKS).status_code == 200
    assert client.get(METADATA).status_code == 200


@pytest.mark.parametrize("path", [JWKS, METADATA])
def test_when_no_key_can_be_made_the_answer_is_try_later_and_is_not_cached(client, settings, path):
    SigningKey.objects.all().delete()
    settings.DAYPASS_SEALING_KEYS = []

    answer = client.get(path)

    assert answer.status_code == 503
    assert answer["Cache-Control"] == "no-store"
    assert answer["Retry-After"]
    assert "DAYPASS" not in answer.content.decode()


def test_the_metadata_is_a_file_that_iam_takes(client):
    answer = client.get(METADATA)

    assert answer["Content-Type"] == "application/samlmetadata+xml; charset=utf-8"
    assert 'filename="daypass-saml-metadata.xml"' in answer["Content-Disposition"]


@pytest.mark.parametrize(
    ("issuer", "below"),
    [
        ("https://daypass.test", ""),
        ("https://daypass.test/aws", "aws/"),
        ("https://daypass.test/aws/oidc", "aws/oidc/"),
        ("https://keys.example.com/daypass", ""),
        ("https://daypass.test.example.com/aws", ""),
    ],
)
def test_the_documents_stand_below_the_issuers_own_path(issuer, below):
    assert issuer_path(issuer, "https://daypass.test") == below


def test_an_issuer_with_a_path_is_discovered_below_it(client, settings):
    settings.DAYPASS_ISSUER = "https://daypass.test/aws/oidc"
    urls = ModuleType("urls_of_an_issuer_with_a_path")
    urls.urlpatterns = routes(settings.DAYPASS_ISSUER, settings.DAYPASS_ORIGIN)
    settings.ROOT_URLCONF = urls

    discovery = client.get("/aws/oidc/.well-known/openid-configuration").json()

    assert discovery["issuer"] == "https://daypass.test/aws/oidc"
    jwks = discovery["jwks_uri"].removeprefix("https://daypass.test")
    assert jwks == reverse("jwks", urlconf=urls)
    assert client.get(jwks).json()["keys"]


@pytest.mark.django_db(transaction=True)
def test_over_real_http_a_stranger_verifies_a_token_without_being_redirected(live_server):
    def fetch(path: str) -> requests.Response:
        answer = requests.get(
            live_server.url + path,
            headers={"Host": "daypass.test"},
            allow_redirects=False,
            timeout=10,
        )
        assert answer.status_code == 200
        assert "Set-Cookie" not in answer.headers
        return answer

    token = mint_web_identity_token(web_identity(), now=timezone.now())

    discovery = fetch(DISCOVERY).json()
    keys = KeySet.import_key_set(
        fetch(discovery["jwks_uri"].removeprefix(discovery["issuer"])).json()
    )
    claims = jwt.decode(token.reveal(), keys, algorithms=["RS256"]).claims
    assert claims["iss"] == discovery["issuer"]
    assert claims["jti"] == token.id
