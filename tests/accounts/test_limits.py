"""The doors under more than they can take: what is counted, what it costs, and who is turned away for it."""

from __future__ import annotations

import math
import threading
import time
from contextlib import suppress
from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session
from django.urls import reverse
from django.utils import timezone

from accounts import limits, refusals, saml, throttle
from accounts.models import IdentityProvider
from accounts.network import counted_address
from accounts.throttle import Count, allowed
from broker.audit.models import AuditEvent
from broker.errors import SignInRefused
from tests.accounts import web
from tests.accounts.test_break_glass import LOCAL, break_glass, enrol, totp
from tests.accounts.test_idp_initiated import unsolicited

FORM = web.FORM
JUNK = {"SAMLResponse": "anVuaw=="}


@pytest.fixture
def behind_a_proxy(settings):
    settings.DAYPASS_TRUSTED_PROXIES = 1


@pytest.fixture
def no_redis(settings):
    settings.CACHES = {
        "default": settings.CACHES["default"] | {"LOCATION": "redis://127.0.0.1:1/0"}
    }


def knock(path: str = "/saml/acme/acs/", data=JUNK, *, address: str = "192.0.2.1", **more):
    """One message of a stranger, from an address of their choice."""
    return web.browser().post(path, data, secure=True, headers={"X-Forwarded-For": address}, **more)


def within_a_minute() -> None:
    """What follows falls into one minute of the clock."""
    left = 60 - time.time() % 60
    if left < 3:
        time.sleep(left)


def recorded() -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(kind="sign_in.refused").order_by("seq"))


# --- Counting


def test_things_are_counted_for_a_while_and_apart():
    assert [allowed("x", "a", most=2, seconds=60) for _ in range(3)] == [True, True, False]
    assert allowed("x", "b", most=2, seconds=60)
    assert allowed("y", "a", most=2, seconds=60)


def test_several_counts_are_one_step_and_asking_adds_nothing():
    a, b = Count("x", "a", 60), Count("x", "b", 60, by=5)

    assert list(throttle.count(a, b)) == [1, 5]
    assert list(throttle.count(Count("x", "a", 60, by=0), b)) == [1, 10]


def test_what_comes_in_floods_is_told_to_the_others_in_steps():
    each = Count("x", "a", 60)

    assert [throttle.count_in_steps(each) for _ in range(25)] == list(range(1, 26))
    assert throttle.count(Count("x", "a", 60, by=0))[0] == 20
    throttle.count(Count("x", "a", 60, by=70))  # another process
    assert [throttle.count_in_steps(each) for _ in range(6)][-1] == 101


@pytest.mark.usefixtures("no_redis")
def test_without_redis_steps_are_not_counted_twice():
    each = Count("x", "a", 60)

    assert [throttle.count_in_steps(each) for _ in range(25)] == list(range(1, 26))


def test_a_count_ends(settings):
    throttle.count(Count("x", "a", 1))

    shared = throttle.Shared(settings.CACHES["default"]["LOCATION"])

    assert 0 < shared._redis.ttl(Count("x", "a", 1).key) <= 1


@pytest.mark.usefixtures("no_redis")
def test_without_redis_a_process_counts_for_itself():
    assert [allowed("x", "a", most=1, seconds=60) for _ in range(3)] == [True, False, False]
    assert allowed("x", "b", most=1, seconds=60)


def test_a_redis_that_hangs_is_not_waited_for(settings):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.CACHES = {
            "default": {"LOCATION": f"redis://127.0.0.1:{silent.getsockname()[1]}/0"}
        }

        assert [allowed("x", "a", most=1, seconds=60) for _ in range(3)] == [True, False, False]


def test_parallel_attempts_are_counted_one_by_one():
    counted: list[int] = []

    def attempt() -> None:
        counted.extend(throttle.count(Count("x", "a", 60)))

    threads = [threading.Thread(target=attempt) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(counted) == list(range(1, 21))


def test_what_one_process_keeps_has_an_end(monkeypatch):
    monkeypatch.setattr(throttle, "MOST_KEYS", 100)
    own = throttle.Own()

    for n in range(1000):
        own.count([Count("x", str(n), 60)])

    assert len(own._counts) <= 101


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("nonsense", ""),
    ],
)
def test_an_address_is_counted_with_its_network(rf, address, counted):
    assert counted_address(rf.get("/", REMOTE_ADDR=address)) == counted


