"""Good answers in the wrong place: a second time, in another browser, at another door, to another provider."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib.sessions.models import Session
from django.core.cache import cache
from lxml import etree

from accounts import saml
from tests.accounts import web
from tests.accounts.idp_saml import SAML, SAMLP, Request, stamp
from tests.attacks import dsig
from tests.attacks.registry import Browser, attack, control
from tests.attacks.saml_wrapping import part
from tests.attacks.stages import GOOD, SamlStage, packed

ACS = "https://daypass.test/saml/acme/acs/"
OURS = "https://daypass.test/saml/acme/metadata/"
HOME_OR_REFUSED = (302, 403)
"""Who is signed in already and goes back in the browser is sent home; anybody else is refused."""


def used(stage: SamlStage) -> tuple[Browser, etree._Element]:
    """An honest sign-in that has happened, and the answer that it used."""
    browser, root = stage.ask()
    stage.sign(root)
    stage.send(browser, root)
    assert web.is_signed_in(browser)
    stage.settled()
    return browser, root


def with_cookies_of(stage: SamlStage, browser: Browser) -> Browser:
    thief = stage.browser()
    thief.cookies.load(browser.cookies.output(header="", sep=";"))
    return thief


# --- A second time


@attack("replay", "R4", statuses=HOME_OR_REFUSED, recorded=False)
def the_same_answer_in_the_same_browser(stage: SamlStage) -> Any:
    browser, root = used(stage)
    return stage.send(browser, root)


@attack("replay", "R4")
def the_same_answer_in_another_browser(stage: SamlStage) -> Any:
    _, root = used(stage)
    return stage.send(stage.browser(), root)


@attack("replay", "R4")
def the_same_answer_in_a_browser_with_the_cookies_from_before(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    thief = with_cookies_of(stage, browser)
    stage.sign(root)
    stage.send(browser, root)
    stage.settled()
    return stage.send(thief, root)


@attack("replay", "R4 R61")
def the_same_answer_after_the_cache_was_lost(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    thief = with_cookies_of(stage, browser)
    stage.sign(root)
    stage.send(browser, root)
    cache.clear()
    stage.settled()
    return stage.send(thief, root)


@attack("replay", "R4 R61")
def the_same_answer_after_the_session_was_brought_back(stage: SamlStage) -> Any:
    """As a restored backup of the sessions alone would: what was used is kept in another table."""
    browser, root = stage.ask()
    kept = list(Session.objects.values())
    thief = with_cookies_of(stage, browser)
    stage.sign(root)
    stage.send(browser, root)
    for row in kept:
        Session.objects.update_or_create(session_key=row["session_key"], defaults=row)
    stage.settled()
    return stage.send(thief, root)


@attack("replay", "R4")
def an_answer_to_a_request_that_failed_before(stage: SamlStage) -> Any:
    """The first try uses the request up, whatever came of it."""
    browser, root = stage.ask()
    stage.send(browser, root)
    return stage.send(browser, stage.sign(root))


@attack("replay", "R4")
def the_same_assertion_for_a_new_request(stage: SamlStage) -> Any:
    """The provider signs an assertion with an id that was used before."""
    first, root = stage.ask(assertion_id="_same")
    stage.send(first, stage.sign(root))
    stage.settled()
    browser, again = stage.ask(assertion_id="_same", name_id="u-0002")
    return stage.send(browser, stage.sign(again))


@attack("replay", "R4")
def the_same_assertion_in_a_fresh_envelope(stage: SamlStage) -> Any:
    stage.set(response_signed=False)
    first, root = stage.ask()
    stage.sign(root, response=None)
    stage.send(first, root)
    stage.settled()
    browser, fresh = stage.ask()
    fresh.replace(fresh.find(f"{{{SAML}}}Assertion"), root.find(f"{{{SAML}}}Assertion"))
    return stage.send(browser, fresh)


@attack("replay", "R4 R57", recorded=True)
def the_finishing_page_a_second_time(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    stage.sign(root)
    posted = browser.post("/saml/acme/acs/", {"SAMLResponse": packed(root)}, secure=True)
    thief = with_cookies_of(stage, browser)
    thief.cookies.load(browser.cookies.output(header="", sep=";"))
    browser.get(posted["Location"], secure=True)
    stage.settled()
    return thief.get(posted["Location"], secure=True)


@attack("replay", "R57")
def the_finishing_page_alone(stage: SamlStage) -> Any:
    browser = stage.browser()
    stage.start(browser)
    return browser.get("/saml/acme/acs/finish/", secure=True)


@attack("replay", "R4", stores_nothing=True)
def an_answer_to_a_request_of_eleven_minutes_ago(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    stage.settled()
    late = saml.request_id("acme", purpose="sign-in", now=time.time() - 700)
    root.set("InResponseTo", late)
    part(root, "SubjectConfirmationData").set("InResponseTo", late)
    return stage.send(browser, stage.sign(root))


@attack("replay", "R4", stores_nothing=True)
def an_answer_to_a_request_from_the_future(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    stage.settled()
    early = saml.request_id("acme", purpose="sign-in", now=time.time() + 700)
    root.set("InResponseTo", early)
    part(root, "SubjectConfirmationData").set("InResponseTo", early)
    return stage.send(browser, stage.sign(root))


@attack(
    "replay",
    "R4",
    stores_nothing=True,
    cases={"another purpose": ("acme", "sign-out"), "another provider": ("other", "sign-in")},
)
def an_answer_to_a_request_of_ours_for(stage: SamlStage, how: tuple[str, str]) -> Any:
    browser, root = stage.ask()
    stage.settled()
    other = saml.request_id(how[0], purpose=how[1])
    root.set("InResponseTo", other)
    part(root, "SubjectConfirmationData").set("InResponseTo", other)
    return stage.send(browser, stage.sign(root))


@attack("replay", "R4 R28", statuses=(302, 403), recorded=False)
def ten_posts_of_one_answer_that_nobody_fetches(stage: SamlStage) -> Any:
    _, root = stage.ask()
    message = packed(stage.sign(root))
    before = Session.objects.count()
    for _ in range(10):
        answer = stage.browser().post("/saml/acme/acs/", {"SAMLResponse": message}, secure=True)
    assert Session.objects.count() - before <= 3
    return answer


# --- In another browser (login CSRF, stolen answers)


@attack("another browser", "R4 R25")
def the_attackers_answer_in_the_victims_browser(stage: SamlStage) -> Any:
    _, root = stage.ask()
    return stage.send(stage.browser(), stage.sign(root))


@attack("another browser", "R4 R25")
def the_attackers_answer_in_a_browser_that_began_a_sign_in_itself(stage: SamlStage) -> Any:
    victim = stage.browser()
    stage.start(victim)
    _, root = stage.ask()
    return stage.send(victim, stage.sign(root))


@attack("another browser", "R4 R25", statuses=HOME_OR_REFUSED, recorded=False)
def the_attackers_answer_in_a_browser_that_is_signed_in(stage: SamlStage) -> Any:
    victim, _ = used(stage)
    attacker, root = stage.ask(name_id="u-0666", attributes={"uid": ["mallory"]})
    del attacker
    return stage.send(victim, stage.sign(root))


@attack("another browser", "R4")
def a_stolen_answer_in_the_thiefs_browser(stage: SamlStage) -> Any:
    _, root = stage.ask()
    thief = stage.browser()
    stage.start(thief)
    return stage.send(thief, stage.sign(root))


@attack("another browser", "R4")
def the_kept_answer_fetched_by_another_browser(stage: SamlStage) -> Any:
    """The cookie to fetch it is stolen, the browser's own session is not."""
    browser, root = stage.ask()
    stage.sign(root)
    posted = browser.post("/saml/acme/acs/", {"SAMLResponse": packed(root)}, secure=True)
    thief = stage.browser()
    for name, morsel in browser.cookies.items():
        if "answer" in name:
            thief.cookies[name] = morsel.value
    return thief.get(posted["Location"], secure=True)


