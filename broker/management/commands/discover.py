"""manage.py discover: read the accounts that have a discovery role, and propose what is new."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from broker.arns import parse_account_id
from broker.audit.services import Actor
from broker.discovery import queries, services
from broker.errors import DaypassError

_ACTOR = Actor.task("manage.py discover")


class Command(BaseCommand):
    help = (
        "Read the accounts that have a discovery role: new accounts of the organisation and new roles that trust this "
        "broker become proposals in the admin, and what is gone is flagged. Ends with 1 when an account was not read."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--account", metavar="ID", help="only this account")

    def handle(self, *args: Any, **options: Any) -> None:
        accounts = queries.readable()
        if options["account"]:
            try:
                number = parse_account_id(options["account"])
            except DaypassError as error:
                raise CommandError(error.message) from None
            accounts = accounts.filter(account_id=number)
        found = list(accounts)
        if not found:
            raise CommandError(
                "No account in use has a discovery role. Set one on its page in the admin."
            )
        failed = 0
        for account in found:
            try:
                looked = services.look(account, actor=_ACTOR, now=timezone.now())
            except DaypassError as error:
                failed += 1
                self.stderr.write(f"{account}: not read. {error.why}")
            else:
                self.stdout.write(f"{account}: {looked.new} new, {looked.gone} gone")
        if failed:
            raise CommandError(f"{failed} of {len(found)} accounts were not read.", returncode=1)