@pytest.mark.usefixtures("no_redis")
def test_without_redis_the_cache_is_empty_and_nobody_fails():
    from django.core.cache import cache

    cache.set("x", 1)

    assert cache.get("x", "nothing") == "nothing"
    assert cache.add("x", 1)
    assert "x" not in cache
    assert not cache.delete("x")
    assert not cache.touch("x")


# --- What is refused for next to nothing


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/saml/acme/acs/", "POST"),
        ("/sign-in/acme/", "POST"),
        ("/oidc/globex/logout/", "POST"),
    ],
)
def test_another_method_is_answered_with_those_there_are(path, allow):
    answer = web.browser().get(path, secure=True)

    assert (answer.status_code, answer["Allow"]) == (405, allow)


def test_a_message_that_is_too_long_is_refused_unread(saml_row, rf):
    class Unread:
        def read(self, *_: object) -> bytes:
            raise AssertionError("the body was read")

    request = rf.generic("POST", "/saml/acme/acs/", b"", FORM, CONTENT_LENGTH=limits.MESSAGE + 1)
    request.META["wsgi.input"] = request._stream = Unread()

    answer = limits.admit(request, "acme", "acs")

    assert answer.status_code == 413
    assert [event.data["code"] for event in recorded()] == ["too_large"]


def test_a_message_of_unknown_length_is_refused(saml_row):
    answer = knock(data=b"", content_type=FORM, HTTP_TRANSFER_ENCODING="chunked")

    assert answer.status_code == 411


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "application/json", ""])
def test_another_kind_of_message_is_refused(saml_row, kind):
    answer = knock(data=b"SAMLResponse=x", content_type=kind)

    assert answer.status_code == 415


@pytest.mark.parametrize("kind", [FORM + "; charset=utf-8", FORM.upper()])
def test_a_form_may_say_its_charset(saml_row, kind):
    assert knock(data=b"SAMLResponse=x", content_type=kind).status_code == 403


def test_a_form_in_another_charset_is_refused(saml_row):
    assert knock(data=b"SAMLResponse=x", content_type=FORM + "; charset=utf-16").status_code == 400


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("/saml/acme/acs/", JUNK),
        ("/saml/acme/acs/", {}),
        ("/saml/acme/acs/", {"SAMLResponse": "PHg+"}),
    ],
)
def test_junk_is_refused_before_any_session_or_page_is_made(
    saml_row, path, data, django_assert_max_num_queries
):
    knock(path, data)  # draws the page
    services_of_audit = 12

    with django_assert_max_num_queries(1 + services_of_audit):
        answer = knock(path, data)

    assert answer.status_code == 403
    assert not answer.cookies
    assert not Session.objects.exists()
    assert web.reference_of(answer) == recorded()[-1].reference


def test_a_made_up_state_is_refused_without_a_look_into_any_session(oidc_row):
    answer = web.browser().get("/oidc/globex/callback/?code=x&state=made-up", secure=True)

    assert answer.status_code == 403
    assert not hasattr(answer.wsgi_request, "session")
    assert recorded()[-1].data["code"] == "state_unknown"
    assert web.reference_of(answer) == recorded()[-1].reference


def test_a_state_of_one_provider_is_none_of_another():
    state = saml.request_id("globex", purpose="oidc sign-in")

    assert saml.is_our_request_id(state, "globex", purpose="oidc sign-in")
    assert not saml.is_our_request_id(state, "other", purpose="oidc sign-in")
    assert not saml.is_our_request_id(state, "globex", purpose="sign-in")


def test_a_provider_that_is_not_there_has_no_door(db):
    answer = knock("/saml/nobody/acs/")

    assert answer.status_code == 404
    assert not recorded()


