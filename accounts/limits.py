"""How much of the doors anybody may have: an early look at every message, and a share of the work for every provider.

The order is what keeps sign-in alive under attack: what a message says of itself (method, size, type), then whether it
can answer something that began here, and only then a provider's budget, its share of the threads, and anything that is
stored or verified. What began here proves it by a keyed hash, so junk costs neither a database row nor the budget of
anybody but its sender, and a network from which junk comes keeps signing its people in. docs/operations.md has the
numbers.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from uuid import UUID

from django.conf import settings
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.http.request import UnreadablePostError
from django.urls import reverse
from django.utils import timezone

from accounts import early, refusals, saml, throttle
from accounts.early import MESSAGE
from accounts.models import IdentityProvider, Protocol
from accounts.network import counted_address
from accounts.throttle import Count
from broker.errors import DaypassError, SignInRefused

Handler = Callable[[HttpRequest], HttpResponse]

ANSWERS_TO_ONE_REQUEST = 20
"""How often answers to the same request are looked at; the second time is somebody who went back in the browser."""

BAD_OF_ADDRESS, BAD_OF_PROVIDER = 60, 60
"""Refused answers in a minute that began here, after which an address, or a whole provider, gets the narrow lane."""

FEW_BAD = 10
"""Refused answers in a minute after which one thread of a process at a time works for that provider."""

LANE = 10
"""Seconds of the narrow lane's window."""

LANE_OF_ADDRESS, LANE_OF_PROVIDER = 10, 10
"""Answers in that window which are still read."""

WAIT_A_MINUTE = "Too many attempts from your network. Wait a minute and try again."
BUSY = "Many sign-ins are coming in at once. Wait a few seconds and try again."
NOT_SIGNED_IN = "Try again. If it happens again, ask for help and give the reference below."

NOT_RELAYED = (
    "Daypass asked your sign-in service what it says to AWS about you, and cannot use the answer. Open the role once "
    "more. If this happens again, ask for help and give the reference below."
)

FORM = "application/x-www-form-urlencoded"


# --- The doors


@dataclass(frozen=True, slots=True)
class Door:
    """What a door takes. proof: whether a message can answer something that began here; None where there is no such."""

    protocol: str
    methods: tuple[str, ...]
    proof: Callable[[HttpRequest, str], bool] | None = None


def _answers_our_request(request: HttpRequest, slug: str) -> bool:
    claimed = saml.in_response_to(request.POST.get("SAMLResponse", ""))
    if not claimed:
        known = _providers.find(slug)
        return known is not None and known.idp_initiated
    request.answers = claimed  # type: ignore[attr-defined]  # for the budget of this one request
    return saml.is_our_request_id(claimed, slug, purpose="sign-in")


def _answered_too_often(request: HttpRequest) -> bool:
    answers: str = getattr(request, "answers", "")
    counted = Count("answers-to", answers, 600)
    if not answers or throttle.count(counted)[0] <= ANSWERS_TO_ONE_REQUEST:
        return False
    early.wear_out(answers)
    return True


def _has_our_state(request: HttpRequest, slug: str) -> bool:
    request.answers = request.GET.get("state", "")  # type: ignore[attr-defined]
    return saml.is_our_request_id(request.GET.get("state", ""), slug, purpose="oidc sign-in")


def _has_something_waiting(request: HttpRequest, slug: str) -> bool:
    """A cookie of ours: for what waits, or of a session, whose person goes home from here; or we sent it here so."""
    from accounts.views import ANSWER_COOKIE, ARRIVAL_COOKIE

    ours = (ANSWER_COOKIE, ARRIVAL_COOKIE, settings.SESSION_COOKIE_NAME)
    return any(name in request.COOKIES for name in ours) or bool(request.GET)


def _answers_our_relay(request: HttpRequest, slug: str) -> bool:
    """The cookie that whoever asked for an answer for AWS was given; it comes along with the post."""
    from accounts.views.relay import PURPOSE, RELAY_COOKIE

    request.answers = request.COOKIES.get(RELAY_COOKIE, "")  # type: ignore[attr-defined]
    return saml.is_our_request_id(request.answers, slug, purpose=PURPOSE)  # type: ignore[attr-defined]


def _has_a_relay_waiting(request: HttpRequest, slug: str) -> bool:
    from accounts.views.relay import RELAY_ANSWER_COOKIE

    return RELAY_ANSWER_COOKIE in request.COOKIES or settings.SESSION_COOKIE_NAME in request.COOKIES


