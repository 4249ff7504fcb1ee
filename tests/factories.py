"""People, groups, accounts, roles and mappings for tests: each call makes one believable thing, saved.

Everything has a default; name only what the test is about. `principal()` gives the frozen value that the rest of
Daypass sees of a person; it can also be made up without a database.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from accounts.identity import GroupRef, Principal, Proof
from accounts.models import DirectoryGroup, Handle, IdentityProvider, Membership, Person
from accounts.queries import principal_of
from broker.entitlements.models import (
    AwsAccount,
    AwsRole,
    Deny,
    Environment,
    MappingRole,
)
from broker.entitlements.models import Mapping as MappingRow

_numbers = itertools.count(1)


def _next() -> int:
    return next(_numbers)


def provider(slug: str = "", **fields: Any) -> IdentityProvider:
    """An enabled OIDC provider; pass protocol="saml" for the other kind."""
    n = _next()
    slug = slug or f"idp-{n}"
    fields.setdefault("name", slug.title())
    fields.setdefault("protocol", "oidc")
    fields.setdefault("enabled", True)
    if fields["protocol"] == "saml":
        fields.setdefault("entity_id", f"https://{slug}.example/saml")
    else:
        fields.setdefault("issuer", f"https://{slug}.example")
        fields.setdefault("client_id", "daypass")
    return IdentityProvider.objects.create(slug=slug, **fields)


def person(
    handle: str = "",
    *,
    at: IdentityProvider | None = None,
    groups: Iterable[DirectoryGroup] = (),
    **fields: Any,
) -> Person:
    """Somebody of provider `at` (a new one when not given), fresh member of `groups`."""
    handle = handle or f"person{_next()}"
    groups = tuple(groups)
    if at is None:
        at = groups[0].provider if groups else provider()
    fields.setdefault("name", handle.title())
    fields.setdefault("email", f"{handle}@example.com")
    fields.setdefault("subject", f"subject-of-{handle}")
    made = Person.objects.create(handle=handle, provider=at, **fields)
    Handle.objects.get_or_create(value=handle, defaults={"person": made})
    for one in groups:
        membership(made, one)
    return made


def group(name: str = "", *, at: IdentityProvider | None = None, **fields: Any) -> DirectoryGroup:
    """A directory group; its key is its name unless given."""
    name = name or f"group-{_next()}"
    fields.setdefault("key", name)
    return DirectoryGroup.objects.create(provider=at or provider(), name=name, **fields)


def membership(who: Person, of: DirectoryGroup, **fields: Any) -> Membership:
    """A membership told by a sign-in just now; pass confirmed_at or source="scim" for others."""
    return Membership.objects.create(person=who, group=of, **fields)


def environment(name: str = "", **fields: Any) -> Environment:
    return Environment.objects.create(name=name or f"Environment {_next()}", **fields)


def account(name: str = "", **fields: Any) -> AwsAccount:
    n = _next()
    fields.setdefault("account_id", f"{100000000000 + n}")
    return AwsAccount.objects.create(name=name or f"Account {n}", **fields)


def role(name: str = "", *, of: AwsAccount | None = None, **fields: Any) -> AwsRole:
    """A role of account `of` (a new one when not given), by web identity, up to one hour."""
    of = of or account()
    name = name or f"Role{_next()}"
    path = fields.setdefault("path", "/")
    fields.setdefault("arn", f"arn:{of.partition}:iam::{of.account_id}:role{path}{name}")
    return AwsRole.objects.create(account=of, name=name, **fields)


def mapping(of: DirectoryGroup, *roles: AwsRole, **limits: Any) -> MappingRow:
    """Members of `of` may use `roles` (a new one when none is given), within `limits`."""
    made = MappingRow.objects.create(group=of, **limits)
    MappingRole.objects.bulk_create(
        MappingRole(
            mapping=made, role=one, group=of, enabled=made.enabled, valid_until=made.valid_until
        )
        for one in roles or (role(),)
    )
    return made


def deny(
    *,
    group: DirectoryGroup | None = None,
    person: Person | None = None,
    role: AwsRole | None = None,
    account: AwsAccount | None = None,
    **fields: Any,
) -> Deny:
    fields.setdefault("reason", "Not while the investigation lasts.")
    return Deny.objects.create(group=group, person=person, role=role, account=account, **fields)


def proof(
    *, at: datetime | None = None, mfa: bool = False, of: IdentityProvider | None = None
) -> Proof:
    """A sign-in just now with one factor, unless said otherwise."""
    return Proof(
        provider_id=of.id if of else uuid.UUID(int=1),
        provider_name=of.name if of else "Example",
        method="saml" if of and of.protocol == "saml" else "oidc",
        at=at or datetime.now(UTC),
        mfa=mfa,
    )


def group_ref(number: int = 0, name: str = "", *, fresh_until: datetime | None = None) -> GroupRef:
    """A group reference without a database; None as fresh_until: kept current by SCIM."""
    number = number or _next()
    name = name or f"group-{number}"
    return GroupRef(number, uuid.UUID(int=1), name, name, fresh_until)


def principal(
    who: Person | None = None,
    *,
    signed_in: Proof | None = None,
    address: str = "198.51.100.7",
    groups: Iterable[GroupRef] | None = None,
    attributes: Mapping[str, tuple[str, ...]] | None = None,
    **fields: Any,
) -> Principal:
    """The Principal of `who`, with the memberships in the database; or of somebody made up when `who` is None."""
    if who is not None:
        known = principal_of(who, signed_in or proof(of=who.provider), address=address)
    else:
        n = _next()
        known = Principal(
            person_id=uuid.UUID(int=n),
            handle=f"person{n}",
            name=f"Person {n}",
            email=f"person{n}@example.com",
            active=True,
            epoch=1,
            proof=signed_in or proof(),
            address=address,
        )
    if groups is not None:
        fields["groups"] = tuple(groups)
    if attributes is not None:
        fields["attributes"] = attributes
    return replace(known, **fields)
