"""manage.py signing_keys: look after the keys that AWS trusts."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from broker.audit.services import Actor
from broker.errors import DaypassError
from broker.minting import keys
from broker.minting.models import SigningKey

_ACTOR = Actor.task("manage.py signing_keys")


class Command(BaseCommand):
    help = (
        "Look after the broker's signing keys. To change one without a gap: publish, wait a day (for SAML also upload "
        "the new metadata to every account), rotate, and revoke the retired one a day later."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("list", help="every key, its state and its dates")
        actions.add_parser("ensure", help="make the first key of each purpose where there is none")
        publish = actions.add_parser("publish", help="publish the key that will sign next")
        rotate = actions.add_parser("rotate", help="let the published key sign, retire the other")
        adopt = actions.add_parser("adopt", help="publish a key in AWS KMS that will sign next")
        for one in (publish, rotate, adopt):
            one.add_argument("purpose", choices=SigningKey.Purpose.values)
        rotate.add_argument(
            "--at-once",
            action="store_true",
            help="do not wait until AWS knows the new key: an emergency; sign-in fails until it does",
        )
        adopt.add_argument("arn", help="the ARN of an RSA_2048 key for SIGN_VERIFY in AWS KMS")
        revoke = actions.add_parser("revoke", help="take a key out of everything published")
        revoke.add_argument("kid", help="the key id, as `list` shows it")
        actions.add_parser("reseal", help="seal all keys under the first of DAYPASS_SEALING_KEYS")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            getattr(self, f"_{options['action']}")(options)
        except DaypassError as error:
            raise CommandError(
                " ".join(part for part in (error.message, error.cause, error.remedy) if part)
            ) from None

    def _list(self, options: dict[str, Any]) -> None:
        for key in SigningKey.objects.all():
            self.stdout.write(
                f"{key.purpose:5} {key.state:10} {key.kid}  made {key.created_at:%Y-%m-%d}"
                f"  certificate ends {key.expires_at:%Y-%m-%d}"
            )

    def _ensure(self, options: dict[str, Any]) -> None:
        keys.ensure_keys(timezone.now())
        self._list(options)

    def _publish(self, options: dict[str, Any]) -> None:
        purpose = SigningKey.Purpose(options["purpose"])
        key = keys.publish_next(purpose, now=timezone.now(), actor=_ACTOR)
        self.stdout.write(f"Published {key.kid}. It may sign from a day on: rotate then.")
        self._remind(purpose)

    def _adopt(self, options: dict[str, Any]) -> None:
        purpose = SigningKey.Purpose(options["purpose"])
        key = keys.adopt(purpose, options["arn"], now=timezone.now(), actor=_ACTOR)
        self.stdout.write(f"Published {key.kid}. It may sign from a day on: rotate then.")
        self._remind(purpose)

    def _rotate(self, options: dict[str, Any]) -> None:
        purpose = SigningKey.Purpose(options["purpose"])
        key = keys.rotate(purpose, timezone.now(), _ACTOR, at_once=options["at_once"])
        self.stdout.write(f"{key.kid} signs now.")
        if options["at_once"]:
            self._remind(purpose)

    def _revoke(self, options: dict[str, Any]) -> None:
        key = keys.revoke(options["kid"], now=timezone.now(), actor=_ACTOR)
        self.stdout.write(f"Revoked {key.kid}.")
        self._remind(SigningKey.Purpose(key.purpose))

    def _reseal(self, options: dict[str, Any]) -> None:
        count = keys.reseal(actor=_ACTOR)
        self.stdout.write(f"Resealed {count} key{'' if count == 1 else 's'}.")
        self.stderr.write(
            "Run `manage.py reseal` before you drop a sealing key: it does the secrets of providers as well."
        )

    def _remind(self, purpose: SigningKey.Purpose) -> None:
        if purpose == SigningKey.Purpose.SAML:
            self.stdout.write(
                "Upload the metadata (/aws/saml/metadata) to the IAM SAML provider of every account now."
            )
