"""Connecting identity providers, keeping them current, and warning before they stop working."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from django.utils import timezone

from accounts import saml, services, tasks
from accounts.models import IdentityProvider, ServiceProviderKey
from broker.audit.models import AuditEvent
from broker.errors import BadInput, KeyUnavailable, ProviderUnavailable
from tests.accounts.conftest import BY
from tests.accounts.idp_saml import SamlIdp, certificate


def news(kind: str) -> list[dict]:
    return [e.data for e in AuditEvent.objects.filter(kind=f"provider.{kind}").order_by("seq")]


@pytest.fixture
def published(settings):
    """Metadata at an address: `published.document` is what stands there."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.server.document.encode()
            self.send_response(self.server.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads = True
    made.status = 200
    made.document = ""
    made.url = f"http://127.0.0.1:{made.server_port}/metadata"
    settings.DAYPASS_PRIVATE_PROVIDERS = [f"127.0.0.1:{made.server_port}"]
    threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def row(db, published, idp):
    published.document = idp.metadata
    return services.create_provider_from_metadata(
        slug="acme", name="Acme", metadata_url=published.url, by=BY, enabled=True
    )


def test_metadata_by_address_fills_in_the_provider(row, idp):
    assert row.entity_id == idp.entity_id
    assert (row.sso_url, row.slo_url) == (idp.sso_url, idp.slo_url)
    assert row.certificates == [idp.certificate]
    assert row.refreshed_at
    assert row.certificate_expires_at > timezone.now() + timedelta(days=300)


def test_connecting_is_recorded_with_before_and_after(row):
    event = AuditEvent.objects.get(kind="admin.changed")

    assert event.data["before"] == {}
    assert event.data["after"]["entity_id"] == row.entity_id
    assert len(event.data["after"]["certificates"][0]) == 64


def test_metadata_may_be_pasted_or_typed(db, idp):
    pasted = services.create_provider_from_metadata(
        slug="pasted", name="Pasted", metadata_xml=idp.metadata, by=BY
    )
    typed = services.save_provider(
        IdentityProvider(
            slug="typed",
            name="Typed",
            protocol="saml",
            entity_id="https://typed.example",
            sso_url="https://typed.example/sso",
            certificates=["".join(idp.certificate.splitlines()[1:-1])],
        ),
        by=BY,
    )

    assert pasted.certificates == typed.certificates


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda m: "", "not SAML metadata"),
        (lambda m: "<html/>", "no identity provider"),
        (lambda m: "<!DOCTYPE x>" + m, "DOCTYPE"),
        (lambda m: m.replace("IDPSSO", "SPSSO"), "no identity provider"),
        (lambda m: m.replace("HTTP-Redirect", "HTTP-POST"), "HTTP-Redirect"),
        (lambda m: m.replace('use="signing"', 'use="encryption"'), "no signing certificate"),
        (lambda m: m.replace("https://idp.example/sso", "http://idp.example/sso"), "https"),
        (
            lambda m: m.replace(
                "<md:EntityDescriptor ", '<md:EntityDescriptor validUntil="2020-01-01T00:00:00Z" '
            ),
            "expired on 2020-01-01",
        ),
        (
            lambda m: (
                m[: m.index("<ds:X509Certificate>") + 20]
                + "AAAA"
                + m[m.index("</ds:X509Certificate>") :]
            ),
            "cannot be read",
        ),
    ],
)
def test_what_is_wrong_with_metadata_is_said(published, idp, db, change, told):
    published.document = change(idp.metadata)

    with pytest.raises(BadInput, match=told):
        services.create_provider_from_metadata(
            slug="acme", name="Acme", metadata_url=published.url, by=BY
        )
    assert not IdentityProvider.objects.exists()


