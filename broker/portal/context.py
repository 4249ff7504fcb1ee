"""What every page may show: the product's name, the company and where to ask for help."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest


def product(request: HttpRequest) -> dict[str, Any]:
    return {
        "company": settings.DAYPASS_COMPANY,
        "logo_url": settings.DAYPASS_LOGO_URL,
        "help_url": settings.DAYPASS_HELP_URL,
        "help_text": settings.DAYPASS_HELP_TEXT,
        "demo": settings.DEMO,
    }
