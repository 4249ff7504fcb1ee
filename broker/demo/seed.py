"""Fills the demo through the same services that the admin uses. Running it again changes nothing that is there."""

from __future__ import annotations

from django.utils import timezone

from broker.demo.stage import Stage
from broker.minting import keys


def seed(stage: Stage) -> None:
    """Signing keys, identity providers, accounts, roles and mappings of Northwind."""
    keys.ensure_keys(timezone.now())
