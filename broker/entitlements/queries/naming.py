"""A role by how a link or a client names it: its account and its name."""

from __future__ import annotations

from uuid import UUID

from django.db.models import Q

from accounts.identity import Principal
from broker.arns import parse_account_id
from broker.entitlements.models import AwsRole
from broker.errors import BadInput
from broker.prepared import Prepared


def find_role(principal: Principal, account: str, role: str) -> UUID | None:
    """The role of a deep link: account by id (111122223333, 1111-2222-3333) or alias, role by its exact name.

    Says only that it exists; whether the person may know that is for decide() and `Refused.visible`.
    """
    try:
        account = parse_account_id(account)
    except BadInput:
        account = account.strip().lower()
    if "\x00" in account + role:
        return None
    found = AwsRole.objects.filter(account_named(account), name=role)
    return found.order_by().values_list("id", flat=True).first()


def account_named(account: str) -> Q:
    """The roles of an account by its id or, if that is no number, by its alias."""
    if account.isdigit():
        return Q(account__account_id=account)
    return Q(account__alias=account) & ~Q(account__alias="")


_role_named = Prepared(
    lambda account, name: (
        AwsRole.objects.order_by().filter(account__account_id=account, name=name).values_list("id")
    )
)


def role_named(account_id: str, name: str) -> UUID | None:
    """A role by its account's twelve digits and its exact name, whoever may know of it; see `find_role`."""
    if "\x00" in account_id + name:
        return None
    rows = _role_named(account=account_id, name=name)
    return rows[0][0] if rows else None
