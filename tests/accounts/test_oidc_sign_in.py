"""Signing in with OpenID Connect, through the real views and real HTTP, with tokens signed by another library."""

from __future__ import annotations

import base64
import hmac
import json
import time

import pytest
from django.utils import timezone
from joserfc.jwk import OctKey, RSAKey

from accounts import oidc, services
from accounts.models import IdentityProvider, Membership, Person
from accounts.rules import PRESETS
from broker.audit.models import AuditEvent
from tests import factories as make
from tests.accounts import web
from tests.accounts.conftest import BY
from tests.accounts.idp_oidc import OidcIdp


@pytest.fixture
def refused(oidc_row, op, refusals):
    """Sign in with one thing bent, and see it refused: quietly, without a session, with the reason in the log."""

    def check(reason: str, *, code: str = "oidc_refused"):
        browser = web.browser()
        page = web.oidc_sign_in(browser, op)

        assert page.status_code in (400, 403), page.status_code
        assert not web.is_signed_in(browser)
        assert not Person.objects.exists()
        told = refusals()
        assert [c for c, _ in told] == [code]
        assert reason in told[0][1]
        assert told[0][1] not in page.content.decode()
        return page

    return check


def test_a_code_for_a_good_token_signs_the_person_in(oidc_row, op):
    browser = web.browser()

    finished = web.oidc_sign_in(browser, op)

    assert (finished.status_code, finished["Location"]) == (302, "/")
    assert web.is_signed_in(browser)
    ada = Person.objects.get()
    assert (ada.handle, ada.name, ada.email) == ("ada", "Ada Lovelace", "ada@example.com")
    assert ada.subject == op.person["sub"]
    keys = Membership.objects.values_list("group__key", flat=True)
    assert set(keys) == {"aws-admins", "aws-readers"}


def test_the_request_has_a_proof_key_a_nonce_and_our_own_redirect_uri(oidc_row):
    asked = web.query(web.start(web.browser(), "globex"))

    assert asked["code_challenge_method"] == "S256"
    assert len(asked["nonce"]) >= 32
    assert asked["redirect_uri"] == "https://daypass.test/oidc/globex/callback/"
    assert asked["scope"].split()[0] == "openid"


def test_what_the_browser_writes_into_the_query_goes_nowhere(oidc_row):
    browser = web.browser()

    answer = browser.post(
        "/sign-in/globex/?auth_params=client_id%3Devil%26redirect_uri%3Dhttps://evil&scope=admin"
        "&process=connect&next=https://evil.example/",
        secure=True,
    )
    asked = web.query(web.destination(answer))

    assert asked["client_id"] == "daypass"
    assert asked["redirect_uri"].startswith("https://daypass.test/")
    assert "admin" not in asked["scope"]
    (state,) = browser.session["socialaccount_states"].values()
    assert state[0]["process"] == "login"
    assert "next" not in state[0]


def test_the_client_secret_is_sealed_at_rest(oidc_row, op):
    row = IdentityProvider.objects.get(slug="globex")

    assert op.client_secret not in row.client_secret_sealed
    assert services.client_secret(row) == op.client_secret


def test_nothing_is_fetched_while_somebody_begins_to_sign_in(oidc_row, op):
    op.asked.clear()

    web.start(web.browser(), "globex")

    assert op.asked == []


def test_an_elliptic_curve_key_works_when_the_provider_has_no_other(db, settings):
    op = OidcIdp(algorithm="ES256")
    settings.DAYPASS_PRIVATE_PROVIDERS = [op.authority]
    row = services.create_oidc_provider(
        slug="curve",
        name="Curve",
        issuer=op.issuer,
        client_id=op.client_id,
        secret=op.client_secret,
        by=BY,
        enabled=True,
    )
    browser = web.browser()

    web.oidc_sign_in(browser, op, "curve")

    assert row.id_token_algorithm == "ES256"
    assert web.is_signed_in(browser)
    op.close()


# --- Signature


def test_a_key_that_is_not_the_providers_is_refused(refused, op):
    stranger = RSAKey.generate_key(2048, {"kid": op.key.kid}, private=True)
    op.bend_token = lambda token: _resigned(op, token, stranger)
    refused("signature does not fit")


