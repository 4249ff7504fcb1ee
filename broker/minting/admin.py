"""Signing keys in the admin: to look at. They are changed by `manage.py signing_keys` only."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from django.contrib import admin
from django.http import HttpRequest

from broker.minting.models import SigningKey

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[SigningKey]
else:  # generic for the type checker only
    _ModelAdmin = admin.ModelAdmin


@admin.register(SigningKey)
class SigningKeyAdmin(_ModelAdmin):
    """Which key signs, which are published, and until when; the sealed private half is never shown."""

    list_display = ("kid", "purpose", "state", "created_at", "signing_since", "expires_at")
    list_filter = ("purpose", "state")
    search_fields = ("kid",)
    fields: ClassVar = (
        "kid",
        "purpose",
        "algorithm",
        "state",
        "created_at",
        "signing_since",
        "retired_at",
        "expires_at",
        "certificate",
    )
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: SigningKey | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: SigningKey | None = None) -> bool:
        return False
