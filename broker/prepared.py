"""Statements whose SQL is built once, for the few that run with every request or every issue of credentials.

Django builds a query's SQL anew for each call: 0.3 ms of CPU for a small one, 3 ms for one with many joins, several
times what the database needs to answer it. Everything else is read and written in the ordinary way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.models import Model, QuerySet


@dataclass(frozen=True, slots=True)
class _Statement:
    """sql with its parameters, each a constant or the name of a slot; converters by column, as Django found them."""

    sql: str
    parameters: tuple[tuple[str, Any], ...]
    converters: tuple[tuple[int, Sequence[Callable[..., Any]], Any], ...]


class Prepared:
    """A `values_list` query with named slots: `Prepared(lambda id: Thing.objects.filter(pk=id).values_list("a"))`.

    Called with the slots by name, it answers all rows as tuples, converted as the query itself would. A slot is
    compared with `=` only, never None, and is a UUID, a text or a whole number, always of the same type.
    """

    def __init__(self, build: Callable[..., QuerySet[Any, Any]]) -> None:
        self._build = build
        self._statements: WeakKeyDictionary[Any, _Statement] = WeakKeyDictionary()

    def __call__(self, **slots: UUID | str | int) -> list[tuple[Any, ...]]:
        handle = connections[DEFAULT_DB_ALIAS]  # of this thread
        statement = self._statements.get(handle)
        if statement is None:
            statement = self._statements[handle] = self._prepare(slots)
        parameters = [
            _adapted(slots[name]) if name else constant for name, constant in statement.parameters
        ]
        with connection.cursor() as cursor:
            cursor.execute(statement.sql, parameters)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
        if statement.converters and rows:
            rows = [_converted(row, statement.converters) for row in rows]
        return rows

    def _prepare(self, slots: dict[str, Any]) -> _Statement:
        """Build the query once with marks in its slots, and remember where they came out."""
        marks = {name: _mark(value, number) for number, (name, value) in enumerate(slots.items())}
        compiler = self._build(**marks).query.get_compiler(connection=connection)
        sql, parameters = compiler.as_sql()
        names = {_adapted(mark): name for name, mark in marks.items()}
        found = tuple((names.get(value, ""), value) for value in parameters)
        missing = set(slots) - {name for name, _ in found}
        if missing:
            raise ValueError(f"the query has no place for {', '.join(sorted(missing))}")
        columns = [expression for expression, *_ in compiler.select[: compiler.col_count]]
        return _Statement(
            sql,
            found,
            tuple(
                (place, converters, expression)
                for place, (converters, expression) in compiler.get_converters(columns).items()
            ),
        )


class PreparedInsert:
    """Inserts rows of one model, complete with their primary keys: `PreparedInsert(Thing)([one, other])`.

    Like `bulk_create` it calls no `save()` and sends no signals. Fields keep their own conversion.
    """

    def __init__(self, model: type[Model]) -> None:
        self._model = model
        self._fields = model._meta.concrete_fields

    def __call__(self, objects: Sequence[Model]) -> None:
        handle = connections[DEFAULT_DB_ALIAS]
        quote = handle.ops.quote_name
        columns = ", ".join(quote(str(field.column)) for field in self._fields)
        row = f"({', '.join(['%s'] * len(self._fields))})"
        table = quote(self._model._meta.db_table)
        parameters = [
            field.get_db_prep_save(field.pre_save(one, True), handle)
            for one in objects
            for field in self._fields
        ]
        with handle.cursor() as cursor:
            # Names of our own tables and columns, and nothing else, stand in the text.
            sql = f"INSERT INTO {table} ({columns}) VALUES {', '.join([row] * len(objects))}"  # noqa: S608
            cursor.execute(sql, parameters)


def _mark(value: Any, number: int) -> Any:
    """A value of the same type that cannot be in the query by chance."""
    if isinstance(value, UUID):
        return UUID(int=0xDA9_A55 << 96 | number)
    if isinstance(value, str):
        return f"\N{WHITE SQUARE} slot {number}"
    if isinstance(value, int) and not isinstance(value, bool):
        # Within the smallest integer column: Django answers a comparison out of its range without asking the database.
        return 31_400 + number
    raise TypeError(f"a slot holds a UUID, a text or a whole number, not {type(value).__name__}")


def _adapted(value: Any) -> Any:
    if isinstance(value, UUID) and not connection.features.has_native_uuid_field:
        return value.hex
    return value


def _converted(
    row: tuple[Any, ...], converters: tuple[tuple[int, Sequence[Callable[..., Any]], Any], ...]
) -> tuple[Any, ...]:
    values = list(row)
    for place, chain, expression in converters:
        for convert in chain:
            values[place] = convert(values[place], expression, connection)
    return tuple(values)
