"""manage.py verify_audit: is the audit log whole?"""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from broker.audit.queries import verify_chain
from broker.audit.rules import Violation


class Command(BaseCommand):
    help = "Verify the audit log's hash chain: find any changed, missing or reordered event. Exit 1 when it is broken."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--after", type=int, default=0, help="begin after this event (default: the whole log)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        outcome = verify_chain(after=options["after"])
        if isinstance(outcome, Violation):
            self.stderr.write(f"BROKEN at event {outcome.seq}: {outcome.problem}")
            raise SystemExit(1)
        if outcome.last == 0:
            self.stdout.write("The audit log is empty.")
            return
        self.stdout.write(
            f"Whole: events {outcome.first} to {outcome.last}, ending in {outcome.hash}"
        )
