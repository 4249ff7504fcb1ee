"""Django's authentication backend: a password opens the break-glass account and no other."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from allauth.account.auth_backends import AuthenticationBackend
from django.db import DEFAULT_DB_ALIAS
from django.http import HttpRequest

from accounts.models import IdentityProvider, Person
from broker.prepared import Prepared

_OWN = [field.attname for field in Person._meta.concrete_fields]
_ITS = ["id", "slug", "name", "protocol", "enabled"]
_person = Prepared(
    lambda id: (
        Person.objects.filter(pk=id)
        .order_by()
        .values_list(*_OWN, *(f"provider__{name}" for name in _ITS))
    )
)


class PersonBackend(AuthenticationBackend):
    """Loads the person of a session; takes passwords of local superusers only."""

    def authenticate(self, request: HttpRequest | None, **credentials: Any) -> Person | None:
        found = super().authenticate(request, **credentials)
        if not isinstance(found, Person) or not found.is_superuser or found.provider_id:
            return None
        return found

    def get_user(self, user_id: Any) -> Person | None:
        """With the provider in the same read: every request asks whether it is still switched on.

        Of the provider only what names it comes along; its metadata and keys would be parsed for every request.
        """
        rows = _person(id=user_id if isinstance(user_id, UUID) else UUID(str(user_id)))
        if not rows:
            return None
        own, its = rows[0][: len(_OWN)], rows[0][len(_OWN) :]
        found = Person.from_db(DEFAULT_DB_ALIAS, _OWN, own)
        found.provider = IdentityProvider.from_db(DEFAULT_DB_ALIAS, _ITS, its) if its[0] else None
        return found if self.user_can_authenticate(found) else None
