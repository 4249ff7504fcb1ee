"""Connecting identity providers in the admin: three ways for SAML, the issuer for OpenID Connect, and the claim map."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from django.contrib.messages import get_messages

from accounts import services
from accounts.admin.claim_maps import read_path, written
from accounts.models import IdentityProvider, SignInTest
from broker.audit.models import AuditEvent
from broker.audit.rules import Kind
from tests import factories as make
from tests.accounts.idp_saml import SamlIdp, certificate

pytestmark = pytest.mark.django_db

ADD = "/admin/accounts/identityprovider/add/"
SECRET = "the client secret nobody sees again"


@pytest.fixture(scope="session")
def idp() -> SamlIdp:
    return SamlIdp()


def saml_form(**answers: object) -> dict[str, object]:
    empty = dict.fromkeys(("metadata_url", "metadata_xml", "entity_id", "sso_url", "slo_url"), "")
    return {
        "name": "Acme",
        "slug": "acme",
        "preset": "saml",
        "certificates": "",
        "response_signed": "on",
        **empty,
        **answers,
    }


def oidc_form(**answers: object) -> dict[str, object]:
    return {
        "name": "Keycloak",
        "slug": "keycloak",
        "preset": "keycloak-oidc",
        "client_id": "daypass",
        "secret": SECRET,
        "scopes": "openid profile email",
        "id_token_algorithm": "RS256",
        **answers,
    }


def changed() -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(kind=Kind.ADMIN_CHANGED.value).order_by("seq"))


def discovery_on(web, *, token_path: str = "/token") -> str:
    import base64

    numbers = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()

    def encoded(number: int) -> str:
        raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    public = numbers.public_numbers()
    web.json(
        "/.well-known/openid-configuration",
        {
            "issuer": web.url,
            "authorization_endpoint": f"{web.url}/authorize",
            "token_endpoint": f"{web.url}{token_path}",
            "jwks_uri": f"{web.url}/jwks",
            "response_types_supported": ["code"],
            "id_token_signing_alg_values_supported": ["RS256"],
        },
    )
    web.json(
        "/jwks",
        {
            "keys": [
                {
                    "kty": "RSA",
                    "kid": "one",
                    "use": "sig",
                    "alg": "RS256",
                    "n": encoded(public.n),
                    "e": encoded(public.e),
                }
            ]
        },
    )
    return web.url


# --- Adding


def test_the_first_question_is_which_protocol(admin_client):
    page = admin_client.get(ADD).content.decode()

    assert "?protocol=saml" in page
    assert "?protocol=oidc" in page
    assert 'name="issuer"' not in page


def test_what_the_other_side_needs_stands_there_before_anything_is_saved(admin_client):
    page = admin_client.get(f"{ADD}?protocol=saml").content.decode()

    assert "https://daypass.test/saml/<span data-slug" in page
    assert "/acs/" in page


def test_saml_by_pasted_metadata(admin_client, idp):
    answer = admin_client.post(f"{ADD}?protocol=saml", saml_form(metadata_xml=idp.metadata))

    made = IdentityProvider.objects.get(slug="acme")
    assert answer["Location"] == f"/admin/accounts/identityprovider/{made.pk}/change/"
    assert made.entity_id == idp.entity_id
    assert made.certificates
    assert not made.enabled
    page = admin_client.get(answer["Location"]).content.decode()
    assert "https://daypass.test/saml/acme/acs/" in page
    assert "https://daypass.test/saml/acme/metadata/" in page
    assert "CN=idp" in page


def test_saml_by_the_address_of_its_metadata(admin_client, idp, web):
    web.xml("/metadata", idp.metadata)

    admin_client.post(f"{ADD}?protocol=saml", saml_form(metadata_url=f"{web.url}/metadata"))

    made = IdentityProvider.objects.get(slug="acme")
    assert made.entity_id == idp.entity_id
    assert made.refreshed_at is not None
    assert web.asked == ["/metadata"]


def test_saml_by_its_parts(admin_client):
    pem = certificate(rsa.generate_private_key(public_exponent=65537, key_size=2048))

    admin_client.post(
        f"{ADD}?protocol=saml",
        saml_form(
            entity_id="https://idp.example/", sso_url="https://idp.example/sso", certificates=pem
        ),
    )

    made = IdentityProvider.objects.get(slug="acme")
    assert made.sso_url == "https://idp.example/sso"
    assert made.certificate_expires_at is not None


def test_oidc_by_its_issuer(admin_client, web):
    issuer = discovery_on(web)

    admin_client.post(f"{ADD}?protocol=oidc", oidc_form(issuer=issuer))

    made = IdentityProvider.objects.get(slug="keycloak")
    assert services.client_secret(made) == SECRET
    assert made.claim_map["groups"] == ["realm_access", "roles"]
    page = admin_client.get(f"/admin/accounts/identityprovider/{made.pk}/change/").content.decode()
    assert "https://daypass.test/oidc/keycloak/callback/" in page
    assert f"{issuer}/token" in page


@pytest.mark.parametrize(
    ("answers", "field", "said"),
    [
        ({}, "metadata_url", "Give the address"),
        ({"metadata_xml": "<nonsense"}, "metadata_xml", "not XML"),
        ({"metadata_url": "http://example.com/metadata"}, "metadata_url", "https://"),
        ({"metadata_url": "https://127.0.0.1:9/"}, "metadata_url", "DAYPASS_PRIVATE_PROVIDERS"),
        ({"metadata_url": "https://a.example/m", "metadata_xml": "<x/>"}, "metadata_xml", "both"),
        (
            {"entity_id": "a", "sso_url": "https://a.example/", "certificates": "garbage"},
            "certificates",
            "BEGIN and END",
        ),
        (
            {"entity_id": "a", "sso_url": "ftp://a.example/", "certificates": "garbage"},
            "sso_url",
            "https://",
        ),
        ({"slug": "Not A Slug", "metadata_xml": "<x/>"}, "slug", "lower-case"),
        ({"name": "", "metadata_xml": "<x/>"}, "name", "required"),
    ],
)
def test_what_is_wrong_with_a_saml_provider_stands_at_its_field(
    admin_client, errors_of, answers, field, said
):
    answer = admin_client.post(f"{ADD}?protocol=saml", saml_form(**answers))

    assert answer.status_code == 200
    assert said in errors_of(answer)[field]
    assert not IdentityProvider.objects.filter(slug="acme").exists()
    assert changed() == []


def test_an_issuer_that_names_itself_otherwise_is_refused_at_its_field(
    admin_client, errors_of, web
):
    discovery_on(web)

    answer = admin_client.post(f"{ADD}?protocol=oidc", oidc_form(issuer=f"{web.url}/"))

    assert "to the last slash" in errors_of(answer)["issuer"]
    assert SECRET not in answer.content.decode()


def test_an_issuer_that_does_not_answer_is_told_at_its_field(admin_client, errors_of, web):
    answer = admin_client.post(f"{ADD}?protocol=oidc", oidc_form(issuer=web.url))

    assert "issuer" in errors_of(answer)


def test_two_providers_cannot_share_a_short_name_or_a_name(admin_client, errors_of, okta, idp):
    answer = admin_client.post(
        f"{ADD}?protocol=saml", saml_form(slug="okta", name="okta", metadata_xml=idp.metadata)
    )

    assert set(errors_of(answer)) == {"slug", "name"}


# --- Changing


@pytest.fixture
def keycloak(admin_client, web) -> IdentityProvider:
    admin_client.post(f"{ADD}?protocol=oidc", oidc_form(issuer=discovery_on(web)))
    return IdentityProvider.objects.get(slug="keycloak")


def change_form(client, provider, **answers: object):
    """The change form as the browser would send it back, with some answers changed."""
    url = f"/admin/accounts/identityprovider/{provider.pk}/change/"
    form = client.get(url).context["adminform"].form
    filled = {name: form[name].value() for name in form.fields}
    filled = {
        name: "" if value is None else value for name, value in filled.items() if value is not False
    }
    filled["secret"] = ""
    return client.post(url, {**filled, **answers})


def test_the_client_secret_is_never_shown_again(admin_client, keycloak):
    page = admin_client.get(
        f"/admin/accounts/identityprovider/{keycloak.pk}/change/"
    ).content.decode()

    assert SECRET not in page
    assert keycloak.client_secret_sealed not in page
    assert "Set. Leave empty to keep it" in page


def test_saving_without_a_new_secret_keeps_the_old_one(admin_client, keycloak):
    change_form(admin_client, keycloak, name="Keycloak of Acme")

    keycloak.refresh_from_db()
    assert keycloak.name == "Keycloak of Acme"
    assert services.client_secret(keycloak) == SECRET


def test_a_new_issuer_forgets_the_secret(admin_client, keycloak, web):
    web.json("/other/.well-known/openid-configuration", {})
    other = discovery_on(web)
    document = {
        "issuer": f"{other}/other",
        "authorization_endpoint": f"{other}/authorize",
        "token_endpoint": f"{other}/token",
        "jwks_uri": f"{other}/jwks",
        "response_types_supported": ["code"],
        "id_token_signing_alg_values_supported": ["RS256"],
    }
    web.json("/other/.well-known/openid-configuration", document)

    change_form(admin_client, keycloak, issuer=f"{web.url}/other")

    keycloak.refresh_from_db()
    assert keycloak.issuer.endswith("/other")
    assert services.client_secret(keycloak) == ""


def test_the_secret_is_nowhere_in_the_audit_log(admin_client, keycloak):
    events = changed()

    assert len(events) == 1
    assert SECRET not in str(events[0].data)
    assert events[0].data["after"]["client_credential"] == "set"


def test_one_save_is_one_event_with_before_and_after_and_who(admin_client, ada, keycloak):
    before = len(changed())

    change_form(admin_client, keycloak, name="Keycloak of Acme")

    events = changed()
    assert len(events) == before + 1
    assert events[-1].actor_id == str(ada.pk)
    assert events[-1].actor == "ada"
    assert events[-1].address == "127.0.0.1"
    assert events[-1].data["before"]["name"] == "Keycloak"
    assert events[-1].data["after"]["name"] == "Keycloak of Acme"


def test_the_claim_map_is_asked_in_questions_and_comes_back_as_it_was(admin_client, keycloak):
    answers = {
        "map_username": "preferred_username",
        "map_name": "profile > display name",
        "map_email": "email",
        "map_groups": "https://example.com/claims > groups",
        "map_groups_form": "separated",
        "map_separator": ";",
        "map_attributes": "cost_center = org > cost.center\nteam = team",
        "map_mfa_contexts": "https://refeds.org/profile/mfa",
        "map_mfa_methods": "mfa\nhwk",
    }

    change_form(admin_client, keycloak, **answers)

    keycloak.refresh_from_db()
    assert keycloak.claim_map == {
        "username": ["preferred_username"],
        "name": ["profile", "display name"],
        "email": ["email"],
        "groups": ["https://example.com/claims", "groups"],
        "groups_form": "separated",
        "separator": ";",
        "attributes": {"cost_center": ["org", "cost.center"], "team": ["team"]},
        "mfa_contexts": ["https://refeds.org/profile/mfa"],
        "mfa_methods": ["mfa", "hwk"],
    }
    kept = keycloak.claim_map
    change_form(admin_client, keycloak, name="Keycloak again")
    keycloak.refresh_from_db()
    assert keycloak.claim_map == kept


@pytest.mark.parametrize(
    ("answers", "field", "said"),
    [
        ({"map_groups_form": "separated", "map_separator": ""}, "map_separator", "separator"),
        ({"map_attributes": "department"}, "map_attributes", "pair"),
        ({"map_attributes": "a = b\na = c"}, "map_attributes", "twice"),
        ({"map_groups": '["not closed'}, "map_groups", "JSON"),
    ],
)
def test_what_is_wrong_with_a_claim_map_stands_at_its_field(
    admin_client, keycloak, errors_of, answers, field, said
):
    before = keycloak.claim_map

    answer = change_form(admin_client, keycloak, **answers)

    assert said in errors_of(answer)[field]
    keycloak.refresh_from_db()
    assert keycloak.claim_map == before


@pytest.mark.parametrize(
    "path",
    [
        ["groups"],
        ["realm_access", "roles"],
        ["a>b", "c"],
        [" padded "],
        ["[odd"],
        ["urn:oid:1.2.3"],
    ],
)
def test_a_path_survives_being_written_and_read(path):
    assert read_path(written(path)) == path


# --- On, off, and what else can be done


def test_a_provider_is_switched_on_by_its_button(admin_client, idp):
    admin_client.post(f"{ADD}?protocol=saml", saml_form(metadata_xml=idp.metadata))
    provider = IdentityProvider.objects.get(slug="acme")

    admin_client.post(f"/admin/accounts/identityprovider/{provider.pk}/do/enable/")

    provider.refresh_from_db()
    assert provider.enabled
    assert changed()[-1].data["after"]["enabled"] is True


def test_switching_off_says_first_how_many_people_it_shuts_out(admin_client, ada, okta, grace):
    page = admin_client.get(f"/admin/accounts/identityprovider/{okta.pk}/do/disable/")

    assert "2 people sign in with Okta" in page.content.decode()
    okta.refresh_from_db()
    assert okta.enabled


def test_a_refresh_that_fails_is_told_with_its_reason(admin_client, keycloak, web):
    web.pages.clear()

    answer = admin_client.post(f"/admin/accounts/identityprovider/{keycloak.pk}/do/refresh/")

    said = [str(message) for message in get_messages(answer.wsgi_request)]
    assert any("Keycloak: " in one for one in said)
    page = admin_client.get("/admin/").content.decode()
    assert (
        "Keycloak could not be refreshed" not in page
    )  # switched off: nobody is kept from working
    IdentityProvider.objects.update(enabled=True)
    assert "Keycloak could not be refreshed" in admin_client.get("/admin/").content.decode()


def test_a_test_sign_in_is_a_button_and_its_result_is_linked(admin_client, ada, keycloak):
    test = SignInTest.objects.create(provider=keycloak, started_by=ada)

    page = admin_client.get(
        f"/admin/accounts/identityprovider/{keycloak.pk}/change/"
    ).content.decode()

    assert 'action="/sign-in/keycloak/test/"' in page
    assert f"/sign-in/test/{test.pk}/" in page


def test_the_short_name_stays_what_it_was(admin_client, keycloak):
    change_form(admin_client, keycloak, slug="another")

    keycloak.refresh_from_db()
    assert keycloak.slug == "keycloak"


def test_a_certificate_that_ends_soon_is_told_on_the_first_page(admin_client):
    from datetime import timedelta

    from django.utils import timezone

    make.provider(
        "acme",
        protocol="saml",
        certificate_expires_at=timezone.now() + timedelta(days=5, hours=1),
    )

    assert "Acme ends in 5 days" in admin_client.get("/admin/").content.decode()
