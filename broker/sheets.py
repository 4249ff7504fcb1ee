"""A sheet is a page that can also stand in the dialog over another page: htmx gets it without the page around it."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render


def is_htmx(request: HttpRequest) -> bool:
    """Whether htmx asks, for a part of a page; also true before the middleware could say so."""
    return request.headers.get("HX-Request") == "true"


def sheet(
    request: HttpRequest, template: str, context: dict[str, Any], *, status: int = 200
) -> HttpResponse:
    """Render the template, or its partial `sheet` alone for htmx."""
    alone = is_htmx(request)
    return render(
        request,
        f"{template}#sheet" if alone else template,
        {
            **context,
            "heading": "h2" if alone else "h1",
            "subheading": "h3" if alone else "h2",
            "in_dialog": alone,
        },
        status=status,
    )
