"""What an attack is, what it is played on, and how its end is judged.

    @attack("wrapping", "R2")
    def the_signed_assertion_is_moved_aside(stage): ...
        return stage.post(...)  # the last response

    @attack("conditions", "R3", cases={"no recipient": bend_one, "foreign recipient": bend_two})
    def a_bent_answer(stage, bend): ...

    @control("ECDSA")
    def an_answer_signed_with_p256(stage): ...

An attack succeeds in our eyes when it is refused: see `Outcome.problems`. What it does honestly beforehand (a sign-in
whose answer is replayed later, say) ends with `stage.settled()`: from there on nothing may change.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from html import unescape
from typing import Any

from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.models import Session
from django.core.cache import cache

from accounts import limits, refusals, throttle
from accounts.models import ConsumedMessage, IdentityProvider, Membership, Person
from broker.audit.models import AuditEvent
from tests.accounts import web

CEILING = 5.0
"""Seconds that no single request of an attack may take, on whatever machine."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack. `run` carries it out and returns the last response.

    kind: its class in threats.md, in words. requirements: the R numbers that it tries. door: "start", "acs", "finish",
    "callback", "sls", "back-channel", "refresh". statuses: what the last response may be. recorded: the refusal has to
    stand in the audit log under the number on the page. stores_nothing: not even a session row or a used id may be
    left. ceiling: seconds that no request may take. waits: the provider itself is slow, or a key is waited for, so that
    the time is not Daypass's own; such an attack may have a higher ceiling.
    """

    name: str
    kind: str
    requirements: tuple[str, ...]
    protocol: str
    door: str
    run: Callable[[Any], Any]
    statuses: tuple[int, ...] = tuple(range(400, 500))
    recorded: bool = True
    stores_nothing: bool = False
    ceiling: float = CEILING
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Control:
    """Something honest beside the attacks, which has to work. `subject` and `groups` are who is signed in by it.

    With ends=True it is a logout: there is one session fewer afterwards.
    """

    name: str
    kind: str
    protocol: str
    door: str
    run: Callable[[Any], Any]
    subject: str = ""
    groups: frozenset[str] = frozenset()
    ends: bool = False


ATTACKS: list[Attack] = []
CONTROLS: list[Control] = []


def attack(
    kind: str,
    requirements: str,
    *,
    protocol: str = "saml",
    door: str = "acs",
    cases: Mapping[str, Any] | None = None,
    **more: Any,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Put an attack into the corpus; with `cases`, one for each of them, which gets the case as second argument."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        for name, run in _each(function, cases):
            _must_be_new(name, protocol, ATTACKS)
            ATTACKS.append(
                Attack(name, kind, tuple(requirements.split()), protocol, door, run, **more)
            )
        return function

    return register


def control(
    kind: str,
    *,
    protocol: str = "saml",
    door: str = "acs",
    cases: Mapping[str, Any] | None = None,
    subject: str = "",
    groups: Iterable[str] = ("aws-admins", "aws-readers"),
    ends: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Put a positive control into the corpus. `subject`: "" stands for the one that the stage's provider signs."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        for name, run in _each(function, cases):
            _must_be_new(name, protocol, CONTROLS)
            CONTROLS.append(
                Control(name, kind, protocol, door, run, subject, frozenset(groups), ends)
            )
        return function

    return register


def _each(
    function: Callable[..., Any], cases: Mapping[str, Any] | None
) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    plain = function.__name__.replace("_", " ")
    if cases is None:
        yield plain, function
        return
    for label, case in cases.items():
        yield f"{plain}: {label}", lambda stage, case=case: function(stage, case)


def _must_be_new(name: str, protocol: str, there: Iterable[Attack | Control]) -> None:
    if any(one.name == name and one.protocol == protocol for one in there):
        raise ValueError(f"two {protocol} attacks or controls are called {name!r}")


# --- The stage


@dataclass(frozen=True, slots=True)
class Seen:
    """One request of an attack: what it was answered and how long that took, in seconds."""

    path: str
    status: int
    seconds: float


class Browser(web.Browser):
    """A browser at the canonical origin whose requests are measured."""

    def __init__(self, seen: list[Seen]) -> None:
        self.seen = seen
        super().__init__(headers={"host": "daypass.test"}, raise_request_exception=False)

    def request(self, **environ: Any) -> Any:
        began = time.perf_counter()
        response = super().request(**environ)
        self.seen.append(
            Seen(environ.get("PATH_INFO", ""), response.status_code, time.perf_counter() - began)
        )
        return response


@dataclass(frozen=True)
class World:
    """Everything that an attack must not change."""

    people: tuple[Any, ...]
    memberships: tuple[Any, ...]
    signed_in: frozenset[tuple[str, str]]
    trusted: tuple[Any, ...]
    sessions: int
    consumed: int
    events: int

    @classmethod
    def now(cls) -> World:
        sessions = list(Session.objects.all())
        signed_in = set()
        for session in sessions:
            person = session.get_decoded().get(SESSION_KEY)
            if person is not None:
                signed_in.add((session.session_key, str(person)))
        return cls(
            people=tuple(
                Person.objects.order_by("pk").values_list(
                    "pk",
                    "handle",
                    "name",
                    "email",
                    "attributes",
                    "provider",
                    "subject",
                    "is_active",
                    "is_staff",
                    "is_superuser",
                    "epoch",
                )
            ),
            memberships=tuple(
                Membership.objects.order_by("pk").values_list(
                    "person", "group__provider", "group__key", "confirmed_at"
                )
            ),
            signed_in=frozenset(signed_in),
            trusted=tuple(
                IdentityProvider.objects.order_by("pk").values_list(
                    "pk",
                    "entity_id",
                    "sso_url",
                    "slo_url",
                    "certificates",
                    "issuer",
                    "discovery",
                    "jwks",
                    "enabled",
                    "response_signed",
                )
            ),
            sessions=len(sessions),
            consumed=ConsumedMessage.objects.count(),
            events=AuditEvent.objects.count(),
        )


class Stage:
    """What an attack is played on: browsers whose requests are measured, and the world as it was before.

    A protocol's stage is a subclass with its providers; see `stages`.
    """

    subject = ""
    """Whom the stage's honest provider signs in."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.before: World | None = None

    def browser(self) -> Browser:
        return Browser(self.seen)

    def settled(self) -> None:
        """What happened so far was honest: from here on nothing may change."""
        self.seen.clear()
        self.before = World.now()