DOORS = {
    "start": Door("", ("POST",)),
    "acs": Door(Protocol.SAML, ("POST",), _answers_our_request),
    "finish": Door(Protocol.SAML, ("GET",), _has_something_waiting),
    "confirm": Door(Protocol.SAML, ("GET", "HEAD", "POST"), _has_something_waiting),
    "sls": Door(Protocol.SAML, ("GET", "POST")),
    "aws": Door("", ("POST",), _answers_our_relay),
    "aws-finish": Door("", ("GET",), _has_a_relay_waiting),
    "callback": Door(Protocol.OIDC, ("GET",), _has_our_state),
    "back-channel": Door(Protocol.OIDC, ("POST",)),
}

_ADDRESSES = re.compile(
    r"/saml/(?P<saml>[-a-zA-Z0-9_]+)/(?P<saml_door>acs|acs/finish|acs/confirm|sls|aws|aws/finish)/"
    r"|/oidc/(?P<oidc>[-a-zA-Z0-9_]+)/(?P<oidc_door>callback|logout)/"
    r"|/sign-in/(?P<start>(?!local/|test/)[-a-zA-Z0-9_]+)/"
)
_NAMES = {
    "acs/finish": "finish",
    "acs/confirm": "confirm",
    "aws/finish": "aws-finish",
    "logout": "back-channel",
}


def door_of(path: str) -> tuple[str, str] | None:
    """The slug and the door that a path leads to, None for every other page."""
    found = _ADDRESSES.fullmatch(path)
    if found is None:
        return None
    if found["start"]:
        return found["start"], "start"
    name = found["saml_door"] or found["oidc_door"]
    return found["saml"] or found["oidc"], _NAMES.get(name, name)


def doors(get_response: Handler) -> Handler:
    """The middleware: ask `admit` before anything else is done for a message at a door."""

    def middleware(request: HttpRequest) -> HttpResponse:
        found = door_of(request.path_info)
        if found is None:
            return get_response(request)
        refusals.record_own_tallies()
        refused = admit(request, *found)
        if refused is None:
            return get_response(request)
        # What comes next comes on another connection, and to whichever process has the least to do (broker/serving.py).
        request.META["daypass.last_answer"] = True
        return refused

    return middleware


def admit(request: HttpRequest, slug: str, door: str) -> HttpResponse | None:
    """Look at a message for as little as that costs: the answer that refuses it, or None to go on."""
    rule = DOORS[door]
    if request.method not in rule.methods:
        return HttpResponseNotAllowed(rule.methods)
    own_form = door in ("start", "confirm") and request.method == "POST"
    # A provider's server is answered by the view, in its own words; what is unfit is not read there either.
    refusal = None if door == "back-channel" else _unfit(request)
    if refusal is None and own_form:
        refusal = _from_elsewhere(request)
    if refusal is None and door == "start":
        began = Count("begun", counted_address(request), 60)
        if throttle.count(began)[0] > settings.DAYPASS_STARTS_PER_ADDRESS:
            return too_many(slug)
        return None
    if refusal is None and rule.proof is not None:
        try:
            refusal = _not_to_be_read(request, slug, door, rule.proof)
        except UnreadablePostError:
            return HttpResponse(status=400)
        if refusal is None:
            return None
    if refusal is None:
        spent = Count("refused", counted_address(request), 60, by=0)
        if throttle.count_in_steps(spent) > settings.DAYPASS_REFUSALS_PER_ADDRESS:
            return too_many(slug)
        return None
    return _refuse(request, slug, door, refusal)


def _not_to_be_read(
    request: HttpRequest, slug: str, door: str, proof: Callable[[HttpRequest, str], bool]
) -> _Refusal | None:
    """What speaks against reading a message: it answers nothing of ours, or the provider's budget is spent."""
    try:
        if not proof(request, slug) or _answered_too_often(request):
            return _NOTHING_OF_OURS[door]
        if door in ("acs", "aws", "callback"):
            spend(_budget(request, slug), counted_address(request))
    except SignInRefused as error:
        status = 503 if error.code == "busy" else 403
        return _Refusal(status, error.code, error.why)
    except (BadRequest, SuspiciousOperation) as error:
        return _Refusal(400, "unreadable", f"The form cannot be read: {error}")
    return None


def _budget(request: HttpRequest, slug: str) -> str:
    """What nobody asked for is counted apart, so that it cannot use up what those get who began here."""
    return slug if getattr(request, "answers", "") else f"{slug} unsolicited"


@dataclass(frozen=True, slots=True)
class _Refusal:
    status: int
    code: str
    reason: str


