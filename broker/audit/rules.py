"""The catalogue of events, what may be in one, and the hash that chains them. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

GENESIS = hashlib.sha256(b"daypass audit log, first event").hexdigest()
"""What stands in the place of a previous hash before the first event."""


class Kind(StrEnum):
    """Every kind of event, `subject.what_happened`, in alphabetical order. A retired one stays, as a comment."""

    ACCOUNT_SAML_KEYS = "account.saml_keys"
    ADMIN_CHANGED = "admin.changed"
    AUDIT_VERIFIED = "audit.verified"
    AUDIT_VIOLATED = "audit.violated"
    DISCOVERY_DISMISSED = "discovery.dismissed"
    DISCOVERY_LOOKED = "discovery.looked"
    HAND_OVER_CONSOLE = "hand_over.console"
    HAND_OVER_FAILED = "hand_over.failed"
    HAND_OVER_KEYS = "hand_over.keys"
    KEY_CREATED = "key.created"
    KEY_EXPIRING = "key.expiring"
    KEY_STATE_CHANGED = "key.state_changed"
    KEYS_NOT_PUBLISHED = "keys.not_published"
    KEYS_PUBLISHED = "keys.published"
    PERSON_CREATED = "person.created"
    PERSON_STAFF_CHANGED = "person.staff_changed"
    PROVIDER_CERTIFICATE_EXPIRING = "provider.certificate_expiring"
    PROVIDER_PROPOSAL_DISMISSED = "provider.proposal_dismissed"
    PROVIDER_PROPOSAL_WITHDRAWN = "provider.proposal_withdrawn"
    PROVIDER_PROPOSED = "provider.proposed"
    PROVIDER_REFRESHED = "provider.refreshed"
    PROVIDER_REFRESH_FAILED = "provider.refresh_failed"
    PROVIDER_RESEALED = "provider.resealed"
    RELAY_KEPT = "relay.kept"
    ROLE_REFUSED = "role.refused"
    ROLE_AUTHORISED = "role.authorised"
    ROLE_BORROWED = "role.borrowed"
    ROLE_CHECKED = "role.checked"
    SESSION_DISOWNED = "session.disowned"
    SESSION_ENDED = "session.ended"
    SESSION_EXPIRED = "session.expired"
    SESSION_FAILED = "session.failed"
    SESSION_ISSUED = "session.issued"
    SESSION_RESOLVED = "session.resolved"
    SIGN_IN_ACCEPTED = "sign_in.accepted"
    SIGN_IN_REFUSED = "sign_in.refused"
    SIGN_IN_TESTED = "sign_in.tested"
    SIGN_OUT = "sign_in.ended"
    TERMINAL_DENIED = "terminal.denied"
    TERMINAL_DISOWNED = "terminal.disowned"
    TERMINAL_ENDED = "terminal.ended"
    TERMINAL_LET_IN = "terminal.let_in"
    TERMINAL_REUSED = "terminal.reused"


_SECRET_WORDS = (
    "secret",
    "password",
    "session_token",
    "sessiontoken",
    "assertion",
    "id_token",
    "signin_token",
    "private",
)
"""A data key that contains one of these is refused: secrets never reach the log, not even by mistake."""


class UnfitForAudit(ValueError):
    """A caller tried to record something that may not be in the log. A programming error, never the user's."""


def fit(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data as it will be kept: JSON scalars, lists and string-keyed mappings; no floats, no secrets, no NUL.

    Raises UnfitForAudit naming the key.
    """
    return {key: _fit(value, _name(key)) for key, value in data.items()}


def _name(key: object) -> str:
    if not isinstance(key, str):
        raise UnfitForAudit(f"key {key!r} is not text")
    if any(word in key.lower() for word in _SECRET_WORDS):
        raise UnfitForAudit(f"{key!r} looks like a secret and may not be recorded")
    return key


def _fit(value: Any, where: str) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return value.replace("\x00", "\N{SYMBOL FOR NULL}")
    if isinstance(value, Mapping):
        return {_name(key): _fit(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_fit(item, where) for item in value]
    raise UnfitForAudit(
        f"{where}: {type(value).__name__} is not kept in the log; turn it into text"
    )


@dataclass(frozen=True, slots=True)
class Link:
    """One event as the chain sees it. `at` in UTC; everything a row says is part of its hash."""

    seq: int
    at: datetime
    kind: str
    actor_id: str
    actor: str
    subject_type: str
    subject_id: str
    reference: str
    address: str
    data: Mapping[str, Any]
    previous_hash: str


def chain_hash(link: Link) -> str:
    """SHA-256 (hex) of the event's canonical JSON: sorted keys, no blanks, UTF-8, time to the microsecond in UTC."""
    document = {
        "v": 1,
        "seq": link.seq,
        "at": link.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "kind": link.kind,
        "actor_id": link.actor_id,
        "actor": link.actor,
        "subject_type": link.subject_type,
        "subject_id": link.subject_id,
        "reference": link.reference,
        "address": link.address,
        "data": link.data,
        "previous_hash": link.previous_hash,
    }
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Violation:
    """Where the chain is broken, and how: changed, missing, or out of order."""

    seq: int
    problem: str


def verify(
    links: Iterable[tuple[Link, str]], *, seq: int, previous_hash: str
) -> tuple[int, str] | Violation:
    """Walk events in order, each with the hash that stands in its row, starting after (seq, previous_hash).

    Answers where the chain ends, or the first violation.
    """
    for link, stored in links:
        if link.seq != seq + 1:
            return Violation(
                seq + 1, f"event {seq + 1} is missing; the next one found is {link.seq}"
            )
        if link.previous_hash != previous_hash:
            return Violation(
                link.seq,
                f"event {link.seq} does not follow event {seq}: it was moved, or one was replaced",
            )
        if chain_hash(link) != stored:
            return Violation(link.seq, f"event {link.seq} was changed after it was written")
        seq, previous_hash = link.seq, stored
    return seq, previous_hash
