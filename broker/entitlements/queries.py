"""Reading rights: the snapshot that the decision looks at, the list of a person's roles, and who gets what and why.

Every read starts at the person's own memberships (or at the one role), so that its cost follows them and not the
number of all mappings. Nothing here decides: rows go to `decide()`, and its answer is what comes back.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from collections.abc import Mapping as MappingOf
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Generic, TypeVar
from uuid import UUID

from django.conf import settings
from django.db.models import (
    BooleanField,
    Case,
    Count,
    Exists,
    F,
    Func,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    TextField,
    Value,
    When,
)
from django.db.models.functions import Cast, Concat

from accounts.identity import GroupRef, Principal, Proof
from accounts.models import DirectoryGroup, Membership, Person
from accounts.queries import principal_of, relayed_assertion, relayed_token_until
from broker.arns import parse_account_id
from broker.entitlements import packing
from broker.entitlements.models import AwsAccount, AwsRole, Deny, Mapping, MappingRole
from broker.entitlements.places import Place, read_place
from broker.entitlements.rules import (
    Allowed,
    Ask,
    Condition,
    Decision,
    DenyFacts,
    Door,
    MappingFacts,
    RoleFacts,
    Snapshot,
    conditions_of,
    decide,
    limits_of,
    unconditional,
)
from broker.errors import BadInput
from broker.prepared import Prepared

MOST_WORDS = 8
MOST_CHARACTERS = 200
"""How much of a search is looked at; more says nothing more about a role."""

RELAYED = AwsRole.Trust.RELAYED_TOKEN.value
ASSERTED = AwsRole.Trust.RELAYED_ASSERTION.value

MOST_ASSERTED = 400
"""Roles of one assertion that are shown in a list; each of them opens by its own address."""

# The columns of a role in the order of RoleFacts, and of a mapping in the order of MappingFacts.
_ROLE = (
    "id", "arn", "name", "path", "account__account_id", "account__name", "account__enabled",
    "account__partition", "account__region", "account__environment__name",
    "account__environment__colour", "account__environment__production", "description", "trust",
    "console", "external_id", "account__saml_provider_name", "max_seconds", "sensitive", "enabled",
    "relay_provider_id", "session_name", "account__external_id", "account__second_region",
)  # fmt: skip
_NAME = _ROLE.index("name")
_MAPPING = (
    "id", "group_id", "group__name", "group__key", "note", "enabled", "max_seconds",
    "allow_console", "allow_keys", "require_mfa", "max_sign_in_age", "networks", "valid_from",
    "valid_until", "session_policy", "policy_arns", "session_tags", "transitive_tag_keys", "created_at",
)  # fmt: skip
_ROLE_OF_LINK = tuple(f"role__{column}" for column in _ROLE)
_MAPPING_OF_LINK = tuple(f"mapping__{column}" for column in _MAPPING)
_DENY = ("id", "reason", "enabled", "group_id", "valid_until", "person_id", "role_id", "account_id")


def _role_facts(row: Sequence[Any]) -> RoleFacts:
    (
        id, arn, name, path, account_id, account_name, account_enabled, partition, region,
        environment, environment_colour, production, description, trust, console, external_id,
        saml_provider_name, max_seconds, sensitive, enabled, relay_provider_id,
        session_name, account_external_id, second_region,
    ) = row  # fmt: skip
    return RoleFacts(
        id=id,
        arn=arn,
        name=name,
        path=path,
        account_id=account_id,
        account_name=account_name,
        account_enabled=account_enabled,
        partition=partition,
        region=region,
        environment=environment or "",
        environment_colour=environment_colour or "",
        production=bool(production),
        description=description,
        trust=trust,
        console=console,
        external_id=external_id or account_external_id,
        saml_provider_name=saml_provider_name,
        max_seconds=max_seconds,
        sensitive=sensitive,
        enabled=enabled,
        relay_provider_id=relay_provider_id,
        session_name=session_name,
        second_region=second_region,
    )


def _mapping_facts(row: Sequence[Any]) -> MappingFacts:
    (
        id, group_id, group_name, group_key, note, enabled, max_seconds, allow_console, allow_keys,
        require_mfa, max_sign_in_age, networks, valid_from, valid_until, session_policy,
        policy_arns, session_tags, transitive_tag_keys, created_at,
    ) = row  # fmt: skip
    return MappingFacts(
        id=id,
        group_id=group_id,
        group_name=group_name or group_key,
        note=note,
        enabled=enabled,
        max_seconds=max_seconds,
        allow_console=allow_console,
        allow_keys=allow_keys,
        require_mfa=require_mfa,
        max_sign_in_age=max_sign_in_age,
        networks=tuple(networks),
        valid_from=valid_from,
        valid_until=valid_until,
        session_policy=session_policy,
        policy_arns=tuple(policy_arns),
        session_tags=session_tags,
        transitive_tag_keys=tuple(transitive_tag_keys),
        created_at=created_at,
    )


def _deny_facts(row: Sequence[Any]) -> DenyFacts:
    id, reason, enabled, group_id, valid_until = row[:5]
    return DenyFacts(
        id=id, reason=reason, enabled=enabled, group_id=group_id, valid_until=valid_until
    )


# Naming forty columns costs more than asking for them, so each shape of query is built once and then narrowed.


@cache
def _links_with_roles() -> QuerySet[MappingRole, tuple[Any, ...]]:
    columns = (*_ROLE_OF_LINK, *_MAPPING_OF_LINK, "role__account_id")
    return MappingRole.objects.order_by().values_list(*columns)


@cache
def _links() -> QuerySet[MappingRole, tuple[Any, ...]]:
    return MappingRole.objects.order_by().values_list("role_id", *_MAPPING_OF_LINK)


@cache
def _pairs() -> QuerySet[MappingRole, tuple[Any, ...]]:
    return MappingRole.objects.order_by().values_list("role_id", "mapping_id")


@cache
def _mappings() -> QuerySet[Mapping, tuple[Any, ...]]:
    return Mapping.objects.order_by().values_list(*_MAPPING)


@cache
def _roles() -> QuerySet[AwsRole, tuple[Any, ...]]:
    return AwsRole.objects.order_by().values_list(*_ROLE, "account_id")


@cache
def _denies() -> QuerySet[Deny, tuple[Any, ...]]:
    return Deny.objects.order_by().values_list(*_DENY)


# With every issue of credentials these two run, so their SQL is built once.
_links_of = Prepared(
    lambda person_id, role_id: _links_with_roles().filter(
        role_id=role_id, group__memberships__person_id=person_id
    )
)
_all_denies_of = Prepared(
    lambda person_id: (
        _denies()
        .filter(person_id=person_id)
        .union(_denies().filter(group__memberships__person_id=person_id), all=True)
    )
)


def load_snapshot(principal: Principal, role_id: UUID) -> Snapshot | None:
    """Everything about this person and this role that the decision looks at; None: there is no such role.

    Two indexed queries for anybody whom a mapping gives the role, three for others; one more for a relayed role.
    """
    rows = _links_of(person_id=principal.person_id, role_id=role_id)
    if rows:
        role, account = _role_facts(rows[0][: len(_ROLE)]), rows[0][-1]
    else:
        row = _roles().filter(pk=role_id).first()
        if row is None:
            return None
        role, account = _role_facts(row[:-1]), row[-1]
    return Snapshot(
        role=role,
        mappings=tuple(_mapping_facts(row[len(_ROLE) : -1]) for row in rows),
        denies=_matching(_denies_of(principal.person_id), role_id, account),
        **_relayed(principal, role),
    )


def _relayed(principal: Principal, role: RoleFacts) -> dict[str, Any]:
    """The part of a snapshot that says what this browser session has to pass on."""
    match role.trust:
        case "relayed_token":
            return {"relayed_until": relayed_token_until(principal)}
        case "relayed_assertion":
            until, listed = relayed_assertion(principal) or (None, frozenset())
            return {"relayed_until": until, "asserted": role.arn in listed}
        case _:
            return {}


def asserted_roles(principal: Principal, *, now: datetime) -> tuple[RoleRow, ...]:
    """The roles that the company's own AWS application lists for the person just now, by account and name."""
    live = relayed_assertion(principal)
    if live is None or live[0] <= now:
        return ()
    rows = (
        _roles()
        .filter(
            arn__in=sorted(live[1])[:MOST_ASSERTED],
            trust=ASSERTED,
            relay_provider_id=principal.proof.provider_id,
            enabled=True,
            account__enabled=True,
        )
        .order_by("account__name", "account__account_id", "name")
    )
    denies = _denies_of(principal.person_id)
    decided = (
        _row(
            principal,
            Snapshot(
                role=_role_facts(row[:-1]),
                mappings=(),
                denies=_matching(denies, row[0], row[-1]),
                relayed_until=live[0],
                asserted=True,
            ),
            now,
        )
        for row in rows
    )
    return tuple(row for row in decided if isinstance(row.console, Allowed) or row.console.visible)