_NOTHING_OF_OURS = {
    "acs": _Refusal(
        403,
        "unsolicited",
        "The response answers no request of ours, or one that is more than ten minutes old, or was sent again and "
        "again. Sign-in begins at Daypass: remove the application's link at the provider, or let it point at the "
        "Daypass address. Or let sign-in begin at this provider, in its settings here.",
    ),
    "callback": _Refusal(
        403,
        "state_unknown",
        "Daypass did not begin this sign-in, or began it more than ten minutes ago.",
    ),
    "aws": _Refusal(
        403,
        "unsolicited",
        "This browser asked for no answer for AWS, or more than ten minutes ago. Answers for AWS are asked for in "
        "Daypass: let people begin there, and not at the application's link.",
    ),
    "aws-finish": _Refusal(403, "state_unknown", "There is no answer for AWS waiting."),
    "finish": _Refusal(403, "state_unknown", "There is no answer waiting for this browser."),
    "confirm": _Refusal(403, "state_unknown", "There is no arrival waiting for this browser."),
}


def _unfit(request: HttpRequest) -> _Refusal | None:
    """What a message's headers already say against it. Nothing of its body has been read by then."""
    if request.method != "POST":
        return None
    if "chunked" in request.META.get("HTTP_TRANSFER_ENCODING", "").lower():
        return _Refusal(411, "no_length", "The message does not say how long it is.")
    try:
        length = int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return _Refusal(400, "no_length", "The message's length is no number.")
    if length > MESSAGE:
        return _Refusal(
            413,
            "too_large",
            f"The message has {length} bytes; {MESSAGE} is the most that is read.",
        )
    if length and request.content_type != FORM:
        return _Refusal(415, "wrong_type", "The message is not a form as browsers send it.")
    return None


def _from_elsewhere(request: HttpRequest) -> _Refusal | None:
    """A sign-in begins on our own page. Where a browser does not say where a form was, the form's token does."""
    site = request.META.get("HTTP_SEC_FETCH_SITE")
    if site is not None and site != "same-origin":
        return _Refusal(403, "foreign_start", "Another site's page tried to begin a sign-in.")
    return None


def _refuse(request: HttpRequest, slug: str, door: str, refusal: _Refusal) -> HttpResponse:
    provider, rule = _providers.find(slug), DOORS[door]
    if provider is None or rule.protocol not in ("", provider.protocol):
        throttle.count_in_steps(Count("refused", counted_address(request), 60))
        return refusals.nothing_here()
    recorded = refusals.record(
        request, provider, code=refusal.code, reason=refusal.reason, proven=False
    )
    wait = recorded.of_address > settings.DAYPASS_REFUSALS_PER_ADDRESS
    if recorded.shared and refusal.status in (403, 413, 503):
        early.mark(
            request.META,
            slug,
            door,
            429 if wait else refusal.status,
            asked_for=not provider.idp_initiated,
        )
    if wait:
        return _wait(recorded.reference)
    busy = refusal.status == 503
    relaying = door in ("aws", "aws-finish")
    return refusals.page(
        BUSY if busy else NOT_RELAYED if relaying else NOT_SIGNED_IN,
        reference=recorded.reference,
        again="" if relaying else reverse("sign_in") + "?stay=1",
        relaying=relaying,
        status=refusal.status,
        retry_after=LANE if busy else 0,
    )


def too_many(slug: str) -> HttpResponse:
    """An address that used up its budget: when to come back, and the number of the event that counts all of them."""
    return _wait(refusals.tally(_providers.find(slug), code="too_many", now=timezone.now()))


def _wait(reference: str) -> HttpResponse:
    return refusals.page(
        WAIT_A_MINUTE,
        reference=reference,
        again=reverse("sign_in") + "?stay=1",
        status=429,
        retry_after=60,
    )


# --- A provider's budget


@contextmanager
def turn(request: HttpRequest, slug: str) -> Iterator[None]:
    """Do a door's work within its provider's share. Raises SignInRefused ("busy").

    A refusal that leaves the `with` counts as a bad answer when it was one to a sign-in that began here.
    """
    found = door_of(request.path_info)
    door = found[1] if found else ""
    with nullcontext() if door == "start" else Slot(slug):  # a start waits for nobody
        try:
            yield
        except DaypassError as error:
            if door in ("acs", "aws", "callback") and error.code not in _NOT_BAD:
                note_bad(_budget(request, slug), counted_address(request))
            raise


