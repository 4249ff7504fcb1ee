"""What a let-in client may have: its person's accounts and roles, and keys. Each ask is decided and recorded anew.

Whatever is refused says what to do about it, because clients show that to their user as it is.
"""

from __future__ import annotations

import base64
import binascii
import json
from uuid import UUID

from django.conf import settings
from django.urls import reverse
from django.views.decorators.debug import sensitive_variables

from accounts import throttle
from accounts.places import sign_in_url
from broker.awssso.doors import Call, in_sso_words
from broker.awssso.issuing import ask_of, door_of, keys_for
from broker.awssso.models import Terminal
from broker.awssso.services import Bearer
from broker.awssso.wire import Failure, Fault, WireError
from broker.entitlements import queries as entitlements
from broker.entitlements.queries import AccountBrief, Slice
from broker.entitlements.rules import Ask, NextStep, Refused, RoleFacts
from broker.errors import AwsError, DaypassError
from broker.handover.machines import MachineKeys

KEYS, LISTS = 600, 1200
"""How often a terminal may ask in a minute: every command of a script asks for keys of its own."""

_ENDED = ("person_inactive", "access_ended", "provider_off")
"""Refusals after which only another sign-in helps, if anything does."""


def accounts(
    bearer: Bearer, call: Call, *, most: int, after: tuple[str, ...]
) -> Slice[AccountBrief]:
    """The accounts in which the person can have keys. Raises WireError, BadInput for an unknown `after`."""
    _gently("sso-lists", bearer, LISTS)
    return entitlements.accounts_with_keys(
        bearer.principal,
        door=door_of(bearer.terminal.flow),
        only=bearer.terminal.role_id,
        after=after,
        most=most,
        now=call.now,
    )


def roles(
    bearer: Bearer, call: Call, account_id: str, *, most: int, after: tuple[str, ...]
) -> Slice[RoleFacts]:
    """The roles in one account whose keys the person can have. Raises WireError, BadInput as `accounts`."""
    _gently("sso-lists", bearer, LISTS)
    found = entitlements.roles_with_keys(
        bearer.principal,
        account_id,
        door=door_of(bearer.terminal.flow),
        only=bearer.terminal.role_id,
        after=after,
        most=most,
        now=call.now,
    )
    if not (found.rows or found.following or after):
        raise WireError(
            Failure(
                Fault.RESOURCE_NOT_FOUND,
                f"You have no role in this account whose keys you can take here. {_all_roles()}",
            )
        )
    return found


@sensitive_variables()
def keys(bearer: Bearer, call: Call, account_id: str, role_name: str) -> MachineKeys:
    """New keys, as a session of their own. Raises WireError: what the person may not know of does not exist."""
    _gently("sso-keys", bearer, KEYS)
    terminal = bearer.terminal
    role_id = entitlements.role_named(account_id, role_name)
    if role_id is None or (terminal.role_id is not None and terminal.role_id != role_id):
        raise _unknown()
    return keys_of(bearer, call, role_id)


@sensitive_variables()
def keys_of(bearer: Bearer, call: Call, role_id: UUID) -> MachineKeys:
    """As `keys`, for a role that is known by its id."""
    terminal = bearer.terminal
    ask = ask_of(terminal, role_id)
    try:
        given = keys_for(bearer, ask, call.asker, now=call.now)
    except DaypassError as error:
        raise WireError(failure_of(error, call.request_id)) from error
    if isinstance(given, Refused):
        raise WireError(refusal(given, ask, terminal, call.request_id))
    return given


# --- Refusals and failures in the words of a client


def refusal(refused: Refused, ask: Ask, terminal: Terminal, request_id: str) -> Failure:
    """What a client is told of a refusal: nothing where the role is not to be known of."""
    if refused.code in _ENDED:
        return Failure(Fault.UNAUTHORIZED, refused.sentence)
    if not refused.visible:
        return _unknown().failure
    advice = _advice(refused, ask, terminal, request_id)
    return Failure(Fault.FORBIDDEN, f"{refused.sentence} {advice}")