def test_one_provider_is_chosen_out_of_a_federation(db, idp, other_idp):
    def body(one):
        return one.metadata.split("?>", 1)[1]

    federation = (
        '<md:EntitiesDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata">'
        f"<!-- members -->{body(idp)}{body(other_idp)}</md:EntitiesDescriptor>"
    )

    with pytest.raises(BadInput, match="several identity providers"):
        services.create_provider_from_metadata(
            slug="acme", name="Acme", metadata_xml=federation, by=BY
        )
    chosen = services.create_provider_from_metadata(
        slug="acme",
        name="Acme",
        metadata_xml=federation,
        entity_id=other_idp.entity_id,
        by=BY,
    )
    assert chosen.certificates == [other_idp.certificate]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"slug": "Not A Slug"}, "slug"),
        ({"slug": "local"}, "another name"),
        ({"name": ""}, "name"),
        ({"claim_map": {"x": 1}}, "claim map"),
        ({"sso_url": "javascript:alert(1)"}, "https"),
        ({"certificates": ["junk"]}, "cannot be read"),
        ({"certificates": []}, "needs its metadata"),
        ({"entity_id": ""}, "needs its metadata"),
    ],
)
def test_what_is_wrong_with_a_provider_is_said(db, idp, fields, told):
    good = {
        "slug": "acme",
        "name": "Acme",
        "protocol": "saml",
        "entity_id": "https://x.example",
        "sso_url": "https://x.example/sso",
        "certificates": [idp.certificate],
    }

    with pytest.raises(BadInput, match=told):
        services.save_provider(IdentityProvider(**good | fields), by=BY)


def test_two_providers_never_share_an_entity_id(row, idp):
    with pytest.raises(BadInput):
        services.create_provider_from_metadata(
            slug="again", name="Again", metadata_xml=idp.metadata, by=BY
        )


def test_a_short_key_is_not_taken(db):
    weak = certificate(rsa.generate_private_key(public_exponent=65537, key_size=1024))

    with pytest.raises(BadInput, match="too short"):
        saml.read_certificate(weak)


def test_a_provider_keeps_its_protocol(row):
    row.protocol = "oidc"

    with pytest.raises(BadInput, match="cannot change"):
        services.save_provider(row, by=BY)


# --- Keeping current


def test_a_new_certificate_is_news(row, published):
    renewed = SamlIdp()
    published.document = renewed.metadata

    assert services.refresh_provider(row.pk)

    row.refresh_from_db()
    assert row.certificates == [renewed.certificate]
    (told,) = news("refreshed")
    assert told["changes"]["certificates"]["after"] == [services.fingerprint(renewed.certificate)]


def test_nothing_new_is_no_news(row):
    assert services.refresh_provider(row.pk)

    assert news("refreshed") == []


@pytest.mark.parametrize(
    "fail",
    [
        lambda server, idp: setattr(server, "status", 500),
        lambda server, idp: setattr(server, "document", "<junk/>"),
        lambda server, idp: setattr(
            server, "document", idp.metadata.replace(idp.entity_id, "https://evil.example")
        ),
        lambda server, idp: setattr(
            server, "document", idp.metadata.replace("https://idp.example/sso", "http://10.0.0.1/")
        ),
    ],
    ids=["away", "junk", "another provider", "another address"],
)
def test_a_refresh_that_fails_keeps_what_there_was_and_is_told_once(row, published, idp, fail):
    fail(published, idp)

    assert services.refresh_provider(row.pk) is False
    assert services.refresh_provider(row.pk) is False

    row.refresh_from_db()
    assert row.certificates == [idp.certificate]
    assert row.entity_id == idp.entity_id
    assert row.refresh_problem
    assert len(news("refresh_failed")) == 1


def test_a_refresh_that_works_again_is_told(row, published):
    published.status = 500
    services.refresh_provider(row.pk)
    published.status = 200

    assert services.refresh_provider(row.pk)

    row.refresh_from_db()
    assert row.refresh_problem == ""
    assert len(news("refreshed")) == 1


