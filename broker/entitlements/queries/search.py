"""Searching by words, in any script and on both databases alike."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any, TypeVar

from django.db.models import BooleanField, Case, Func, QuerySet, TextField, Value, When
from django.db.models.functions import Concat

from accounts.models import Person
from broker.entitlements.models import AwsRole

MOST_WORDS = 8
MOST_CHARACTERS = 200
"""How much of a search is looked at; more says nothing more about a role."""


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


def roles_with_words(roles: QuerySet[AwsRole], text: str) -> QuerySet[AwsRole]:
    """Every word stands in the account's name, id, alias or environment or the role's name or description."""
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


def people_with_words(people: QuerySet[Person], text: str) -> QuerySet[Person]:
    """Every word stands in the person's handle, name or address."""
    everything = Folded(Concat("handle", _SPACE, "name", _SPACE, "email", output_field=TextField()))
    return _with_words(people, everything, words_of(text))