def application_of(principal: Principal) -> str:
    """The part of its addresses of the provider whose AWS application gives roles that are in use; "" for none."""
    if principal.proof.provider_id is None:
        return ""
    found = AwsRole.objects.filter(
        trust=ASSERTED,
        relay_provider_id=principal.proof.provider_id,
        relay_provider__relay_application__enabled=True,
        enabled=True,
        account__enabled=True,
    )
    return found.order_by().values_list("relay_provider__slug", flat=True).first() or ""


def relays_from(provider_id: UUID) -> bool:
    """Whether a role that is in use takes the tokens of this provider's sign-ins."""
    return AwsRole.objects.filter(
        trust=RELAYED, relay_provider_id=provider_id, enabled=True, account__enabled=True
    ).exists()


def _denies_of(person_id: UUID) -> list[tuple[Any, ...]]:
    """Every deny that names the person or one of their groups, in one query, whatever state it is in.

    Groups of a disabled provider count here: a doubt is never to the person's favour.
    """
    return _all_denies_of(person_id=person_id)


def _matching(
    denies: Iterable[tuple[Any, ...]], role_id: UUID, account: int
) -> tuple[DenyFacts, ...]:
    """Those that name this role, this account (by primary key), or everything."""
    return tuple(
        _deny_facts(row)
        for row in denies
        if (row[6] is None or row[6] == role_id) and (row[7] is None or row[7] == account)
    )