STAGES: dict[str, Callable[[], AbstractContextManager[Stage]]] = {}
"""By protocol: what makes a fresh stage, inside a transaction that is undone afterwards."""


def stage_of(protocol: str) -> Callable[[Callable[[], Iterator[Stage]]], Any]:
    """Say how the stage of a protocol is made: a generator that yields one."""

    def register(function: Callable[[], Iterator[Stage]]) -> Any:
        STAGES[protocol] = contextmanager(function)
        return function

    return register


# --- The judgement

TELLTALE = re.compile(
    r"traceback|exception|xmlsec|lxml|libxml|python3-saml|onelogin|joserfc|jwt|openssl|signature|audience|recipient"
    r"|issuer|in ?response ?to|assertion|algorithm|digest|canonical|nonce|certificate|replay|groups",
    re.IGNORECASE,
)
"""Words that would tell a stranger why. The page of a refusal has a number instead."""

REFERENCE = re.compile(r'(?:<strong class="mono">|"reference": ")([0-9A-Z]{8})[<"]')
"""The number, on a page or in an answer to a machine."""


@dataclass(frozen=True)
class Outcome:
    """How an attack or a control ended. `problems` is empty when it ended as it has to."""

    name: str
    status: int
    seconds: float
    """The slowest of its requests."""
    reasons: tuple[tuple[str, str], ...]
    """Code and reason of each refusal as the audit log has them."""
    problems: tuple[str, ...] = field(default=())


def _refusals(since: int) -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(kind="sign_in.refused").order_by("seq")[since:])


def nothing_counted() -> None:
    """Neither in Redis nor in this process: each attack comes as if it were the first."""
    cache.clear()
    throttle.forget()
    refusals.forget()
    limits.forget()


