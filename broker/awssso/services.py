"""The only writer of terminals, their tokens and the codes that lead to them.

Of several who bring the same code or token at once one wins, by a conditional UPDATE; all state is in the database, so
neither a restart nor an emptied cache loses anything. The person behind a terminal is read anew at every use.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.views.decorators.debug import sensitive_variables

from accounts import throttle
from accounts.identity import Principal, proof_as_json, proof_from_json
from accounts.models import Person
from accounts.network import counted
from accounts.queries import principal_of
from accounts.throttle import Count
from broker.audit.rules import Kind
from broker.audit.services import NOBODY, Actor, Entry, Subject, record, record_all
from broker.awssso import queries, rules
from broker.awssso.models import DeviceRequest, Terminal, TerminalToken
from broker.awssso.registrations import Registration
from broker.awssso.rules import Rotation
from broker.awssso.wire import Failure, Fault, WireError
from broker.errors import BadInput, DaypassError
from broker.sealing import derived_keys

__all__ = [
    "Asker",
    "Bearer",
    "DeviceStarted",
    "LetIn",
    "NotAllowed",
    "Tokens",
    "WireError",
    "approve_device",
    "bearer",
    "clear",
    "deny_device",
    "end",
    "end_line",
    "exchange_code",
    "exchange_code_for_tokens",
    "exchange_device_code",
    "expire_due",
    "find_device",
    "give_code",
    "give_script_token",
    "give_tokens",
    "let_in",
    "poll_device",
    "refresh",
    "room_for_device",
    "start_device",
]

CODE_LIFE = timedelta(seconds=60)
ACCESS_LIFE = timedelta(hours=1)
DEVICE_LIFE = timedelta(minutes=10)
DEVICE_PATIENCE = timedelta(minutes=1)
"""For so long after its end a code that was approved in time is still collected: clients ask every few seconds."""

INTERVAL = 5
"""Seconds between two polls."""

NOTED_EVERY = timedelta(minutes=1)
"""A terminal's use is noted at most so often, so that most requests write nothing."""

WRONG_CODES_SECONDS = 600
WRONG_CODES_OF_SESSION, WRONG_CODES_OF_PERSON = 5, 10
WRONG_CODES_OF_ADDRESS, WRONG_CODES_OF_ALL = 30, 300
"""Codes that nobody waits for, typed within ten minutes, after which no more are looked at."""

TERMINALS_KEPT = timedelta(days=90)
OVER_KEPT = timedelta(hours=1)
"""Codes and tokens that are over are kept a little, so that who brings them is told what happened."""

BATCH = 200
"""Rows changed in one transaction by the periodic tasks: the head of the audit log stays locked meanwhile."""

SIGN_IN_AGAIN = "Run `aws sso login` (or `aws login`) again."


class NotAllowed(DaypassError):
    """Administrators do not allow this, or the person may not use Daypass any more."""

    code = "not_allowed"
    message = "This is not allowed."


@dataclass(frozen=True, slots=True)
class Asker:
    """Where a request came from: the network address ("" when unknown) and what the program calls itself."""

    address: str
    user_agent: str = ""


@dataclass(frozen=True, slots=True)
class LetIn:
    """What a person lets in: a client on a computer, and what it may do there.

    asker: the client's, not the person's browser. role_id: the one role that it may ask for. label: the person's own
    word for it. key_thumbprint: of the key that its requests have to be signed with.
    """

    kind: str
    flow: str
    client_name: str
    client_digest: str
    asker: Asker
    role_id: UUID | None = None
    label: str = ""
    key_thumbprint: str = ""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a client is given. access is "" for `aws login`, whose access token is the credentials. Seconds."""

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    expires_in: int
    terminal: Terminal = field(repr=False)


@dataclass(frozen=True, slots=True)
class DeviceStarted:
    device_code: str = field(repr=False)
    user_code: str = field(repr=False)
    expires_in: int
    interval: int


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whose token it is: the terminal, and the person as they are now."""

    terminal: Terminal
    principal: Principal


# --- Letting in