def test_another_sites_form_begins_no_sign_in(saml_row):
    for site in ("cross-site", "same-site", "none"):
        answer = web.browser().post("/sign-in/acme/", secure=True, headers={"Sec-Fetch-Site": site})
        assert answer.status_code == 403

    own = web.browser().post(
        "/sign-in/acme/", secure=True, headers={"Sec-Fetch-Site": "same-origin"}
    )
    assert own.status_code == 200


# --- Budgets


def test_a_network_that_sends_junk_is_told_when_to_come_back(saml_row, settings, behind_a_proxy):
    settings.DAYPASS_REFUSALS_PER_ADDRESS = 3

    answers = [knock() for _ in range(5)]

    assert [answer.status_code for answer in answers] == [403, 403, 403, 429, 429]
    assert answers[-1]["Retry-After"] == "60"
    assert "Wait a minute" in answers[-1].content.decode()
    assert knock(address="192.0.2.2").status_code == 403


def test_people_in_that_network_still_sign_in(saml_row, idp, settings):
    """One hostile machine in an office must not lock the office out."""
    settings.DAYPASS_REFUSALS_PER_ADDRESS = 3
    for _ in range(5):
        knock()
    browser = web.browser()

    web.saml_sign_in(browser, idp)

    assert web.is_signed_in(browser)


def test_ten_thousand_people_behind_one_address_may_begin_at_nine(settings):
    """In a quarter of an hour, with as many again who try twice."""
    assert settings.DAYPASS_STARTS_PER_ADDRESS > 10_000 / 15 * 2
    assert settings.DAYPASS_ANSWERS_PER_PROVIDER > 10_000 / 15 * 2


