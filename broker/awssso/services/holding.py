"""Whose a terminal is: read anew at every use, and never from what it was when it was let in."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Q
from django.views.decorators.debug import sensitive_variables

from accounts.identity import Principal, proof_from_json
from accounts.queries import principal_of
from broker.audit.services import Actor
from broker.awssso import queries, rules
from broker.awssso.models import Terminal, TerminalToken
from broker.awssso.services.common import SIGN_IN_AGAIN, Asker, NotAllowed, again, allowed
from broker.awssso.services.ending import end
from broker.awssso.wire import Failure, Fault, WireError

NOTED_EVERY = timedelta(minutes=1)
"""A terminal's use is noted at most so often, so that most requests write nothing."""


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whose token it is: the terminal, and the person as they are now."""

    terminal: Terminal
    principal: Principal


@sensitive_variables("token")
def bearer(token: str, kinds: Collection[str], asker: Asker, *, now: datetime) -> Bearer:
    """Whose token this is, everything read anew. kinds: of TerminalToken, "access" or "script".

    Raises WireError (UnauthorizedException), upon which clients tell their user to sign in again.
    """
    found = queries.token_by(rules.digest(token))
    if found is None or found[0] not in kinds:
        scripts = [*kinds] == [TerminalToken.Kind.SCRIPT]
        raise _unauthorized(
            "This token is not known to Daypass. "
            + (again(Terminal.Kind.SCRIPT) if scripts else SIGN_IN_AGAIN)
        )
    _, expires_at, terminal = found
    refused = _over_because(terminal, now)
    if refused:
        raise _unauthorized(refused)
    if now >= expires_at:
        raise _unauthorized("This sign-in is over. " + again(terminal.kind))
    principal = _holder(terminal, asker, now)
    if isinstance(principal, str):
        raise _unauthorized(principal)
    _note_use(terminal, asker, now)
    return Bearer(terminal, principal)


def unusable_because(terminal: Terminal, now: datetime) -> str:
    """Why neither the terminal nor its person get anything any more, "" when they do. The terminal may end by this."""
    refused = _over_because(terminal, now)
    if refused:
        return refused
    principal = _holder(terminal, Asker(""), now)
    return principal if isinstance(principal, str) else ""


def _over_because(terminal: Terminal, now: datetime) -> str:
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
        return f"{why} {again(terminal.kind)}"
    if now >= terminal.ends_at:
        return f"This sign-in is over. {again(terminal.kind)}"
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
        return f"You may not use Daypass with this sign-in any more. {again(terminal.kind)}"
    policy = queries.policy_of(provider.pk)
    try:
        allowed(policy, terminal.kind, terminal.flow)
    except NotAllowed as refused:
        return refused.message
    if policy.longest and now >= terminal.created_at + policy.longest:
        return (
            f"Your administrators allow no sign-in for as long as this one. {again(terminal.kind)}"
        )
    principal = principal_of(person, proof, address=asker.address, relay=terminal.relay)
    if rules.all_stale(principal.groups, now):
        return (
            "Your groups were last confirmed too long ago, when you signed in at your company. "
            + again(terminal.kind)
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


def _unauthorized(message: str) -> WireError:
    return WireError(Failure(Fault.UNAUTHORIZED, message))
