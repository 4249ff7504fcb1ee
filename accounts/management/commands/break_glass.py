"""`manage.py break_glass`: the local account for the day on which no identity provider works."""

from __future__ import annotations

import getpass
import secrets
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from accounts import services
from accounts.rules import HANDLE
from broker.errors import DaypassError


class Command(BaseCommand):
    help = (
        "Create the local break-glass account, or give it a new password and make it set up its second factor "
        "anew. The password is printed once."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("handle", nargs="?", default="break-glass")

    def handle(self, *args: Any, **options: Any) -> None:
        handle = options["handle"]
        if not HANDLE.fullmatch(handle):
            raise CommandError("A handle has 2 to 32 lower-case letters, digits, dots and hyphens.")
        password = "-".join(secrets.token_hex(3) for _ in range(5))
        by = services.By(id="task:break_glass", name=f"{getpass.getuser()} at the server")
        try:
            _, created = services.break_glass(handle, password, by=by, now=timezone.now())
        except DaypassError as error:
            raise CommandError(error.message) from None
        self.stdout.write(
            f"{'Created' if created else 'Reset'} {handle}. Its password, shown once:\n\n    {password}\n\n"
            "Sign in at /sign-in/local/ and set up a second factor; without one nothing else opens.\n"
            "Keep both sealed. Every use of the account is recorded.\n"
        )