def let_in(
    principal: Principal,
    wish: LetIn,
    *,
    line: str,
    relay: str,
    browser_ends: datetime,
    now: datetime,
) -> Terminal:
    """Let a client in for this person. Recorded. Raises NotAllowed with a sentence for them.

    line, relay, browser_ends: of the browser session they do it in, which the terminal does not outlive.
    """
    policy = queries.policy_of(principal.proof.provider_id)
    _allowed(policy, wish.kind, wish.flow)
    if wish.flow == Terminal.Flow.DEVICE:
        for address in (wish.asker.address, principal.address):
            _network_allowed(policy, address)
    ends_at = min(browser_ends, now + policy.longest) if policy.longest else browser_ends
    with transaction.atomic():
        person = Person.objects.select_for_update(of=("self",)).get(pk=principal.person_id)
        if (
            not person.is_active
            or person.epoch != principal.epoch
            or person.provider_id is None
            or person.provider_id != principal.proof.provider_id
            or ends_at <= now
        ):
            raise NotAllowed("Your sign-in is over. Sign in to Daypass again.", code="signed_out")
        terminal = Terminal.objects.create(
            person=person,
            kind=wish.kind,
            flow=wish.flow,
            role_id=wish.role_id,
            label=rules.clean(wish.label, 64),
            client_name=rules.clean(wish.client_name, 100),
            client_digest=wish.client_digest,
            user_agent=rules.clean(wish.asker.user_agent, 200),
            proof=proof_as_json(principal.proof),
            epoch=person.epoch,
            line=line,
            relay=relay,
            key_thumbprint=wish.key_thumbprint,
            asked_from=wish.asker.address or None,
            approved_from=principal.address or None,
            created_at=now,
            ends_at=ends_at,
        )
        record(
            Kind.TERMINAL_LET_IN,
            actor=_person(principal),
            subject=_subject(terminal),
            data=_about(terminal) | {"ends_at": ends_at.isoformat()},
            address=principal.address,
            at=now,
        )
    return terminal


def _allowed(policy: queries.Policy, kind: str, flow: str) -> None:
    if not policy.enabled:
        raise NotAllowed(
            "Your administrators do not allow AWS CLIs and SDKs to sign in here. Use the pages of Daypass instead.",
            code="terminals_off",
        )
    if kind == Terminal.Kind.SCRIPT and not policy.script_tokens:
        raise NotAllowed(
            "Your administrators do not allow tokens for scripts.", code="script_tokens_off"
        )
    if flow == Terminal.Flow.DEVICE and not policy.device_codes:
        raise NotAllowed(
            "Your administrators do not allow sign-in by device code. Sign in with `aws sso login`, without "
            "--use-device-code, on a computer that has a browser.",
            code="device_codes_off",
        )


def _network_allowed(policy: queries.Policy, address: str) -> None:
    if not rules.in_networks(address, policy.device_networks):
        raise NotAllowed(
            "Your administrators allow sign-in by device code from certain networks only, and "
            f"{address or 'an unknown address'} is in none of them.",
            code="network_not_allowed",
        )


# --- Codes (PKCE)


@sensitive_variables()
def give_code(
    terminal: Terminal, *, redirect_uri: str, challenge: str, method: str, now: datetime
) -> str:
    """An authorization code: good for 60 seconds, once, with the verifier of this challenge. Raises BadInput."""
    if not rules.is_challenge(challenge, method):
        raise BadInput("The client has to prove itself by PKCE with SHA-256.")
    return _give(
        terminal,
        TerminalToken.Kind.CODE,
        until=now + CODE_LIFE,
        now=now,
        bound={"redirect_uri": redirect_uri, "challenge": challenge},
    )


@sensitive_variables()
def exchange_code(
    code: str,
    *,
    client_digest: str,
    redirect_uri: str,
    verifier: str,
    now: datetime,
    key_thumbprint: str = "",
) -> Terminal:
    """The terminal of a code, for the first who brings it with its verifier; a second one ends the terminal.

    key_thumbprint: kept on the terminal, whose requests have to be signed with that key from now on.
    Raises WireError (InvalidGrantException).
    """
    with transaction.atomic():
        found = _exchange(code, client_digest, redirect_uri, verifier, now, key_thumbprint)
    if isinstance(found, WireError):
        raise found
    return found


@sensitive_variables()
def exchange_code_for_tokens(
    code: str, *, client_digest: str, redirect_uri: str, verifier: str, now: datetime
) -> Tokens:
    """`exchange_code` and `give_tokens` in one step, so that nothing comes between. Raises WireError."""
    with transaction.atomic():
        found = _exchange(code, client_digest, redirect_uri, verifier, now, "")
        tokens = found if isinstance(found, WireError) else _give_pair(found, now)
    if isinstance(tokens, WireError):
        raise tokens
    return tokens


