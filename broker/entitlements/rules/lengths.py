"""How long a session may be, as far as AWS is concerned."""

from __future__ import annotations

SHORTEST_SECONDS = 900
LONGEST_SECONDS = 43200
"""What STS accepts as DurationSeconds, whatever the role allows."""

LONGEST_CHAINED_SECONDS = 3600
"""A role that is assumed with another role's credentials lives for an hour at most, whatever its own maximum says."""


def longest_of(trust: str, max_seconds: int) -> int:
    """The longest session that AWS gives of a role with this maximum, when Daypass gets in by this trust."""
    chained = trust == "assume_role"
    return min(max_seconds, LONGEST_CHAINED_SECONDS if chained else LONGEST_SECONDS)
