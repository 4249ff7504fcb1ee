"""OpenID Connect attacks on the exchange itself: whose answer it is, to what, for which browser, and how often."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from accounts.models import IdentityProvider
from tests.accounts import web
from tests.attacks.registry import attack
from tests.attacks.stages import OidcStage

CALLBACK = {"protocol": "oidc", "door": "callback"}


def with_query(callback: str, **changed: Any) -> str:
    """A callback's address with parameters changed; None takes one away, a list repeats it."""
    parts = urlsplit(callback)
    query = dict(parse_qsl(parts.query)) | changed
    kept = {name: value for name, value in query.items() if value is not None}
    return parts._replace(query=urlencode(kept, doseq=True)).geturl()


# --- Whose sign-in it is


@attack("login CSRF", "R6 R25", **CALLBACK)
def a_strangers_callback_in_the_victims_browser(stage: OidcStage) -> Any:
    attacker = stage.callback(stage.browser())
    victim = stage.browser()
    web.start(victim, "globex")
    stage.settled()
    return web.call_back(victim, attacker)


@attack("login CSRF", "R6 R25", stores_nothing=True, **CALLBACK)
def a_callback_that_no_browser_began(stage: OidcStage) -> Any:
    attacker = stage.callback(stage.browser())
    stage.settled()
    return web.call_back(stage.browser(), attacker)


@attack("login CSRF", "R6 R25", **CALLBACK)
def a_strangers_callback_where_somebody_is_signed_in(stage: OidcStage) -> Any:
    victim = stage.browser()
    stage.sign_in(victim)
    stage.op.person = dict(stage.op.person) | {"sub": "the-attacker"}
    attacker = stage.callback(stage.browser())
    stage.settled()
    return web.call_back(victim, attacker)


@attack("code injection", "R6", **CALLBACK)
def a_stolen_code_with_the_attackers_own_state(stage: OidcStage) -> Any:
    stolen = web.query(stage.callback(stage.browser()))["code"]
    attacker = stage.browser()
    callback = stage.callback(attacker)
    stage.settled()
    return web.call_back(attacker, with_query(callback, code=stolen))


@attack("code injection", "R6", **CALLBACK)
def a_stolen_code_at_a_provider_that_ignores_proof_keys(stage: OidcStage) -> Any:
    """The nonce in the token still is that of the browser from which the code was stolen."""
    stolen = web.query(stage.callback(stage.browser()))["code"]
    attacker = stage.browser()
    callback = stage.callback(attacker)
    own = stage.op.codes[web.query(callback)["code"]]
    stage.op.codes[stolen]["code_challenge"] = own["code_challenge"]
    stage.settled()
    return web.call_back(attacker, with_query(callback, code=stolen))


@attack("code injection", "R6", **CALLBACK)
def a_code_asked_for_with_a_plain_challenge(stage: OidcStage) -> Any:
    """PKCE taken away on the way: the provider saw a challenge that is not the hash of what Daypass keeps."""
    browser = stage.browser()
    callback = stage.callback(browser)
    code = web.query(callback)["code"]
    plain = base64.urlsafe_b64encode(hashlib.sha256(b"known to the attacker").digest())
    stage.op.codes[code]["code_challenge"] = plain.rstrip(b"=").decode()
    stage.settled()
    return web.call_back(browser, callback)


@attack("replay", "R6", **CALLBACK)
def the_same_callback_again(stage: OidcStage) -> Any:
    browser = stage.browser()
    callback = stage.callback(browser)
    web.call_back(browser, callback)
    stage.settled()
    return web.call_back(browser, callback)


@attack("replay", "R6 R61", **CALLBACK)
def the_same_state_again_from_a_copied_session(stage: OidcStage) -> Any:
    """The browser's session is put back as it was before: the used state is remembered in the database."""
    from django.contrib.sessions.models import Session

    browser = stage.browser()
    callback = stage.callback(browser)
    cookie = browser.cookies.output(header="", sep=";")
    kept = list(Session.objects.all())
    web.call_back(browser, callback)
    for session in kept:
        session.save(force_insert=not Session.objects.filter(pk=session.pk).exists())
    stage.settled()
    thief = stage.browser()
    thief.cookies.load(cookie)
    return web.call_back(thief, callback)


