"""Who may use the admin. Whoever may, may do all that a page offers."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest


def may_administer(request: HttpRequest) -> bool:
    """Whether whoever sent this request may use the admin; True opens all of it, there are no half rights.

    Active staff, vouched for by an identity provider, or the local break-glass superuser after a second factor.
    """
    user = request.user
    principal = getattr(request, "principal", None)
    if principal is None or not principal.active or not user.is_active or not user.is_staff:
        return False
    if principal.proof.method == "local":
        return bool(user.is_superuser and principal.proof.mfa)
    return principal.proof.provider_id is not None


class Rights:
    """Rights are the site's: who may open the admin may do all that a page offers. Django's own rights are unused."""

    addable = True
    changeable = True

    def has_module_permission(self, request: HttpRequest) -> bool:
        return may_administer(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_administer(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.addable and may_administer(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.changeable and may_administer(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Nothing is deleted from the admin: what is not wanted any more is switched off, and the audit stays readable.
        return False