def _resigned(op, token, key, **header):
    head, body, _ = token.split(".")
    kept = json.loads(base64.urlsafe_b64decode(head + "==")) | header
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    return op.sign(kept, claims, key)


def _b64(document):
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("name", ["none", "None", "NONE"])
def test_a_token_without_signature_is_refused(refused, op, name):
    op.bend_token = lambda token: f"{_b64({'alg': name, 'typ': 'JWT'})}.{token.split('.')[1]}."
    refused("pinned to RS256")


def test_a_token_signed_with_the_client_secret_is_refused(refused, op):
    secret = OctKey.import_key(op.client_secret)
    op.bend_token = lambda token: _resigned(op, token, secret, alg="HS256")
    refused("pinned to RS256")


def test_a_token_signed_with_the_public_key_as_a_secret_is_refused(refused, op):
    public = op.key.as_pem(private=False)

    def confused(token):
        signed = f"{_b64({'alg': 'HS256', 'kid': op.key.kid})}.{token.split('.')[1]}"
        signature = hmac.digest(public, signed.encode(), "sha256")
        return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"

    op.bend_token = confused
    refused("pinned to RS256")


@pytest.mark.parametrize(
    "header", [{"jku": "https://evil"}, {"jwk": {}}, {"x5u": "https://evil"}, {"x5c": []}]
)
def test_a_header_that_brings_its_own_key_is_refused(refused, op, header):
    op.bend_token = lambda token: ".".join(
        [_b64({"alg": "RS256", "kid": op.key.kid, **header}), *token.split(".")[1:]]
    )
    refused("is not followed")


def test_another_type_of_token_is_refused(refused, op):
    op.bend_header = lambda header: header.update(typ="at+jwt")
    refused("another type")


def test_a_repeated_claim_is_refused(refused, op):
    def twice(token):
        text = base64.urlsafe_b64decode(token.split(".")[1] + "==").decode()
        return op.sign_text((text[:-1] + ',"sub":"somebody else"}').encode())

    op.bend_token = twice
    refused("stands twice")


# --- Contents


def _without(name):
    return lambda claims: claims.pop(name)


def _with(**changed):
    return lambda claims: claims.update({k: v() if callable(v) else v for k, v in changed.items()})


def _now(offset):
    return lambda: int(time.time()) + offset


@pytest.mark.parametrize(
    ("bend", "reason"),
    [
        (_without("nonce"), "nonce"),
        (_with(nonce="another"), "nonce"),
        (_with(nonce=["x"]), "nonce"),
        (_with(iss="https://another.example"), "issuer"),
        (_with(iss=lambda: None), "issuer"),
        (_with(aud="another"), "another client"),
        (_with(aud=["daypass", "another"]), "another client"),
        (_with(aud=[]), "another client"),
        (_with(azp="another"), "azp"),
        (_with(exp=_now(-120)), "expired"),
        (_with(exp=_now(2 * 86400)), "more than a day"),
        (_without("exp"), "exp is missing"),
        (_with(exp="soon"), "exp is missing"),
        (_with(exp=True), "exp is missing"),
        (_with(iat=_now(-3600)), "too long ago"),
        (_with(iat=_now(3600)), "in the future"),
        (_without("iat"), "iat is missing"),
        (_with(nbf=_now(3600)), "not valid yet"),
        (_with(at_hash="wrong"), "at_hash"),
        (_with(auth_time=_now(3600)), "auth_time"),
    ],
)
def test_a_token_that_answers_something_else_is_refused(refused, op, bend, reason):
    op.bend_claims = bend
    refused(reason)


@pytest.mark.parametrize(
    ("bend", "way_out"),
    [
        (_with(iss="https://idp.example/tenant"), "'https://idp.example/tenant'; expected 'http"),
        (_with(aud=["daypass", "portal"]), "for this client alone"),
        (_with(exp=_now(2 * 86400)), "lifetime of this client's ID tokens"),
        (_with(auth_time="2026-11-21T09:30:00Z"), "in seconds since 1970"),
    ],
)
def test_where_the_providers_settings_are_the_reason_the_way_out_is_told(
    refused, op, bend, way_out
):
    op.bend_claims = bend
    refused(way_out)


