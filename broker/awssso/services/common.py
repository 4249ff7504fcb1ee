"""What every verb of terminals has in common: who asks, what administrators allow, and the words of refusals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from accounts.identity import Principal
from broker.audit.services import Actor, Subject
from broker.awssso import queries, rules
from broker.awssso.models import Terminal
from broker.awssso.wire import Failure, Fault, WireError
from broker.errors import DaypassError

_AGAIN = {
    Terminal.Kind.SSO: "Run `aws sso login` again.",
    Terminal.Kind.LOGIN: "Run `aws login` again.",
    Terminal.Kind.SCRIPT: "Make a new token on the page Terminal of Daypass.",
}
SIGN_IN_AGAIN = "Run `aws sso login` (or `aws login`) again."
"""Where it is not known what the sign-in was."""


class NotAllowed(DaypassError):
    """Administrators do not allow this, or the person may not use Daypass any more."""

    code = "not_allowed"
    message = "This is not allowed."


@dataclass(frozen=True, slots=True)
class Asker:
    """Where a request came from: the network address ("" when unknown) and what the program calls itself."""

    address: str
    user_agent: str = ""


def allowed(policy: queries.Policy, kind: str, flow: str) -> None:
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
            "`--use-device-code`, on a computer that has a browser.",
            code="device_codes_off",
        )


def network_allowed(policy: queries.Policy, address: str) -> None:
    if not rules.in_networks(address, policy.device_networks):
        raise NotAllowed(
            "Your administrators allow sign-in by device code from certain networks only, and "
            f"{address or 'an unknown address'} is in none of them. Do it from one of those networks, or run "
            "`aws sso login` without `--use-device-code` on a computer that has a browser.",
            code="network_not_allowed",
        )


def about(terminal: Terminal) -> dict[str, Any]:
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


def actor_of(principal: Principal) -> Actor:
    return Actor(id=str(principal.person_id), name=principal.handle)


def subject_of(terminal: Terminal) -> Subject:
    return Subject("terminal", str(terminal.pk))


def invalid(message: str) -> WireError:
    return WireError(Failure(Fault.INVALID_GRANT, message))


def again(kind: str) -> str:
    """What a person does to get another terminal of this kind."""
    return _AGAIN.get(Terminal.Kind(kind), SIGN_IN_AGAIN)
