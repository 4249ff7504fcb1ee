"""Who decides that a provider's new key or address is believed: the administrator, the signer, or its own address."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from signxml import CanonicalizationMethod, methods
from signxml.signer import XMLSigner

from accounts import outbound, services
from accounts.models import IdentityProvider, ProviderProposal
from accounts.pinning import Key, Trust, difference, digest, judge, thumbprint
from broker.audit.models import AuditEvent
from broker.errors import BadInput, SignInRefused
from tests.accounts import web
from tests.accounts.conftest import BY
from tests.accounts.idp_saml import DS, SamlIdp, certificate

State = ProviderProposal.State


def news(kind: str) -> list[dict]:
    return [e.data for e in AuditEvent.objects.filter(kind=f"provider.{kind}").order_by("seq")]


def metadata_of(*idps: SamlIdp) -> str:
    """Metadata of the first one with the certificates of all."""
    first, *others = idps
    text = first.metadata
    for other in others:
        begin, end = (
            other.metadata.index("<md:KeyDescriptor"),
            other.metadata.index("<md:SingleLogout"),
        )
        at = text.index("<md:SingleLogout")
        text = text[:at] + other.metadata[begin:end] + text[at:]
    return text


@pytest.fixture
def row(db, published, idp):
    """A SAML provider by the address of its metadata; an administrator approves what is new."""
    published.document = idp.metadata
    return services.create_provider_from_metadata(
        slug="acme", name="Acme", metadata_url=published.url, by=BY, enabled=True
    )


@pytest.fixture
def pinned(oidc_row):
    """An OpenID Connect provider whose new keys an administrator approves."""
    oidc_row.pinning = "approve"
    return services.save_provider(oidc_row, by=BY)


def waiting(row: IdentityProvider) -> ProviderProposal:
    return row.proposals.get(state=State.OPEN)


def refreshed(row: IdentityProvider) -> IdentityProvider:
    assert services.refresh_provider(row.pk), IdentityProvider.objects.get(
        pk=row.pk
    ).refresh_problem
    row.refresh_from_db()
    return row


# --- The rule by itself

NAMES = st.sampled_from("abcdef")
KEYS = st.lists(NAMES, max_size=4, unique=True).map(lambda ids: tuple(Key(i, i) for i in ids))
FACTS = st.dictionaries(
    st.sampled_from(
        [
            "sso_url",
            "token_endpoint",
            "jwks_uri",
            "scopes_supported",
            "token_endpoint_auth_methods_supported",
            "authorization_response_iss_parameter_supported",
        ]
    ),
    st.sampled_from(["x", "y", True, False]),
)
TRUST = st.builds(Trust, KEYS, FACTS)


@given(stored=TRUST, found=TRUST, policy=st.sampled_from(["approve", "follow"]))
def test_no_address_is_ever_believed_that_was_not_before(stored, found, policy):
    verdict = judge(stored, found, policy=policy)

    for name in ("sso_url", "token_endpoint", "jwks_uri"):
        assert verdict.believed.facts.get(name) == stored.facts.get(name)


@given(stored=TRUST, found=TRUST)
def test_no_key_is_ever_believed_that_nobody_approved(stored, found):
    assert judge(stored, found, policy="approve").believed.ids <= stored.ids


@given(
    stored=TRUST,
    found=TRUST,
    elsewhere=st.none() | KEYS,
    policy=st.sampled_from(["approve", "follow"]),
)
def test_a_provider_is_never_left_without_a_key(stored, found, elsewhere, policy):
    verdict = judge(stored, found, policy=policy, found_elsewhere=elsewhere)

    assert bool(verdict.believed.keys) or not stored.keys


@given(stored=TRUST, found=TRUST, policy=st.sampled_from(["approve", "signed", "follow"]))
def test_after_a_yes_nothing_waits_any_more(stored, found, policy):
    verdict = judge(stored, found, policy=policy)
    accepted = verdict.waiting or verdict.believed

    assert judge(accepted, found, policy=policy).waiting is None


@given(stored=TRUST, found=TRUST, policy=st.sampled_from(["approve", "follow"]))
def test_what_waits_is_something_that_can_be_shown(stored, found, policy):
    verdict = judge(stored, found, policy=policy)

    if verdict.waiting is not None:
        content = difference(verdict.believed, verdict.waiting)
        assert content["facts"] or content["keys"]


def test_a_promise_to_name_the_issuer_is_kept_once_given():
    promised = {"authorization_response_iss_parameter_supported": True}
    keys = (Key("a", "a"),)

    raised = judge(Trust(keys, {}), Trust(keys, promised), policy="approve")
    lowered = judge(Trust(keys, promised), Trust(keys, {}), policy="follow")

    assert (raised.believed.facts, raised.waiting) == (promised, None)
    assert lowered.believed.facts == promised
    assert lowered.waiting is not None


def test_how_the_secret_is_sent_waits_for_an_administrator_unless_the_provider_is_followed():
    keys = (Key("a", "a"),)
    stored = Trust(keys, {"token_endpoint_auth_methods_supported": ["client_secret_basic"]})
    found = Trust(keys, {"token_endpoint_auth_methods_supported": ["client_secret_post"]})

    approved, followed = (judge(stored, found, policy=policy) for policy in ("approve", "follow"))

    assert (approved.believed, approved.waiting) == (stored, found)
    assert (followed.believed, followed.waiting) == (found, None)


def test_a_list_in_another_order_says_nothing_new():
    keys = (Key("a", "a"),)
    stored = Trust(keys, {"token_endpoint_auth_methods_supported": ["a", "b"]})
    found = Trust(keys, {"token_endpoint_auth_methods_supported": ["b", "a"]})

    assert judge(stored, found, policy="approve").waiting is None


def test_a_key_is_itself_by_whatever_name(op):
    jwk = op.key.as_dict(private=False)

    assert thumbprint(jwk) == op.key.thumbprint()
    assert thumbprint({**jwk, "kid": "another", "alg": "RS256"}) == op.key.thumbprint()
    assert thumbprint(op.new_key().as_dict(private=False)) != op.key.thumbprint()


def test_the_digest_is_of_the_content_and_of_the_provider():
    content = {"facts": {"sso_url": {"before": "a", "after": "b"}}}

    assert digest("1", content) != digest("2", content)
    assert digest("1", content) != digest("1", {"facts": {}})


# --- SAML: an administrator approves


def test_a_new_certificate_waits_and_is_not_believed(row, published, idp):
    attacker = SamlIdp()
    published.document = metadata_of(idp, attacker)

    refreshed(row)

    assert row.certificates == [idp.certificate]
    proposal = waiting(row)
    assert proposal.content["keys"] == {
        "before": [idp.certificate],
        "after": [idp.certificate, attacker.certificate],
    }
    (told,) = news("proposed")
    assert told["changes"]["certificates"]["after"][1] == services.fingerprint(attacker.certificate)
    assert news("refreshed") == []
    answer = web.saml_sign_in(web.browser(), attacker)
    assert answer.status_code == 403
    assert web.saml_sign_in(web.browser(), idp).status_code == 302


def test_after_a_yes_both_certificates_sign_people_in(row, published, idp):
    """Roll-over without an outage: the old one works until the provider takes it away."""
    renewed = SamlIdp()
    published.document = metadata_of(idp, renewed)
    refreshed(row)

    services.accept_proposal(waiting(row), waiting(row).digest, BY, timezone.now())

    row.refresh_from_db()
    assert row.certificates == [idp.certificate, renewed.certificate]
    for signer in (idp, renewed, idp):
        assert web.saml_sign_in(web.browser(), signer).status_code == 302
    published.document = renewed.metadata
    refreshed(row)
    assert row.certificates == [renewed.certificate]
    assert not row.proposals.filter(state=State.OPEN).exists()


def test_a_yes_is_recorded_with_before_and_after_and_who(row, published, idp, people):
    renewed = SamlIdp()
    published.document = renewed.metadata
    refreshed(row)
    by = services.By(id=str(people.pk), name="ada", address="192.0.2.1")
    proposal = waiting(row)

    services.accept_proposal(proposal, proposal.digest, by, timezone.now())

    event = AuditEvent.objects.filter(kind="admin.changed").order_by("-seq").first()
    assert (event.actor, event.address) == ("ada", "192.0.2.1")
    assert event.data["before"]["certificates"] == [services.fingerprint(idp.certificate)]
    assert event.data["after"]["certificates"] == [services.fingerprint(renewed.certificate)]
    assert event.data["after"]["accepted_proposal"] == proposal.digest
    proposal.refresh_from_db()
    assert (proposal.state, proposal.decided_by) == (State.ACCEPTED, people)


@pytest.fixture
def people(db):
    from tests import factories as make

    return make.person("ada")


def test_a_changed_address_waits_beside_the_old_one(row, published, idp):
    published.document = idp.metadata.replace("idp.example/sso", "elsewhere.example/sso")

    refreshed(row)

    assert row.sso_url == idp.sso_url
    assert waiting(row).content["facts"] == {
        "sso_url": {"before": idp.sso_url, "after": "https://elsewhere.example/sso"}
    }
    services.accept_proposal(waiting(row), waiting(row).digest, BY, timezone.now())
    row.refresh_from_db()
    assert row.sso_url == "https://elsewhere.example/sso"


def test_a_certificate_that_is_gone_is_dropped_and_told_as_long_as_one_remains(row, published, idp):
    renewed = SamlIdp()
    published.document = metadata_of(idp, renewed)
    refreshed(row)
    services.accept_proposal(waiting(row), waiting(row).digest, BY, timezone.now())
    published.document = idp.metadata

    refreshed(row)

    assert row.certificates == [idp.certificate]
    (told,) = news("refreshed")
    assert len(told["changes"]["certificates"]["before"]) == 2


def test_the_last_certificate_stays_until_the_new_one_is_approved(row, published, idp):
    published.document = SamlIdp().metadata

    refreshed(row)

    assert row.certificates == [idp.certificate]
    assert waiting(row)


def test_the_same_again_is_told_once(row, published, idp):
    published.document = SamlIdp().metadata

    first = waiting(refreshed(row))
    again = waiting(refreshed(row))

    assert again == first
    assert len(news("proposed")) == 1


def test_something_else_takes_the_place_of_what_waits(row, published):
    published.document = SamlIdp().metadata
    first = waiting(refreshed(row))
    published.document = SamlIdp().metadata

    second = waiting(refreshed(row))

    first.refresh_from_db()
    assert first.state == State.SUPERSEDED
    assert second != first
    with pytest.raises(BadInput, match="overtaken"):
        services.accept_proposal(first, first.digest, BY, timezone.now())


def test_what_a_provider_takes_back_does_not_wait_any_more(row, published, idp):
    published.document = SamlIdp().metadata
    proposal = waiting(refreshed(row))
    published.document = idp.metadata

    refreshed(row)

    proposal.refresh_from_db()
    assert proposal.state == State.SUPERSEDED
    assert len(news("proposal_withdrawn")) == 1


def test_only_what_was_shown_is_believed(row, published, idp):
    published.document = SamlIdp().metadata
    shown = waiting(refreshed(row)).digest
    published.document = SamlIdp().metadata
    refreshed(row)

    with pytest.raises(BadInput, match="not what you were shown"):
        services.accept_proposal(waiting(row), shown, BY, timezone.now())

    row.refresh_from_db()
    assert row.certificates == [idp.certificate]


def test_content_that_was_changed_in_the_database_is_not_believed(row, published, idp):
    published.document = SamlIdp().metadata
    proposal = waiting(refreshed(row))
    proposal.content["keys"]["after"] = [SamlIdp().certificate]
    proposal.save()

    with pytest.raises(BadInput, match="not what you were shown"):
        services.accept_proposal(proposal, proposal.digest, BY, timezone.now())


def test_a_yes_to_a_provider_that_was_changed_meanwhile_is_refused(row, published, idp):
    published.document = metadata_of(idp, SamlIdp())
    proposal = waiting(refreshed(row))
    by_hand = SamlIdp()
    IdentityProvider.objects.update(certificates=[by_hand.certificate])

    with pytest.raises(BadInput, match="has changed since"):
        services.accept_proposal(proposal, proposal.digest, BY, timezone.now())

    row.refresh_from_db()
    assert row.certificates == [by_hand.certificate]
    assert not row.proposals.filter(state=State.OPEN).exists()


def test_what_an_administrator_enters_is_believed_and_closes_what_waits(row, published, idp):
    published.document = SamlIdp().metadata
    proposal = waiting(refreshed(row))
    pasted = SamlIdp()
    row.metadata_xml = pasted.metadata

    services.save_provider(row, by=BY)

    row.refresh_from_db()
    proposal.refresh_from_db()
    assert row.certificates == [pasted.certificate]
    assert proposal.state == State.SUPERSEDED


def test_a_no_stands_until_the_provider_says_something_else(row, published, idp):
    published.document = SamlIdp().metadata
    proposal = waiting(refreshed(row))

    services.dismiss_proposal(proposal, proposal.digest, BY, timezone.now())
    refreshed(row)

    assert row.certificates == [idp.certificate]
    assert not row.proposals.filter(state=State.OPEN).exists()
    (told,) = news("proposal_dismissed")
    assert told["digest"] == proposal.digest
    with pytest.raises(BadInput, match="dismissed"):
        services.accept_proposal(proposal, proposal.digest, BY, timezone.now())
    published.document = SamlIdp().metadata
    assert waiting(refreshed(row))


def test_of_several_administrators_one_decides(row, published, together):
    published.document = SamlIdp().metadata
    proposal = waiting(refreshed(row))

    results = together(
        lambda: services.accept_proposal(proposal, proposal.digest, BY, timezone.now()), times=4
    )

    assert sum(isinstance(result, IdentityProvider) for result in results) == 1
    assert sum(isinstance(result, BadInput) for result in results) == 3


# --- SAML: the provider itself, at its own address


def test_followed_metadata_brings_certificates_at_once_but_never_addresses(row, published, idp):
    IdentityProvider.objects.update(pinning="follow")
    renewed = SamlIdp()
    published.document = metadata_of(idp, renewed).replace(idp.sso_url, "https://x.example/sso")

    refreshed(row)

    assert row.certificates == [idp.certificate, renewed.certificate]
    assert row.sso_url == idp.sso_url
    assert set(waiting(row).content) == {"protocol", "facts"}
    assert len(news("refreshed")) == 1


# --- SAML: the signer of its metadata


def sign_document(document: str, key, pem: str) -> str:
    """The metadata, signed as a federation's operator signs it: over its root, by another library."""
    root = etree.fromstring(document.encode())
    root.set("ID", "_metadata")
    signer = XMLSigner(
        method=methods.enveloped,
        c14n_algorithm=CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0,
    )
    placeholder = etree.Element(f"{{{DS}}}Signature", Id="placeholder")
    root.insert(0, placeholder)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    signed = signer.sign(root, key=private, cert=pem, reference_uri="_metadata", id_attribute="ID")
    return etree.tostring(signed).decode()


