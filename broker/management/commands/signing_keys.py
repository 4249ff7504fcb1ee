"""manage.py signing_keys: look after the keys that AWS trusts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from broker.audit.services import Actor
from broker.entitlements.models import AwsAccount
from broker.errors import DaypassError
from broker.minting import keys
from broker.minting.models import SigningKey
from broker.upkeep import queries, rules, services

_ACTOR = Actor.task("manage.py signing_keys")


class Command(BaseCommand):
    help = (
        "Look after the broker's signing keys. They change by schedule (docs/keys.md). By hand and without a gap: "
        "publish, wait a day (for SAML also upload the new metadata to every account, see `accounts`), rotate, and "
        "remove the retired one a day later. `revoke` is for a key that somebody else may have."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("list", help="every key, its state and its dates")
        actions.add_parser("ensure", help="make the first key of each purpose where there is none")
        publish = actions.add_parser("publish", help="publish the key that will sign next")
        rotate = actions.add_parser("rotate", help="let the published key sign, retire the other")
        # A key id may begin with "-": these take it for what it is, and have no options of their own.
        bare: dict[str, Any] = {"prefix_chars": "+", "add_help": False}
        remove = actions.add_parser(
            "remove", help="take a retired key out of what is published", **bare
        )
        remove.add_argument("kid", help="the key id, as `list` shows it")
        actions.add_parser(
            "accounts", help="the accounts with SAML roles, and what is to be done in each"
        )
        uploaded = actions.add_parser(
            "uploaded", help="say that the SAML provider of an account holds today's metadata"
        )
        update = actions.add_parser(
            "update", help="update the SAML provider of an account through its discovery role"
        )
        for one in (uploaded, update):
            one.add_argument("account", help="the account's 12 digits")
        adopt = actions.add_parser("adopt", help="publish a key in AWS KMS that will sign next")
        for one in (publish, rotate, adopt):
            one.add_argument("purpose", choices=SigningKey.Purpose.values)
        rotate.add_argument(
            "--at-once",
            action="store_true",
            help="do not wait until AWS knows the new key: an emergency; sign-in fails until it does",
        )
        adopt.add_argument(
            "arn",
            help="the ARN of a key for SIGN_VERIFY in AWS KMS: RSA_2048, or for tokens ECC_NIST_P256",
        )
        revoke = actions.add_parser("revoke", help="take a key out of everything published", **bare)
        revoke.add_argument("kid", help="the key id, as `list` shows it")
        actions.add_parser("reseal", help="seal all keys under the first of DAYPASS_SEALING_KEYS")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            getattr(self, f"_{options['action']}")(options)
        except DaypassError as error:
            raise CommandError(error.explained) from None

    def _list(self, options: dict[str, Any]) -> None:
        for key in SigningKey.objects.all():
            self.stdout.write(
                f"{key.purpose:5} {key.state:10} {key.kid}  {key.algorithm}  made {key.created_at:%Y-%m-%d}"
                f"  certificate ends {key.expires_at:%Y-%m-%d}"
                + (f"  in KMS: {key.kms_key_arn}" if key.kms_key_arn else "")
            )
        for purpose in SigningKey.Purpose:
            for planned in queries.plan(purpose):
                kid = f" {planned.kid}" if planned.kid else ""
                hand = ", by hand" if planned.by_hand else ""
                self.stdout.write(
                    f"{purpose.value:5} next: {planned.deed}{kid} from {planned.at:%Y-%m-%d %H:%M} UTC on{hand}"
                )
                for obstacle in planned.obstacles:
                    self.stdout.write(f"      in the way: {obstacle}")

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
        key = services.rotate(purpose, now=timezone.now(), actor=_ACTOR, at_once=options["at_once"])
        self.stdout.write(f"{key.kid} signs now.")
        if options["at_once"]:
            self._remind(purpose)

    def _remove(self, options: dict[str, Any]) -> None:
        key = keys.remove(options["kid"], now=timezone.now(), actor=_ACTOR)
        self.stdout.write(f"Removed {key.kid}; its private half is destroyed.")

    def _revoke(self, options: dict[str, Any]) -> None:
        key, chores = services.revoke(options["kid"], now=timezone.now(), actor=_ACTOR)
        self.stdout.write(f"Revoked {key.kid}.")
        self._publish_copy()
        if chores:
            self.stdout.write("\nIn each account, if somebody else may have had the key:")
            self._tell(chores)
            self.stdout.write(
                "\nThen look in CloudTrail for AssumeRoleWith* events that the audit log does not know."
            )

    def _publish_copy(self) -> None:
        """Not left to the worker: an emergency may be one of the worker as well. A failure is told and no more."""
        try:
            publication = services.publish_copy(now=timezone.now())
        except DaypassError as error:
            self.stderr.write(f"It is still in {settings.DAYPASS_PUBLISH_TO}: {error.cause}")
            return
        if publication is not None:
            self.stdout.write(f"It is gone from {publication.target}.")

    def _accounts(self, options: dict[str, Any]) -> None:
        for standing in queries.standings():
            account = standing.account
            if standing.chore is None:
                self.stdout.write(f"{account}: holds today's metadata")
                continue
            self._tell([standing.chore])
            if account.saml_problem:
                self.stdout.write(f"  Daypass could not do it itself: {account.saml_problem}")

    def _uploaded(self, options: dict[str, Any]) -> None:
        account = self._account(options)
        account = services.note_uploaded(account.pk, now=timezone.now(), actor=_ACTOR)
        self.stdout.write(f"{account} holds {', '.join(account.saml_kids)}.")

    def _update(self, options: dict[str, Any]) -> None:
        account = self._account(options)
        if not account.discovery_role:
            raise CommandError(f"{account} has no discovery role; upload the metadata by hand.")
        done = services.follow_up(account.pk, now=timezone.now())
        account.refresh_from_db()
        if not done:
            raise CommandError(account.saml_problem)
        self.stdout.write(f"{account} holds {', '.join(account.saml_kids)}.")

    def _account(self, options: dict[str, Any]) -> AwsAccount:
        account = AwsAccount.objects.filter(account_id=options["account"]).first()
        if account is None:
            raise CommandError(f"There is no account {options['account']} in Daypass.")
        return account

    def _tell(self, chores: Iterable[rules.Chore]) -> None:
        for chore in chores:
            self.stdout.write(f"\n{chore.account}: {chore.why}")
            for command in chore.commands:
                self.stdout.write(f"  {command}")

    def _reseal(self, options: dict[str, Any]) -> None:
        count = keys.reseal(actor=_ACTOR)
        self.stdout.write(f"Resealed {count} key{'' if count == 1 else 's'}.")
        self.stderr.write(
            "Run `manage.py reseal` before you drop a sealing key: it does the secrets of providers as well."
        )

    def _remind(self, purpose: SigningKey.Purpose) -> None:
        if purpose == SigningKey.Purpose.SAML:
            self.stdout.write(
                "Upload the metadata (/aws/saml/metadata) to the IAM SAML provider of every account now; "
                "`manage.py signing_keys accounts` prints the commands."
            )
