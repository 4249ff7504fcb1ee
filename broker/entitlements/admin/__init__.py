"""AWS accounts, roles, mappings and denies in the admin, and who gets what and why. Changes are service calls."""

from __future__ import annotations

from broker.entitlements.admin import accounts, denies, elsewhere, mappings, roles, why
from broker.entitlements.admin.roles import RoleFields

__all__ = ["RoleFields", "accounts", "denies", "elsewhere", "mappings", "roles", "why"]
