"""Browser sessions as their providers know them, so that a provider's word ends them wherever they are.

A logout message often comes without the browser's cookie (in a frame, or from server to server), so what it names is
looked up here and the sessions are deleted; nothing depends on who carried the message.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from importlib import import_module
from typing import Any

from allauth.usersessions.models import UserSession
from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, Q

from accounts.events import LinesOver, SignedOut, announce
from accounts.models import (
    ConsumedMessage,
    IdentityProvider,
    Person,
    ProviderSession,
    RelayedAssertion,
    RelayedToken,
)
from broker.errors import SignInRefused as Refused

LONGEST_NAME = 512
"""As much of a SessionIndex or `sid` as is looked at; the longest that is kept of one."""

LATE = timedelta(minutes=15)
"""How long an ending is remembered: a sign-in that began before it has come to its end by then, or never will."""


def note_session(
    person: Person,
    provider: IdentityProvider,
    session_key: str,
    *,
    subject: str,
    index: str,
    expires: datetime,
    began: datetime | None = None,
    line: str = "",
    now: datetime,
) -> ProviderSession:
    """Note that this browser session is the one that its provider calls `subject` and `index` ("" for none).

    began: when we asked the provider, where we did. line: of the browser session (`browser.line_of`).
    Raises SignInRefused when the provider has ended that session since (SAML core section 3.7.3.2: a logout holds for
    an assertion that arrives after it).
    """
    with transaction.atomic():
        _one_at_a_time(provider)
        if began is not None and _ended_since(began, provider, subject=subject, index=index):
            raise Refused(
                code="signed_out_meanwhile",
                cause="The provider ended this session while the sign-in was under way.",
            )
        return ProviderSession.objects.create(
            provider=provider,
            person=person,
            session_key=session_key,
            subject_digest=_digest(subject),
            index_digest=_digest(index),
            began_at=now,
            expires_at=expires,
            line=line,
        )


def forget_session(session_key: str | None, *, left_alone: bool = False) -> None:
    """The browser session is over, or has another key now: no provider's word concerns it any more.

    left_alone: nobody ended it but time. Then what was let in from it goes on, and so does the provider's word on that;
    what the session kept for AWS goes.
    """
    if not session_key:
        return
    known = ProviderSession.objects.filter(session_key=session_key)
    if left_alone:
        RelayedToken.objects.filter(session__in=known).delete()
        RelayedAssertion.objects.filter(session__in=known).delete()
    else:
        known.delete()
    UserSession.objects.filter(session_key=session_key).delete()


def end_by_provider(
    provider: IdentityProvider,
    *,
    subject: str | None,
    index: str | None,
    how: str,
    now: datetime,
) -> int:
    """End every browser session that the provider means, and what was let in from it; how many there were.

    subject: the NameID or `sub`; index: the SessionIndex or `sid`; None for what the message does not say. With both,
    both have to fit; without an index, all sessions of the subject end. Naming nothing ends nothing.
    """
    if not subject and not index:
        return 0
    with transaction.atomic():
        _one_at_a_time(provider)
        _remember(provider, subject=subject or "", index=index or "", now=now)
        meant = ProviderSession.objects.filter(provider=provider)
        if subject:
            meant = meant.filter(subject_digest=_digest(subject))
        if index:
            meant = meant.filter(index_digest=_digest(index))
        rows = list(meant.select_related("person"))
        lived = _living(row.session_key for row in rows)
        _delete([row.session_key for row in rows])
        lines = tuple({row.line for row in rows if row.line})
        if lines:
            announce(LinesOver(lines, how, now))
        for row in rows:
            if row.session_key not in lived:
                continue  # it was left alone until it ended, which was told then
            announce(
                SignedOut(
                    person_id=row.person_id,
                    handle=row.person.handle,
                    how=how,
                    address="",
                    at=now,
                )
            )
    return len(lived)


def clear_over(*, now: datetime) -> int:
    """Delete what is known about browser sessions that are over; how many there were."""
    live = _sessions().filter(session_key=OuterRef("session_key"), expire_date__gte=now)
    over = ProviderSession.objects.filter(expires_at__lt=now)
    UserSession.objects.filter(
        ~Exists(live) | Q(session_key__in=over.values("session_key"))
    ).delete()
    gone, _ = over.delete()
    return gone


def _sessions() -> Any:
    return import_module(settings.SESSION_ENGINE).SessionStore.get_model_class().objects


def _living(session_keys: Iterable[str]) -> frozenset[str]:
    rows = _sessions().filter(session_key__in=[*session_keys])
    return frozenset(rows.values_list("session_key", flat=True))


def _delete(session_keys: Iterable[str]) -> None:
    keys = list(session_keys)
    _sessions().filter(session_key__in=keys).delete()
    UserSession.objects.filter(session_key__in=keys).delete()
    ProviderSession.objects.filter(session_key__in=keys).delete()


def _one_at_a_time(provider: IdentityProvider) -> None:
    """Noting and ending wait for each other, so that neither overlooks what the other is about to write."""
    rows = IdentityProvider.objects.select_for_update(of=("self",), no_key=True)
    rows.filter(pk=provider.pk).values_list("pk").first()


def _remember(provider: IdentityProvider, *, subject: str, index: str, now: datetime) -> None:
    ConsumedMessage.objects.update_or_create(
        provider=provider,
        digest=_ending(subject, index),
        defaults={"expires_at": now + LATE},
    )


def _ended_since(began: datetime, provider: IdentityProvider, *, subject: str, index: str) -> bool:
    named = {(subject, index), (subject, ""), ("", index)} - {("", "")}
    return ConsumedMessage.objects.filter(
        provider=provider,
        digest__in=[_ending(*pair) for pair in named],
        expires_at__gt=began + LATE,
    ).exists()


def _ending(subject: str, index: str) -> str:
    text = f"ending\0{_digest(subject)}\0{_digest(index)}"
    return hashlib.sha256(text.encode()).hexdigest()


def _digest(name: str) -> str:
    return hashlib.sha256(name[:LONGEST_NAME].encode()).hexdigest() if name else ""