def test_a_refresh_never_lowers_a_check(row, published, idp):
    published.document = idp.metadata.replace(
        "<md:IDPSSODescriptor ", '<md:IDPSSODescriptor WantAuthnRequestsSigned="false" '
    )

    services.refresh_provider(row.pk)

    row.refresh_from_db()
    assert row.response_signed is True


def test_the_task_refreshes_each_provider_by_itself(row, published, settings):
    from broker.celery import app

    app.conf.task_always_eager = True
    published.document = SamlIdp().metadata
    try:
        tasks.refresh_providers()
    finally:
        app.conf.task_always_eager = False

    assert len(news("refreshed")) == 1


# --- Certificates


@pytest.mark.parametrize(("left", "warnings"), [(61, 0), (59, 1), (29, 1), (6, 1), (-1, 1)])
def test_a_certificate_that_ends_soon_is_told_once(row, left, warnings):
    now = timezone.now()
    IdentityProvider.objects.update(certificate_expires_at=now + timedelta(days=left, hours=1))

    services.warn_certificates(now=now)
    services.warn_certificates(now=now + timedelta(minutes=1))

    assert len(news("certificate_expiring")) == warnings


def test_it_is_told_again_at_each_step(row):
    ends = datetime(2027, 6, 30, tzinfo=UTC)
    IdentityProvider.objects.update(certificate_expires_at=ends)

    for day in range(70, -3, -1):
        services.warn_certificates(now=ends - timedelta(days=day))

    assert len(news("certificate_expiring")) == 4


def test_a_renewed_certificate_is_warned_of_anew(row):
    now = timezone.now()
    for days in (20, 25):
        IdentityProvider.objects.update(certificate_expires_at=now + timedelta(days=days))
        services.warn_certificates(now=now)

    assert len(news("certificate_expiring")) == 2


# --- Our own key


def test_our_key_is_made_once_and_sealed(db):
    private, made = services.service_provider_key()

    assert services.service_provider_key() == (private, made)
    kept = ServiceProviderKey.objects.get()
    assert "PRIVATE" in private
    assert "PRIVATE" not in kept.private_sealed


def test_of_four_first_needs_at_once_one_makes_the_key(together):
    results = together(services.service_provider_key, times=4)

    assert len(set(results)) == 1
    assert ServiceProviderKey.objects.count() == 1


# --- Secrets


def test_a_client_secret_opens_in_its_own_row_only(oidc_row):
    from tests import factories as make

    other = make.provider("other")
    other.client_secret_sealed = oidc_row.client_secret_sealed

    with pytest.raises(KeyUnavailable):
        services.client_secret(other)


def test_saving_without_a_secret_keeps_the_one_there_is(oidc_row, op):
    oidc_row.name = "Globex Corporation"

    services.save_provider(oidc_row, by=BY)

    assert services.client_secret(oidc_row) == op.client_secret


def test_an_empty_secret_removes_it(oidc_row):
    services.save_provider(oidc_row, by=BY, secret="")

    assert services.client_secret(oidc_row) == ""


def test_the_record_says_only_whether_there_is_a_secret(oidc_row, op):
    kept = [e.data for e in AuditEvent.objects.filter(kind="admin.changed")]

    assert kept[-1]["after"]["client_credential"] == "set"
    assert op.client_secret not in str(kept)


def test_a_provider_that_does_not_answer_is_told_to_the_administrator(db, op):
    op.close()

    with pytest.raises(ProviderUnavailable) as failure:
        services.create_oidc_provider(slug="x", name="X", issuer=op.issuer, client_id="x", by=BY)

    assert "discovery document" in failure.value.cause


# --- Clearing up


def test_what_has_done_its_work_is_cleared(row):
    now = timezone.now()
    services.consume(row, services.OneUse("x", "old", now - timedelta(minutes=1)))
    services.consume(row, services.OneUse("x", "young", now + timedelta(minutes=1)))

    assert services.clear_expired(now=now)["messages"] == 1
    tasks.clear_expired()