_OUR_OWN = (
    "busy",
    "key_unavailable",
    "provider_disabled",
    "provider_unavailable",
    "xml_room_unavailable",
)
_NOT_BAD = (*_OUR_OWN, "answered", "replayed", "state_unknown")
"""Refusals that do not say that a provider's answer was bad."""


def spend(budget: str, address: str) -> None:
    """Take one answer from a provider's budget. Raises SignInRefused ("busy") when there is nothing left of it."""
    here = f"{budget}\0{address}"
    answers, bad, bad_here, kept = throttle.count(
        Count("answers", budget, 60),
        Count("bad-of", budget, 60, by=0),
        Count("bad-of-here", here, 60, by=0),
        Count("kept-of", budget, 60, by=0),
    )
    if bad > FEW_BAD:
        Slot.narrow(budget, seconds=LANE)
    narrow = bad_here > BAD_OF_ADDRESS and (
        throttle.count(Count("lane-here", here, LANE))[0] > LANE_OF_ADDRESS
    )
    if narrow:  # what is not read of one sender takes nothing from the others
        throttle.count(Count("answers", budget, 60, by=-1))
    shut = answers > settings.DAYPASS_ANSWERS_PER_PROVIDER
    if not narrow and bad + kept > BAD_OF_PROVIDER:
        narrow = throttle.count(Count("lane", budget, LANE))[0] > LANE_OF_PROVIDER
        shut = shut or narrow
    if shut:
        early.shut(budget)
    if narrow or shut:
        raise SignInRefused(
            code="busy",
            cause="More answers came for this provider than are read, because many before were refused."
            if narrow
            else "More answers came for this provider in a minute than DAYPASS_ANSWERS_PER_PROVIDER.",
            remedy="See the refusals before this one: a provider whose settings changed, or somebody trying.",
        )


def note_bad(budget: str, address: str) -> None:
    """An answer to a sign-in that began here was refused: it counts against its sender first, then the provider."""
    here = throttle.count(Count("bad-of-here", f"{budget}\0{address}", 60))[0]
    if here <= BAD_OF_ADDRESS:
        throttle.count(Count("bad-of", budget, 60))


def note_replay(slug: str, address: str, answers: str) -> None:
    """An answer came to a request that was answered before. Where that answer was a good one, this says nothing of the
    provider and counts against its sender alone: a double click, or a browser that went back, attacks no company.
    """
    spoilt = bool(answers) and throttle.count(Count("spoilt", answers, 600, by=0))[0]
    if spoilt:
        note_bad(slug, address)
    else:
        throttle.count(Count("bad-of-here", f"{slug}\0{address}", 60))


def note_kept(slug: str, address: str) -> None:
    """An answer is kept for the browser to come for it. Of those that no browser comes for, only so many are.

    Until then it counts like a bad one: against its sender first, then the provider.
    """
    here = throttle.count(Count("bad-of-here", f"{slug}\0{address}", 60))[0]
    if here <= BAD_OF_ADDRESS:
        throttle.count(Count("kept-of", slug, 60))


@contextmanager
def fetched(request: HttpRequest, slug: str, answers: str = "") -> Iterator[None]:
    """Read an answer that was kept, in the browser that came for it. A refusal that leaves the `with` was a bad one.

    answers: the id of the request that it answers, whose further answers count like the first.
    """
    here = throttle.count(
        Count("bad-of-here", f"{slug}\0{counted_address(request)}", 60, by=-1),
    )[0]
    if here < BAD_OF_ADDRESS:
        throttle.count(Count("kept-of", slug, 60, by=-1))
    try:
        yield
    except DaypassError as error:
        if error.code == "replayed":
            note_replay(slug, counted_address(request), answers)
        elif error.code not in _OUR_OWN:
            _note_spoilt(request, slug, answers)
        raise
    except PermissionDenied:
        _note_spoilt(request, slug, answers)
        raise


def _note_spoilt(request: HttpRequest, slug: str, answers: str) -> None:
    note_bad(slug, counted_address(request))
    if answers:
        throttle.count(Count("spoilt", answers, 600))


# --- Guesses at the break-glass account

GUESSES_HERE, GUESSES_FROM, GUESSES_AT, GUESSES_AT_A_CODE = 5, 20, 30, 10
"""In five minutes: at one account from one address, from one address, at one account's password, at one's codes."""

PASSWORDS_CHECKED = 50
"""In ten seconds, by all processes: checking one is slow on purpose."""


