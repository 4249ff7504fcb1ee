"""Codes and tokens of terminals: given once in the clear, kept by their digests, each with one winner."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F
from django.views.decorators.debug import sensitive_variables

from broker.awssso import rules
from broker.awssso.models import Terminal, TerminalToken
from broker.awssso.rules import Rotation
from broker.awssso.services.common import SIGN_IN_AGAIN, Asker, again, invalid
from broker.awssso.services.ending import reused
from broker.awssso.services.holding import unusable_because
from broker.awssso.wire import Failure, Fault, WireError
from broker.errors import BadInput

CODE_LIFE = timedelta(seconds=60)
ACCESS_LIFE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a client is given. access is "" for `aws login`, whose access token is the credentials. Seconds."""

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    expires_in: int
    terminal: Terminal = field(repr=False)


@sensitive_variables()
def give_code(
    terminal: Terminal,
    *,
    redirect_uri: str,
    challenge: str,
    method: str,
    now: datetime,
    life: timedelta = CODE_LIFE,
) -> str:
    """An authorization code: good for 60 seconds, once, with the verifier of this challenge. Raises BadInput.

    life: longer for one that a person carries to another computer.
    """
    if not rules.is_challenge(challenge, method):
        raise BadInput("The client has to prove itself by PKCE with SHA-256.")
    return _give(
        terminal,
        TerminalToken.Kind.CODE,
        until=now + life,
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
    code: str,
    *,
    client_digest: str,
    redirect_uri: str,
    verifier: str,
    now: datetime,
    key_thumbprint: str = "",
    asker: Asker | None = None,
) -> Tokens:
    """`exchange_code` and `give_tokens` in one step, so that nothing comes between. Raises WireError.

    key_thumbprint: kept on the terminal, whose requests have to be signed with that key from now on.
    asker: kept as who asked, of a client that is first heard of when it brings its code.
    """
    with transaction.atomic():
        found = _exchange(code, client_digest, redirect_uri, verifier, now, key_thumbprint, asker)
        tokens = found if isinstance(found, WireError) else give_pair(found, now)
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
    asker: Asker | None = None,
) -> Terminal | WireError:
    """What is to be raised is answered, because what was written before has to stay."""
    token, terminal = _locked(code, TerminalToken.Kind.CODE)
    if token is None or terminal is None:
        return invalid("This sign-in code is not known. " + SIGN_IN_AGAIN)
    if token.used_at is not None:
        return reused(terminal, "code", now)
    if now >= token.expires_at:
        return invalid(
            "This sign-in code is over: it is good for a minute. " + again(terminal.kind)
        )
    fits = (
        terminal.client_digest == client_digest
        and token.bound.get("redirect_uri") == redirect_uri
        and rules.proves(verifier, str(token.bound.get("challenge", "")))
    )
    if not fits:
        return invalid("This sign-in code was given to another client. " + again(terminal.kind))
    refused = unusable_because(terminal, now)
    if refused:
        return invalid(refused)
    won = TerminalToken.objects.filter(digest=token.digest, used_at__isnull=True).update(
        used_at=now, used=1
    )
    if not won:
        return reused(terminal, "code", now)
    if key_thumbprint:
        terminal.key_thumbprint = key_thumbprint
        terminal.save(update_fields=["key_thumbprint"])
    if asker is not None:
        terminal.asked_from = asker.address or None
        terminal.user_agent = rules.clean(asker.user_agent, 200)
        terminal.save(update_fields=["asked_from", "user_agent"])
    return terminal


@sensitive_variables()
def give_tokens(terminal: Terminal, *, now: datetime) -> Tokens:
    """The first pair of a terminal. Raises WireError (InvalidGrantException) when it is over meanwhile."""
    with transaction.atomic():
        kept = Terminal.objects.select_for_update(of=("self",)).get(pk=terminal.pk)
        refused = unusable_because(kept, now)
        tokens = None if refused else give_pair(kept, now)
    if tokens is None:
        raise invalid(refused)
    return tokens


@sensitive_variables()
def refresh(token: str, *, client_digest: str, now: datetime, key_thumbprint: str = "") -> Tokens:
    """The next pair, for a refresh token that was not exchanged before or less than a minute ago.

    One that was exchanged earlier is in two hands: the whole terminal ends. key_thumbprint: of the key that signed the
    request, where the terminal is bound to one. Raises WireError (InvalidGrantException; SlowDownException for too
    many at once).
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
        return invalid("This sign-in is not known to Daypass. " + SIGN_IN_AGAIN)
    decided = rules.rotation(kept.used_at, kept.used, now)
    if decided is Rotation.REUSED:
        return reused(terminal, "refresh token", now)
    if terminal.client_digest != client_digest or terminal.key_thumbprint != key_thumbprint:
        return invalid("This sign-in belongs to another client. " + again(terminal.kind))
    refused = unusable_because(terminal, now)
    if refused:
        return invalid(refused)
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
        return WireError(  # and not that the sign-in is over: it is not
            Failure(
                Fault.SLOW_DOWN,
                "Too many programs renew this sign-in at once. Run the command once more: one of them has renewed it.",
            )
        )
    return give_pair(terminal, now)


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
def give_pair(terminal: Terminal, now: datetime) -> Tokens:
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
