"""What every page may show: the product's name, the company and where to ask for help, and how it should look."""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings
from django.http import HttpRequest

THEME_COOKIE = "daypass_theme"
"""Set by portal.js, read here so that a page never flashes in the other theme. It names nobody and opens nothing."""

HTMX_CONFIG = json.dumps(
    {
        "includeIndicatorStyles": False,
        "allowEval": False,
        "allowScriptTags": False,
        "selfRequestsOnly": True,
        "historyCacheSize": 0,
        "refreshOnHistoryMiss": True,
        "scrollBehavior": "instant",
        "timeout": 30000,
        # Refusals and failures are pages too: show them where the answer would have been.
        "responseHandling": [
            {"code": "204", "swap": False},
            {"code": "[23]..", "swap": True},
            {"code": "[45]..", "swap": True, "error": True},
        ],
    },
    separators=(",", ":"),
)


def product(request: HttpRequest) -> dict[str, Any]:
    theme = request.COOKIES.get(THEME_COOKIE, "")
    return {
        "company": settings.DAYPASS_COMPANY,
        "logo_url": settings.DAYPASS_LOGO_URL,
        "help_url": settings.DAYPASS_HELP_URL,
        "help_text": settings.DAYPASS_HELP_TEXT,
        "demo": settings.DEMO,
        "theme": theme if theme in ("light", "dark") else "",
        "htmx_config": HTMX_CONFIG,
    }