# --- how much of AWS's space a mapping's tags take

MOST_MEASURED = 2000
"""So many members of a group are measured; the longest values of these stand for the rest."""


@dataclass(frozen=True, slots=True)
class TagSpace:
    """What a mapping's tags and policies take of AWS's space, in about percent (see packing.py).

    people: members that were measured. largest: the most that one of them takes; over: how many take more than all.
    assumed: what it takes when every value has packing.ASSUMED_LENGTH characters.
    """

    people: int
    largest: int
    over: int
    assumed: int


def tag_space(
    group: int, session_tags: MappingOf[str, str], session_policy: str, policy_arns: Iterable[str]
) -> TagSpace:
    """Measure what these tags would take for the members of a group as they are known now."""
    arns = tuple(policy_arns)

    def measured(values: MappingOf[str, str]) -> int:
        return packing.percent(values, session_policy, arns)

    people = Person.objects.filter(memberships__group=group, is_active=True).only(
        "handle", "email", "name", "attributes"
    )
    sizes = []
    for person in people[:MOST_MEASURED]:
        own = {"handle": [person.handle], "email": [person.email], "name": [person.name]}
        known = {**person.attributes, **own}
        values = {
            key: max((known.get(attribute) or [""]), key=len)
            for key, attribute in session_tags.items()
        }
        sizes.append(measured(values))
    assumed = measured(dict.fromkeys(session_tags, "x" * packing.ASSUMED_LENGTH))
    return TagSpace(
        people=len(sizes),
        largest=max(sizes, default=0),
        over=sum(size > packing.FULL for size in sizes),
        assumed=assumed,
    )


