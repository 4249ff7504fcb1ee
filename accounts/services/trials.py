"""Test sign-ins: what arrived and what it became, for the administrator who tried; they grant nothing."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction

from accounts.models import (
    IdentityProvider,
    Person,
    SignInTest,
)
from accounts.rules import (
    PersonClaims,
    VerifiedAttributes,
    handle_stem,
)
from accounts.services.common import By, news
from accounts.services.once import OneUse, consume

TEST_KEPT = timedelta(hours=1)


def start_test(provider: IdentityProvider, person: Person, *, now: datetime) -> SignInTest:
    """Begin a test sign-in. Whatever comes back is shown to this administrator and grants nothing."""
    return SignInTest.objects.create(provider=provider, started_by=person, started_at=now)


def finish_test(
    test_id: UUID | str,
    provider: IdentityProvider,
    *,
    verified: VerifiedAttributes | None = None,
    claims: PersonClaims | None = None,
    message: OneUse | None = None,
    problem: str = "",
    now: datetime,
) -> SignInTest | None:
    """Keep what arrived, what it became and what went wrong, once. None when there is no such open test."""
    with transaction.atomic():
        test = (
            SignInTest.objects.select_for_update(of=("self",))
            .select_related("started_by")
            .filter(pk=test_id, provider=provider, finished_at__isnull=True)
            .first()
        )
        if test is None:
            return None
        if message is not None:
            consume(provider, message)
        test.finished_at = now
        test.problem = problem[:500]
        if verified is not None:
            test.arrived = _arrived(verified)
            test.checks = [list(pair) for pair in verified.checks]
        if claims is not None:
            known = {g.key for g in provider.groups.filter(key__in=claims.groups)}
            test.became = {
                "subject": claims.subject,
                "handle": handle_stem(
                    username=claims.username, email=claims.email, name=claims.name
                ),
                "name": claims.name,
                "email": claims.email,
                "groups": [{"key": key, "known": key in known} for key in claims.groups],
                "attributes": {k: list(v) for k, v in claims.attributes.items()},
                "mfa": claims.mfa,
                "context": claims.context,
                "methods": list(claims.methods),
            }
        test.save()
        news(
            "tested",
            provider,
            {"problem": test.problem, "groups": len(claims.groups) if claims else 0},
            now,
            by=By(id=str(test.started_by_id), name=test.started_by.handle),
        )
    return test


def _arrived(verified: VerifiedAttributes) -> dict[str, Any]:
    hidden = {"nonce", "at_hash", "c_hash", "s_hash"}
    return {
        "subject": verified.subject,
        "attributes": {
            k: list(v) if isinstance(v, tuple) else v
            for k, v in verified.attributes.items()
            if k not in hidden
        },
        "userinfo": dict(verified.group_claims) if verified.group_claims is not None else None,
        "context": verified.context,
        "methods": list(verified.methods),
        "authenticated_at": verified.at.isoformat() if verified.at else None,
    }