@pytest.mark.parametrize("subject", [None, 42, True, "", " x", "x ", "ünal", "x" * 256, ["x"], {}])
def test_a_subject_that_could_be_mistaken_is_refused(refused, op, subject):
    op.bend_claims = _with(sub=subject)
    refused("", code="subject_unusable")


def test_no_id_token_at_all_is_refused(refused, op):
    op.bend_token = lambda token: None
    refused("no ID token")


@pytest.mark.parametrize("junk", ["", "a.b", "a.b.c", "....", "x" * 200_000, "é.é.é"])
def test_junk_instead_of_an_id_token_is_refused(oidc_row, op, junk):
    op.bend_token = lambda token: junk
    browser = web.browser()

    assert web.oidc_sign_in(browser, op).status_code == 403
    assert not web.is_signed_in(browser)


def test_the_authorization_response_of_another_issuer_is_refused(refused, op):
    op.bend_callback = lambda query: query.update(iss="https://another.example")
    refused("from another issuer")


def test_a_missing_issuer_is_refused_where_the_provider_promised_one(refused, op):
    op.bend_callback = lambda query: query.pop("iss")
    refused("does not say from which")


def test_the_providers_own_no_is_told_to_administrators(refused, op):
    op.bend_callback = lambda query: (query.pop("code"), query.update(error="access_denied"))
    refused("access_denied", code="provider_said_no")


def test_a_code_of_another_sign_in_is_refused(oidc_row, op, refusals):
    """Code injection: the proof key belongs to the browser that asked."""
    stolen = web.query(op.authorize(web.start(web.browser(), "globex")))["code"]
    op.bend_callback = lambda query: query.update(code=stolen)
    thief = web.browser()

    web.oidc_sign_in(thief, op)

    assert not web.is_signed_in(thief)
    assert refusals()[0][0] == "token_endpoint_refused"


def test_a_wrong_client_secret_is_told_to_administrators(oidc_row, op, refusals):
    op.client_secret = "another"

    page = web.oidc_sign_in(web.browser(), op)

    assert page.status_code == 403
    code, reason = refusals()[0]
    assert code == "token_endpoint_refused"
    assert "https://daypass.test/oidc/globex/callback/" in reason


def test_a_provider_that_is_away_is_told_as_that(oidc_row, op, refusals):
    callback = op.authorize(web.start(web.browser(), "globex"))
    browser = web.browser()
    callback = op.authorize(web.start(browser, "globex"))
    op.close()

    page = web.call_back(browser, callback)

    assert page.status_code == 503
    assert "does not answer right now" in page.content.decode()
    assert refusals()[0][0] == "provider_unavailable"


# --- Once, and only when asked


def test_a_callback_is_taken_once(oidc_row, op):
    browser = web.browser()
    callback = op.authorize(web.start(browser, "globex"))
    web.call_back(browser, callback)

    assert web.call_back(browser, callback).status_code == 403


def test_a_callback_is_of_no_use_in_another_browser(oidc_row, op, refusals):
    callback = op.authorize(web.start(web.browser(), "globex"))
    other = web.browser()

    page = web.call_back(other, callback)

    assert page.status_code == 403
    assert not web.is_signed_in(other)
    assert refusals()[0][0] == "state_unknown"


def test_an_answer_at_another_providers_address_is_refused(oidc_row, op):
    services.create_oidc_provider(
        slug="twin",
        name="Twin",
        issuer=op.issuer,
        client_id="twin",
        secret="x",
        by=BY,
        enabled=True,
    )
    browser = web.browser()
    callback = op.authorize(web.start(browser, "globex"))

    page = web.call_back(browser, callback.replace("/globex/", "/twin/"))

    assert page.status_code == 403
    assert not web.is_signed_in(browser)


@pytest.mark.parametrize(
    "query",
    ["", "?code=x", "?state=x", "?state=x&state=y&code=z", "?error=x", "?code=%00&state=%ff"],
)
def test_junk_at_the_callback_is_answered_quietly(oidc_row, query):
    from django.contrib.sessions.models import Session

    page = web.browser().get(f"/oidc/globex/callback/{query}", secure=True)

    assert page.status_code == 403
    assert web.reference_of(page)
    assert not Session.objects.exists()