# --- a person's own roles


@dataclass(frozen=True, slots=True)
class RoleRow:
    """A role as its list shows it: the role, and what decide() says to the console and to keys."""

    role: RoleFacts
    console: Decision
    keys: Decision


Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """One page of a longer list, counted from 1. total: rows on all pages. Iterates over its own rows."""

    rows: tuple[Row, ...]
    total: int
    page: int
    pages: int

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class RolePage(Page[RoleRow]):
    """A page of a person's roles. accounts_total: the accounts that the roles of all pages are in."""

    accounts_total: int = 0


def find_roles(
    principal: Principal,
    text: str = "",
    *,
    page: int = 1,
    page_size: int = 50,
    now: datetime,
    door: Door = "browser",
) -> RolePage:
    """The roles that the person has a live right to, usable now or not, by account and name; searched by `text`.

    Every word of the text has to stand somewhere in the account's name, id, alias or environment or in the role's
    name or description, whatever its case. A page past the end is the last one. Four queries; five for a long page.
    """
    return _page_of_roles(
        principal, _matching_words(_live_roles(principal, now), text), page, page_size, now, door
    )


def rows_of(
    principal: Principal, role_ids: Iterable[UUID], *, now: datetime, door: Door = "browser"
) -> tuple[RoleRow, ...]:
    """The same rows for roles that are known by id (favourites, recent ones), in that order; others are left out."""
    wanted = list(dict.fromkeys(role_ids))
    found = _live_roles(principal, now).filter(id__in=wanted)
    rows = _decided(principal, list(found.values_list(*_ROLE, "account_id")), now, door)
    by_id = {row.role.id: row for row in rows}
    return tuple(by_id[role_id] for role_id in wanted if role_id in by_id)


@dataclass(frozen=True, slots=True)
class Opening:
    """Where a pasted address leads, and the person's roles that can open it."""

    place: Place
    roles: RolePage


def roles_that_open(
    principal: Principal, text: str, *, now: datetime, page: int = 1, page_size: int = 50
) -> Opening | None:
    """The person's roles in the account of a pasted ARN or console address; None: the text is no such thing.

    An address that does not say its account leads to all roles of its partition.
    """
    place = read_place(text)
    if place is None:
        return None
    roles = _live_roles(principal, now).filter(account__partition=place.partition)
    if place.account:
        roles = roles.filter(_account_named(place.account))
    if place.role:
        roles = roles.filter(name=place.role)
    return Opening(place, _page_of_roles(principal, roles, page, page_size, now))


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
    found = AwsRole.objects.filter(_account_named(account), name=role)
    return found.order_by().values_list("id", flat=True).first()


def _account_named(account: str) -> Q:
    """The roles of an account by its id or, if that is no number, by its alias."""
    if account.isdigit():
        return Q(account__account_id=account)
    return Q(account__alias=account) & ~Q(account__alias="")


def _live_roles(principal: Principal, now: datetime) -> QuerySet[AwsRole]:
    """What `Refused.visible` means, in SQL, starting at the person's memberships; in the order of the list."""
    if _has_nothing(principal):
        return AwsRole.objects.none()
    return AwsRole.objects.filter(
        _of_links(_live_links(principal, now)), enabled=True, account__enabled=True
    ).order_by("account__name", "account__account_id", "name")


def _has_nothing(principal: Principal) -> bool:
    """Who is switched off has no right, and nor has the break-glass account, which no provider vouches for."""
    return not principal.active or principal.proof.provider_id is None


