"""What the system checks say, where administrators look: the same that `manage.py check --deploy` prints.

Silenced checks are shown as well, but for what is so on purpose; a finding is not less true for nobody hearing it.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.conf import settings
from django.core.checks import CRITICAL, ERROR, WARNING, CheckMessage, Tags, run_checks
from django.http import HttpRequest
from django.urls import reverse

from broker.backoffice import Attention, Panel, attentions, contributes, health, plural

_TAGS = ["daypass", Tags.security]
_KNOWN = {"security.W008"}
"""TLS ends at the proxy in front: told in broker/settings.py."""
_OF_THE_DEMO = {"security.W004", "security.W012", "security.W016"}
"""The demo is served in the clear, on loopback only."""


def findings() -> list[CheckMessage]:
    """What is wrong or questionable about the settings, the libraries and the rows, worst first."""
    messages = run_checks(tags=_TAGS, include_deployment_checks=True, databases=["default"])
    known = _KNOWN | _OF_THE_DEMO if settings.DEMO else _KNOWN
    found = [m for m in messages if m.level >= WARNING and m.id not in known]
    return sorted(found, key=lambda m: (-m.level, m.id or "", m.msg))


@contributes(health)
def checks(request: HttpRequest) -> Panel:
    rows = [
        {
            "id": message.id or "",
            "text": message.msg,
            "hint": message.hint or "",
            "colour": "red" if message.level >= ERROR else "amber",
            "level": _level(message),
        }
        for message in findings()
    ]
    return Panel(
        "Checks of settings and libraries",
        "admin/checks.html",
        {"rows": rows},
        note="What manage.py check --deploy prints. With an error or a critical finding no "
        "process starts: one that is shown here came up after the start.",
    )


def _level(message: CheckMessage) -> str:
    if message.level >= CRITICAL:
        return "critical"
    return "error" if message.level >= ERROR else "warning"


@contributes(attentions)
def failed_checks(request: HttpRequest) -> Iterable[Attention]:
    """Serious findings in a process that is running: what has changed since it started, or was started around them."""
    serious = [message for message in run_checks(tags=["daypass"]) if message.is_serious()]
    if serious:
        checks = "of Daypass's own checks"
        failed = plural(len(serious), f"{checks} fails", f"{checks} fail")
        yield Attention(
            "wrong",
            f"{failed}. {serious[0].msg}",
            reverse("admin:health"),
            "See the checks",
        )
