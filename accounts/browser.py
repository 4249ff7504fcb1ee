"""A person's browser session: the proof of sign-in that it carries, and when it is over.

Everything about it is on our side; the browser holds a random id and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import wraps
from typing import Any
from uuid import UUID, uuid4

from allauth.mfa.models import Authenticator
from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings
from django.contrib.auth import SESSION_KEY, logout
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_vary_headers

from accounts import services
from accounts.identity import Proof, proof_as_json, proof_from_json
from accounts.models import Person
from accounts.network import client_address

KEY = "daypass"
SEEN_EVERY = 60
"""Seconds between notes that a session is in use, so that most requests write nothing."""
SET_BACK = 60
"""Seconds by which the clocks of several machines may differ before a session counts as begun in the future."""


def begin(
    request: HttpRequest,
    person: Person,
    proof: Proof,
    *,
    now: datetime,
    logout: Mapping[str, str] | None = None,
    ends: datetime | None = None,
    line: str = "",
) -> None:
    """Note who signed in and how, in the session that the sign-in just opened.

    logout: what a sign-out at the provider will need. ends: when the provider wants its session to end. line: of the
    session before, when the same person signed in anew in the same browser.
    """
    request.session[KEY] = {
        "proof": proof_as_json(proof),
        "line": line or uuid4().hex,
        "epoch": person.epoch,
        "began": now.timestamp(),
        "seen": now.timestamp(),
        "ends": ends.timestamp() if ends else None,
        "logout": dict(logout or {}),
    }


def noted(session: SessionBase) -> dict[str, Any]:
    """What `begin` noted; empty when nobody is signed in."""
    found = session.get(KEY)
    return found if isinstance(found, dict) else {}


def proof_of(request: HttpRequest, person: Person) -> Proof:
    """How the person of this session signed in."""
    proof = proof_from_json(noted(request.session)["proof"])
    return replace(proof, mfa=has_second_factor(person)) if proof.method == "local" else proof


def line_of(session: SessionBase) -> str:
    """Names the sessions of one person in one browser, from the first sign-in to the sign-out; "" without one.

    A new sign-in opens a new session with a new key. What was let in from the one before goes on, and ends with the
    sign-out, because both are of one line.
    """
    return str(noted(session).get("line", ""))


def has_second_factor(person: Person) -> bool:
    """Whether the break-glass account has a real second factor; recovery codes alone are none."""
    return bool(is_mfa_enabled(person, [Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN]))


def over_because(session: SessionBase, now: datetime) -> str:
    """Which limit ended the session: "idle", "absolute", "provider"; "" while it lives.

    One that began in the future is over: the clock was set back, and it would live on by as much (threats.md R45).
    """
    kept = noted(session)
    moment = now.timestamp()
    if max(float(kept.get("began", 0)), float(kept.get("seen", 0))) > moment + SET_BACK:
        return "absolute"
    if moment - float(kept.get("began", 0)) >= settings.DAYPASS_SESSION_ABSOLUTE.total_seconds():
        return "absolute"
    if moment - float(kept.get("seen", 0)) >= settings.DAYPASS_SESSION_IDLE.total_seconds():
        return "idle"
    if kept.get("ends") and moment >= float(kept["ends"]):
        return "provider"
    return ""


def dead_because(session: SessionBase, person: Person) -> str:
    """Why the session must not be used although it is young: "ended" or "provider off"; "" when it may."""
    kept = noted(session)
    proof = kept.get("proof", {})
    if kept.get("epoch") != person.epoch:
        return "ended"
    if person.provider is None:
        return "" if proof.get("method") == "local" and person.is_superuser else "ended"
    if proof.get("provider_id") != str(person.provider_id):
        return "ended"
    return "" if person.provider.enabled else "provider off"


def note_seen(session: SessionBase, now: datetime) -> None:
    """Note that the session is in use, at most once a minute."""
    kept = noted(session)
    step = min(SEEN_EVERY, settings.DAYPASS_SESSION_IDLE.total_seconds() / 4)
    if now.timestamp() - float(kept.get("seen", 0)) >= step:
        session[KEY] = {**kept, "seen": now.timestamp()}


def end(request: HttpRequest, *, how: str, now: datetime) -> None:
    """End the session here and record it. Harmless when nobody is signed in."""
    person_id = request.session.get(SESSION_KEY)
    line = line_of(request.session)
    handle = ""
    if person_id is not None:
        handle = Person.objects.filter(pk=person_id).values_list("handle", flat=True).first() or ""
    drop(request, left_alone=how == "idle")
    if handle:
        services.signed_out(
            UUID(str(person_id)),
            handle,
            how=how,
            address=client_address(request),
            now=now,
            line=line,
        )


def drop(request: HttpRequest, *, left_alone: bool = False) -> None:
    """Delete the session with everything in it, whoever it belongs to; what follows begins with a new id.

    left_alone: it ended because nobody used it (`services.forget_session`).
    """
    key = request.session.session_key
    logout(request)
    services.forget_session(key, left_alone=left_alone)


def spared(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """A message that signs nobody in changes nothing about the browser's session, its cookie included.

    Of two that come at the same moment one wins and gets a new session; the other's answer, arriving later, would
    otherwise delete the cookie of the old one, which has the same name.
    """

    @wraps(view)
    def sparing(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response = view(request, *args, **kwargs)
        if response.status_code >= 400 or not request.session.modified:
            key = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
            request.session = type(request.session)(key)
            patch_vary_headers(response, ("Cookie",))
        return response

    return sparing


def ends_at(session: SessionBase) -> datetime:
    """When the session that `begin` noted is over in any case."""
    kept = noted(session)
    absolute = float(kept["began"]) + settings.DAYPASS_SESSION_ABSOLUTE.total_seconds()
    return datetime.fromtimestamp(min(absolute, float(kept.get("ends") or absolute)), UTC)
