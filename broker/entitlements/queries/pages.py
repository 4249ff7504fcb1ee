"""Parts of longer lists: by number for people, by what came last for programs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

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
class Slice(Generic[Row]):
    """Some of a longer list, in its order. following: what to ask for the rest with (`after`), () at the end."""

    rows: tuple[Row, ...]
    following: tuple[str, ...] = ()


def clamp(page: int, page_size: int, total: int) -> tuple[int, int]:
    """The page that is meant and how many there are: at least one, and none past the last."""
    pages = max(1, math.ceil(total / page_size))
    return min(max(1, page), pages), pages
