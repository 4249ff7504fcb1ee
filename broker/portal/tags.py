"""Template tags of the pages: times that tick, lengths in words, matches marked."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from uuid import UUID

from django import template
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape, format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from broker.portal import rules

register = template.Library()


def _exactly(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


@register.simple_tag
def left(until: datetime | None) -> SafeString | str:
    """`<time>` with how long is left; portal.js lets it tick, the exact moment is in the title and for readers."""
    if until is None:
        return ""
    return format_html(
        '<time datetime="{}" title="{}" data-left>{}</time><span class="visually-hidden"> (until {})</span>',
        until.astimezone(UTC).isoformat(timespec="seconds"),
        _exactly(until),
        rules.time_left(until, timezone.now()),
        _exactly(until),
    )


@register.simple_tag
def ago(moment: datetime | None) -> SafeString | str:
    """`<time>` with how long ago."""
    if moment is None:
        return ""
    return format_html(
        '<time datetime="{}" title="{}" data-ago>{}</time>',
        moment.astimezone(UTC).isoformat(timespec="seconds"),
        _exactly(moment),
        rules.time_ago(moment, timezone.now()),
    )


@register.simple_tag
def moment(at: datetime | None) -> SafeString | str:
    """`<time>` with the exact moment in UTC; portal.js shows it in the reader's own zone."""
    if at is None:
        return ""
    return format_html(
        '<time datetime="{}" data-moment>{}</time>',
        at.astimezone(UTC).isoformat(timespec="seconds"),
        _exactly(at),
    )


@register.simple_tag
def clock(at: datetime | None) -> SafeString | str:
    """`<time>` with the time of day in UTC; portal.js shows it in the reader's own zone."""
    if at is None:
        return ""
    return format_html(
        '<time datetime="{}" title="{}" data-clock>{} UTC</time>',
        at.astimezone(UTC).isoformat(timespec="seconds"),
        _exactly(at),
        f"{at.astimezone(UTC):%H:%M}",
    )


SHORT_COMMAND = 20
"""So many letters stand in one line on every phone."""

_CODE = (mark_safe("<code>"), mark_safe('<code class="unbroken">'))


@register.filter
def commands(text: str) -> SafeString:
    """The sentence, with what stands between backticks as `<code>`, short ones in one line; everything is escaped."""
    pieces = str(text).split("`")
    if len(pieces) % 2 == 0:
        return format_html("{}", text)
    return format_html_join(
        "",
        "{}{}{}",
        (
            (_CODE[len(piece) <= SHORT_COMMAND], piece, mark_safe("</code>"))
            if inside % 2
            else ("", piece, "")
            for inside, piece in enumerate(pieces)
        ),
    )


@register.filter
def words(seconds: int | None) -> str:
    """A length of time in words."""
    return "" if seconds is None else rules.duration_in_words(seconds)


@cache
def _address_of(name: str) -> tuple[str, str]:
    """What stands before and after the id in the addresses of this name."""
    nobody = UUID(int=0)
    before, after = reverse(name, args=[nobody]).split(str(nobody))
    return before, after


@register.simple_tag
def at(name: str, id: UUID) -> SafeString:
    """The address of this name for an id: what `url` gives, worked out once and not two hundred times a page."""
    before, after = _address_of(name)
    known = id if isinstance(id, UUID) else UUID(id)
    return mark_safe(f"{before}{known}{after}")  # noqa: S308  (the pattern's own text and a UUID)


@register.simple_tag
def matched(text: str, query: str) -> SafeString:
    """The text, escaped, with what matches a word of the query in `<mark>`."""
    if not query:
        return escape(text)
    return format_html_join(
        "",
        "{}",
        (
            (format_html("<mark>{}</mark>", piece) if hit else piece,)
            for piece, hit in rules.highlight(text, query.split())
        ),
    )


@register.filter
def client(user_agent: str) -> str:
    """The browser and the system, in words."""
    return rules.client_in_words(user_agent)
