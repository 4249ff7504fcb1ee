"""manage.py publish_keys: write what AWS reads, and see what is really answered there."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from broker.errors import DaypassError
from broker.minting import oidc
from broker.upkeep import look, services


class Command(BaseCommand):
    help = (
        "Write the discovery document and the key set to DAYPASS_PUBLISH_TO, then ask DAYPASS_ISSUER for them as AWS "
        "does. Exit 1 when writing fails or when something else is answered there."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--no-check", action="store_true", help="write only, and do not ask the issuer's URL"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            publication = services.publish_copy(now=timezone.now())
            key_set = oidc.key_set(now=timezone.now())
        except DaypassError as error:
            raise CommandError(error.explained) from None
        if publication is None:
            self.stdout.write("DAYPASS_PUBLISH_TO is not set: nothing to write.")
        else:
            self.stdout.write(f"Written to {publication.target}: {len(publication.held)} keys.")
        if options["no_check"]:
            return
        answer = look.at_issuer(settings.DAYPASS_ISSUER, key_set)
        if answer.state in ("right", "unreachable"):
            self.stdout.write(answer.said)
            return
        raise CommandError(answer.said)