@sensitive_variables()
def _exchange(
    code: str,
    client_digest: str,
    redirect_uri: str,
    verifier: str,
    now: datetime,
    key_thumbprint: str,
) -> Terminal | WireError:
    """What is to be raised is answered, because what was written before has to stay."""
    token, terminal = _locked(code, TerminalToken.Kind.CODE)
    if token is None or terminal is None:
        return _invalid("This sign-in code is not known. " + SIGN_IN_AGAIN)
    if token.used_at is not None:
        return _reused(terminal, "code", now)
    if now >= token.expires_at:
        return _invalid("This sign-in code is over: it is good for a minute. " + SIGN_IN_AGAIN)
    fits = (
        terminal.client_digest == client_digest
        and token.bound.get("redirect_uri") == redirect_uri
        and rules.proves(verifier, str(token.bound.get("challenge", "")))
    )
    if not fits:
        return _invalid("This sign-in code was given to another client. " + SIGN_IN_AGAIN)
    refused = _dead(terminal, now)
    if refused:
        return _invalid(refused)
    won = TerminalToken.objects.filter(digest=token.digest, used_at__isnull=True).update(
        used_at=now, used=1
    )
    if not won:
        return _reused(terminal, "code", now)
    if key_thumbprint:
        terminal.key_thumbprint = key_thumbprint
        terminal.save(update_fields=["key_thumbprint"])
    return terminal


# --- Tokens


@sensitive_variables()
def give_tokens(terminal: Terminal, *, now: datetime) -> Tokens:
    """The first pair of a terminal. Raises WireError (InvalidGrantException) when it is over meanwhile."""
    with transaction.atomic():
        kept = Terminal.objects.select_for_update(of=("self",)).get(pk=terminal.pk)
        refused = _dead(kept, now)
        if refused:
            raise _invalid(refused)
        return _give_pair(kept, now)


@sensitive_variables()
def refresh(token: str, *, client_digest: str, now: datetime, key_thumbprint: str = "") -> Tokens:
    """The next pair, for a refresh token that was not exchanged before or less than a minute ago.

    One that was exchanged earlier is in two hands: the whole terminal ends. key_thumbprint: of the key that signed the
    request, where the terminal is bound to one. Raises WireError (InvalidGrantException).
    """
    with transaction.atomic():
        found = _rotate(token, client_digest, key_thumbprint, now)
    if isinstance(found, WireError):
        raise found
    return found


@sensitive_variables()
def _rotate(
    token: str, client_digest: str, key_thumbprint: str, now: datetime
) -> Tokens | WireError:
    kept, terminal = _locked(token, TerminalToken.Kind.REFRESH)
    if kept is None or terminal is None:
        return _invalid("This sign-in is not known to Daypass. " + SIGN_IN_AGAIN)
    decided = rules.rotation(kept.used_at, kept.used, now)
    if decided is Rotation.REUSED:
        return _reused(terminal, "refresh token", now)
    if terminal.client_digest != client_digest or terminal.key_thumbprint != key_thumbprint:
        return _invalid("This sign-in belongs to another client. " + SIGN_IN_AGAIN)
    refused = _dead(terminal, now)
    if refused:
        return _invalid(refused)
    principal = _holder(terminal, Asker(""), now)
    if isinstance(principal, str):
        return _invalid(principal)
    if decided is Rotation.FIRST:
        won = TerminalToken.objects.filter(digest=kept.digest, used_at__isnull=True).update(
            used_at=now, used=1
        )
        decided = Rotation.FIRST if won else Rotation.SIBLING
    if decided is Rotation.SIBLING:
        won = TerminalToken.objects.filter(
            digest=kept.digest, used__gt=0, used__lt=rules.SIBLINGS
        ).update(used=F("used") + 1)
        decided = Rotation.SIBLING if won else Rotation.ENOUGH
    if decided is Rotation.ENOUGH:
        return _invalid(
            "Too many programs renew this sign-in at once. Try again in a moment, or " + _lower()
        )
    return _give_pair(terminal, now)


@sensitive_variables()
def give_script_token(terminal: Terminal, *, seconds: int, now: datetime) -> str:
    """A bearer token for scripts, shown once; for so long, and never longer than its terminal."""
    return _give(
        terminal,
        TerminalToken.Kind.SCRIPT,
        until=min(terminal.ends_at, now + timedelta(seconds=seconds)),
        now=now,
    )