@attack("replay", "R6", **CALLBACK)
def an_id_token_of_an_earlier_sign_in(stage: OidcStage) -> Any:
    seen: list[str] = []
    stage.op.bend_token = lambda token: seen.append(token) or token
    stage.sign_in()
    stage.settled()
    stage.op.bend_token = lambda token: seen[0]
    return stage.sign_in()


@attack("replay", "R6", **CALLBACK)
def a_used_code_with_a_new_state(stage: OidcStage) -> Any:
    browser = stage.browser()
    callback = stage.callback(browser)
    web.call_back(browser, callback)
    thief = stage.browser()
    fresh = stage.callback(thief)
    stage.settled()
    return web.call_back(thief, with_query(fresh, code=web.query(callback)["code"]))


@attack("replay", "R6", **CALLBACK)
def a_state_that_is_too_old(stage: OidcStage) -> Any:
    browser = stage.browser()
    callback = stage.callback(browser)
    session = browser.session
    session["socialaccount_states"] = {
        key: [state, at - 3600, provider]
        for key, (state, at, provider) in session["socialaccount_states"].items()
    }
    session.save()
    stage.settled()
    return web.call_back(browser, callback)


# --- Mix-up


@attack("mix-up", "R6", **CALLBACK)
def a_callback_at_another_providers_address(stage: OidcStage) -> Any:
    stage.neighbour()
    browser = stage.browser()
    callback = stage.callback(browser)
    stage.settled()
    return web.call_back(browser, callback.replace("/globex/", "/other/"))


@attack("mix-up", "R6", **CALLBACK)
def a_code_of_another_provider(stage: OidcStage) -> Any:
    """The attacker's provider answers with its own code at the honest provider's address."""
    other = stage.neighbour()
    browser = stage.browser()
    theirs = other.authorize(web.start(stage.browser(), "other"))
    callback = stage.callback(browser)
    stage.settled()
    return web.call_back(browser, with_query(callback, code=web.query(theirs)["code"]))


@attack("mix-up", "R6", **CALLBACK)
def the_state_of_a_sign_in_at_another_provider(stage: OidcStage) -> Any:
    stage.neighbour()
    browser = stage.browser()
    callback = stage.callback(browser)
    state = web.query(web.start(browser, "other"))["state"]
    stage.settled()
    return web.call_back(browser, with_query(callback, state=state))


@attack("mix-up", "R6 R7", **CALLBACK)
def a_neighbours_token_with_the_same_key(stage: OidcStage) -> Any:
    """Two providers of one company that share a key: issuer and audience still tell them apart."""
    other = stage.neighbour()
    browser = stage.browser()
    stage.op.bend_token = lambda token: other.id_token({}, "x")
    callback = stage.callback(browser)
    return web.call_back(browser, callback)


@attack(
    "mix-up",
    "R6",
    **CALLBACK,
    cases={
        "another": "https://evil.example",
        "missing": None,
        "empty": "",
        "with a slash more": "slash",
        "twice": "twice",
        "very long": "https://evil.example/" + "x" * 2000,
    },
)
def the_issuer_of_the_answer(stage: OidcStage, issuer: str | None) -> Any:
    browser = stage.browser()
    callback = stage.callback(browser)
    own = stage.op.issuer
    value = {"slash": own + "/", "twice": [own, own]}.get(str(issuer), issuer)
    stage.settled()
    return web.call_back(browser, with_query(callback, iss=value))


@attack("mix-up", "R6", **CALLBACK)
def an_issuer_where_none_was_promised(stage: OidcStage) -> Any:
    row = stage.row
    discovery = {k: v for k, v in row.discovery.items() if "iss_parameter" not in k}
    IdentityProvider.objects.filter(pk=row.pk).update(discovery=discovery)
    browser = stage.browser()
    callback = stage.callback(browser)
    stage.settled()
    return web.call_back(browser, with_query(callback, iss="https://evil.example"))


# --- Parameters