def _live_links(principal: Principal, now: datetime) -> QuerySet[MappingRole]:
    """What gives the person any live right."""
    return MappingRole.objects.filter(
        Q(valid_until__isnull=True) | Q(valid_until__gt=now),
        enabled=True,
        group_id__in=_held_groups(principal),
    )


def _held_groups(principal: Principal) -> QuerySet[Membership, Any]:
    """The groups of the person that count with this sign-in."""
    # A question about each of the person's groups, not a join: without statistics, SQLite would start a join at all
    # groups of the provider.
    counts = DirectoryGroup.objects.filter(
        pk=OuterRef("group_id"), provider_id=principal.proof.provider_id, provider__enabled=True
    )
    held = Membership.objects.filter(Exists(counts), person_id=principal.person_id)
    return held.order_by().values("group_id")


def _of_links(links: QuerySet[MappingRole]) -> Among:
    """Of a role: that one of these links gives it."""
    return Among(F("id"), Subquery(links.order_by().values("role_id")))


def _page_of_roles(
    principal: Principal,
    roles: QuerySet[AwsRole],
    page: int,
    page_size: int,
    now: datetime,
    door: Door = "browser",
) -> RolePage:
    """Walks the keys of all that match once, for counting and for finding the page; then loads the page alone.

    Counting in one query and paging in another would do the searching and the sorting twice.
    """
    keys = list(roles.values_list(Cast("id", TextField()), "account_id"))
    page, pages = _clamp(page, page_size, len(keys))
    first = (page - 1) * page_size
    wanted = [UUID(key) for key, _ in keys[first : first + page_size]]
    place = {role_id: number for number, role_id in enumerate(wanted)}
    rows = sorted(_roles().filter(id__in=wanted), key=lambda row: place[row[0]])
    accounts = len({account for _, account in keys})
    return RolePage(_decided(principal, rows, now, door), len(keys), page, pages, accounts)


def _clamp(page: int, page_size: int, total: int) -> tuple[int, int]:
    """The page that is meant and how many there are: at least one, and none past the last."""
    pages = max(1, math.ceil(total / page_size))
    return min(max(1, page), pages), pages


def _decided(
    principal: Principal, rows: Sequence[tuple[Any, ...]], now: datetime, door: Door = "browser"
) -> tuple[RoleRow, ...]:
    """decide() for the roles of one page. Each row: the columns of _ROLE and the account's primary key.

    The decision has the last word on what may be told, should it ever disagree with what the list was read from.
    """
    if not rows:
        return ()
    mappings = _mappings_of(principal.person_id, [row[0] for row in rows])
    denies = _denies_of(principal.person_id)
    relayed_until = relayed_token_until(principal) if any(RELAYED in row for row in rows) else None
    decided = (
        _row(
            principal,
            Snapshot(
                role=_role_facts(row[:-1]),
                mappings=tuple(mappings.get(row[0], ())),
                denies=_matching(denies, row[0], row[-1]),
                relayed_until=relayed_until,
            ),
            now,
            door,
        )
        for row in rows
    )
    return tuple(row for row in decided if isinstance(row.console, Allowed) or row.console.visible)


MANY = 200
"""Roles from which on their mappings are read once each, by a query more: a mapping may be for thousands of them."""


def _mappings_of(
    person_id: UUID, role_ids: Sequence[UUID]
) -> MappingOf[UUID, Sequence[MappingFacts]]:
    """The mappings by which the person has anything to do with these roles, by role."""
    found: dict[UUID, list[MappingFacts]] = defaultdict(list)
    concerned = {"role_id__in": role_ids, "group__memberships__person_id": person_id}
    if len(role_ids) < MANY:
        for link in _links().filter(**concerned):
            found[link[0]].append(_mapping_facts(link[1:]))
        return found
    pairs = list(_pairs().filter(**concerned))
    of = _mappings().filter(id__in={mapping_id for _, mapping_id in pairs})
    facts = {row[0]: _mapping_facts(row) for row in of}
    for role_id, mapping_id in pairs:
        # One that is not there was deleted between the two queries, and its links with it.
        if mapping_id in facts:
            found[role_id].append(facts[mapping_id])
    return found


