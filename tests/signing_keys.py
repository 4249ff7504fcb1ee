"""Signing keys made once for the whole run: making two of them takes a third of a second, too long for every test."""

from __future__ import annotations

from copy import copy
from datetime import datetime, timedelta
from functools import cache

from django.utils import timezone

from broker.minting import keys
from broker.minting.models import SigningKey
from tests.spare_keys import stock


@cache
def _made_once() -> tuple[SigningKey, ...]:
    then = timezone.now() - timedelta(days=7)
    with stock.sold():
        return tuple(_make(purpose, then) for purpose in SigningKey.Purpose)


def _make(purpose: SigningKey.Purpose, then: datetime) -> SigningKey:
    return keys._generate(purpose, SigningKey.State.SIGNING, then)


def keep_ready_made() -> None:
    """Save the ready-made signing key of each purpose, as if the broker had been running for a week."""
    for key in _made_once():
        copy(key).save(force_insert=True)
