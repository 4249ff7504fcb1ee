"""How the administrators' pages write times, lengths and things to copy."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from django import template
from django.contrib.admin.helpers import AdminForm, Fieldset
from django.core.exceptions import NON_FIELD_ERRORS
from django.forms import BoundField
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()


@register.filter
def moment(at: datetime | None) -> SafeString | str:
    """When, as people say it, with the exact time for the pointer and for screen readers."""
    if at is None:
        return "never"
    exact = at.astimezone(timezone.get_current_timezone())
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        exact.isoformat(timespec="seconds"),
        exact.strftime("%Y-%m-%d %H:%M:%S UTC"),
        how_long_ago(at, timezone.now()),
    )


def how_long_ago(at: datetime, now: datetime) -> str:
    """ "3 min ago", "in 2 h", "yesterday"; a date when it is more than a month away."""
    seconds = int((now - at).total_seconds())
    away = abs(seconds)
    if away < 45:
        return "just now" if seconds >= 0 else "in a moment"
    if away < 5400:
        said = f"{max(round(away / 60), 1)} min"
    elif away < 36 * 3600:
        said = f"{round(away / 3600)} h"
    elif away < 31 * 86400:
        said = f"{round(away / 86400)} days"
    else:
        return at.strftime("%Y-%m-%d")
    return f"{said} ago" if seconds >= 0 else f"in {said}"


@register.filter
def exact(at: datetime | None) -> str:
    return "" if at is None else at.strftime("%Y-%m-%d %H:%M:%S UTC")


@register.filter
def pretty(value: Any) -> str:
    """Data as indented JSON, for reading."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, default=str)


@register.filter
def folded(fieldset: Fieldset) -> bool:
    """Whether it is shown closed: never with something wrong in it. Django overlooks fields that share a row."""
    return bool(fieldset.is_collapsible) and not any(line.errors() for line in fieldset)


@register.filter
def wrong_fields(form: AdminForm) -> list[BoundField]:
    """The fields that have to be mended, in the order of the page."""
    return [
        bound
        for fieldset in form
        for line in fieldset
        for field in line
        if isinstance(bound := field.field, BoundField) and not bound.is_hidden and bound.errors
    ]


@register.filter
def overtaken(form: AdminForm) -> bool:
    """Whether it was not saved because somebody else saved meanwhile."""
    return bool(form.form.has_error(NON_FIELD_ERRORS, "changed_meanwhile"))


@register.inclusion_tag("admin/copy.html")
def copy(text: str) -> dict[str, str]:
    """A value that has to be taken somewhere else, with a button that copies it."""
    return {"text": text}
