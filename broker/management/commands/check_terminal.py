"""manage.py check_terminal: whether what stands in front of Daypass lets AWS's own clients through."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from broker.awssso import checks
from broker.awssso.checks import Passage


class Command(BaseCommand):
    help = (
        "Ask Daypass at its own public address whether the header of AWS's clients arrives. Exit 1 when it is dropped "
        "or when the address cannot be asked from here."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        seen = checks.look(timezone.now())
        if seen.passage is Passage.PASSES:
            self.stdout.write(seen.said)
            return
        remedy = f" {checks.REMEDY}" if seen.passage is Passage.DROPPED else ""
        raise CommandError(seen.said + remedy)