def _row(
    principal: Principal, snapshot: Snapshot, now: datetime, door: Door = "browser"
) -> RoleRow:
    role_id = snapshot.role.id
    return RoleRow(
        role=snapshot.role,
        console=decide(principal, Ask(role_id, "console", door=door), snapshot, now),
        keys=decide(principal, Ask(role_id, "keys", door=door), snapshot, now),
    )


# --- a person's roles as programs list them


@dataclass(frozen=True, slots=True)
class AccountBrief:
    """An AWS account as a list names it."""

    account_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Slice(Generic[Row]):
    """Some of a longer list, in its order. following: what to ask for the rest with (`after`), () at the end."""

    rows: tuple[Row, ...]
    following: tuple[str, ...] = ()


def accounts_with_keys(
    principal: Principal,
    *,
    door: Door,
    only: UUID | None = None,
    after: tuple[str, ...] = (),
    most: int,
    now: datetime,
) -> Slice[AccountBrief]:
    """The accounts in which keys can be had, now or under some condition, by name.

    only: the one role that whoever asks may ask for. after: what a `Slice` said, else from the beginning. One query,
    two where the provider's AWS application names roles. Raises BadInput for an `after` that no slice said.
    """
    if _has_nothing(principal):
        return Slice(())
    asserted = [row.role.id for row in asserted_roles(principal, now=now)]
    roles = _with_keys(_links_with_keys(principal, now), asserted, door, only)
    accounts = AwsAccount.objects.filter(
        Among(F("id"), Subquery(roles.order_by().values("account_id"))), enabled=True
    )
    if after:
        name, account_id = _known(after, 2)
        accounts = accounts.filter(Q(name__gt=name) | Q(name=name, account_id__gt=account_id))
    rows = list(
        accounts.order_by("name", "account_id").values_list("account_id", "name")[: most + 1]
    )
    briefs = tuple(AccountBrief(*row) for row in rows[:most])
    return Slice(briefs, (briefs[-1].name, briefs[-1].account_id) if len(rows) > most else ())


def roles_with_keys(
    principal: Principal,
    account_id: str,
    *,
    door: Door,
    only: UUID | None = None,
    after: tuple[str, ...] = (),
    most: int,
    now: datetime,
) -> Slice[RoleFacts]:
    """The person's roles in one account of which keys can be had, now or under some condition, by name.

    only, after: as in `accounts_with_keys`. Three queries, and those of asserted roles. What decide() would not tell
    the person of is left out, so that fewer than `most` may come.
    """
    if _has_nothing(principal):
        return Slice(())
    named = {
        row.role.id: row.role
        for row in asserted_roles(principal, now=now)
        if row.role.account_id == account_id
    }
    links = _live_links(principal, now).filter(
        role__account__account_id=account_id, mapping__allow_keys=True
    )
    roles = _with_keys(links, named, door, only).filter(
        account__account_id=account_id, account__enabled=True
    )
    if after:
        roles = roles.filter(name__gt=_known(after, 1)[0])
    rows = list(roles.order_by("name").values_list(*_ROLE, "account_id")[: most + 1])
    mapped = _decided(principal, [row for row in rows[:most] if row[0] not in named], now, door)
    told = {row.role.id: row.role for row in mapped} | named
    return Slice(
        tuple(told[row[0]] for row in rows[:most] if row[0] in told),
        (rows[most - 1][_NAME],) if len(rows) > most else (),
    )


