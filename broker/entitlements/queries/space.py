"""How much of the space that AWS has for them a mapping's tags and policies take."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping as MappingOf
from dataclasses import dataclass

from accounts.models import Person
from broker.entitlements import packing

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