@sensitive_variables()
def _give_pair(terminal: Terminal, now: datetime) -> Tokens:
    until = min(terminal.ends_at, now + ACCESS_LIFE)
    access = ""
    if terminal.kind != Terminal.Kind.LOGIN:
        access = _give(terminal, TerminalToken.Kind.ACCESS, until=until, now=now)
    refresh = _give(terminal, TerminalToken.Kind.REFRESH, until=terminal.ends_at, now=now)
    return Tokens(access, refresh, max(1, int((until - now).total_seconds())), terminal)


@sensitive_variables()
def _give(
    terminal: Terminal,
    kind: TerminalToken.Kind,
    *,
    until: datetime,
    now: datetime,
    bound: dict[str, Any] | None = None,
) -> str:
    token = rules.new_token(kind)
    TerminalToken.objects.create(
        digest=rules.digest(token),
        terminal_id=terminal.pk,
        kind=kind,
        bound=bound or {},
        created_at=now,
        expires_at=until,
    )
    return token


@sensitive_variables()
def _locked(token: str, kind: TerminalToken.Kind) -> tuple[TerminalToken | None, Terminal | None]:
    """A token's row as it is under the lock of its terminal, so that whoever comes later sees what was done."""
    digest = rules.digest(token)
    terminal_id = (
        TerminalToken.objects.filter(digest=digest, kind=kind)
        .values_list("terminal_id", flat=True)
        .first()
    )
    if terminal_id is None:
        return None, None
    terminal = Terminal.objects.select_for_update(of=("self",)).filter(pk=terminal_id).first()
    return TerminalToken.objects.filter(digest=digest).first(), terminal


# --- Device codes


@sensitive_variables()
def start_device(registration: Registration, asker: Asker, *, now: datetime) -> DeviceStarted:
    """A code for a client to show, and one for it to ask with. Raises WireError (UnauthorizedClientException)."""
    for number, policy in enumerate(policies := queries.policies_in_force(), 1):
        try:
            _allowed(policy, Terminal.Kind.SSO, Terminal.Flow.DEVICE)
            _network_allowed(policy, asker.address)
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


NO_SUCH_CODE = (
    "No computer waits for this code. Compare it with what the terminal shows. A code is good for ten minutes, once; "
    "if it is older, begin again in the terminal."
)