def may_guess(request: HttpRequest, account: str, *, code: bool = False) -> bool:
    """Count a password or a code before it is looked at; False when there were too many. Success clears nothing but
    its own count at the account: what an address has tried stays (threats.md R54)."""
    address = counted_address(request)
    here, sent = throttle.count(*_guesses(account, address), Count("guesses-from", address, 300))
    if here > GUESSES_HERE or sent > GUESSES_FROM:
        return False  # what is not looked at is no guess: one address shuts the account to no other
    at, checked = throttle.count(
        Count("guesses-at", account, 300), Count("passwords", "", 10, by=0 if code else 1)
    )
    most = GUESSES_AT_A_CODE if code else GUESSES_AT
    return at <= most and (code or checked <= PASSWORDS_CHECKED)


def guessed_right(request: HttpRequest, account: str) -> None:
    """It was no guess: it does not count against the account."""
    address = counted_address(request)
    throttle.count(*_guesses(account, address, by=-1), Count("guesses-at", account, 300, by=-1))


def _guesses(account: str, address: str, by: int = 1) -> tuple[Count, ...]:
    return (Count("guesses", f"{account}\0{address}", 300, by=by),)


# --- A provider's share of the threads


class Slot:
    """A share in this process's threads for one provider's work: `with Slot(slug): ...`

    At most half of the threads work for one provider at once, or a single one while its answers keep being bad, and a
    quarter wait for that, for a short while; and two threads are kept free of all such work. Raises SignInRefused
    ("busy") instead of waiting longer.
    """

    WAIT = 3.0
    """Seconds."""

    _changed = threading.Condition()
    _working: dict[str, int] = {}
    _waiting: dict[str, int] = {}
    _narrow: dict[str, float] = {}

    @classmethod
    def narrow(cls, slug: str, *, seconds: float) -> None:
        """For so long, one thread at a time works for this provider."""
        cls._narrow[slug] = time.monotonic() + seconds

    def __init__(self, slug: str) -> None:
        self.slug = slug

    def __enter__(self) -> Slot:
        threads = settings.DAYPASS_WEB_THREADS
        working, waiting = self._working, self._waiting
        until = time.monotonic() + self.WAIT
        with self._changed:
            if self._room(threads):
                self._take()
                return self
            held = sum(working.values()) + sum(waiting.values())
            if waiting.get(self.slug, 0) >= max(1, threads // 4) or held >= max(2, threads - 2):
                raise self._busy()
            waiting[self.slug] = waiting.get(self.slug, 0) + 1
            try:
                while not self._room(threads):
                    left = until - time.monotonic()
                    if left <= 0 or not self._changed.wait(left):
                        raise self._busy()
                self._take()
            finally:
                _less(waiting, self.slug)
        return self

    def _room(self, threads: int) -> bool:
        mine, all_of_them = self._working.get(self.slug, 0), sum(self._working.values())
        narrow = self._narrow.get(self.slug, 0.0) > time.monotonic()
        return mine < (1 if narrow else max(1, threads // 2)) and all_of_them < max(1, threads - 2)

    def _take(self) -> None:
        self._working[self.slug] = self._working.get(self.slug, 0) + 1

    def _busy(self) -> SignInRefused:
        return SignInRefused(
            code="busy",
            cause=f"All threads that may work for {self.slug} in this process were taken.",
            remedy="If the provider is slow, that is the cause; if there are many people, run more web processes.",
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            _less(self._working, self.slug)
            self._changed.notify_all()


def _less(counts: dict[str, int], key: str) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]


# --- Which providers there are, for messages that nothing is known of


@dataclass(frozen=True, slots=True)
class _Known:
    pk: UUID
    slug: str
    name: str
    protocol: str
    idp_initiated: bool


class _Providers:
    """The providers by slug, read anew for every message, until that is twenty times within a second.

    Only what refuses, and what is looked at again by the view, is decided by it.
    """

    READS = 20

    def __init__(self) -> None:
        self._found: dict[str, _Known] = {}
        self._second = 0
        self._reads = 0

    def find(self, slug: str) -> _Known | None:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._reads = second, 0
        if self._reads < self.READS:
            self._reads += 1
            rows = IdentityProvider.objects.order_by().values_list(
                "pk", "slug", "name", "protocol", "idp_initiated"
            )
            self._found = {row[1]: _Known(*row) for row in rows}
        return self._found.get(slug)

    def forget(self) -> None:
        self._second = 0


_providers = _Providers()


def forget() -> None:
    """Read anew which providers there are, at the next message, and whose answers are bad."""
    _providers.forget()
    Slot._narrow.clear()
    early.forget()
