"""Device codes: a client waits, a person types its code and lets it in, and the client gets its tokens."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F
from django.views.decorators.debug import sensitive_variables

from accounts import throttle
from accounts.identity import Principal
from accounts.network import counted
from accounts.throttle import Count
from broker.audit.rules import Kind
from broker.audit.services import Subject, record
from broker.awssso import queries, rules
from broker.awssso.models import DeviceRequest, Terminal
from broker.awssso.registrations import Registration
from broker.awssso.services.common import (
    Asker,
    NotAllowed,
    actor_of,
    allowed,
    invalid,
    network_allowed,
)
from broker.awssso.services.holding import unusable_because
from broker.awssso.services.letting import LetIn, let_in
from broker.awssso.services.tokens import Tokens, give_pair
from broker.awssso.wire import Failure, Fault, WireError
from broker.errors import BadInput
from broker.sealing import derived_keys

DEVICE_LIFE = timedelta(minutes=10)
DEVICE_PATIENCE = timedelta(minutes=1)
"""For so long after its end a code that was approved in time is still collected: clients ask every few seconds."""

INTERVAL = 5
"""Seconds between two polls."""

WRONG_CODES_SECONDS = 600
WRONG_CODES_OF_SESSION, WRONG_CODES_OF_PERSON = 5, 10
WRONG_CODES_OF_ADDRESS, WRONG_CODES_OF_ALL = 30, 300
"""Codes that nobody waits for, typed within ten minutes, after which no more are looked at."""

NO_SUCH_CODE = (
    "No computer waits for this code. Compare it with what the terminal shows. A code is good for ten minutes, once; "
    "if it is older, begin again in the terminal."
)


@dataclass(frozen=True, slots=True)
class DeviceStarted:
    device_code: str = field(repr=False)
    user_code: str = field(repr=False)
    expires_in: int
    interval: int


@sensitive_variables()
def start_device(registration: Registration, asker: Asker, *, now: datetime) -> DeviceStarted:
    """A code for a client to show, and one for it to ask with. Raises WireError (UnauthorizedClientException)."""
    for number, policy in enumerate(policies := queries.policies_in_force(), 1):
        try:
            allowed(policy, Terminal.Kind.SSO, Terminal.Flow.DEVICE)
            network_allowed(policy, asker.address)
            break
        except NotAllowed as refused:
            if number == len(policies):
                raise WireError(Failure(Fault.UNAUTHORIZED_CLIENT, refused.message)) from None
    device_code = rules.new_token("device")
    for _ in range(5):
        user_code = rules.new_user_code()
        try:
            with transaction.atomic():
                DeviceRequest.objects.create(
                    device_digest=rules.digest(device_code),
                    user_code_digest=_user_code_digests(user_code)[0],
                    client_name=registration.name,
                    client_digest=registration.digest,
                    user_agent=rules.clean(asker.user_agent, 200),
                    asked_from=asker.address or None,
                    created_at=now,
                    expires_at=now + DEVICE_LIFE,
                    interval=INTERVAL,
                )
        except IntegrityError:  # somebody else's code, one time in millions
            continue
        return DeviceStarted(device_code, user_code, int(DEVICE_LIFE.total_seconds()), INTERVAL)
    raise WireError(Failure(Fault.INTERNAL_SERVER, "No code could be found. Try again."))


def room_for_device(*, most: int) -> None:
    """Count one more device code for everybody. Raises WireError when it is more than `most` within its life."""
    seconds = int(DEVICE_LIFE.total_seconds())
    if not throttle.allowed("device-codes", "", most=most, seconds=seconds):
        raise WireError(
            Failure(
                Fault.SLOW_DOWN,
                "Very many computers ask for codes right now. Wait a few minutes and try again.",
                retry_after=60,
            )
        )


@sensitive_variables("user_code")
def find_device(
    user_code: str, principal: Principal, asker: Asker, *, now: datetime, session: str = ""
) -> DeviceRequest:
    """The client that waits for this code. Wrong codes are counted: of the session, person, network, and of all.

    session: names the browser session. Raises BadInput for a code that nobody waits for, NotAllowed.
    """
    policy = queries.policy_of(principal.proof.provider_id)
    allowed(policy, Terminal.Kind.SSO, Terminal.Flow.DEVICE)
    network_allowed(policy, asker.address)
    code = rules.read_user_code(user_code)
    if code is None:
        raise BadInput(
            "No code looks like that: it has eight letters, never A, E, I, O, U or Y. Compare it with the terminal."
        )
    tries = [
        (
            Count("user-code-of-session", session or str(principal.person_id), WRONG_CODES_SECONDS),
            WRONG_CODES_OF_SESSION,
        ),
        (
            Count("user-code-of-person", str(principal.person_id), WRONG_CODES_SECONDS),
            WRONG_CODES_OF_PERSON,
        ),
        (
            Count("user-code-of-address", counted(asker.address), WRONG_CODES_SECONDS),
            WRONG_CODES_OF_ADDRESS,
        ),
        (Count("user-code-of-all", "", WRONG_CODES_SECONDS), WRONG_CODES_OF_ALL),
    ]  # counted before the code is looked at, so that many at once count as many
    for each, most in tries:
        if throttle.count(each)[0] > most:  # and no wider, or one person would spend everybody's
            raise NotAllowed(
                "Wait ten minutes, then begin again in the terminal.",
                code="too_many_codes",
            )
    found = DeviceRequest.objects.filter(
        user_code_digest__in=_user_code_digests(code),
        state=DeviceRequest.State.WAITING,
        expires_at__gt=now,
    ).first()
    if found is None:
        raise BadInput(NO_SUCH_CODE)
    throttle.count(*(Count(each.what, each.who, each.seconds, by=-1) for each, _ in tries))
    return found


def approve_device(
    request_id: UUID,
    principal: Principal,
    asker: Asker,
    *,
    line: str,
    relay: str,
    browser_ends: datetime,
    now: datetime,
) -> Terminal:
    """Let the waiting client in, as this person. Raises BadInput when it was answered or is over, NotAllowed."""
    policy = queries.policy_of(principal.proof.provider_id)
    allowed(policy, Terminal.Kind.SSO, Terminal.Flow.DEVICE)
    network_allowed(policy, asker.address)
    with transaction.atomic():
        request = _answer(request_id, DeviceRequest.State.APPROVED, now)
        terminal = let_in(
            principal,
            LetIn(
                kind=Terminal.Kind.SSO,
                flow=Terminal.Flow.DEVICE,
                client_name=request.client_name,
                client_digest=request.client_digest,
                asker=Asker(request.asked_from or "", request.user_agent),
            ),
            line=line,
            relay=relay,
            browser_ends=browser_ends,
            now=now,
        )
        DeviceRequest.objects.filter(pk=request.pk).update(terminal=terminal)
    return terminal


def deny_device(request_id: UUID, principal: Principal, asker: Asker, *, now: datetime) -> None:
    """Refuse the waiting client: it is told so. Recorded. Raises BadInput when it was answered or is over."""
    with transaction.atomic():
        request = _answer(request_id, DeviceRequest.State.DENIED, now)
        record(
            Kind.TERMINAL_DENIED,
            actor=actor_of(principal),
            subject=Subject("person", str(principal.person_id)),
            data={
                "flow": str(Terminal.Flow.DEVICE),
                "client": request.client_name,
                "user_agent": request.user_agent,
                "asked_from": request.asked_from or "",
            },
            address=asker.address,
            at=now,
        )


def _answer(request_id: UUID, state: DeviceRequest.State, now: datetime) -> DeviceRequest:
    answered = DeviceRequest.objects.filter(
        pk=request_id, state=DeviceRequest.State.WAITING, expires_at__gt=now
    ).update(state=state)
    if not answered:
        raise BadInput(
            "That computer does not wait any more: it was answered before, or its ten minutes are over. Run the "
            "command again for a new code.",
            code="not_waiting",
        )
    return DeviceRequest.objects.get(pk=request_id)


@sensitive_variables("device_code")
def poll_device(device_code: str, *, client_digest: str, asker: Asker, now: datetime) -> Terminal:
    """The terminal that was let in by a device code, for the first who asks after that.

    Raises WireError: pending, slow down, expired, denied, or InvalidGrantException.
    """
    with transaction.atomic():
        found = _poll(device_code, client_digest, asker, now)
    if isinstance(found, WireError):
        raise found
    return found


@sensitive_variables()
def exchange_device_code(
    device_code: str, *, client_digest: str, asker: Asker, now: datetime
) -> Tokens:
    """`poll_device` and `give_tokens` in one step, so that nothing comes between. Raises WireError."""
    with transaction.atomic():
        found = _poll(device_code, client_digest, asker, now)
        tokens = found if isinstance(found, WireError) else give_pair(found, now)
    if isinstance(tokens, WireError):
        raise tokens
    return tokens


@sensitive_variables("device_code")
def _poll(
    device_code: str, client_digest: str, asker: Asker, now: datetime
) -> Terminal | WireError:
    request = (
        DeviceRequest.objects.select_for_update(of=("self",))
        .filter(device_digest=rules.digest(device_code))
        .first()
    )
    if request is None or request.client_digest != client_digest:
        return invalid("This device code is not known. Begin again with `aws sso login`.")
    approved = request.state == DeviceRequest.State.APPROVED
    if now >= request.expires_at + (DEVICE_PATIENCE if approved else timedelta()):
        return WireError(
            Failure(
                Fault.EXPIRED_TOKEN,
                "Nobody approved this sign-in within ten minutes. Begin again with `aws sso login`.",
            )
        )
    match request.state:
        case DeviceRequest.State.DENIED:
            return WireError(
                Failure(Fault.ACCESS_DENIED, "The sign-in was refused on the page of Daypass.")
            )
        case DeviceRequest.State.USED:
            return invalid("This device code was used before. Begin again with `aws sso login`.")
        case DeviceRequest.State.WAITING:
            return _waiting(request, asker, now)
    won = DeviceRequest.objects.filter(pk=request.pk, state=DeviceRequest.State.APPROVED).update(
        state=DeviceRequest.State.USED, polled_at=now, polled_from=asker.address or None
    )
    terminal = (
        Terminal.objects.select_for_update(of=("self",))
        .filter(pk=request.terminal_id or request.pk)
        .first()
    )
    if not won or terminal is None:
        return invalid("This device code was used before. Begin again with `aws sso login`.")
    refused = unusable_because(terminal, now)
    return invalid(refused) if refused else terminal


def _waiting(request: DeviceRequest, asker: Asker, now: datetime) -> WireError:
    fast = rules.polls_too_fast(request.polls, request.polled_at, request.interval, now)
    DeviceRequest.objects.filter(pk=request.pk).update(
        polls=F("polls") + 1, polled_at=now, polled_from=asker.address or None
    )
    if fast:
        return WireError(
            Failure(
                Fault.SLOW_DOWN, f"Ask once every {request.interval} seconds, and no more often."
            )
        )
    return WireError(
        Failure(
            Fault.AUTHORIZATION_PENDING,
            "Nobody has approved this sign-in yet. Open the page that the terminal shows.",
        )
    )


@sensitive_variables()
def _user_code_digests(user_code: str) -> list[str]:
    """Keyed, because a code is short enough to try all; one digest for each sealing key, the first to be kept."""
    return [
        hmac.digest(key, user_code.encode(), "sha256").hex() for key in derived_keys("user code")
    ]