def test_one_address_begins_only_so_many_sign_ins(saml_row, settings, behind_a_proxy):
    settings.DAYPASS_STARTS_PER_ADDRESS = 2

    answers = [knock("/sign-in/acme/", {}) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert knock("/sign-in/acme/", {}, address="192.0.2.2").status_code == 200


def test_junk_never_spends_the_providers_budget(saml_row, idp, settings):
    settings.DAYPASS_ANSWERS_PER_PROVIDER = 1
    for _ in range(5):
        knock()
    browser = web.browser()

    web.saml_sign_in(browser, idp)

    assert web.is_signed_in(browser)


def test_a_provider_has_a_budget_of_its_own(saml_row, idp, settings):
    settings.DAYPASS_ANSWERS_PER_PROVIDER = 1
    web.saml_sign_in(web.browser(), idp)
    browser = web.browser()

    late = web.saml_sign_in(browser, idp)

    assert late.status_code == 503
    assert int(late["Retry-After"]) > 0
    assert not web.is_signed_in(browser)
    assert recorded()[-1].data["code"] == "busy"
    assert web.reference_of(late) == recorded()[-1].reference


def test_one_request_is_not_answered_again_and_again(saml_row, idp):
    """Whoever repeats an answer by the hundred is soon refused as cheaply as junk."""
    answer = idp.answer(web.start(web.browser(), "acme"))
    for _ in range(limits.ANSWERS_TO_ONE_REQUEST):
        knock(data={"SAMLResponse": answer})
    kept = Session.objects.count()

    late = knock(data={"SAMLResponse": answer})

    assert late.status_code == 403
    assert not hasattr(late.wsgi_request, "session")
    assert Session.objects.count() == kept


def test_what_nobody_asked_for_has_a_budget_of_its_own(saml_row, idp, other_idp, settings):
    IdentityProvider.objects.update(idp_initiated=True)
    unasked = unsolicited(other_idp)
    for _ in range(3):
        knock(data={"SAMLResponse": unasked})
    browser = web.browser()

    web.saml_sign_in(browser, idp)

    apart, bad = throttle.count(
        Count("bad-of", "acme unsolicited", 60, by=0), Count("bad-of", "acme", 60, by=0)
    )
    assert (apart, bad) == (3, 0)
    assert web.is_signed_in(browser)


def test_bad_answers_narrow_the_lane_of_their_sender_first():
    for _ in range(limits.BAD_OF_ADDRESS + 1):
        limits.note_bad("acme", "192.0.2.1")

    for _ in range(limits.LANE_OF_ADDRESS):
        limits.spend("acme", "192.0.2.1")
    with pytest.raises(SignInRefused) as refused:
        limits.spend("acme", "192.0.2.1")

    assert refused.value.code == "busy"
    for _ in range(limits.LANE_OF_PROVIDER * 2):
        limits.spend("acme", "192.0.2.2")
        limits.spend("other", "192.0.2.1")


def test_bad_answers_from_everywhere_narrow_the_lane_of_the_provider():
    for n in range(limits.BAD_OF_PROVIDER + 1):
        limits.note_bad("acme", f"192.0.2.{n}")

    for _ in range(limits.LANE_OF_PROVIDER):
        limits.spend("acme", "198.51.100.1")
    with pytest.raises(SignInRefused):
        limits.spend("acme", "198.51.100.1")

    limits.spend("other", "198.51.100.1")


def test_an_answer_with_a_bad_signature_counts_as_bad(saml_row, idp, other_idp):
    browser = web.browser()
    url = web.start(browser, "acme")

    web.post_answer(browser, "acme", other_idp.answer(url))

    here = Count("bad-of-here", "acme\x00127.0.0.1", 60, by=0)
    assert list(throttle.count(here, Count("bad-of", "acme", 60, by=0))) == [1, 1]


def test_a_sign_in_that_works_counts_as_none(saml_row, idp):
    web.saml_sign_in(web.browser(), idp)

    bad, refused = throttle.count(
        Count("bad-of", "acme", 60, by=0), Count("refused", "127.0.0.1", 60, by=0)
    )
    assert (bad, refused) == (0, 0)


def test_answers_that_no_browser_comes_for_narrow_the_lane_of_their_sender_first():
    """However many one network has kept for nobody, a company goes on signing in."""
    for _ in range(limits.BAD_OF_PROVIDER * 3):
        limits.note_kept("acme", "192.0.2.1")
    for _ in range(limits.BAD_OF_PROVIDER):
        limits.note_bad("acme", "192.0.2.1")

    with pytest.raises(SignInRefused):
        for _ in range(limits.LANE_OF_ADDRESS + 1):
            limits.spend("acme", "192.0.2.1")
    for _ in range(limits.LANE_OF_PROVIDER * 2):
        limits.spend("acme", "198.51.100.1")


def test_what_is_not_read_of_one_sender_takes_nothing_from_the_others(settings):
    settings.DAYPASS_ANSWERS_PER_PROVIDER = limits.LANE_OF_ADDRESS + 5
    for _ in range(limits.BAD_OF_ADDRESS + 1):
        limits.note_bad("acme", "192.0.2.1")
    for _ in range(limits.LANE_OF_ADDRESS + 50):
        with suppress(SignInRefused):
            limits.spend("acme", "192.0.2.1")

    for _ in range(5):
        limits.spend("acme", "198.51.100.1")


def test_many_who_come_for_their_answers_are_no_crowd(rf):
    for _ in range(limits.BAD_OF_PROVIDER * 2):
        limits.note_kept("acme", "127.0.0.1")
        with limits.fetched(rf.get("/"), "acme"):
            pass

    for _ in range(limits.LANE_OF_ADDRESS * 2):
        limits.spend("acme", "127.0.0.1")


def test_answers_that_no_browser_comes_for_narrow_the_lane():
    for n in range(limits.BAD_OF_PROVIDER + 1):
        limits.note_kept("acme", f"192.0.2.{n}")

    for _ in range(limits.LANE_OF_PROVIDER):
        limits.spend("acme", "198.51.100.1")
    with pytest.raises(SignInRefused):
        limits.spend("acme", "198.51.100.1")


def test_an_answer_counts_as_kept_until_its_browser_comes(saml_row, idp):
    browser = web.browser()
    kept = Count("kept-of", "acme", 60, by=0)
    answer = idp.answer(web.start(browser, "acme"))
    page = browser.post("/saml/acme/acs/", {"SAMLResponse": answer}, secure=True)
    assert (page.status_code, *throttle.count(kept)) == (302, 1)

    browser.get(page["Location"], secure=True)

    assert list(throttle.count(kept)) == [0]


def test_an_answer_fetched_by_another_browser_counts_as_bad(saml_row, idp):
    browser, other = web.browser(), web.browser()
    answer = idp.answer(web.start(browser, "acme"))
    page = other.post("/saml/acme/acs/", {"SAMLResponse": answer}, secure=True)

    refused = other.get(page["Location"], secure=True)

    assert refused.status_code == 403
    bad, kept = throttle.count(
        Count("bad-of", "acme", 60, by=0), Count("kept-of", "acme", 60, by=0)
    )
    assert (bad, kept) == (1, 0)


@pytest.mark.parametrize(
    ("code", "of_provider", "of_address"),
    [("provider_disabled", 0, 0), ("saml_refused", 1, 1), ("replayed", 0, 1)],
)
def test_only_what_is_bad_of_a_provider_counts_against_it(rf, code, of_provider, of_address):
    limits.note_kept("acme", "127.0.0.1")

    with pytest.raises(SignInRefused), limits.fetched(rf.get("/"), "acme"):
        raise SignInRefused(code=code)

    counts = throttle.count(
        Count("bad-of", "acme", 60, by=0),
        Count("bad-of-here", "acme\x00127.0.0.1", 60, by=0),
        Count("kept-of", "acme", 60, by=0),
    )
    assert list(counts) == [of_provider, of_address, 0]


def test_a_bad_answer_brought_again_counts_against_its_provider_each_time(saml_row, idp, other_idp):
    browser = web.browser()
    answer = other_idp.answer(web.start(browser, "acme"))

    for _ in range(4):
        web.post_answer(browser, "acme", answer)

    counts = throttle.count(
        Count("bad-of", "acme", 60, by=0),
        Count("bad-of-here", "acme\x00127.0.0.1", 60, by=0),
    )
    assert list(counts) == [4, 4]


def test_a_good_answer_brought_several_times_at_once_is_no_bad_one_of_its_provider(saml_row, idp):
    """All are kept, one wins, and the others come when the session that asked has ended."""
    browser, late = web.browser(), web.browser()
    answer = {"SAMLResponse": idp.answer(web.start(browser, "acme"))}
    pages = [each.post("/saml/acme/acs/", answer, secure=True) for each in (browser, late)]
    browser.get(pages[0]["Location"], secure=True)
    assert web.is_signed_in(browser)

    refused = late.get(pages[1]["Location"], secure=True)

    assert refused.status_code == 403
    bad, kept = throttle.count(
        Count("bad-of", "acme", 60, by=0), Count("kept-of", "acme", 60, by=0)
    )
    assert (bad, kept) == (0, 0)


def test_a_good_answer_brought_again_counts_against_its_sender_alone(saml_row, idp):
    browser = web.browser()
    answer = idp.answer(web.start(browser, "acme"))
    web.post_answer(browser, "acme", answer)
    assert web.is_signed_in(browser)

    for _ in range(3):
        web.post_answer(web.browser(), "acme", answer)

    counts = throttle.count(
        Count("bad-of", "acme", 60, by=0),
        Count("bad-of-here", "acme\x00127.0.0.1", 60, by=0),
    )
    assert list(counts) == [0, 3]


def test_one_thread_at_a_time_works_for_a_provider_whose_answers_are_bad(settings, monkeypatch):
    monkeypatch.setattr(limits.Slot, "WAIT", 0.2)
    settings.DAYPASS_WEB_THREADS = 8
    for n in range(limits.FEW_BAD + 1):
        limits.note_bad("acme", f"192.0.2.{n}")
    limits.spend("acme", "198.51.100.1")
    refused = []

    def second() -> None:
        try:
            with limits.Slot("acme"):
                refused.append(False)
        except SignInRefused:
            refused.append(True)

    with limits.Slot("acme"), limits.Slot("other"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()

    assert refused == [True]


# --- The share of the threads


def test_one_provider_takes_half_of_the_threads_and_others_still_get_theirs(settings):
    settings.DAYPASS_WEB_THREADS = 8
    slots = [limits.Slot("acme") for _ in range(4)]
    for slot in slots:
        slot.__enter__()
    ended: list[str] = []

    def one_more() -> None:
        try:
            with limits.Slot("acme"):
                ended.append("worked")
        except SignInRefused as error:
            ended.append(error.code)

    waiting = [threading.Thread(target=one_more) for _ in range(2)]
    for thread in waiting:
        thread.start()
    while limits.Slot._waiting.get("acme") != 2:
        pass
    one_more()  # the third that would wait is turned away at once
    with limits.Slot("globex"):
        assert ended == ["busy"]
    for slot in slots:
        slot.__exit__(None, None, None)
    for thread in waiting:
        thread.join()

    assert ended == ["busy", "worked", "worked"]
    assert not limits.Slot._working
    assert not limits.Slot._waiting


def test_two_threads_are_never_taken_by_sign_in(settings):
    settings.DAYPASS_WEB_THREADS = 8
    slots = [limits.Slot(f"provider-{n}") for n in range(6)]
    for slot in slots:
        slot.__enter__()

    try:
        with pytest.raises(SignInRefused), limits.Slot("provider-7"):
            pass
    finally:
        for slot in slots:
            slot.__exit__(None, None, None)


def test_nobody_waits_for_a_share_for_long(settings, monkeypatch):
    settings.DAYPASS_WEB_THREADS = 3
    monkeypatch.setattr(limits.Slot, "WAIT", 0.05)

    with limits.Slot("acme"), pytest.raises(SignInRefused), limits.Slot("acme"):
        pass

    assert not limits.Slot._working
    assert not limits.Slot._waiting


# --- The record


@pytest.fixture
def however_quick(monkeypatch):
    """What comes within one second is no burst."""
    monkeypatch.setattr(refusals, "AT_ONCE", 1000)


@pytest.mark.usefixtures("however_quick")
def test_strangers_cannot_fill_the_audit_log(saml_row, behind_a_proxy):
    for n in range(200):
        knock(address=f"192.0.2.{n}")

    assert len(recorded()) == refusals.OF_PROVIDER


def test_a_burst_of_strangers_keeps_nobody_from_the_audit_log(saml_row, behind_a_proxy):
    """An event is a write, and there is one writer at a time."""
    began = time.monotonic()
    for n in range(40):
        knock(address=f"192.0.2.{n}")
    seconds = math.ceil(time.monotonic() - began)

    assert refusals.AT_ONCE <= len(recorded()) <= refusals.AT_ONCE * (1 + seconds)


def test_a_burst_of_strangers_hides_no_person(saml_row, idp, other_idp, behind_a_proxy):
    for n in range(refusals.AT_ONCE * 2):
        knock(address=f"192.0.2.{n}")
    browsers = [web.browser() for _ in range(refusals.AT_ONCE + 1)]
    pages = [web.post_answer(b, "acme", other_idp.answer(web.start(b, "acme"))) for b in browsers]

    assert {web.reference_of(page) for page in pages} <= {one.reference for one in recorded()}


@pytest.mark.usefixtures("however_quick")
def test_what_is_not_recorded_alone_is_counted_and_its_number_leads_there(saml_row, behind_a_proxy):
    within_a_minute()
    later = timezone.now() + timedelta(minutes=2)
    answers = [knock(address="192.0.2.1") for _ in range(refusals.OF_ADDRESS + 12)]

    refusals.record_tallies(now=later)

    told = recorded()[-1]
    assert told.data["code"] == "many_refused"
    assert "12 saml_refused" in told.data["reason"]
    assert web.reference_of(answers[-1]) == told.reference
    assert refusals.record_tallies(now=later) == 0


@pytest.mark.usefixtures("no_redis", "however_quick")
def test_without_redis_it_is_counted_as_well(saml_row):
    within_a_minute()
    later = timezone.now() + timedelta(minutes=2)
    for _ in range(refusals.OF_ADDRESS + 5):
        knock()

    refusals.record_tallies(now=later)

    assert "5 saml_refused" in recorded()[-1].data["reason"]


def test_strangers_cannot_hide_the_refusal_of_a_person(saml_row, idp, other_idp, behind_a_proxy):
    for n in range(100):
        knock(address=f"192.0.2.{n}")
    browser = web.browser()

    page = web.post_answer(browser, "acme", other_idp.answer(web.start(browser, "acme")))

    assert recorded()[-1].reference == web.reference_of(page)
    assert recorded()[-1].data["code"] == "saml_refused"


def test_the_quiet_page_says_nothing_of_the_reason(saml_row):
    page = knock().content.decode()

    assert recorded()[-1].data["reason"] not in page
    assert "daypass-place" not in page


# --- Guesses at the break-glass account


@pytest.fixture
def password(db, settings) -> str:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    return break_glass()


def guess(password: str, *, address: str = "192.0.2.1", handle: str = "break-glass"):
    browser = web.browser()
    browser.post(
        LOCAL,
        {"login": handle, "password": password},
        secure=True,
        headers={"X-Forwarded-For": address},
    )
    return browser


def test_guesses_from_one_address_end_and_others_still_come_in(password, behind_a_proxy):
    for _ in range(limits.GUESSES_HERE):
        guess("wrong")

    assert not web.is_signed_in(guess(password))
    assert web.is_signed_in(guess(password, address="192.0.2.2"))


def test_guesses_at_many_accounts_count_for_their_address(password, behind_a_proxy):
    for n in range(limits.GUESSES_FROM):
        guess("wrong", handle=f"somebody-{n}")

    assert not web.is_signed_in(guess(password))


def test_guesses_from_many_addresses_count_for_the_account(password, behind_a_proxy):
    for n in range(limits.GUESSES_AT):
        guess("wrong", address=f"192.0.2.{n}")

    assert not web.is_signed_in(guess(password, address="198.51.100.1"))


@pytest.mark.parametrize("code", [False, True])
def test_one_address_shuts_the_account_to_no_other(rf, behind_a_proxy, code):
    """However often it asks: in an outage of everything else somebody needs this door."""
    crowd = rf.get("/", headers={"X-Forwarded-For": "192.0.2.1"})
    for n in range(limits.PASSWORDS_CHECKED + 5):
        limits.may_guess(crowd, "break-glass" if n % 5 else f"somebody-{n}", code=code)

    someone = rf.get("/", headers={"X-Forwarded-For": "198.51.100.1"})
    assert limits.may_guess(someone, "break-glass", code=code)


def test_success_clears_nothing_of_an_address(password, behind_a_proxy):
    """Whoever knows one password must not buy guesses at another with it."""
    for n in range(limits.GUESSES_FROM - 1):
        guess("wrong", handle=f"somebody-{n}")

    assert web.is_signed_in(guess(password))
    assert not web.is_signed_in(guess(password))


def test_signing_in_often_is_no_guessing(password, behind_a_proxy):
    for _ in range(limits.GUESSES_HERE * 2):
        assert web.is_signed_in(guess(password))


@pytest.mark.usefixtures("no_redis")
def test_without_redis_the_break_glass_account_opens_and_guesses_are_counted(
    password, behind_a_proxy
):
    first = guess(password)
    secret = enrol(first)
    second = guess(password)
    second.post(reverse("mfa_authenticate"), {"code": totp(secret, step=1)}, secure=True)
    assert web.is_signed_in(second)
    for _ in range(limits.GUESSES_HERE):
        guess("wrong", address="192.0.2.2")

    assert not web.is_signed_in(guess(password, address="192.0.2.2"))


def test_guesses_at_a_code_are_counted_and_success_clears_no_address(password):
    first = guess(password)
    secret = enrol(first)
    browser = guess(password)
    there = Count("guesses-from", "127.0.0.1", 300, by=0)
    before = throttle.count(there)[0]
    code = {"code": totp(secret, step=1)}

    browser.post(reverse("mfa_authenticate"), {"code": "000000"}, secure=True)
    browser.post(reverse("mfa_authenticate"), code, secure=True)

    assert web.is_signed_in(browser)
    assert throttle.count(there)[0] == before + 2
    late = guess(password)
    for _ in range(limits.GUESSES_HERE):
        late.post(reverse("mfa_authenticate"), {"code": "000000"}, secure=True)
    page = late.post(reverse("mfa_authenticate"), {"code": totp(secret, step=1)}, secure=True)
    assert "Too many" in page.content.decode()