@attack(
    "parameters",
    "R6 R27",
    **CALLBACK,
    cases={
        "state twice": lambda url, q: with_query(url, state=[q["state"], "x"]),
        "code twice": lambda url, q: with_query(url, code=[q["code"], q["code"]]),
        "something unknown twice": lambda url, q: with_query(url, x=["1", "2"]),
        "no state": lambda url, q: with_query(url, state=None),
        "an empty state": lambda url, q: with_query(url, state=""),
        "a very long state": lambda url, q: with_query(url, state="s" * 3000),
        "a state with a NUL": lambda url, q: with_query(url, state="\0" * 43),
        "no code": lambda url, q: with_query(url, code=None),
        "an empty code": lambda url, q: with_query(url, code=""),
        "a code with a line end": lambda url, q: with_query(url, code="a\r\nX: y"),
        "a code outside ASCII": lambda url, q: with_query(url, code="é"),
        "a very long code": lambda url, q: with_query(url, code="c" * 5000),
        "a code and an error": lambda url, q: with_query(url, error="access_denied"),
        "an error with markup": lambda url, q: with_query(
            url, code=None, error="<script>alert(1)</script>", error_description="<b>"
        ),
        "an ID token in the query": lambda url, q: with_query(url, id_token="x.y.z"),
        "an access token in the query": lambda url, q: with_query(url, access_token="x"),
        "a signed response (JARM)": lambda url, q: with_query(url, response="x.y.z"),
        "very many": lambda url, q: with_query(url, **{f"x{n}": "y" for n in range(100)}),
        "everything after the #": lambda url, q: url.split("?")[0],
        "a semicolon for an ampersand": lambda url, q: url.replace("&", ";"),
        "bytes that are no text": lambda url, q: url + "&x=%ff%fe",
    }
    | {},
)
def a_callback_whose_parameters(stage: OidcStage, change: Callable) -> Any:
    browser = stage.browser()
    callback = stage.callback(browser)
    changed = change(callback, web.query(callback))
    if changed.endswith("&x=%ff%fe"):
        changed = with_query(changed, code="x")
    stage.settled()
    return web.call_back(browser, changed)


@attack("response modes", "R6", recorded=False, **CALLBACK)
def the_answer_as_a_form(stage: OidcStage) -> Any:
    """response_mode=form_post, which was not asked for."""
    browser = stage.browser()
    callback = stage.callback(browser)
    stage.settled()
    parts = urlsplit(callback)
    return browser.post(parts.path, dict(parse_qsl(parts.query)), secure=True)


@attack(
    "parameters",
    "R6 R24",
    protocol="oidc",
    door="start",
    cases={
        "a challenge of one's own": {"code_challenge_method": "plain", "code_challenge": "x"},
        "another redirect URI": {"redirect_uri": "https://evil.example/"},
        "another client": {"client_id": "evil"},
        "another response type": {"response_type": "token", "response_mode": "fragment"},
        "another scope": {"scope": "admin"},
        "all at once, as allauth takes them": {
            "auth_params": "client_id=evil&redirect_uri=https://evil.example/&nonce=known",
            "scope": "admin",
            "process": "connect",
        },
        "another nonce and state": {"nonce": "known", "state": "known"},
    },
)
def the_start_with_a_query_that_wants(stage: OidcStage, wanted: dict[str, str]) -> Any:
    """What the browser writes goes nowhere: the request is what Daypass makes of it, and a known code is of no use."""
    browser = stage.browser()
    answer = browser.post(
        f"/sign-in/globex/?{urlencode(wanted)}", {**wanted, "fresh": "0"}, secure=True
    )
    url = web.destination(answer)
    asked = web.query(url)
    pairs = parse_qsl(urlsplit(url).query)
    assert len(pairs) == len({name for name, _ in pairs})
    assert asked["code_challenge_method"] == "S256" and len(asked["code_challenge"]) == 43
    assert asked["redirect_uri"] == "https://daypass.test/oidc/globex/callback/"
    assert (asked["client_id"], asked["response_type"]) == ("daypass", "code")
    assert "admin" not in asked["scope"] and "response_mode" not in asked
    assert "known" not in asked.values()
    stage.settled()
    known = {"code": "known", "state": wanted.get("state", "known"), "iss": stage.op.issuer}
    return browser.get(f"/oidc/globex/callback/?{urlencode(known)}", secure=True)


@attack("open redirect", "R24", **CALLBACK)
def a_wanted_page_elsewhere(stage: OidcStage) -> Any:
    """The wanted page is refused at the start; what is tried afterwards with the same state is refused as well."""
    browser = stage.browser()
    for name in ("to", "next"):
        web.destination(
            browser.post("/sign-in/globex/", {name: "https://evil.example/"}, secure=True)
        )
    states = browser.session["socialaccount_states"]
    assert all("next" not in state for state, _, _ in states.values())
    stage.settled()
    address = quote("https://evil.example/", safe="")
    return browser.get(f"/oidc/globex/callback/?next={address}&state=x", secure=True)
