"""The administrators' desk of the demo: what they change while clients are at work.

`python -m tests.clients.desk` in the environment of a demo; the other end is `tests.interop.desk.Desk`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.interop.desk import main

if __name__ == "__main__":
    import django

    django.setup()


def switch_mapping(note: str, enabled: bool) -> None:
    from broker.audit.services import Actor
    from broker.entitlements import services
    from broker.entitlements.models import Mapping

    services.switch(Mapping.objects.get(note=note), enabled, actor=Actor.task("tests"))


def let_access_run_out() -> None:
    """No access token that was given until now is good any longer; what refreshes it is."""
    from django.utils import timezone

    from broker.awssso.models import TerminalToken

    kind = TerminalToken.Kind.ACCESS
    TerminalToken.objects.filter(kind=kind).update(expires_at=timezone.now())


def device_codes(allowed: bool) -> None:
    from broker.awssso.models import TerminalPolicy

    TerminalPolicy.objects.update_or_create(provider=None, defaults={"device_codes": allowed})


DEEDS: dict[str, Callable[..., Any]] = {
    deed.__name__: deed for deed in (switch_mapping, let_access_run_out, device_codes)
}


if __name__ == "__main__":
    main(DEEDS)