@attack("another browser", "R4 R57")
def a_kept_answer_fetched_at_another_providers_door(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    stage.sign(root)
    browser.post("/saml/acme/acs/", {"SAMLResponse": packed(root)}, secure=True)
    for morsel in browser.cookies.values():
        morsel["path"] = "/"
    return browser.get("/saml/other/acs/finish/", secure=True)


# --- Foreign providers


@attack("foreign provider", "R3 R7")
def the_neighbours_answer_at_this_door(stage: SamlStage) -> Any:
    browser = stage.browser()
    root = stage.other.build(stage.start(browser), attributes=GOOD)
    return stage.send(browser, stage.sign(root, key=stage.other.key))


@attack("foreign provider", "R3 R7", stores_nothing=True)
def the_neighbours_answer_to_its_own_request_at_this_door(stage: SamlStage) -> Any:
    browser, root = stage.ask("other")
    stage.settled()
    return stage.send(browser, stage.sign(root, key=stage.other.key))


@attack("foreign provider", "R3 R7", stores_nothing=True)
def this_providers_answer_at_the_neighbours_door(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    stage.settled()
    return stage.send(browser, stage.sign(root), "other")


@attack("foreign provider", "R3 R7")
def this_providers_answer_to_the_neighbours_request(stage: SamlStage) -> Any:
    browser = stage.browser()
    root = stage.idp.build(stage.start(browser, "other"), attributes=GOOD)
    return stage.send(browser, stage.sign(root), "other")


@attack("foreign provider", "R3 R7")
def the_neighbour_with_this_providers_audience(stage: SamlStage) -> Any:
    browser = stage.browser()
    request = stage.start(browser, "other")
    root = stage.other.build(request, attributes=GOOD, audience=OURS)
    return stage.send(browser, stage.sign(root, key=stage.other.key), "other")


@attack("foreign provider", "R3 R7")
def the_neighbour_with_a_name_qualified_by_this_provider(stage: SamlStage) -> Any:
    browser, root = stage.ask("other")
    part(root, "NameID").set("NameQualifier", stage.idp.entity_id)
    return stage.send(browser, stage.sign(root, key=stage.other.key), "other")


@attack("foreign provider", "R3")
def the_neighbours_assertion_in_this_providers_envelope(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    theirs = stage.other.build(stage.start(stage.browser(), "other"), attributes=GOOD)
    stage.sign(theirs, response=None, key=stage.other.key)
    root.replace(root.find(f"{{{SAML}}}Assertion"), theirs.find(f"{{{SAML}}}Assertion"))
    dsig.sign(root, stage.idp.key)
    return stage.send(browser, root)


@control("foreign provider")
def the_same_name_at_the_neighbour_is_somebody_else(stage: SamlStage) -> Any:
    used(stage)
    browser, root = stage.ask("other")
    return stage.send(browser, stage.sign(root, key=stage.other.key), "other")


@attack("foreign provider", "R53")
def a_provider_that_was_switched_off_meanwhile(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    stage.set(enabled=False)
    return stage.send(browser, stage.sign(root))


@attack("foreign provider", "R33")
def a_provider_whose_metadata_is_past_its_date(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    stage.row.metadata_valid_until = datetime.now(UTC) - timedelta(days=1)
    stage.row.save()
    stage.settled()
    return stage.send(browser, stage.sign(root))


@attack("foreign provider", "R53")
def somebody_who_was_switched_off(stage: SamlStage) -> Any:
    from accounts.models import Person

    browser, _ = used(stage)
    Person.objects.update(is_active=False)
    browser = stage.browser()
    root = stage.idp.build(stage.start(browser), attributes=GOOD)
    stage.settled()
    return stage.send(browser, stage.sign(root))


# --- Where the browser goes afterwards


@control(
    "where it leads",
    cases={
        name: name
        for name in (
            "https://evil.example/",
            "//evil.example/",
            "/\\evil.example/",
            "javascript:alert(1)",
            "/admin/",
            "x" * 5_000,
        )
    },
)
def a_relay_state_that_is_not_followed(stage: SamlStage, relay: str) -> Any:
    browser, root = stage.ask()
    response = stage.post(browser, packed(stage.sign(root)), RelayState=relay)
    assert (response.status_code, response["Location"]) == (302, "/")
    return response


# --- Sign-in that begins at the provider


def unsolicited(stage: SamlStage, **claims: Any) -> etree._Element:
    """An answer that nobody asked for, unsigned."""
    asked = Request("", OURS, ACS, None, False, b"", "")
    root = stage.idp.build(asked, **{"attributes": GOOD, **claims})
    root.attrib.pop("InResponseTo")
    part(root, "SubjectConfirmationData").attrib.pop("InResponseTo")
    return root


def say(browser: Browser, word: str = "yes") -> Any:
    return browser.post("/saml/acme/acs/confirm/", {"answer": word}, secure=True)


def arrive(stage: SamlStage, root: etree._Element, browser: Browser | None = None) -> Any:
    """Send it and say yes to whatever is asked; the last response."""
    browser = browser or stage.browser()
    seen = stage.send(browser, root)
    return say(browser) if seen.status_code == 200 else seen


@control("sign-in from the provider")
def an_answer_that_nobody_asked_for_where_that_is_allowed(stage: SamlStage) -> Any:
    stage.set(idp_initiated=True)
    return arrive(stage, stage.sign(unsolicited(stage)))


@attack("sign-in from the provider", "R4 R28", stores_nothing=True)
def an_answer_that_nobody_asked_for(stage: SamlStage) -> Any:
    return arrive(stage, stage.sign(unsolicited(stage)))


@attack("sign-in from the provider", "R4 R25", statuses=(200,), recorded=False)
def an_arrival_that_nobody_says_yes_to(stage: SamlStage) -> Any:
    stage.set(idp_initiated=True)
    return stage.send(stage.browser(), stage.sign(unsolicited(stage)))


@attack("sign-in from the provider", "R4 R25", statuses=(302,), recorded=False)
def an_arrival_that_somebody_says_no_to(stage: SamlStage) -> Any:
    stage.set(idp_initiated=True)
    browser = stage.browser()
    stage.send(browser, stage.sign(unsolicited(stage)))
    return say(browser, "no")


@attack("sign-in from the provider", "R25", recorded=False)
def a_yes_from_another_site(stage: SamlStage) -> Any:
    stage.set(idp_initiated=True)
    browser = stage.browser()
    browser.handler.enforce_csrf_checks = True
    stage.send(browser, stage.sign(unsolicited(stage)))
    return say(browser)


@attack("sign-in from the provider", "R4 R25")
def a_yes_in_another_browser(stage: SamlStage) -> Any:
    stage.set(idp_initiated=True)
    stage.send(stage.browser(), stage.sign(unsolicited(stage)))
    return say(stage.browser())


@attack("sign-in from the provider", "R4", stores_nothing=True)
def the_same_arrival_twice(stage: SamlStage) -> Any:
    stage.set(idp_initiated=True)
    root = stage.sign(unsolicited(stage))
    arrive(stage, root)
    stage.settled()
    return arrive(stage, root)


@attack("sign-in from the provider", "R4", statuses=HOME_OR_REFUSED, recorded=False)
def the_same_yes_twice(stage: SamlStage) -> Any:
    stage.set(idp_initiated=True)
    browser = stage.browser()
    stage.send(browser, stage.sign(unsolicited(stage)))
    twin = with_cookies_of(stage, browser)
    say(browser)
    stage.settled()
    return say(twin)


@attack("downgrade", "R4")
def a_used_answer_without_the_envelopes_request(stage: SamlStage) -> Any:
    """The envelope is not signed, so its InResponseTo can be cut off; the assertion still names the request."""
    stage.set(idp_initiated=True, response_signed=False)
    browser, root = stage.ask()
    stage.sign(root, response=None)
    stage.send(browser, root)
    stage.settled()
    root.attrib.pop("InResponseTo")
    return arrive(stage, root)


@attack("downgrade", "R4")
def an_unused_answer_without_the_envelopes_request(stage: SamlStage) -> Any:
    stage.set(idp_initiated=True, response_signed=False)
    _, root = stage.ask()
    stage.sign(root, response=None)
    root.attrib.pop("InResponseTo")
    return arrive(stage, root)


@attack("downgrade", "R3 R4")
def an_answer_for_a_browser_that_asked_without_saying_so_inside(stage: SamlStage) -> Any:
    """An arrival's assertion in an envelope that claims to answer a request of ours."""
    stage.set(idp_initiated=True, response_signed=False)
    browser, asked = stage.ask()
    root = stage.sign(unsolicited(stage), response=None)
    asked.replace(asked.find(f"{{{SAML}}}Assertion"), root.find(f"{{{SAML}}}Assertion"))
    return stage.send(browser, asked)


@attack("downgrade", "R4")
def an_empty_request_instead_of_none(stage: SamlStage) -> Any:
    stage.set(idp_initiated=True)
    root = unsolicited(stage)
    root.set("InResponseTo", "")
    part(root, "SubjectConfirmationData").set("InResponseTo", "")
    return arrive(stage, stage.sign(root))


@attack("downgrade", "R4")
def an_arrival_whose_confirmation_names_a_request(stage: SamlStage) -> Any:
    stage.set(idp_initiated=True)
    root = unsolicited(stage)
    part(root, "SubjectConfirmationData").set("InResponseTo", "_made-up")
    return arrive(stage, stage.sign(root))


@attack("downgrade", "R4")
def a_yes_after_it_was_switched_off(stage: SamlStage) -> Any:
    stage.set(idp_initiated=True)
    browser = stage.browser()
    stage.send(browser, stage.sign(unsolicited(stage)))
    stage.set(idp_initiated=False)
    return say(browser)


@attack("downgrade", "R4 R53")
def an_arrival_at_a_provider_that_is_off(stage: SamlStage) -> Any:
    stage.set(idp_initiated=True, enabled=False)
    return arrive(stage, stage.sign(unsolicited(stage)))


def _age(seconds: int) -> Callable[[etree._Element], None]:
    def bend(root: etree._Element) -> None:
        moment = stamp(datetime.now(UTC) - timedelta(seconds=seconds))
        root.set("IssueInstant", moment)
        root.find(f"{{{SAML}}}Assertion").set("IssueInstant", moment)

    return bend


def _long(root: etree._Element) -> None:
    part(root, "SubjectConfirmationData").set(
        "NotOnOrAfter", stamp(datetime.now(UTC) + timedelta(minutes=50))
    )


@attack(
    "sign-in from the provider",
    "R3 R4",
    cases={
        "issued four minutes ago": _age(240),
        "valid for fifty minutes": _long,
        "for another recipient": lambda root: part(root, "SubjectConfirmationData").set(
            "Recipient", "https://evil.example/"
        ),
        "for another destination": lambda root: root.set("Destination", "https://evil.example/"),
        "for another audience": lambda root: setattr(
            part(root, "Audience"), "text", "https://evil.example/"
        ),
        "of a failure": lambda root: part(root, "StatusCode", SAMLP).set(
            "Value", "urn:oasis:names:tc:SAML:2.0:status:Responder"
        ),
    },
)
def an_arrival(stage: SamlStage, bend: Callable[[etree._Element], None]) -> Any:
    stage.set(idp_initiated=True)
    root = unsolicited(stage)
    bend(root)
    return arrive(stage, stage.sign(root))


@attack(
    "sign-in from the provider",
    "R2",
    cases={
        "unsigned": None,
        "signed by a stranger": "stranger",
        "signed by the neighbour": "other",
    },
)
def an_arrival_that_is(stage: SamlStage, who: str | None) -> Any:
    stage.set(idp_initiated=True)
    root = unsolicited(stage)
    if who:
        stage.sign(root, key=getattr(stage, who).key)
    return arrive(stage, root)
