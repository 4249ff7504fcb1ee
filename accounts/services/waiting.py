"""What waits on our side for a browser to come and fetch it: posted SAML answers, and arrivals that nobody asked for.

A provider's page makes the browser post across sites, where our session cookie does not come along. What was posted is
kept for a moment under a random or keyed name that a cookie carries to the page that reads it. Everything is kept in
the table of sessions, where it ends by itself.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction

from accounts.models import IdentityProvider
from accounts.rules import VerifiedAttributes
from broker.errors import SignInRefused

ANSWER_KEPT = timedelta(minutes=2)
"""Between an answer's arrival and the browser fetching the page that reads it, which it does at once."""

ARRIVAL_KEPT = timedelta(minutes=5)
"""For a person to read who they are said to be, and to say yes."""

ANSWERS_TO_ONE_REQUEST = 3
"""A second click at the provider and a reloaded page are kept as well; more than that is somebody else's doing."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A posted answer to a request of ours, not verified yet."""

    unverified_message: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """A verified answer that nobody asked for, until the person has said yes to it."""

    verified: VerifiedAttributes
    at: datetime


def keep_answer(
    provider: IdentityProvider, unverified_message: str, *, request_id: str, now: datetime
) -> str:
    """Keep an answer for the browser; the key to fetch it with. Raises SignInRefused for one too many."""
    rows = _store().get_model_class().objects
    content = {
        "waits": "answer",
        "provider": str(provider.pk),
        "message": unverified_message,
        "request": request_id,
    }
    for place in range(ANSWERS_TO_ONE_REQUEST):
        key = _keyed(f"{provider.pk}\0{request_id}\0{place}")
        if _insert(key, content, until=now + ANSWER_KEPT):
            return key
        over, _ = rows.filter(session_key=key, expire_date__lte=now).delete()
        if over and _insert(key, content, until=now + ANSWER_KEPT):
            return key
    raise SignInRefused(
        code="answered",
        cause="This request was answered again and again, and no browser came for the answers.",
        remedy="Nothing; somebody is trying, or a browser repeats itself.",
    )


def take_answer(provider: IdentityProvider, key: str | None) -> Answer | None:
    """The answer under this key, once; None when there is none for this provider."""
    content = _find(provider, key, "answer")
    if content is None or not _delete(key):
        return None
    return Answer(unverified_message=content["message"], request_id=content["request"])


def keep_arrival(provider: IdentityProvider, verified: VerifiedAttributes, *, now: datetime) -> str:
    """Keep what an unsolicited answer, verified, says; the key to fetch it with."""
    key = secrets.token_hex(20)
    content = {
        "waits": "arrival",
        "provider": str(provider.pk),
        "verified": _packed(verified),
        "at": now.timestamp(),
    }
    _insert(key, content, until=now + ARRIVAL_KEPT)
    return key


def look_at_arrival(provider: IdentityProvider, key: str | None) -> Arrival | None:
    """The arrival under this key, which stays; None when there is none for this provider."""
    content = _find(provider, key, "arrival")
    if content is None:
        return None
    return Arrival(
        verified=_unpacked(content["verified"]), at=datetime.fromtimestamp(content["at"], UTC)
    )


def take_arrival(provider: IdentityProvider, key: str | None) -> Arrival | None:
    """The arrival under this key, once: of parallel attempts one gets it."""
    arrival = look_at_arrival(provider, key)
    return arrival if arrival is not None and _delete(key) else None


# --- The table


def _store() -> Any:
    return import_module(settings.SESSION_ENGINE).SessionStore


def _keyed(text: str) -> str:
    """A name that follows from the text and that nobody else can work out."""
    key = hashlib.sha256(b"daypass waiting answers" + settings.SECRET_KEY.encode()).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()[:40]


def _insert(key: str, content: Mapping[str, Any], *, until: datetime) -> bool:
    store = _store()
    row = store.get_model_class()(
        session_key=key, session_data=store().encode(content), expire_date=until
    )
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError:
        return False
    return True


def _find(provider: IdentityProvider, key: str | None, kind: str) -> dict[str, Any] | None:
    if not key:
        return None
    content: dict[str, Any] = _store()(key).load()
    fits = content.get("waits") == kind and content.get("provider") == str(provider.pk)
    return content if fits else None


def _delete(key: str | None) -> bool:
    """Whether it was there to be deleted: true for one of parallel attempts."""
    gone, _ = _store().get_model_class().objects.filter(session_key=key).delete()
    return bool(gone)


# --- What was verified, as JSON


def _packed(verified: VerifiedAttributes) -> dict[str, Any]:
    return {
        "subject": verified.subject,
        "attributes": {name: list(values) for name, values in verified.attributes.items()},
        "context": verified.context,
        "methods": list(verified.methods),
        "at": verified.at.timestamp() if verified.at else None,
        "session_ends": verified.session_ends.timestamp() if verified.session_ends else None,
        "evidence": dict(verified.evidence),
        "logout": dict(verified.logout),
    }


def _unpacked(content: Mapping[str, Any]) -> VerifiedAttributes:
    return VerifiedAttributes(
        protocol="saml",
        subject=content["subject"],
        attributes={name: tuple(values) for name, values in content["attributes"].items()},
        context=content["context"],
        methods=tuple(content["methods"]),
        at=_moment(content["at"]),
        session_ends=_moment(content["session_ends"]),
        evidence=content["evidence"],
        logout=content["logout"],
    )


def _moment(timestamp: float | None) -> datetime | None:
    return None if timestamp is None else datetime.fromtimestamp(timestamp, UTC)