def every_role_with_keys(
    principal: Principal, *, only: UUID | None = None, most: int | None = None, now: datetime
) -> tuple[tuple[RoleFacts, str], ...]:
    """What `accounts_with_keys` and `roles_with_keys` list for a client let in by a browser, with each account's alias.

    most: only so many, the first by account and name. Three queries, and those of asserted roles.
    """
    if _has_nothing(principal):
        return ()
    named = {row.role.id: row.role for row in asserted_roles(principal, now=now)}
    rows = list(
        _with_keys(_links_with_keys(principal, now), named, "terminal", only)
        .filter(account__enabled=True)
        .order_by("account__name", "account__account_id", "name")
        .values_list(*_ROLE, "account_id", "account__alias")[:most]
    )
    mapped = _decided(principal, [row[:-1] for row in rows if row[0] not in named], now, "terminal")
    told = {row.role.id: row.role for row in mapped} | named
    return tuple((told[row[0]], row[-1]) for row in rows if row[0] in told)


def _known(after: tuple[str, ...], length: int) -> tuple[str, ...]:
    if len(after) != length or any("\x00" in text for text in after):
        raise BadInput("This is no place in the list.", code="bad_place")
    return after


def _links_with_keys(principal: Principal, now: datetime) -> QuerySet[MappingRole]:
    """What gives the person a live right to keys."""
    # Not joined: PostgreSQL would rather read all mappings of the company.
    with_keys = Mapping.objects.filter(allow_keys=True, group_id__in=_held_groups(principal))
    return _live_links(principal, now).filter(
        Among(F("mapping_id"), Subquery(with_keys.order_by().values("id")))
    )


def _with_keys(
    links: QuerySet[MappingRole], asserted: Collection[UUID], door: Door, only: UUID | None
) -> QuerySet[AwsRole]:
    """The roles that one of these links gives at this door, and the asserted ones."""
    by_links = Q(_of_links(links)) & ~Q(trust=ASSERTED)
    by_word = Q(id__in=list(asserted))
    roles = AwsRole.objects.filter(by_links | by_word if asserted else by_links, enabled=True)
    if door == "device_code":
        roles = roles.filter(sensitive=False)
    return roles if only is None else roles.filter(id=only)


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


# --- search


class Among(Func):
    """Among(F("id"), Subquery(...)): the id is one of those, and they are read first.

    PostgreSQL cannot know how few rows a search leaves, believes in one, and would rather search all roles of the
    company; given the ids as an array, it starts from them.
    """

    arity = 2
    output_field = BooleanField()
    template = "%(expressions)s"
    arg_joiner = " IN "

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(
            compiler, connection, template="%(expressions)s)", arg_joiner=" = ANY(ARRAY", **context
        )


class Folded(Func):
    """Text without its case, in any script. SQLite's own LOWER knows ASCII only."""

    function = "LOWER"
    output_field = TextField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        connection.ensure_connection()
        # Registering is cheap and the same every time; doing it here needs no hook on new connections.
        connection.connection.create_function("daypass_fold", 1, fold, deterministic=True)
        return self.as_sql(compiler, connection, function="daypass_fold", **context)


def fold(text: str | None) -> str:
    """As words are compared: composed characters (NFC), lower case, no NUL (PostgreSQL takes none)."""
    return unicodedata.normalize("NFC", text or "").lower().replace("\x00", "\N{SYMBOL FOR NULL}")


def words_of(text: str) -> tuple[str, ...]:
    """The words that a search looks for; an account id in groups of four is one word of twelve digits."""
    words = fold(text[:MOST_CHARACTERS]).split()[:MOST_WORDS]
    return tuple(
        word.replace("-", "") if _GROUPED_ACCOUNT_ID.fullmatch(word) else word for word in words
    )


_GROUPED_ACCOUNT_ID = re.compile(r"\d{4}-\d{4}-\d{4}", re.ASCII)
_SPACE = Value(" ")


Model = TypeVar("Model", AwsRole, Person)


def _with_words(rows: QuerySet[Model], everything: Folded, words: Sequence[str]) -> QuerySet[Model]:
    """Those rows in whose text every word stands somewhere; % and _ are letters like others."""
    if words:
        rows = rows.alias(everything=everything)
    for word in words:
        rows = rows.filter(**{"everything__contains": word})
    return rows


