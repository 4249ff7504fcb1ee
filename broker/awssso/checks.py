"""Whether what stands in front of Daypass lets the header through in which AWS's clients bring their token.

`x-amz-sso_bearer_token` has underscores, and many proxies drop such headers without a word; people then sign in, and
are told at once that their sign-in has expired. So Daypass asks itself, by its own public address, soon after it starts
and once a day, sooner when clients come without the header. What it found is for administrators; nothing hangs on it.
"""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from celery import shared_task
from celery.signals import worker_ready
from django.conf import settings
from django.core.cache import cache
from django.urls import reverse
from django.utils import timezone
from django.utils.crypto import constant_time_compare, salted_hmac

from accounts import outbound, throttle
from accounts.throttle import Count
from broker.errors import BadInput, ProviderUnavailable

log = logging.getLogger("daypass.awssso")

HEADER = "x-amz-sso_bearer_token"
AS_WSGI_SAYS = "HTTP_X_AMZ_SSO_BEARER_TOKEN"

AGAIN = timedelta(days=1)
AGAIN_SOON = timedelta(minutes=5)
"""When to look anew: after everything was well, and after it was not or clients came without the header."""

REMEDY = (
    "Let the proxy in front pass headers with underscores; docs/operations.md says how for nginx, Apache, HAProxy and "
    "AWS's load balancer."
)

_KEY = "awssso:header"
_KEPT = int(timedelta(days=3).total_seconds())
_MISSING = Count("sso-header-missing", "", seconds=600)
_ASKED = replace(_MISSING, by=0)


class Passage(StrEnum):
    """What became of the header. UNKNOWN: Daypass cannot reach its own address, so nobody knows."""

    PASSES = "passes"
    DROPPED = "dropped"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found, when, and in what words."""

    passage: Passage
    at: datetime
    said: str


def proof_of(sent: str) -> str:
    """What proves that this Daypass, and not somebody else at its address, received `sent`."""
    return salted_hmac("broker.awssso.header", sent[:200], algorithm="sha256").hexdigest()


def look(now: datetime) -> Seen:
    """Ask our own public address what arrives there, and keep what was found."""
    sent = f"test-{secrets.token_urlsafe(24)}"
    url = settings.DAYPASS_ORIGIN + reverse("header_test")
    try:
        arrived = str(_ask(url, sent).get("arrived", ""))
    except (ProviderUnavailable, BadInput) as error:
        seen = Seen(Passage.UNKNOWN, now, error.cause or error.message)
    else:
        seen = _judged(arrived, sent, now)
    if seen.passage is Passage.DROPPED:
        log.error("a proxy drops the header of AWS's clients", extra={"header": HEADER})
    _keep(seen)
    return seen


def _ask(url: str, sent: str) -> dict[str, object]:
    """Directly first: our own address may be a private one. Else as every call leaves, through the egress proxy."""
    headers = {HEADER: sent}
    what = "Daypass's own address"
    try:
        return outbound.get_json(url, what, headers=headers, ours=True)
    except ProviderUnavailable:
        if not settings.DAYPASS_EGRESS_PROXY:
            raise
    return outbound.get_json(url, what, headers=headers)


def _judged(arrived: str, sent: str, now: datetime) -> Seen:
    if constant_time_compare(arrived, proof_of(sent)):
        return Seen(Passage.PASSES, now, f"The header {HEADER} arrives as it was sent.")
    if constant_time_compare(arrived, proof_of("")):
        return Seen(
            Passage.DROPPED,
            now,
            f"The header {HEADER} is dropped on the way to Daypass: AWS CLIs sign in and are told at once that their "
            "sign-in has expired.",
        )
    return Seen(
        Passage.UNKNOWN,
        now,
        "Something else than this Daypass answers at its own address, or the processes have different secret keys.",
    )


def _keep(seen: Seen) -> None:
    cache.set(_KEY, [str(seen.passage), seen.at.timestamp(), seen.said], _KEPT)


def last() -> Seen | None:
    """What was found last; None: nothing yet, or it was forgotten."""
    kept = cache.get(_KEY)
    if not isinstance(kept, list | tuple) or len(kept) != 3:
        return None
    return Seen(Passage(kept[0]), datetime.fromtimestamp(float(kept[1]), UTC), str(kept[2]))


def missing() -> str:
    """What a client is told that came without the header. Counted, so that Daypass looks soon."""
    throttle.count(_MISSING)
    return (
        f"The header {HEADER} did not arrive. If you have just signed in, a proxy in front of Daypass drops it: tell "
        "your administrators. Otherwise run `aws sso login`."
    )


def is_due(seen: Seen | None, now: datetime) -> bool:
    """Whether to look: not yet looked, all was well a day ago, or something is odd and five minutes have passed."""
    if seen is None:
        return True
    odd = seen.passage is not Passage.PASSES or throttle.count(_ASKED)[0] > 0
    return now - seen.at >= (AGAIN_SOON if odd else AGAIN)


@shared_task(name="broker.awssso.checks.test_header", time_limit=60, soft_time_limit=50)
def test_header() -> None:
    """Look, if it is time to."""
    now = timezone.now()
    if is_due(last(), now):
        look(now)


@worker_ready.connect
def _started(**_: object) -> None:
    """What was in front before the start may have been something else."""
    cache.delete(_KEY)
