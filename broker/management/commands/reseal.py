"""manage.py reseal: after DAYPASS_SEALING_KEYS was changed, seal everything under the first of them."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts import services as accounts
from broker.audit.services import Actor
from broker.errors import DaypassError
from broker.minting import keys

_NAME = "manage.py reseal"


class Command(BaseCommand):
    help = (
        "Seal every secret in the database under the first of DAYPASS_SEALING_KEYS: signing keys, service-provider "
        "keys, client secrets and second factors. Afterwards the other sealing keys can be dropped."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            minting = keys.reseal(actor=Actor.task(_NAME))
            providers = accounts.reseal(by=accounts.By(id=f"task:{_NAME}", name=_NAME))
        except DaypassError as error:
            raise CommandError(error.explained) from None
        self.stdout.write(
            f"Resealed {minting} signing keys, and {providers} client secrets, service-provider keys and "
            "second factors."
        )