@sensitive_variables("user_code")
def find_device(
    user_code: str, principal: Principal, asker: Asker, *, now: datetime, session: str = ""
) -> DeviceRequest:
    """The client that waits for this code. Wrong codes are counted: of the session, person, network, and of all.

    session: names the browser session. Raises BadInput for a code that nobody waits for, NotAllowed.
    """
    policy = queries.policy_of(principal.proof.provider_id)
    _allowed(policy, Terminal.Kind.SSO, Terminal.Flow.DEVICE)
    _network_allowed(policy, asker.address)
    code = rules.read_user_code(user_code)
    if code is None:
        raise BadInput("A code has eight letters, like BCDF-GHJK. Compare it with the terminal.")
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
    counts = throttle.count(*(each for each, _ in tries))
    if any(n > most for n, (_, most) in zip(counts, tries, strict=True)):
        raise NotAllowed(
            "Too many wrong codes. Wait ten minutes, then begin again in the terminal.",
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
    _allowed(policy, Terminal.Kind.SSO, Terminal.Flow.DEVICE)
    _network_allowed(policy, asker.address)
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
            actor=_person(principal),
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
            "This computer does not wait any more: it was answered before, or its ten minutes are over."
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
        tokens = found if isinstance(found, WireError) else _give_pair(found, now)
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
        return _invalid("This device code is not known. Begin again with `aws sso login`.")
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
            return _invalid("This device code was used before. Begin again with `aws sso login`.")
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
        return _invalid("This device code was used before. Begin again with `aws sso login`.")
    refused = _dead(terminal, now)
    return _invalid(refused) if refused else terminal


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


# --- Use


@sensitive_variables("token")
def bearer(token: str, kinds: Collection[str], asker: Asker, *, now: datetime) -> Bearer:
    """Whose token this is, everything read anew. kinds: of TerminalToken, "access" or "script".

    Raises WireError (UnauthorizedException), upon which clients tell their user to sign in again.
    """
    found = (
        TerminalToken.objects.select_related("terminal__person__provider")
        .filter(digest=rules.digest(token), kind__in=[*kinds])
        .first()
    )
    if found is None:
        raise _unauthorized("This sign-in is not known to Daypass. " + SIGN_IN_AGAIN)
    terminal = found.terminal
    refused = _dead(terminal, now)
    if refused:
        raise _unauthorized(refused)
    if now >= found.expires_at:
        raise _unauthorized("This sign-in is over. " + SIGN_IN_AGAIN)
    principal = _holder(terminal, asker, now)
    if isinstance(principal, str):
        raise _unauthorized(principal)
    _note_use(terminal, asker, now)
    return Bearer(terminal, principal)


def _dead(terminal: Terminal, now: datetime) -> str:
    """Why the terminal itself may not be used any more, "" when it may."""
    if terminal.ended_at is not None:
        why = {
            Terminal.Ended.CLIENT: "You signed out here.",
            Terminal.Ended.PERSON: "This terminal was ended in Daypass.",
            Terminal.Ended.ADMINISTRATOR: "An administrator ended this terminal.",
            Terminal.Ended.SIGNED_OUT: "You signed out of Daypass in the browser, and this terminal with it.",
            Terminal.Ended.REUSED: "This terminal was ended because one of its tokens was used twice.",
            Terminal.Ended.SHUT: "You may not use Daypass with this sign-in any more.",
        }.get(Terminal.Ended(terminal.ended_because or "expired"), "This sign-in is over.")
        return f"{why} {SIGN_IN_AGAIN}"
    if now >= terminal.ends_at:
        return f"This sign-in is over. {SIGN_IN_AGAIN}"
    return ""


def _holder(terminal: Terminal, asker: Asker, now: datetime) -> Principal | str:
    """The person behind a terminal as they are now, or why it does not speak for them any more.

    Where that cannot come back the terminal ends.
    """
    person = terminal.person
    proof = proof_from_json(terminal.proof)
    provider = person.provider
    if (
        not person.is_active
        or person.epoch != terminal.epoch
        or provider is None
        or provider.pk != proof.provider_id
        or not provider.enabled
    ):
        end(terminal.pk, because=Terminal.Ended.SHUT, actor=Actor.task("terminals"), now=now)
        return f"You may not use Daypass with this sign-in any more. {SIGN_IN_AGAIN}"
    policy = queries.policy_of(provider.pk)
    try:
        _allowed(policy, terminal.kind, terminal.flow)
    except NotAllowed as refused:
        return refused.message
    if policy.longest and now >= terminal.created_at + policy.longest:
        return f"Your administrators allow no sign-in for as long as this one. {SIGN_IN_AGAIN}"
    principal = principal_of(person, proof, address=asker.address, relay=terminal.relay)
    if principal.groups and all(
        group.fresh_until is not None and group.fresh_until <= now for group in principal.groups
    ):
        return (
            "Your groups were last confirmed too long ago, when you signed in at your company. "
            + SIGN_IN_AGAIN
        )
    return principal


def _note_use(terminal: Terminal, asker: Asker, now: datetime) -> None:
    if terminal.used_at is not None and now - terminal.used_at < NOTED_EVERY:
        return
    Terminal.objects.filter(
        Q(used_at__isnull=True) | Q(used_at__lte=now - NOTED_EVERY), pk=terminal.pk
    ).update(
        used_at=now,
        used_from=asker.address or None,
        used_by=rules.clean(asker.user_agent, 200),
    )


# --- Ending


def end(
    terminal_id: UUID,
    *,
    because: Terminal.Ended,
    actor: Actor,
    of_person: UUID | None = None,
    now: datetime,
    address: str = "",
) -> bool:
    """End a terminal with all its tokens, recorded. False when it was over, or is not of that person."""
    with transaction.atomic():
        rows = Terminal.objects.filter(pk=terminal_id, ended_at__isnull=True)
        if of_person is not None:
            rows = rows.filter(person_id=of_person)
        if not rows.update(ended_at=now, ended_because=because):
            return False
        terminal = Terminal.objects.get(pk=terminal_id)
        record_all([_ending(terminal, because, actor, now, address)])
    return True


def end_line(line: str, now: datetime) -> int:
    """End what was let in from the browser sessions of this line, because the person signed out there."""
    if not line:
        return 0
    return _end_all(Q(line=line), Terminal.Ended.SIGNED_OUT, now)


def _end_all(which: Q, because: Terminal.Ended, now: datetime, *, most: int | None = None) -> int:
    with transaction.atomic():
        rows = list(
            Terminal.objects.select_for_update(of=("self",))
            .select_related("person")
            .filter(which, ended_at__isnull=True)
            .order_by("pk")[:most]
        )
        if not rows:
            return 0
        entries = []
        for terminal in rows:
            ended_at = min(now, terminal.ends_at) if because == Terminal.Ended.EXPIRED else now
            Terminal.objects.filter(pk=terminal.pk).update(ended_at=ended_at, ended_because=because)
            actor = Actor.task("terminals")
            if because == Terminal.Ended.SIGNED_OUT:
                actor = Actor(id=str(terminal.person_id), name=terminal.person.handle)
            entries.append(_ending(terminal, because, actor, now, ""))
        record_all(entries)
    return len(rows)


def _reused(terminal: Terminal, what: str, now: datetime) -> WireError:
    """Somebody brought what was exchanged before: nobody can know which of the two is the thief."""
    ended = Terminal.objects.filter(pk=terminal.pk, ended_at__isnull=True).update(
        ended_at=now, ended_because=Terminal.Ended.REUSED
    )
    if ended:
        entry = _ending(terminal, Terminal.Ended.REUSED, NOBODY, now, "")
        record_all(
            [
                Entry(
                    entry.kind,
                    actor=entry.actor,
                    subject=entry.subject,
                    data={**entry.data, "what": what},
                    at=now,
                )
            ]
        )
    return _invalid(f"This {what} was used before, so Daypass ended the sign-in. {SIGN_IN_AGAIN}")


def _ending(
    terminal: Terminal, because: Terminal.Ended, actor: Actor, now: datetime, address: str
) -> Entry:
    reused = because == Terminal.Ended.REUSED
    return Entry(
        Kind.TERMINAL_REUSED if reused else Kind.TERMINAL_ENDED,
        actor=actor,
        subject=_subject(terminal),
        data=_about(terminal) | {"because": str(because), "person": str(terminal.person_id)},
        address=address,
        at=now,
    )


# --- Clearing up


def expire_due(now: datetime) -> int:
    """Mark up to `BATCH` terminals whose time is over, or whose person may not use Daypass with them any more."""
    over = _end_all(Q(ends_at__lte=now), Terminal.Ended.EXPIRED, now, most=BATCH)
    shut = (
        Q(person__is_active=False) | ~Q(person__epoch=F("epoch")) | Q(person__provider__isnull=True)
    )
    return over + _end_all(shut, Terminal.Ended.SHUT, now, most=BATCH)


def clear(now: datetime) -> int:
    """Delete tokens, device requests and terminals that are over for long enough; up to `BATCH` terminals."""
    brief = (TerminalToken.Kind.CODE, TerminalToken.Kind.ACCESS, TerminalToken.Kind.SCRIPT)
    cleared, _ = TerminalToken.objects.filter(
        kind__in=brief, expires_at__lt=now - OVER_KEPT
    ).delete()
    cleared += TerminalToken.objects.filter(terminal__ended_at__lt=now - OVER_KEPT).delete()[0]
    cleared += DeviceRequest.objects.filter(expires_at__lt=now - OVER_KEPT).delete()[0]
    old = Terminal.objects.filter(ended_at__lt=now - TERMINALS_KEPT).values_list("pk", flat=True)
    cleared += Terminal.objects.filter(pk__in=[*old[:BATCH]]).delete()[0]
    return cleared


# --- Words


def _about(terminal: Terminal) -> dict[str, Any]:
    return {
        "kind": str(terminal.kind),
        "flow": str(terminal.flow),
        "client": terminal.client_name,
        "user_agent": terminal.user_agent,
        "asked_from": terminal.asked_from or "",
        "approved_from": terminal.approved_from or "",
        "label": terminal.label,
        "role": str(terminal.role_id or ""),
    }


def _person(principal: Principal) -> Actor:
    return Actor(id=str(principal.person_id), name=principal.handle)


def _subject(terminal: Terminal) -> Subject:
    return Subject("terminal", str(terminal.pk))


def _invalid(message: str) -> WireError:
    return WireError(Failure(Fault.INVALID_GRANT, message))


def _unauthorized(message: str) -> WireError:
    return WireError(Failure(Fault.UNAUTHORIZED, message))


def _lower() -> str:
    return SIGN_IN_AGAIN[0].lower() + SIGN_IN_AGAIN[1:]