def _matching_words(roles: QuerySet[AwsRole], text: str) -> QuerySet[AwsRole]:
    words = words_of(text)
    if not words:
        return roles
    marked = Case(
        When(account__environment__production=True, then=Value("production")), default=Value("")
    )
    everything = Folded(
        Concat(
            "account__name",
            _SPACE,
            "account__account_id",
            _SPACE,
            "account__alias",
            _SPACE,
            "account__environment__name",
            _SPACE,
            marked,
            _SPACE,
            "name",
            _SPACE,
            "description",
            output_field=TextField(),
        )
    )
    return _with_words(roles, everything, words)


# --- who gets what, and why: for administrators


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
    roles = _matching_words(
        AwsRole.objects.filter(Among(F("id"), Subquery(links.order_by().values("role_id")))), text
    ).order_by("account__name", "account__account_id", "name")
    total = roles.count()
    page, pages = _clamp(page, page_size, total)
    first = (page - 1) * page_size
    rows = list(roles.values_list(*_ROLE, "account_id")[first : first + page_size])
    denies = _denies_of(person_id)
    mappings: dict[UUID, list[MappingFacts]] = defaultdict(list)
    of_page = _links().filter(
        role_id__in=[row[0] for row in rows], group__memberships__person_id=person_id
    )
    for link in of_page:
        mappings[link[0]].append(_mapping_facts(link[1:]))
    explained = []
    for row in rows:
        snapshot = Snapshot(
            role=_role_facts(row[:-1]),
            mappings=tuple(mappings[row[0]]),
            denies=_matching(denies, row[0], row[-1]),
        )
        seen = _row(principal, _without_conditions(snapshot, now), now)
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
    row = _roles().filter(pk=role_id).first()
    if row is None:
        return Page((), 0, 1, 1)
    role = _role_facts(row[:-1])
    mappings = [_mapping_facts(link[1:]) for link in _links().filter(role_id=role_id)]
    reached = Membership.objects.filter(group__links__role_id=role_id)
    people = _people_matching(
        Person.objects.filter(Among(F("id"), Subquery(reached.order_by().values("person_id")))),
        text,
    )
    total = people.count()
    page, pages = _clamp(page, page_size, total)
    first = (page - 1) * page_size
    of_page = list(people.select_related("provider").order_by("handle")[first : first + page_size])
    everywhere = Q(role__isnull=True, account__isnull=True)
    denies = list(_denies().filter(Q(role_id=role_id) | Q(account_id=row[-1]) | everywhere))
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
                _deny_facts(one) for one in denies if one[5] == person.id or one[3] in theirs
            ),
        )
        principal = _as_if_signed_in(person, now, held[person.id])
        seen = _row(principal, _without_conditions(snapshot, now), now)
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


def _people_matching(people: QuerySet[Person], text: str) -> QuerySet[Person]:
    everything = Folded(Concat("handle", _SPACE, "name", _SPACE, "email", output_field=TextField()))
    return _with_words(people, everything, words_of(text))


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
    if memberships is None:
        return principal_of(person, proof, address="")
    age = settings.DAYPASS_MEMBERSHIP_MAX_AGE
    return Principal(
        person_id=person.id,
        handle=person.handle,
        name=person.name,
        email=person.email,
        active=person.is_active,
        epoch=person.epoch,
        proof=proof,
        attributes={name: tuple(values) for name, values in person.attributes.items()},
        groups=tuple(
            GroupRef(
                id=one.group_id,
                provider_id=one.group.provider_id,
                key=one.group.key,
                name=one.group.name or one.group.key,
                fresh_until=None
                if one.source == Membership.Source.SCIM
                else one.confirmed_at + age,
            )
            for one in memberships
            if one.group.provider.enabled
        ),
    )
