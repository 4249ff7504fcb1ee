"""Django's authentication backend: a password opens the break-glass account and no other."""

from __future__ import annotations

from typing import Any

from allauth.account.auth_backends import AuthenticationBackend
from django.http import HttpRequest

from accounts.models import Person


class PersonBackend(AuthenticationBackend):
    """Loads the person of a session; takes passwords of local superusers only."""

    def authenticate(self, request: HttpRequest | None, **credentials: Any) -> Person | None:
        found = super().authenticate(request, **credentials)
        if not isinstance(found, Person) or not found.is_superuser or found.provider_id:
            return None
        return found

    def get_user(self, user_id: Any) -> Person | None:
        """With the provider in the same read: every request asks whether it is still switched on."""
        found = Person.objects.select_related("provider").filter(pk=user_id).first()
        return found if found is not None and self.user_can_authenticate(found) else None