def carry_out(one: Attack) -> Outcome:
    """Play an attack on a fresh stage and judge it. To be called inside a transaction that is undone afterwards."""
    nothing_counted()
    with STAGES[one.protocol]() as stage:
        stage.settled()
        known = AuditEvent.objects.filter(kind="sign_in.refused").count()
        response = one.run(stage)
        after = World.now()
        refusals = _refusals(known)
        assert stage.before is not None
        return Outcome(
            name=one.name,
            status=response.status_code,
            seconds=max((seen.seconds for seen in stage.seen), default=0.0),
            reasons=tuple((row.data["code"], row.data["reason"]) for row in refusals),
            problems=tuple(_problems(one, stage, response, stage.before, after, refusals)),
        )


def _problems(
    one: Attack,
    stage: Stage,
    response: Any,
    before: World,
    after: World,
    refusals: list[AuditEvent],
) -> Iterator[str]:
    if not stage.seen:
        yield "the attack sent nothing"
    if any(seen.status >= 500 and seen.status not in one.statuses for seen in stage.seen):
        yield f"a server error: {[seen.status for seen in stage.seen]}"
    if response.status_code not in one.statuses:
        yield f"the last answer was {response.status_code}"
    for what in ("people", "memberships", "signed_in", "trusted"):
        if getattr(before, what) != getattr(after, what):
            yield f"{what} changed from {getattr(before, what)!r} to {getattr(after, what)!r}"
    if one.stores_nothing and (before.sessions, before.consumed) != (
        after.sessions,
        after.consumed,
    ):
        yield "something was stored"
    slowest = max((seen.seconds for seen in stage.seen), default=0.0)
    if slowest > one.ceiling:
        yield f"a request took {slowest:.1f} s"
    page = visible(response)
    if one.recorded:
        shown = REFERENCE.search(_body(response))
        if shown is None:
            yield "the page has no reference"
        elif shown[1] not in {row.reference for row in refusals}:
            yield "the audit log does not know the reference on the page"
    told = TELLTALE.search(page)
    if told:
        yield f"the page tells of {told[0]!r}"
    for row in refusals:
        if row.data["code"] == "failed":
            yield f"Daypass itself failed: {row.data['reason']}"
        if row.data["reason"] in page:
            yield "the page tells the reason"


def _body(response: Any) -> str:
    return b"".join(response).decode("utf-8", "replace")


def visible(response: Any) -> str:
    """The words of a page, without its markup and its reference number: that is any eight letters, "JWT" among them."""
    body = REFERENCE.sub(" ", _body(response))
    main = re.search(r"<main.*?</main>", body, re.DOTALL)
    return unescape(re.sub(r"<[^>]*>", " ", main[0] if main else body))


def let_in(one: Control) -> Outcome:
    """Play a positive control on a fresh stage and judge it. In a transaction that is undone afterwards."""
    nothing_counted()
    with STAGES[one.protocol]() as stage:
        stage.settled()
        known = AuditEvent.objects.filter(kind="sign_in.refused").count()
        response = one.run(stage)
        after = World.now()
        assert stage.before is not None
        return Outcome(
            name=one.name,
            status=response.status_code,
            seconds=max((seen.seconds for seen in stage.seen), default=0.0),
            reasons=tuple((row.data["code"], row.data["reason"]) for row in _refusals(known)),
            problems=tuple(_obstacles(one, stage, stage.before, after)),
        )


def _obstacles(one: Control, stage: Stage, before: World, after: World) -> Iterator[str]:
    if one.ends:
        if len(after.signed_in) != len(before.signed_in) - 1:
            yield "the session did not end"
        return
    new = after.signed_in - before.signed_in
    if len(new) != 1:
        yield f"{len(new)} sessions were made, not one"
        return
    person = Person.objects.get(pk=next(iter(new))[1])
    subject = one.subject or stage.subject
    if person.subject != subject:
        yield f"{person.subject!r} is signed in, not {subject!r}"
    groups = set(person.memberships.values_list("group__key", flat=True))
    if groups != one.groups:
        yield f"the groups are {sorted(groups)}, not {sorted(one.groups)}"