def _advice(refused: Refused, ask: Ask, terminal: Terminal, request_id: str) -> str:
    origin = settings.DAYPASS_ORIGIN
    page = origin + reverse("role", args=[ask.role_id])
    again = _again(terminal)
    match refused.next_step:
        case NextStep.SIGN_IN_AGAIN:
            return f"Open {origin}{sign_in_url(fresh=True)} to sign in anew, then {again}."
        case NextStep.USE_MFA:
            return f"Open {origin}{sign_in_url(fresh=True)} to sign in with your second factor, then {again}."
        case NextStep.ASK_PROVIDER:
            return f"Ask it at {page} in the browser that you signed in with, then try again."
        case NextStep.USE_ALLOWED_NETWORK:
            return "Connect to the company network or VPN, then try again."
        case NextStep.USE_OTHER_HAND_OVER:
            return f"Open it at {page} instead."
        case NextStep.USE_OTHER_DOOR:
            return (
                "On a computer with a browser, run `aws sso login` without --use-device-code; or take keys at "
                f"{page}."
            )
        case NextStep.WAIT:
            return "Try again then."
        case NextStep.ASK_FOR_LESS | NextStep.ASK_ADMINISTRATOR:
            return f"Only your administrators can change this; give them the number {request_id}."


def _again(terminal: Terminal) -> str:
    match terminal.kind:
        case Terminal.Kind.LOGIN:
            return "run `aws login` again"
        case Terminal.Kind.SCRIPT:
            return f"make a new token at {settings.DAYPASS_ORIGIN}/terminal/"
        case _:
            return "run `aws sso login` again"


def failure_of(error: DaypassError, request_id: str) -> Failure:
    """What a client is told of a failure. It tries again by itself exactly where that may help."""
    number = f"The number for your administrators is {request_id}."
    if error.retry:
        if error.code == "aws_throttled":
            return Failure(Fault.TOO_MANY_REQUESTS, f"{error.message} {number}")
        return Failure(Fault.INTERNAL_SERVER, f"{error.message} {number}", status=503)
    if isinstance(error, AwsError):
        return Failure(Fault.FORBIDDEN, f"{error.message} {number}")
    failure = in_sso_words(error)
    if failure.fault is not Fault.INTERNAL_SERVER:
        return failure
    return Failure(Fault.FORBIDDEN, f"{error.message} {number}")


def _unknown() -> WireError:
    return WireError(
        Failure(Fault.RESOURCE_NOT_FOUND, f"You have no such role in this account. {_all_roles()}")
    )


def _all_roles() -> str:
    return f"Your accounts and roles are listed at {settings.DAYPASS_ORIGIN}/."


def _gently(what: str, bearer: Bearer, most: int) -> None:
    if not throttle.allowed(what, str(bearer.terminal.pk), most=most, seconds=60):
        raise WireError(
            Failure(
                Fault.TOO_MANY_REQUESTS,
                f"This terminal asked more than {most} times within a minute. Wait a minute and try again.",
                retry_after=60,
            )
        )


# --- Places in a list


def place_of(token: str) -> tuple[str, ...]:
    """What a `nextToken` stands for. Raises WireError for what is none; whether it fits the list is seen there."""
    try:
        padded = token.encode("ascii") + b"=" * (-len(token) % 4)
        place = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        place = None
    if not isinstance(place, list) or not place or not all(isinstance(one, str) for one in place):
        raise WireError(
            Failure(
                Fault.INVALID_REQUEST,
                "next_token is not one that Daypass gave. Ask for the list from its beginning.",
            )
        )
    return tuple(place)


def token_of(place: tuple[str, ...]) -> str:
    """A `nextToken`: where the rest of the list begins. It holds nothing that its owner was not told before."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).rstrip(b"=").decode()
