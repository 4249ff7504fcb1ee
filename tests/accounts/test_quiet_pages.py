"""When sign-in cannot work: one quiet page, the reason in the log, and nothing for strangers to fill up."""

from __future__ import annotations

import pytest

from accounts import refusals as refusals_of
from accounts import services
from accounts.models import IdentityProvider, ServiceProviderKey
from broker.audit.models import AuditEvent
from tests.accounts import web


def test_a_sealing_key_that_is_gone_is_told_to_administrators(saml_row, settings, refusals):
    services.service_provider_key()
    settings.DAYPASS_SEALING_KEYS = ["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]

    page = web.browser().post("/sign-in/acme/", secure=True)

    assert page.status_code == 503
    assert 'href="/sign-in/?stay=1">Try again</a>' in page.content.decode()
    code, reason = refusals()[0]
    assert code == "key_unavailable"
    assert "DAYPASS_SEALING_KEYS" in reason


@pytest.mark.parametrize("help_url", ["", "https://help.example/"])
def test_buttons_have_a_row_only_where_there_are_any(settings, help_url):
    settings.DAYPASS_HELP_URL = help_url

    page = refusals_of.page("Nobody gets in.", status=403).content.decode()

    assert ('class="actions"' in page) is bool(help_url)


def test_an_address_of_no_provider_is_a_whole_page(db):
    page = web.browser().get("/oidc/nobody/callback/", secure=True)

    assert page.status_code == 404
    assert '<h1 class="sheet-title">There is no such page</h1>' in page.content.decode()


def test_what_nobody_thought_of_is_no_server_error(oidc_row, refusals):
    """A row as no service would write it."""
    IdentityProvider.objects.update(scopes=5)

    page = web.browser().post("/sign-in/globex/", secure=True)

    assert page.status_code == 403
    assert refusals() == [("failed", "Daypass failed: TypeError.")]
    assert "TypeError" not in page.content.decode()


def test_a_broken_claim_map_is_told_to_administrators(saml_row, idp, refusals):
    IdentityProvider.objects.update(claim_map={"grups": "x"})

    page = web.saml_sign_in(web.browser(), idp)

    assert page.status_code == 403
    assert "grups" in refusals()[0][1]


def test_a_provider_without_addresses_is_told_as_that(db, refusals):
    IdentityProvider.objects.create(slug="half", name="Half", protocol="saml", enabled=True)
    IdentityProvider.objects.create(slug="empty", name="Empty", protocol="oidc", enabled=True)

    assert web.browser().post("/sign-in/half/", secure=True).status_code == 403
    assert web.browser().post("/sign-in/empty/", secure=True).status_code == 503
    assert [code for code, _ in refusals()] == ["provider_misconfigured", "provider_unavailable"]


def test_strangers_cannot_fill_the_audit_log(saml_row, monkeypatch):
    monkeypatch.setattr(refusals_of, "AT_ONCE", 1000)
    for _ in range(40):
        web.browser().post("/saml/acme/acs/", {"SAMLResponse": "junk"}, secure=True)

    assert AuditEvent.objects.filter(kind="sign_in.refused").count() == 30


def test_the_page_leads_back_without_going_round_in_circles(saml_row):
    page = web.browser().get("/saml/acme/acs/finish/", secure=True)

    assert "/sign-in/?stay=1" in page.content.decode()


def test_without_a_cache_people_still_sign_in(saml_row, idp, settings):
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": "redis://127.0.0.1:1/0",
        }
    }
    browser = web.browser()

    web.saml_sign_in(browser, idp)

    assert web.is_signed_in(browser)


@pytest.mark.parametrize("slug", ["nobody", "local"])
def test_there_is_no_sign_in_at_an_unknown_provider(db, slug):
    assert web.browser().post(f"/sign-in/{slug}/", {"x": "y"}, secure=True).status_code in (
        200,
        404,
    )
    assert not ServiceProviderKey.objects.exists()


def test_signing_out_still_works_when_the_provider_cannot_be_told(saml_row, idp, settings):
    browser = web.browser()
    web.saml_sign_in(browser, idp)
    settings.DAYPASS_SEALING_KEYS = ["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]

    answer = browser.post("/sign-out/", secure=True)

    assert answer["Location"] == "/signed-out/"
    assert not web.is_signed_in(browser)


def test_a_test_that_cannot_begin_says_why(saml_row, idp):
    from tests import factories as make

    make.group("operators", at=saml_row, confers_staff=True)
    browser = web.browser()
    web.saml_sign_in(browser, idp, attributes={"groups": ["operators"]})
    IdentityProvider.objects.create(slug="half", name="Half", protocol="saml")

    answer = browser.post("/sign-in/half/test/", secure=True)
    page = browser.get(answer["Location"], secure=True)

    text = page.content.decode()
    assert "has no entity id, no sign-on address and no certificate" in text
    assert "/sign-in/half/test/" in text
    half = IdentityProvider.objects.get(slug="half")
    assert f'href="/admin/accounts/identityprovider/{half.pk}/change/"' in text
