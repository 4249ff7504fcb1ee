"""npm's oidc-provider, an OpenID Certified server, is a company's provider."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.interop.people import ADA, ENGINEERS, OIDC_PEOPLE, SVEN
from tests.interop.providers import OidcProvider
from tests.interop.steps import (
    choose,
    is_signed_out,
    prove,
    sees_no_role,
    sees_role,
    sign_in,
    sign_out,
)

BASIC, POST = "oidc-basic", "oidc-post"
"""Two clients of the same provider, one for each way to show the secret and each algorithm."""
SECRET = "a secret with +, %41, / and : inside"
ROLE = {"account": "111122223333", "role": "Developer"}
SCOPES = ["openid", "profile", "email", "groups"]


def client(origin: str, slug: str, **more: Any) -> dict[str, Any]:
    """How the provider's administrator registers Daypass, from docs/sign-in.md."""
    return {
        "client_id": slug,
        "client_secret": SECRET,
        "redirect_uris": [f"{origin}/oidc/{slug}/callback/"],
        "post_logout_redirect_uris": [f"{origin}/signed-out/"],
        "backchannel_logout_uri": f"{origin}/oidc/{slug}/logout/",
        "backchannel_logout_session_required": True,
        "scope": " ".join(SCOPES),
        **more,
    }


def connect(desk, server: OidcProvider, slug: str, **fields: Any) -> None:
    desk.do(
        "connect_oidc",
        slug=slug,
        issuer=server.issuer,
        client_id=slug,
        secret=SECRET,
        scopes=SCOPES,
        claims={"mfa_methods": ["otp"]},
        **fields,
    )
    desk.do("give_role", slug=slug, group=ENGINEERS, **ROLE)


@pytest.fixture(scope="module")
def connected(folder, desk) -> Iterator[OidcProvider]:
    """It knows Daypass as two clients, and Daypass it as two providers."""
    server = OidcProvider(
        folder / "oidc-provider",
        OIDC_PEOPLE,
        clients=[
            client(desk.origin, BASIC),
            client(
                desk.origin,
                POST,
                token_endpoint_auth_method="client_secret_post",
                id_token_signed_response_alg="ES256",
            ),
        ],
    )
    try:
        connect(desk, server, BASIC, pinning="follow")
        connect(desk, server, POST, pinning="approve", id_token_algorithm="ES256")
        yield server
    finally:
        server.stop()


@pytest.fixture
def provider(connected, desk) -> Iterator[OidcProvider]:
    yield connected
    connected.say(userinfoOnly=False)
    desk.do("change", slug=BASIC, claims={"groups_form": "values"}, groups_from_userinfo=False)


@pytest.fixture
def rotating(provider, desk) -> Iterator[OidcProvider]:
    yield provider
    for slug in (BASIC, POST):
        desk.do("settle", slug=slug)


# --- Connecting it


def test_an_administrator_connects_it_page_by_page(desk, administrator, page, folder):
    slug = "oidc-by-hand"
    server = OidcProvider(folder / slug, (ADA,), clients=[client(desk.origin, slug)])
    try:
        administrator.connect(
            "oidc",
            slug,
            Issuer=server.issuer,
            Client_id=slug,
            Client_secret=SECRET,
            Scopes=" ".join(SCOPES),
        )
        redirect = f"{desk.origin}/oidc/{slug}/callback/"
        expect(administrator.page.get_by_text(redirect).first).to_be_visible()
        administrator.try_it("ada")
        administrator.switch_on()
        desk.do("give_role", slug=slug, group=ENGINEERS, **ROLE)

        sign_in(page, desk.origin, slug, "ada")

        sees_role(page, "Developer")
    finally:
        server.stop()
        desk.do("change", slug=slug, enabled=False)


# --- People and their groups


@pytest.mark.parametrize("person", OIDC_PEOPLE, ids=lambda person: person.login)
def test_groups_arrive_in_every_shape_exactly_as_they_are(
    provider, desk, page, administrator, person
):
    sign_in(page, desk.origin, BASIC, person.login)

    if person.keys is None:
        assert "The groups" in administrator.reason(page)
        return
    if ENGINEERS in person.keys:
        sees_role(page, "Developer")
    else:
        sees_no_role(page)
    known = desk.do("person", slug=BASIC, email=f"{person.login}@example.org")
    assert known["groups"] == sorted(person.keys)
    assert known["name"] == person.name


def test_one_text_is_several_groups_when_the_claim_map_says_so(provider, desk, page):
    desk.do("change", slug=BASIC, claims={"groups_form": "separated", "separator": " "})

    sign_in(page, desk.origin, BASIC, SVEN.login)

    sees_role(page, "Developer")
    known = desk.do("person", slug=BASIC, email=f"{SVEN.login}@example.org")
    assert known["groups"] == [ENGINEERS, "on-call", "staff"]


def test_groups_in_userinfo_count_only_where_they_are_read_from_there(provider, desk, page):
    """As OpenID Connect has it, and this server by default: claims of scopes are in userinfo, not in the token."""
    provider.say(userinfoOnly=True)
    sign_in(page, desk.origin, BASIC, "olga")
    sees_no_role(page)

    desk.do("change", slug=BASIC, groups_from_userinfo=True)
    choose(page, desk.origin, BASIC, at="/sign-in/?fresh=1")
    prove(page, "olga")

    sees_role(page, "Developer")