@pytest.fixture
def signer():
    """The operator of a federation: a key and its certificate."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key, certificate(key)


@pytest.fixture
def signed_row(row, published, idp, signer):
    """The provider, whose metadata a pinned signer vouches for."""
    published.document = sign_document(idp.metadata, *signer)
    row.pinning, row.metadata_signers = "signed", [signer[1]]
    return services.save_provider(row, by=BY)


def test_what_the_pinned_signer_says_is_believed_at_once(signed_row, published, idp, signer):
    renewed = SamlIdp(sso_url="https://new.example/sso")
    published.document = sign_document(renewed.metadata, *signer)

    refreshed(signed_row)

    assert signed_row.certificates == [renewed.certificate]
    assert signed_row.sso_url == "https://new.example/sso"
    assert not signed_row.proposals.exists()


@pytest.mark.parametrize("how", ["unsigned", "another signer", "changed afterwards"])
def test_what_the_pinned_signer_did_not_sign_changes_nothing_and_is_news(
    signed_row, published, idp, signer, how
):
    attacker = SamlIdp()
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    published.document = {
        "unsigned": attacker.metadata,
        "another signer": sign_document(attacker.metadata, key, certificate(key)),
        "changed afterwards": sign_document(idp.metadata, *signer).replace(
            idp.sso_url, "https://x.example/sso"
        ),
    }[how]

    assert services.refresh_provider(signed_row.pk) is False
    services.refresh_provider(signed_row.pk)

    signed_row.refresh_from_db()
    assert signed_row.certificates == [idp.certificate]
    assert signed_row.sso_url == idp.sso_url
    assert not signed_row.proposals.exists()
    assert len(news("refresh_failed")) == 1


def test_a_signer_is_pinned_only_if_it_signed_what_is_there_now(row, published, idp, signer):
    row.pinning, row.metadata_signers = "signed", [signer[1]]

    with pytest.raises(BadInput):
        services.save_provider(row, by=BY)

    row.refresh_from_db()
    assert row.pinning == "approve"


def test_a_signer_that_decides_has_to_be_pinned(row, oidc_row):
    row.pinning = "signed"
    with pytest.raises(BadInput, match="signer's certificate"):
        services.save_provider(row, by=BY)

    oidc_row.pinning = "signed"
    with pytest.raises(BadInput, match="Only SAML"):
        services.save_provider(oidc_row, by=BY)


# --- OpenID Connect


def added(op) -> object:
    """Another key beside the one that signs."""
    key = op.new_key()
    op.bend_keys = lambda document: document["keys"].append(key.as_dict(private=False))
    return key


def kids(row: IdentityProvider) -> set[str]:
    return {key["kid"] for key in row.jwks["keys"]}


def test_a_new_key_waits_and_signs_nobody_in(pinned, op):
    attacker = added(op)

    refreshed(pinned)

    assert kids(pinned) == {op.key.kid}
    assert len(waiting(pinned).content["keys"]["after"]) == 2
    op.bend_header = lambda header: header.update(kid=attacker.kid)
    op.sign = lambda header, claims, key=None: type(op).sign(op, header, claims, attacker)
    answer = web.oidc_sign_in(web.browser(), op)
    assert answer.status_code == 403
    assert "new keys that an administrator has to confirm" in answer.content.decode()


def test_after_a_yes_both_keys_sign_people_in(pinned, op):
    old, new = op.key, op.new_key()
    op.bend_keys = lambda document: document.update(
        keys=[key.as_dict(private=False) for key in (old, new)]
    )
    refreshed(pinned)

    services.accept_proposal(waiting(pinned), waiting(pinned).digest, BY, timezone.now())

    for key in (old, new, old):
        op.key = key
        assert web.oidc_sign_in(web.browser(), op).status_code == 302


def test_followed_keys_are_believed_at_once_from_the_same_address(oidc_row, op):
    new = added(op)

    refreshed(oidc_row)

    assert kids(oidc_row) == {op.key.kid, new.kid}
    assert not oidc_row.proposals.exists()


def test_keys_at_a_new_address_wait_even_where_keys_are_followed(oidc_row, op):
    attacker = op.new_key()
    op.elsewhere = {"/other-jwks": {"keys": [attacker.as_dict(private=False)]}}
    op.bend_discovery = lambda d: d.update(jwks_uri=f"{op.issuer}/other-jwks")
    beside = added(op)

    refreshed(oidc_row)

    assert kids(oidc_row) == {op.key.kid, beside.kid}
    content = waiting(oidc_row).content
    assert content["facts"]["jwks_uri"]["after"].endswith("/other-jwks")
    assert [key["kid"] for key in content["keys"]["after"]] == [attacker.kid]
    services.accept_proposal(waiting(oidc_row), waiting(oidc_row).digest, BY, timezone.now())
    oidc_row.refresh_from_db()
    assert kids(oidc_row) == {attacker.kid}


def test_keys_stay_when_their_address_is_gone_and_another_one_is_named(oidc_row, op):
    op.elsewhere = {"/other-jwks": {"keys": [op.new_key().as_dict(private=False)]}, "/jwks": {}}
    op.bend_discovery = lambda d: d.update(jwks_uri=f"{op.issuer}/other-jwks")

    refreshed(oidc_row)

    assert kids(oidc_row) == {op.key.kid}
    assert web.oidc_sign_in(web.browser(), op).status_code == 302


def test_keys_whose_address_is_gone_are_believed_for_a_week_and_then_wait_for_a_yes(oidc_row, op):
    """One of them may have been withdrawn meanwhile, at an address that nobody has approved."""
    new, known = op.new_key(), oidc_row.refreshed_at
    op.elsewhere = {"/other-jwks": {"keys": [new.as_dict(private=False)]}, "/jwks": {}}
    op.bend_discovery = lambda d: d.update(jwks_uri=f"{op.issuer}/other-jwks")
    later = timezone.now() + timedelta(days=7, minutes=1)

    services.refresh_provider(oidc_row.pk, now=later - timedelta(days=3))
    services.refresh_provider(oidc_row.pk, now=later)

    oidc_row.refresh_from_db()
    assert oidc_row.refreshed_at == known
    with pytest.raises(SignInRefused) as refusal:
        services.signing_keys(oidc_row, now=later)
    assert refusal.value.code == "keys_too_old"
    assert "waits on its page" in refusal.value.remedy
    services.accept_proposal(waiting(oidc_row), waiting(oidc_row).digest, BY, later)
    assert services.claim_due(now=later) == [oidc_row.pk]
    services.refresh_provider(oidc_row.pk, now=later)
    oidc_row.refresh_from_db()
    assert [key["kid"] for key in services.signing_keys(oidc_row, now=later)["keys"]] == [new.kid]


def test_a_yes_to_a_new_token_endpoint_forgets_the_client_secret(oidc_row, op):
    op.bend_discovery = lambda d: d.update(token_endpoint=f"{op.issuer}/other-token")
    refreshed(oidc_row)
    proposal = waiting(oidc_row)
    assert services.client_secret(oidc_row) == op.client_secret

    assert services.forgets_secret(proposal.content)
    services.accept_proposal(proposal, proposal.digest, BY, timezone.now())

    oidc_row.refresh_from_db()
    assert oidc_row.client_secret_sealed == ""
    event = AuditEvent.objects.filter(kind="admin.changed").order_by("-seq").first()
    assert event.data["after"]["client_credential"] == "not set"


def test_a_yes_to_another_endpoint_keeps_it(oidc_row, op):
    op.bend_discovery = lambda d: d.update(authorization_endpoint=f"{op.issuer}/other")
    refreshed(oidc_row)

    services.accept_proposal(waiting(oidc_row), waiting(oidc_row).digest, BY, timezone.now())

    oidc_row.refresh_from_db()
    assert services.client_secret(oidc_row) == op.client_secret
    assert oidc_row.discovery["authorization_endpoint"].endswith("/other")


def test_an_algorithm_never_follows_the_keys(pinned, op):
    from joserfc.jwk import ECKey

    other = ECKey.generate_key("P-256", {"kid": "ec", "use": "sig"}, private=True)
    op.bend_keys = lambda document: document.update(keys=[other.as_dict(private=False)])
    refreshed(pinned)

    services.accept_proposal(waiting(pinned), waiting(pinned).digest, BY, timezone.now())

    pinned.refresh_from_db()
    assert pinned.id_token_algorithm == "RS256"


# --- What a provider does wrong harms nobody else, and nothing that is known


@pytest.mark.parametrize(
    "fault",
    [
        lambda op: setattr(op, "bend_keys", lambda document: document.update(keys=[])),
        lambda op: setattr(op, "bend_keys", lambda document: document.pop("keys")),
        lambda op: setattr(op, "bend_discovery", lambda d: d.update(issuer="https://x.example")),
        lambda op: setattr(op, "elsewhere", {"/jwks": None}),
    ],
    ids=["empty key set", "no key set", "another issuer", "gone"],
)
@pytest.mark.parametrize("pinning", ["approve", "follow"])
def test_whatever_goes_wrong_people_sign_in_with_the_keys_that_are_known(
    oidc_row, saml_row, op, idp, fault, pinning
):
    oidc_row.pinning = pinning
    services.save_provider(oidc_row, by=BY)
    fault(op)

    assert services.refresh_provider(oidc_row.pk) is False

    oidc_row.refresh_from_db()
    assert oidc_row.refresh_problem
    assert kids(oidc_row) == {op.key.kid}
    assert web.oidc_sign_in(web.browser(), op).status_code == 302
    assert web.saml_sign_in(web.browser(), idp).status_code == 302


def test_a_slow_key_set_is_given_up_and_what_is_known_stays(oidc_row, op, monkeypatch):
    monkeypatch.setattr(outbound, "DEADLINE", 0.3)
    op.bend_keys = lambda document: time.sleep(1)

    assert services.refresh_provider(oidc_row.pk) is False

    oidc_row.refresh_from_db()
    assert "no answer within" in oidc_row.refresh_problem
    assert kids(oidc_row) == {op.key.kid}