def test_of_eight_callbacks_at_once_one_wins(together, op):
    services.create_oidc_provider(
        slug="globex",
        name="Globex",
        issuer=op.issuer,
        client_id=op.client_id,
        secret=op.client_secret,
        by=BY,
        enabled=True,
    )
    first = web.browser()
    callback = op.authorize(web.start(first, "globex"))
    cookies = first.cookies.output(header="", sep=";")

    def attempt() -> int:
        browser = web.browser()
        browser.cookies.load(cookies)
        return web.call_back(browser, callback).status_code

    results = together(attempt, times=8)

    assert results.count(302) == 1
    assert set(results) <= {302, 400, 403}
    assert op.asked.count("/token") == 1


# --- Userinfo decides nothing


def test_userinfo_is_not_asked_unless_groups_are_there(oidc_row, op):
    web.oidc_sign_in(web.browser(), op)

    assert "/userinfo" not in op.asked


@pytest.fixture
def groups_from_userinfo(oidc_row):
    oidc_row.groups_from_userinfo = True
    services.save_provider(oidc_row, by=BY)
    return oidc_row


def test_groups_may_be_read_from_userinfo(groups_from_userinfo, op):
    op.bend_claims = _without("groups")

    web.oidc_sign_in(web.browser(), op)

    assert Membership.objects.count() == 2


def test_userinfo_never_says_who_somebody_is(groups_from_userinfo, op):
    op.bend_userinfo = _with(
        name="The Chief", email="chief@example.com", preferred_username="chief"
    )

    web.oidc_sign_in(web.browser(), op)

    ada = Person.objects.get()
    assert (ada.handle, ada.name, ada.email) == ("ada", "Ada Lovelace", "ada@example.com")


@pytest.mark.parametrize("subject", ["somebody else", None, 248289761001, ["248289761001"]])
def test_userinfo_about_somebody_else_is_refused(groups_from_userinfo, refused, op, subject):
    op.bend_userinfo = _with(sub=subject)
    refused("somebody else")


# --- Groups


def _claim_map(row, **parts):
    row.claim_map = PRESETS["oidc"].to_json() | parts
    services.save_provider(row, by=BY)


def test_groups_may_be_nested_in_the_token(oidc_row, op):
    _claim_map(oidc_row, groups=["realm_access", "roles"])
    op.bend_claims = _with(realm_access={"roles": ["one", "two"]})

    web.oidc_sign_in(web.browser(), op)

    keys = Membership.objects.values_list("group__key", flat=True)
    assert set(keys) == {"one", "two"}


def test_a_text_is_one_group_and_never_taken_apart(oidc_row, op):
    op.bend_claims = _with(groups="aws admins")

    web.oidc_sign_in(web.browser(), op)

    assert list(Membership.objects.values_list("group__key", flat=True)) == ["aws admins"]


def test_a_text_may_be_separated_when_the_claim_map_says_so(oidc_row, op):
    _claim_map(oidc_row, groups_form="separated", separator=" ")
    op.bend_claims = _with(groups="one two ")

    web.oidc_sign_in(web.browser(), op)

    keys = Membership.objects.values_list("group__key", flat=True)
    assert set(keys) == {"one", "two"}


@pytest.mark.parametrize("groups", [{"a": 1}, [1], [["a"]], [None], True, 1])
def test_groups_that_are_not_texts_are_refused(refused, op, groups):
    op.bend_claims = _with(groups=groups)
    refused("not text", code="claims_unusable")


def test_too_many_groups_are_refused_with_a_way_out(refused, op):
    op.bend_claims = _with(groups=[f"g{n}" for n in range(2001)])
    refused("at most 2000", code="too_many_values")


