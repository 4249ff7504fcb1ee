"""Who gets what, and why: what administrators read of a person, a role or a mapping that is not saved yet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db.models import Count, F, Q, Subquery

from accounts.identity import GroupRef, Principal, Proof
from accounts.models import Membership, Person
from accounts.queries import principal_of
from broker.entitlements.models import AwsRole, MappingRole
from broker.entitlements.queries.decided import decided_row
from broker.entitlements.queries.facts import (
    ROLE,
    denies_of,
    deny_facts,
    deny_rows,
    link_rows,
    mapping_facts,
    mappings_of,
    matching,
    role_facts,
    role_rows,
)
from broker.entitlements.queries.held import given_by
from broker.entitlements.queries.pages import Page, clamp
from broker.entitlements.queries.search import Among, people_with_words, roles_with_words
from broker.entitlements.rules import (
    Condition,
    Decision,
    DenyFacts,
    MappingFacts,
    RoleFacts,
    Snapshot,
    conditions_of,
    limits_of,
    unconditional,
)


@dataclass(frozen=True, slots=True)
class Right:
    """One mapping as it concerns one person and one role.

    group: their membership, None when it does not count now (a disabled provider). fresh: the membership counts now.
    conditions: what depends on how, when and from where they sign in. limits: what does not.
    """

    mapping: MappingFacts
    group: GroupRef | None
    fresh: bool
    conditions: tuple[Condition, ...]
    limits: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class PersonRight:
    """One role that a person has something to do with: what they would get, and every mapping and deny behind it.

    console, keys: decide() for a sign-in of this very moment that meets every condition (second factor, age,
    network); the conditions themselves are listed with each mapping. A stale membership is shown as it is.
    """

    role: RoleFacts
    console: Decision
    keys: Decision
    rights: tuple[Right, ...]
    denies: tuple[DenyFacts, ...]


@dataclass(frozen=True, slots=True)
class PersonBrief:
    """A person as a list shows them."""

    id: UUID
    handle: str
    name: str
    email: str
    active: bool


@dataclass(frozen=True, slots=True)
class RoleReach:
    """One person whom some mapping of a role concerns: what they would get, and why. Read as PersonRight is."""

    person: PersonBrief
    console: Decision
    keys: Decision
    rights: tuple[Right, ...]
    denies: tuple[DenyFacts, ...]


def explain_person(
    person_id: UUID, now: datetime, *, text: str = "", page: int = 1, page_size: int = 50
) -> Page[PersonRight]:
    """Every role that any mapping, in whatever state, connects with a group of this person, and what comes of it."""
    person = Person.objects.select_related("provider").filter(pk=person_id).first()
    if person is None:
        return Page((), 0, 1, 1)
    principal = _as_if_signed_in(person, now)
    links = MappingRole.objects.filter(group__memberships__person_id=person_id)
    roles = roles_with_words(AwsRole.objects.filter(given_by(links)), text).order_by(
        "account__name", "account__account_id", "name"
    )
    total = roles.count()
    page, pages = clamp(page, page_size, total)
    first = (page - 1) * page_size
    rows = list(roles.values_list(*ROLE, "account_id")[first : first + page_size])
    denies = denies_of(person_id)
    mappings = mappings_of(person_id, [row[0] for row in rows])
    explained = []
    for row in rows:
        snapshot = Snapshot(
            role=role_facts(row[:-1]),
            mappings=tuple(mappings.get(row[0], ())),
            denies=matching(denies, row[0], row[-1]),
        )
        seen = decided_row(principal, _without_conditions(snapshot, now), now)
        explained.append(
            PersonRight(
                snapshot.role,
                seen.console,
                seen.keys,
                _rights(principal, snapshot, now),
                snapshot.denies,
            )
        )
    return Page(tuple(explained), total, page, pages)


def explain_role(
    role_id: UUID, now: datetime, *, text: str = "", page: int = 1, page_size: int = 50
) -> Page[RoleReach]:
    """Everybody in a group that any mapping, in whatever state, connects with this role, and what comes of it.

    text: words that each stand in the handle, name or address of the person.
    """
    row = role_rows().filter(pk=role_id).first()
    if row is None:
        return Page((), 0, 1, 1)
    role = role_facts(row[:-1])
    mappings = [mapping_facts(link[1:]) for link in link_rows().filter(role_id=role_id)]
    reached = Membership.objects.filter(group__links__role_id=role_id)
    people = people_with_words(
        Person.objects.filter(Among(F("id"), Subquery(reached.order_by().values("person_id")))),
        text,
    )
    total = people.count()
    page, pages = clamp(page, page_size, total)
    first = (page - 1) * page_size
    of_page = list(people.select_related("provider").order_by("handle")[first : first + page_size])
    everywhere = Q(role__isnull=True, account__isnull=True)
    denies = list(deny_rows().filter(Q(role_id=role_id) | Q(account_id=row[-1]) | everywhere))
    groups = {one.group_id for one in mappings} | {one[3] for one in denies if one[3] is not None}
    held: dict[UUID, list[Membership]] = defaultdict(list)
    memberships = Membership.objects.filter(person__in=of_page, group_id__in=groups)
    for one in memberships.select_related("group__provider"):
        held[one.person_id].append(one)
    explained = []
    for person in of_page:
        theirs = {one.group_id for one in held[person.id]}
        snapshot = Snapshot(
            role=role,
            mappings=tuple(one for one in mappings if one.group_id in theirs),
            denies=tuple(
                deny_facts(one) for one in denies if one[5] == person.id or one[3] in theirs
            ),
        )
        principal = _as_if_signed_in(person, now, held[person.id])
        seen = decided_row(principal, _without_conditions(snapshot, now), now)
        explained.append(
            RoleReach(
                _brief(person),
                seen.console,
                seen.keys,
                _rights(principal, snapshot, now),
                snapshot.denies,
            )
        )
    return Page(tuple(explained), total, page, pages)


@dataclass(frozen=True, slots=True)
class Audience:
    """Who would get a mapping: the members of its group. fresh: how many of them count without signing in again."""

    total: int
    fresh: int
    people: tuple[PersonBrief, ...]


def who_would_get(group_id: int, now: datetime, *, first: int = 10) -> Audience:
    """The active members of a group, for the form of a mapping that is not saved yet."""
    members = Membership.objects.filter(group_id=group_id, person__is_active=True)
    stale = Q(
        source=Membership.Source.SIGN_IN,
        confirmed_at__lte=now - settings.DAYPASS_MEMBERSHIP_MAX_AGE,
    )
    counted = members.aggregate(
        total=Count("id"), fresh=Count("id", filter=~stale & Q(group__provider__enabled=True))
    )
    people = members.select_related("person").order_by("person__handle")[:first]
    return Audience(counted["total"], counted["fresh"], tuple(_brief(one.person) for one in people))


def _brief(person: Person) -> PersonBrief:
    return PersonBrief(person.id, person.handle, person.name, person.email, person.is_active)


def _without_conditions(snapshot: Snapshot, now: datetime) -> Snapshot:
    return replace(
        snapshot,
        mappings=tuple(unconditional(one) for one in snapshot.mappings),
        relayed_until=now + timedelta(minutes=5),  # a sign-in of this moment would bring it
    )


def _rights(principal: Principal, snapshot: Snapshot, now: datetime) -> tuple[Right, ...]:
    held = {group.id: group for group in principal.groups}
    rights = []
    for mapping in snapshot.mappings:
        group = held.get(mapping.group_id)
        fresh = group is not None and (group.fresh_until is None or group.fresh_until > now)
        rights.append(Right(mapping, group, fresh, conditions_of(mapping), limits_of(mapping)))
    return tuple(sorted(rights, key=lambda right: (right.mapping.group_name, right.mapping.id)))


def _as_if_signed_in(
    person: Person, now: datetime, memberships: Iterable[Membership] | None = None
) -> Principal:
    """The person, as if they had signed in this moment with two factors and brought the same groups as are kept.

    memberships: some of theirs, loaded for many people at once; without, all of them are read.
    """
    proof = Proof(
        provider_id=person.provider_id,
        provider_name=person.provider.name if person.provider else "",
        method="saml" if person.provider and person.provider.protocol == "saml" else "oidc",
        at=now,
        mfa=True,
    )
    return principal_of(person, proof, address="", memberships=memberships)
