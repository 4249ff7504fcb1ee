"""Principal and Proof: all that the rest of Daypass ever sees of a person and of how they signed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, cast
from uuid import UUID

Method = Literal["saml", "oidc", "local"]


@dataclass(frozen=True, slots=True)
class Proof:
    """How and when somebody proved who they are, as the identity provider vouched for it.

    provider_id: the identity provider's UUID, None for the local break-glass account.
    at: the moment of authentication at the provider (AuthnInstant or auth_time where given, else of the sign-in).
    at_told: whether the provider said so. Where it did not, the person may have signed in there days ago, and the
    sign-in counts as recent for nothing (threats.md R38).
    mfa: True only where AuthnContext, acr or amr named a method that the provider's claim map counts as multi-factor.
    context: the AuthnContextClassRef or acr as it arrived; methods: the amr values as they arrived.
    """

    provider_id: UUID | None
    provider_name: str
    method: Method
    at: datetime
    mfa: bool
    context: str = ""
    methods: tuple[str, ...] = ()
    at_told: bool = True


def proof_as_json(proof: Proof) -> dict[str, Any]:
    """A proof as it is kept beside what it allows; `proof_from_json` reads it back."""
    return {
        "provider_id": str(proof.provider_id) if proof.provider_id else None,
        "provider_name": proof.provider_name,
        "method": proof.method,
        "at": proof.at.timestamp(),
        "at_told": proof.at_told,
        "mfa": proof.mfa,
        "context": proof.context,
        "methods": list(proof.methods),
    }


def proof_from_json(kept: Mapping[str, Any]) -> Proof:
    """What `proof_as_json` wrote. Raises KeyError and ValueError for anything else."""
    return Proof(
        provider_id=UUID(kept["provider_id"]) if kept["provider_id"] else None,
        provider_name=kept["provider_name"],
        method=cast(Method, kept["method"]),
        at=datetime.fromtimestamp(kept["at"], UTC),
        mfa=bool(kept["mfa"]),
        context=kept["context"],
        methods=tuple(kept["methods"]),
        at_told=bool(kept.get("at_told")),
    )


@dataclass(frozen=True, slots=True)
class GroupRef:
    """One directory group of one provider that a person is in.

    fresh_until: when a claim-sourced membership grows stale; None for one that is kept current (SCIM).
    """

    id: int
    provider_id: UUID
    key: str
    name: str
    fresh_until: datetime | None


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking. Frozen: loaded once per request, from the database, never from the browser.

    attributes: person attributes by name (for session tags), each with one or more values.
    groups: every directory group the person is a member of, stale ones included (the decision says why they
    do not count). address: the client's network address as told by the trusted proxies, "" when unknown.
    epoch: grows when all that the person holds must end; sessions of an older epoch are dead.
    relay: names what the person's browser session keeps for AWS, if it keeps anything; opens nothing by itself.
    """

    person_id: UUID
    handle: str
    name: str
    email: str
    active: bool
    epoch: int
    proof: Proof
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    groups: tuple[GroupRef, ...] = ()
    address: str = ""
    relay: str = field(default="", repr=False)
