"""Identity providers, people and directory groups in the admin. Every change is a call of accounts.services."""

from __future__ import annotations

from accounts.admin import applications, groups, own_keys, people, proposals, providers

__all__ = ["applications", "groups", "own_keys", "people", "proposals", "providers"]