@pytest.mark.parametrize(
    "marker",
    [
        {"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "https://x"}}},
        {"hasgroups": True},
        {"hasgroups": "true"},
    ],
)
def test_entras_overage_is_explained_to_administrators(refused, op, marker):
    op.bend_claims = lambda claims: (claims.pop("groups"), claims.update(marker))
    refused("assigned to the application", code="groups_overage")


def test_entras_object_ids_are_groups_like_others(oidc_row, op):
    op.bend_claims = _with(groups=["6b8a3f52-5c1c-4c0a-9a53-5d6e6a1d2f10"])

    web.oidc_sign_in(web.browser(), op)

    assert Membership.objects.get().group.key == "6b8a3f52-5c1c-4c0a-9a53-5d6e6a1d2f10"


def test_multi_factor_is_read_from_amr(oidc_row, op):
    op.bend_claims = _with(amr=["pwd", "mfa"])
    browser = web.browser()

    web.oidc_sign_in(browser, op)

    proof = browser.session["daypass"]["proof"]
    assert proof["mfa"] is True
    assert proof["methods"] == ["pwd", "mfa"]


@pytest.mark.parametrize(
    ("bend", "told"), [(lambda claims: None, True), (_without("auth_time"), False)]
)
def test_a_sign_in_without_auth_time_counts_as_recent_for_nothing(oidc_row, op, bend, told):
    """The person may have signed in at the provider days ago; a role that wants a recent sign-in stays shut."""
    op.bend_claims = bend
    browser = web.browser()
    web.oidc_sign_in(browser, op)
    person = Person.objects.get()
    role = make.role("Developer")
    make.mapping(person.memberships.first().group, role, max_sign_in_age=900)

    page = browser.get(f"/roles/{role.pk}/", secure=True).content.decode()
    principal = browser.get("/", secure=True).wsgi_request.principal

    assert principal.proof.at_told is told
    assert ("did not say when yours was" in page) is not told


def test_a_fresh_sign_in_asks_for_one_and_insists(oidc_row, op, refusals):
    browser = web.browser()
    url = web.start(browser, "globex", fresh=True)
    asked = web.query(url)
    op.bend_claims = _with(auth_time=_now(-3600))

    page = web.call_back(browser, op.authorize(url))

    assert (asked["prompt"], asked["max_age"]) == ("login", "0")
    assert page.status_code == 403
    assert "authenticate anew" in refusals()[0][1]


def test_a_fresh_sign_in_of_which_no_time_is_told_is_refused_with_the_way_out(
    oidc_row, op, refusals
):
    browser = web.browser()
    op.bend_claims = _without("auth_time")

    page = web.call_back(browser, op.authorize(web.start(browser, "globex", fresh=True)))

    assert page.status_code == 403
    assert "in Entra ID that is an optional claim" in refusals()[0][1]


def test_the_record_of_a_sign_in_holds_no_token(oidc_row, op):
    tokens: list[str] = []
    op.bend_token = lambda token: tokens.append(token) or token

    web.oidc_sign_in(web.browser(), op)

    kept = json.dumps([row.data for row in AuditEvent.objects.all()])
    assert tokens[0] not in kept
    assert tokens[0].split(".")[2] not in kept


def test_the_session_keeps_the_id_token_only_sealed(oidc_row, op):
    tokens: list[str] = []
    op.bend_token = lambda token: tokens.append(token) or token
    browser = web.browser()

    web.oidc_sign_in(browser, op)

    assert tokens[0] not in json.dumps(dict(browser.session.items()))
    assert browser.session["daypass"]["logout"]["id_token"]


def test_the_secret_is_written_as_the_standard_says_where_it_goes_into_the_header(db, op):
    """RFC 6749 section 2.3.1: both halves are escaped as in a form before they are joined."""
    op.in_the_header, op.client_id, op.client_secret = True, "day:pass", "a:b c/d+e%é"
    services.create_oidc_provider(
        slug="basic",
        name="Basic",
        issuer=op.issuer,
        client_id=op.client_id,
        secret=op.client_secret,
        by=BY,
        enabled=True,
    )
    browser = web.browser()

    web.oidc_sign_in(browser, op, "basic")

    assert web.is_signed_in(browser)


BOTH = ("client_secret_basic", "client_secret_post", "private_key_jwt", "none")


@pytest.mark.parametrize(("in_the_header", "calls"), [(True, 2), (False, 1)])
def test_a_client_may_be_registered_for_one_of_the_ways_that_its_provider_takes(
    oidc_row, op, in_the_header, calls
):
    """Discovery is about all clients: JumpCloud, OneLogin and others hold each to its own way."""
    op.in_the_header, op.methods = in_the_header, BOTH
    services.refresh_provider(oidc_row.pk)
    op.asked.clear()
    browser = web.browser()

    web.oidc_sign_in(browser, op)

    assert web.is_signed_in(browser)
    assert op.asked == ["/token"] * calls


def test_a_secret_that_is_wrong_in_both_ways_is_told(oidc_row, op, refused):
    op.methods, op.client_secret = BOTH, "another"
    services.refresh_provider(oidc_row.pk)
    op.asked.clear()

    refused("invalid_client", code="token_endpoint_refused")

    assert op.asked == ["/token"] * 2


def test_a_code_that_was_not_taken_is_not_shown_twice(oidc_row, op, refused):
    op.methods = BOTH
    services.refresh_provider(oidc_row.pk)
    op.asked.clear()
    op.bend_callback = lambda query: query.update(code="stolen")

    refused("invalid_grant", code="token_endpoint_refused")

    assert op.asked == ["/token"]


def test_an_access_token_as_long_as_all_of_somebodys_roles_is_no_reason_to_refuse(oidc_row, op):
    browser = web.browser()
    op.bend_answer = lambda answer: answer.update(access_token="x" * 40_000)
    op.bend_claims = lambda claims: claims.pop("at_hash")

    web.oidc_sign_in(browser, op)

    assert web.is_signed_in(browser)


def test_what_was_checked_and_seen_is_there_to_be_shown(oidc_row, op):
    op.bend_claims = _with(sid="s-1", azp="daypass")
    keys = op.key.as_dict(private=False)
    expected = oidc.Expected(
        issuer=op.issuer, client_id="daypass", algorithm="RS256", nonce="n", access_token="a"
    )
    token = oidc.verify_id_token(
        op.id_token({"nonce": "n"}, "a"),
        keys={"keys": [keys]},
        expected=expected,
        now=timezone.now(),
    )

    verified = oidc.attributes(token, userinfo=None, now=timezone.now(), checks=[("a", "b")])

    seen = dict(verified.checks)
    assert seen["a"] == "b"
    assert seen["Signature"] == f"RS256, by the stored key {op.key.kid}"
    assert seen["Issuer"] == op.issuer
    assert seen["Access token (at_hash)"] == "fits"
    assert seen["Userinfo"] == "not asked"
    assert verified.logout == {"subject": op.person["sub"], "index": "s-1"}


# --- Connecting


def test_a_discovery_document_of_another_issuer_is_refused(op, db):
    from broker.errors import BadInput

    op.bend_discovery = lambda document: document.update(issuer="https://another.example")

    with pytest.raises(BadInput, match="which is not exactly"):
        services.create_oidc_provider(slug="x", name="X", issuer=op.issuer, client_id="x", by=BY)


def test_a_changed_issuer_forgets_the_client_secret(oidc_row, op, settings):
    other = OidcIdp()
    settings.DAYPASS_PRIVATE_PROVIDERS = [op.authority, other.authority]
    oidc_row.issuer = other.issuer

    services.save_provider(oidc_row, by=BY)

    assert services.client_secret(oidc_row) == ""
    other.close()


def test_a_refresh_that_moves_the_token_endpoint_waits_for_an_administrator(oidc_row, op):
    """Otherwise whoever can change the document would be sent the client secret."""
    op.bend_discovery = lambda document: document.update(token_endpoint=f"{op.issuer}/elsewhere")

    services.refresh_provider(oidc_row.pk)

    oidc_row.refresh_from_db()
    assert oidc_row.discovery["token_endpoint"].endswith("/token")
    assert list(oidc_row.proposals.get().content["facts"]) == ["token_endpoint"]


def test_keys_that_are_too_weak_are_not_taken(op, db):
    from broker.errors import BadInput

    with pytest.warns(match="size"):
        weak = RSAKey.generate_key(1024, {"kid": "weak"}, private=True)
    op.bend_keys = lambda document: document.update(keys=[weak.as_dict(private=False)])

    with pytest.raises(BadInput, match="2048"):
        services.create_oidc_provider(slug="x", name="X", issuer=op.issuer, client_id="x", by=BY)
