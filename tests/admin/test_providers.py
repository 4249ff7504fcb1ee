"""Connecting identity providers in the admin: three ways for SAML, the issuer for OpenID Connect, and the claim map."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from django.contrib.messages import get_messages
from django.utils import timezone

from accounts import services
from accounts.admin.claim_maps import read_path, written
from accounts.models import IdentityProvider, ProviderProposal, ServiceProviderKey, SignInTest
from accounts.pinning import thumbprint
from accounts.services import queueing
from broker.audit.models import AuditEvent
from broker.audit.rules import Kind
from broker.celery import app as celery
from tests import factories as make
from tests.accounts.idp_saml import SamlIdp, certificate
from tests.admin.conftest import browser_at_origin

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

    assert 'https://daypass.test/saml/<span class="unfilled" data-slug' in page
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


def test_a_part_that_is_wrong_is_not_folded_away(admin_client):
    pem = certificate(rsa.generate_private_key(public_exponent=65537, key_size=2048))

    answer = admin_client.post(
        f"{ADD}?protocol=saml",
        saml_form(entity_id="https://idp.example/", sso_url="nowhere", certificates=pem),
    )

    page = answer.content.decode()
    assert 'href="#id_sso_url"' in page and 'id="id_sso_url"' in page
    assert "<details><summary><h2>Or by its parts" not in page


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

    assert errors_of(answer)["issuer"] == (
        "The discovery document was answered with HTTP 404. Check the issuer: Daypass asked at "
        f"{web.url}/.well-known/openid-configuration."
    )


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

    url = f"/admin/accounts/identityprovider/{provider.pk}/do/enable/"
    asked = admin_client.get(url).content.decode()
    assert "<p>It is done at once.</p>" in asked
    assert "<li>People can sign in with Acme, and get the roles that its groups give.</li>" in asked
    admin_client.post(url)

    provider.refresh_from_db()
    assert provider.enabled
    assert changed()[-1].data["after"]["enabled"] is True


def test_switching_off_says_first_how_many_people_it_shuts_out(admin_client, ada, okta, grace):
    address = f"/admin/accounts/identityprovider/{okta.pk}/do/disable/"
    page = admin_client.get(address).content.decode()

    assert "2 people sign in with Okta" in page
    assert "1 administrator is among them" in page
    assert "only the break-glass account can sign in then" in page
    okta.refresh_from_db()
    assert okta.enabled

    entra = make.provider("entra", name="Entra")
    page = admin_client.get(f"/admin/accounts/identityprovider/{entra.pk}/do/disable/")
    assert "among them" not in page.content.decode()
    assert "No other provider is on" not in page.content.decode()


@pytest.fixture
def at_once():
    """Tasks run where they are sent from."""
    celery.conf.task_always_eager = True
    yield
    celery.conf.task_always_eager = False


def said_in(answer) -> str:
    return " ".join(str(message) for message in get_messages(answer.wsgi_request))


def page_of(client, provider) -> str:
    return client.get(f"/admin/accounts/identityprovider/{provider.pk}/change/").content.decode()


def test_a_refresh_that_fails_is_told_with_its_reason(admin_client, keycloak, web, at_once):
    web.pages.clear()

    answer = admin_client.post(f"/admin/accounts/identityprovider/{keycloak.pk}/do/refresh/")

    assert "The worker asks Keycloak now" in said_in(answer)
    stands = page_of(admin_client, keycloak)
    assert "The last refresh failed: " in stands
    assert "refresh fails" in stands
    assert "after it is switched on" in stands
    listed = admin_client.get("/admin/accounts/identityprovider/").content.decode()
    assert ">off</span>" in listed
    assert "refresh fails" in listed
    page = admin_client.get("/admin/").content.decode()
    assert (
        "Keycloak could not be refreshed" not in page
    )  # switched off: nobody is kept from working
    IdentityProvider.objects.update(enabled=True)
    assert "Keycloak could not be refreshed" in admin_client.get("/admin/").content.decode()


def test_a_refresh_is_the_workers_and_not_made_twice_at_once(admin_client, keycloak, web):
    web.asked.clear()
    url = f"/admin/accounts/identityprovider/{keycloak.pk}/do/refresh/"

    first, second = admin_client.post(url), admin_client.post(url)

    assert "The worker asks Keycloak now" in said_in(first)
    assert [message.level_tag for message in get_messages(first.wsgi_request)][-1] == "info"
    assert "is being asked already" in said_in(second)
    assert web.asked == []


def test_without_a_queue_it_is_said(admin_client, keycloak, monkeypatch):
    monkeypatch.setattr(queueing, "queue_refresh", lambda provider_id: False)

    answer = admin_client.post(f"/admin/accounts/identityprovider/{keycloak.pk}/do/refresh/")

    assert "queue does not take the task" in said_in(answer)


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


# --- What ends


@pytest.mark.parametrize(
    ("days", "told"),
    [
        ((5,), "(CN=idp) ends in 4 days, and nothing is there to stand in for it"),
        ((0,), "ended on"),
        ((5, 300), "ends in 4 days; another one is there"),
    ],
)
def test_a_certificate_that_ends_is_told_on_the_first_page(admin_client, days, told):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    make.provider("acme", protocol="saml", certificates=[certificate(key, days=d) for d in days])

    assert told in admin_client.get("/admin/").content.decode()


def test_our_own_key_that_ends_is_told_on_the_first_page(admin_client):
    key = services.service_provider_key(now=timezone.now() - timedelta(days=3650 - 20, hours=-1))

    page = admin_client.get("/admin/").content.decode()

    assert "signing key towards SAML providers ends in 20 days" in page
    assert f"/admin/accounts/serviceproviderkey/{key.pk}/change/" in page


# --- What is asked of a SAML provider


@pytest.fixture
def acme(admin_client, idp, web) -> IdentityProvider:
    """A SAML provider by the address of its metadata."""
    web.xml("/metadata", idp.metadata)
    admin_client.post(f"{ADD}?protocol=saml", saml_form(metadata_url=f"{web.url}/metadata"))
    return IdentityProvider.objects.get(slug="acme")


def test_a_saml_provider_begins_with_the_strictest_answers(acme):
    assert (acme.pinning, acme.encryption, acme.idp_initiated) == ("approve", "refused", False)


def test_an_oidc_provider_follows_the_keys_at_the_same_address(keycloak):
    assert keycloak.pinning == "follow"


def test_encryption_is_chosen_and_its_certificate_shown_then(admin_client, acme):
    change_form(admin_client, acme, encryption="required")

    acme.refresh_from_db()
    assert acme.encryption == "required"
    assert changed()[-1].data["after"]["encryption"] == "required"
    metadata = admin_client.get("/saml/acme/metadata/", secure=True).content.decode()
    assert 'use="encryption"' in metadata


def test_a_signer_has_to_have_signed_what_is_there(admin_client, acme, errors_of):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    none = change_form(admin_client, acme, pinning="signed")
    other = change_form(admin_client, acme, pinning="signed", metadata_signers=certificate(key))

    assert "signer" in errors_of(none)["metadata_signers"]
    assert errors_of(other)
    acme.refresh_from_db()
    assert acme.pinning == "approve"


def test_sign_in_begins_at_the_provider_only_after_a_plain_warning(admin_client, acme):
    url = f"/admin/accounts/identityprovider/{acme.pk}/do/begin-anywhere/"

    page = admin_client.get(url).content.decode()
    acme.refresh_from_db()
    assert not acme.idp_initiated
    assert "that Daypass did not ask for" in page

    admin_client.post(url)

    acme.refresh_from_db()
    assert acme.idp_initiated
    assert changed()[-1].data["before"]["idp_initiated"] is False
    assert changed()[-1].data["after"]["idp_initiated"] is True
    assert "less safe" in page_of(admin_client, acme)
    admin_client.post(f"/admin/accounts/identityprovider/{acme.pk}/do/begin-here/")
    acme.refresh_from_db()
    assert not acme.idp_initiated


def test_sign_in_never_begins_at_an_oidc_provider(admin_client, keycloak):
    admin_client.post(f"/admin/accounts/identityprovider/{keycloak.pk}/do/begin-anywhere/")

    keycloak.refresh_from_db()
    assert not keycloak.idp_initiated


def test_a_form_that_was_opened_before_a_refresh_does_not_bring_old_keys_back(
    admin_client, acme, web, errors_of
):
    url = f"/admin/accounts/identityprovider/{acme.pk}/change/"
    form = admin_client.get(url).context["adminform"].form
    filled = {n: form[n].value() for n in form.fields if form[n].value() not in (None, False)}
    renewed = SamlIdp()
    IdentityProvider.objects.update(certificates=[renewed.certificate])

    answer = admin_client.post(url, filled)

    assert "have changed since this page was opened" in str(errors_of(answer))
    acme.refresh_from_db()
    assert acme.certificates == [renewed.certificate]


# --- What a provider says anew


@pytest.fixture
def renewed(acme, web) -> SamlIdp:
    """The provider publishes another certificate and another address; a refresh has found it."""
    made = SamlIdp(sso_url="https://elsewhere.example/sso")
    web.xml("/metadata", made.metadata)
    services.refresh_provider(acme.pk)
    return made


def decide(client, proposal, decision: str, digest: str = ""):
    return client.post(
        f"/admin/accounts/providerproposal/{proposal.pk}/decide/",
        {"decision": decision, "digest": digest or proposal.digest},
    )


def test_what_waits_is_on_the_first_page_and_on_the_providers_page(admin_client, acme, renewed):
    proposal = ProviderProposal.objects.get()

    first = admin_client.get("/admin/").content.decode()
    page = page_of(admin_client, acme)
    own = admin_client.get(
        f"/admin/accounts/providerproposal/{proposal.pk}/change/"
    ).content.decode()

    assert "says something new" in first
    assert f"/admin/accounts/providerproposal/{proposal.pk}/change/" in first
    for shown in (page, own):
        for fact in (
            services.fingerprint(acme.certificates[0]),
            services.fingerprint(renewed.certificate),
            "https://idp.example/sso",
            "https://elsewhere.example/sso",
            proposal.digest,
        ):
            assert fact in shown
        assert "Compare the fingerprints" in shown and "<del>" not in shown
    assert page.index("Waits for you") < page.index('id="settings"')
    kept = services.fingerprint(acme.certificates[0])
    assert ">removed<" in page[: page.index(kept)]
    assert ">new<" in page[page.index(kept) :]


def test_fingerprints_are_compared_where_there_are_any(admin_client, acme, renewed):
    keys = ProviderProposal.objects.get()
    decide(admin_client, keys, "dismiss")
    url = f"/admin/accounts/providerproposal/{keys.pk}/change/"
    dismissed = admin_client.get(url).content.decode()
    other = ProviderProposal.objects.create(
        provider=acme,
        content={
            "protocol": "saml",
            "facts": {
                "sso_url": {
                    "before": "https://idp.example/sso",
                    "after": "https://elsewhere.example/sso",
                }
            },
        },
        digest="1" * 64,
    )
    addresses = admin_client.get(
        f"/admin/accounts/providerproposal/{other.pk}/change/"
    ).content.decode()

    assert "Compare the fingerprints" not in dismissed
    assert "<del>" not in addresses
    assert "Compare the fingerprints" not in addresses
    assert "whether this is right" in addresses


def test_only_what_was_believed_looks_as_if_it_had_been(admin_client, acme, renewed):
    proposal = ProviderProposal.objects.get()
    url = f"/admin/accounts/providerproposal/{proposal.pk}/change/"

    def page(state: str) -> str:
        ProviderProposal.objects.update(state=state)
        return str(admin_client.get(url).content.decode())

    assert "Believed now" in page("open") and "What it says" in page("open")
    assert "Believed then" in page("accepted") and "What it said" in page("accepted")
    assert "<del>https://idp.example/sso</del>" in page("accepted")
    assert ">removed<" in page("accepted") and ">new<" in page("accepted")
    for state in ("dismissed", "superseded"):
        assert "https://idp.example/sso" in page(state)
        assert "<del>" not in page(state) and "<ins>" not in page(state)
        assert ">would be removed<" in page(state) and ">would be new<" in page(state)
        assert ">removed<" not in page(state) and ">new<" not in page(state)


def test_a_list_in_which_nothing_waits_says_what_would(admin_client):
    page = admin_client.get("/admin/accounts/providerproposal/").content.decode()

    assert "Nothing waits for you." in page
    assert (
        "A new key or address that an administrator has to believe waits here until you say yes."
        in page
    )


def test_exactly_what_was_shown_is_believed(admin_client, ada, acme, renewed):
    proposal = ProviderProposal.objects.get()

    other = decide(admin_client, proposal, "believe", digest="0" * 64)
    acme.refresh_from_db()
    assert "not what you were shown" in said_in(other)
    assert acme.sso_url == "https://idp.example/sso"

    decide(admin_client, proposal, "believe")

    acme.refresh_from_db()
    assert acme.certificates == [renewed.certificate]
    assert acme.sso_url == "https://elsewhere.example/sso"
    event = changed()[-1]
    assert event.actor == "ada"
    assert event.data["before"]["sso_url"] == "https://idp.example/sso"
    assert "Waits for you" not in page_of(admin_client, acme)


def test_dismissing_it_is_recorded_and_asks_no_more(admin_client, acme, renewed):
    proposal = ProviderProposal.objects.get()

    decide(admin_client, proposal, "dismiss")
    services.refresh_provider(acme.pk)

    acme.refresh_from_db()
    assert acme.sso_url == "https://idp.example/sso"
    assert "says something new" not in admin_client.get("/admin/").content.decode()
    event = AuditEvent.objects.get(kind="provider.proposal_dismissed")
    assert event.actor == "ada"


def test_nobody_else_decides(acme, renewed, employee_client):
    proposal = ProviderProposal.objects.get()

    for client in (employee_client, browser_at_origin()):
        decide(client, proposal, "believe")

    proposal.refresh_from_db()
    assert proposal.state == "open"
    acme.refresh_from_db()
    assert acme.sso_url == "https://idp.example/sso"


def test_a_link_decides_nothing(admin_client, acme, renewed):
    proposal = ProviderProposal.objects.get()

    answer = admin_client.get(
        f"/admin/accounts/providerproposal/{proposal.pk}/decide/",
        {"decision": "believe", "digest": proposal.digest},
    )

    assert answer.status_code == 405


def test_a_new_token_endpoint_says_that_the_secret_is_forgotten(admin_client, keycloak, web):
    discovery_on(web, token_path="/other-token")
    services.refresh_provider(keycloak.pk)
    proposal = ProviderProposal.objects.get()

    page = page_of(admin_client, keycloak)
    answer = decide(admin_client, proposal, "believe")

    own = admin_client.get(f"/admin/accounts/providerproposal/{proposal.pk}/change/")

    assert "is forgotten if you believe this" in page
    assert "forgotten" not in own.content.decode()
    assert "give the client secret again" in said_in(answer)
    keycloak.refresh_from_db()
    assert keycloak.client_secret_sealed == ""


# --- What a provider's page says


def test_an_oidc_page_says_what_the_other_side_needs_and_which_keys_are_believed(
    admin_client, keycloak, web
):
    page = page_of(admin_client, keycloak)

    for fact in (
        "https://daypass.test/oidc/keycloak/callback/",
        "https://daypass.test/oidc/keycloak/logout/",
        "https://daypass.test/signed-out/",
        thumbprint(keycloak.jwks["keys"][0]),
        web.url,
    ):
        assert fact in page


def test_refused_sign_ins_stand_on_the_page_with_number_and_reason(admin_client, keycloak):
    services.refuse(
        keycloak,
        code="oidc_refused",
        reason="The ID token has expired.",
        reference="ABCD2345",
        address="192.0.2.7",
        now=timezone.now(),
    )

    page = page_of(admin_client, keycloak)

    assert "ABCD2345" in page
    assert "The ID token has expired." in page


def test_a_reference_number_leads_to_the_real_reason(admin_client, keycloak):
    services.refuse(
        keycloak,
        code="oidc_refused",
        reason="The ID token has expired.",
        reference="ABCD2345",
        address="192.0.2.7",
        now=timezone.now(),
    )

    for typed in ("ABCD2345", "abcd2345", " abcd 2345 "):
        page = admin_client.get("/admin/find/", {"q": typed}, follow=True)
        assert "The ID token has expired." in page.content.decode()
        listed = admin_client.get("/admin/broker/auditevent/", {"q": typed})
        assert "ABCD2345" in listed.content.decode()


# --- Daypass's own keys


def test_own_keys_are_prepared_used_and_removed_by_buttons(admin_client, acme):
    first = services.service_provider_key()
    base = "/admin/accounts/serviceproviderkey/"

    page = admin_client.get(f"{base}{first.pk}/change/").content.decode()
    assert "https://daypass.test/saml/acme/metadata/" in page
    assert "PRIVATE" not in page
    admin_client.post(f"{base}{first.pk}/do/prepare/")
    following = ServiceProviderKey.objects.get(state="next")
    warning = admin_client.get(f"{base}{following.pk}/do/activate/").content.decode()
    assert "refuses every sign-in" in warning
    admin_client.post(f"{base}{following.pk}/do/activate/")
    admin_client.post(f"{base}{first.pk}/do/remove/")

    (left,) = ServiceProviderKey.objects.all()
    assert (left.pk, left.state) == (following.pk, "active")
    assert AuditEvent.objects.filter(subject_type="service_provider_key", actor="ada").count() == 4
    listed = admin_client.get(base).content.decode()
    assert services.fingerprint(left.certificate)[:16] in listed


def test_a_key_in_use_cannot_be_removed(admin_client, acme):
    key = services.service_provider_key()

    admin_client.post(f"/admin/accounts/serviceproviderkey/{key.pk}/do/remove/")

    assert ServiceProviderKey.objects.filter(pk=key.pk).exists()
