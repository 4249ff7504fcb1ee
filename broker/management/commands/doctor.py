"""manage.py doctor: try roles for real, and say what exactly is wrong and what mends it."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from broker.arns import parse_account_id
from broker.audit.services import Actor
from broker.doctor import queries, services
from broker.doctor.models import TrustCheck
from broker.doctor.services import Who
from broker.entitlements.models import AwsRole
from broker.errors import DaypassError

_ACTOR = Actor.task("manage.py doctor")
_MARKS = {"ok": "ok", "bad": "WRONG", "unknown": "?", "skipped": "-"}


class Command(BaseCommand):
    help = (
        "Try roles for real, with sessions that allow nothing and are thrown away, and say what exactly is wrong and "
        "what mends it. Ends with 1 when a role fails."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--role", metavar="ARN", help="one role")
        which.add_argument("--account", metavar="ID", help="every role in use of one account")
        which.add_argument("--all", action="store_true", help="every role in use")
        parser.add_argument(
            "--json", action="store_true", help="one JSON object a role, a line each"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        failed = 0
        for check in services.check_roles(self._roles(options), who=Who(_ACTOR), now=timezone.now):
            failed += check.outcome == TrustCheck.Outcome.FAILS
            self.stdout.write(_json(check) if options["json"] else _text(check))
        if failed:
            raise CommandError(
                f"{failed} role{'' if failed == 1 else 's'} did not work.", returncode=1
            )

    def _roles(self, options: dict[str, Any]) -> list[AwsRole]:
        if options["role"]:
            roles = AwsRole.objects.select_related("account").filter(arn=options["role"])
        elif options["account"]:
            try:
                account = parse_account_id(options["account"])
            except DaypassError as error:
                raise CommandError(error.message) from None
            roles = queries.in_use().filter(account__account_id=account)
        else:
            roles = queries.in_use()
        found = list(roles)
        if not found and not options["all"]:
            raise CommandError("No such role is registered.")
        return found


def _json(check: TrustCheck) -> str:
    return json.dumps(
        {
            "role": check.role.arn,
            "at": check.at.isoformat(),
            "outcome": check.outcome,
            "code": check.code,
            "cause": check.cause,
            "remedy": check.remedy,
            "document": json.loads(check.document) if check.document else None,
            "steps": check.steps,
        }
    )


def _text(check: TrustCheck) -> str:
    lines = [f"{check.role.arn}: {check.get_outcome_display().lower()}"]
    for step in check.steps:
        lines.append(f"  {_MARKS[step['state']]:>5}  {step['title']}: {step['said']}")
    if check.remedy:
        lines.append(f"  What mends it: {check.remedy}")
    if check.document:
        lines.append("  The trust policy as it has to be:")
        lines += [f"    {line}" for line in check.document.splitlines()]
    return "\n".join(lines)
