"""Small things that pages are made of."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.db import models
from django.db.models import Count, OuterRef, Subquery
from django.db.models.functions import Coalesce
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

NOTHING = "\N{EN DASH}"
"""What stands where there is no value."""


def chip(text: object, colour: str) -> SafeString:
    """A word of state, in one of the colours of the style sheet."""
    return format_html('<span class="chip" data-colour="{}">{}</span>', colour, text)


def link_to(thing: models.Model, said: str = "") -> SafeString:
    """To an object's page, by its own name or as it is called here."""
    return format_html('<a href="{}">{}</a>', url_of(thing), said or str(thing))


def plural(count: int, one: str, many: str) -> str:
    """So many of them: "1 role", "2 roles"."""
    return f"{count} {one if count == 1 else many}"


def counted(count: int, one: str, many: str) -> tuple[str, str]:
    """A figure and what it counts."""
    return str(count), one if count == 1 else many


def url_of(thing: models.Model) -> str:
    """The address of an object's page in the admin."""
    return reverse(
        f"admin:{thing._meta.app_label}_{thing._meta.model_name}_change", args=(thing.pk,)
    )


def list_url(model: type[models.Model], **filters: Any) -> str:
    """The address of a model's list, filtered."""
    base = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    return f"{base}?{urlencode(filters)}" if filters else base


def how_many(rows: models.QuerySet[Any], by: str) -> Any:
    """A column that counts `rows` of each object on a page, by the name of their foreign key to it.

    A subquery, so that it costs as much as the page shows and not as much as the table holds.
    """
    mine = rows.filter(**{by: OuterRef("pk")}).order_by().values(by)
    return Coalesce(Subquery(mine.annotate(number=Count("pk")).values("number")), 0)


def fitting(rows: models.QuerySet[Any], text: str, *lookups: str) -> models.QuerySet[Any]:
    """The rows of which one of these columns fits the whole text that was typed; all of them when nothing was."""
    text = text.strip()
    if not text:
        return rows
    return rows.filter(models.Q(*((lookup, text) for lookup in lookups), _connector=models.Q.OR))


def titled(title: str, kind: type[admin.FieldListFilter]) -> type[admin.FieldListFilter]:
    """A filter of Django's, under a heading of our own."""

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        kind.__init__(self, *args, **kwargs)
        self.title = title

    return type(kind.__name__, (kind,), {"__init__": init})