# --- How Daypass shows who it is, and what the tokens are signed with


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_the_secret_is_shown_in_the_way_that_the_provider_takes(provider, desk, page, method):
    """Its characters are those that the two ways write differently."""
    provider.say(methods=[method])
    desk.do("refresh", slug=BASIC)
    try:
        sign_in(page, desk.origin, BASIC, "ada")
        sees_role(page, "Developer")
    finally:
        provider.say(methods=None)
        desk.do("refresh", slug=BASIC)


def test_elliptic_curves_sign_as_well(provider, desk, page):
    sign_in(page, desk.origin, POST, "ada")

    sees_role(page, "Developer")


def test_the_other_algorithm_is_refused_although_its_key_is_the_providers(
    provider, desk, page, administrator
):
    desk.do("change", slug=POST, id_token_algorithm="RS256")
    try:
        sign_in(page, desk.origin, POST, "ada")
        assert "pinned to RS256" in administrator.reason(page)
    finally:
        desk.do("change", slug=POST, id_token_algorithm="ES256")


def test_a_wrong_secret_is_named_as_the_reason(provider, desk, page, administrator):
    desk.do("change", slug=BASIC, secret="mistyped")
    try:
        sign_in(page, desk.origin, BASIC, "ada")
        assert "client secret" in administrator.reason(page)
    finally:
        desk.do("change", slug=BASIC, secret=SECRET)


# --- Who it is, anew; and who it is not


def test_whoever_has_a_session_there_is_signed_in_without_a_form(provider, desk, page):
    sign_in(page, desk.origin, BASIC, "ada")
    page.context.clear_cookies(domain="localhost")

    choose(page, desk.origin, BASIC)

    sees_role(page, "Developer")


def test_a_fresh_sign_in_asks_for_the_password_again_and_a_second_factor_counts(
    provider, desk, page
):
    sign_in(page, desk.origin, BASIC, "ada")
    assert desk.do("last_sign_in", slug=BASIC)["mfa"] is False

    choose(page, desk.origin, BASIC, at="/sign-in/?fresh=1")
    page.get_by_label("With a second factor").check()
    prove(page, "ada")

    sees_role(page, "Developer")
    assert desk.do("last_sign_in", slug=BASIC)["mfa"] is True


def test_giving_up_at_the_provider_is_not_a_fault(provider, desk, page, administrator):
    choose(page, desk.origin, BASIC)
    page.get_by_role("button", name="Cancel").click()
    page.wait_for_url(f"{desk.origin}/**")

    assert "did not sign the person in: access_denied" in administrator.reason(page)


@pytest.mark.parametrize("clock", ["-20m", "+20m"])
def test_a_clock_that_is_off_is_named(desk, page, administrator, folder, clock):
    slug = "slow" if clock.startswith("-") else "fast"
    server = OidcProvider(folder / slug, (ADA,), clients=[client(desk.origin, slug)], clock=clock)
    try:
        connect(desk, server, slug)
        sign_in(page, desk.origin, slug, "ada")
        assert "clocks" in administrator.reason(page)
    finally:
        server.stop()
        desk.do("change", slug=slug, enabled=False)


# --- Keys that change


def test_a_new_key_signs_at_once_where_the_provider_is_followed(rotating, desk, page):
    """Nothing is fetched while a stranger waits: the worker is asked, and the sign-in waits for the worker."""
    rotating.say(rotate="keeping")

    sign_in(page, desk.origin, BASIC, "ada")

    sees_role(page, "Developer")


def test_a_new_key_waits_for_the_administrator_where_they_approve(
    rotating, desk, page, administrator
):
    rotating.say(rotate="keeping")
    sign_in(page, desk.origin, POST, "ada")
    expect(page.get_by_text("new keys that an administrator has to confirm")).to_be_visible()

    administrator.believe(POST)
    choose(page, desk.origin, POST)

    sees_role(page, "Developer")


def test_a_key_that_was_announced_signs_without_anybody_waiting(rotating, desk, page):
    rotating.say(rotate="announcing")
    desk.do("refresh", slug=BASIC)
    rotating.say(finish=True)

    sign_in(page, desk.origin, BASIC, "ada")

    sees_role(page, "Developer")


# --- Signing out


def test_signing_out_at_daypass_leads_to_the_providers_question_and_back(provider, desk, page):
    sign_in(page, desk.origin, BASIC, "ada")

    sign_out(page)
    page.get_by_role("button", name="Yes, sign me out").click()

    expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    choose(page, desk.origin, BASIC)
    prove(page, "ada")
    sees_role(page, "Developer")


def test_signing_out_there_ends_the_session_at_daypass(provider, desk, page):
    """By back-channel logout: the provider calls, the browser never comes by."""
    sign_in(page, desk.origin, BASIC, "ada")

    page.goto(f"{provider.url}/session/end")
    page.get_by_role("button", name="Yes, sign me out").click()
    expect(page.get_by_role("heading", name="Signed out at the provider")).to_be_visible()

    assert re.search("back-channel", provider.log()) is None
    is_signed_out(page, desk.origin)
