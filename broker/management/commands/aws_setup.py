"""manage.py aws_setup: what AWS accounts have to hold so that Daypass gets in, in the language of one's choice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Q
from django.utils import timezone

from broker.arns import parse_account_id
from broker.entitlements.models import AwsAccount, AwsRole
from broker.errors import BadInput, DaypassError
from broker.trust import queries
from broker.trust.documents import Format, documents
from broker.trust.rules import trust_policy
from broker.trust.setup import AccountSetUp, Document, Options, managed_policy


class Command(BaseCommand):
    help = (
        "Write what AWS accounts have to hold so that people get in through Daypass: the identity provider and the "
        "roles with the narrowest trust policy. One document goes to the output; several need --output."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--account",
            action="append",
            default=[],
            metavar="ID",
            help="a registered account by its 12 digits or alias, with every role in use; may be repeated",
        )
        parser.add_argument(
            "--role",
            action="append",
            default=[],
            metavar="ARN",
            help="a registered role by its ARN; may be repeated",
        )
        parser.add_argument("--all", action="store_true", help="every account that is in use")
        parser.add_argument(
            "--format", choices=[str(one) for one in Format], default=str(Format.CLOUDFORMATION)
        )
        parser.add_argument(
            "--boundary", metavar="ARN", default="", help="the permission boundary of every role"
        )
        parser.add_argument(
            "--policy",
            action="append",
            default=[],
            metavar="ARN",
            help="a managed policy for every role for people; may be repeated",
        )
        parser.add_argument(
            "--with-discovery-role",
            action="store_true",
            help="also the role through which Daypass reads the account",
        )
        parser.add_argument(
            "--may-update-metadata",
            action="store_true",
            help="that role may renew the metadata of the SAML provider",
        )
        parser.add_argument(
            "--existing-provider",
            action="store_true",
            help="the account has the identity provider already",
        )
        parser.add_argument(
            "--broker-role",
            metavar="ARN",
            default="",
            help="the role that Daypass runs with, for roles with AssumeRole",
        )
        parser.add_argument(
            "--existing-policy",
            metavar="FILE",
            help="with --format statement and one role: its present trust policy, to be put right",
        )
        parser.add_argument(
            "--output", metavar="DIRECTORY", help="write files there instead of to the output"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            made = self._documents(options)
        except DaypassError as error:
            raise CommandError(" ".join(filter(None, (error.message, error.remedy)))) from None
        if options["output"]:
            folder = Path(options["output"])
            folder.mkdir(parents=True, exist_ok=True)
            for one in made:
                (folder / one.filename).write_text(one.text, encoding="utf-8")
                self.stderr.write(f"{folder / one.filename}")
            return
        if len(made) > 1:
            names = ", ".join(one.filename for one in made[:5])
            raise CommandError(f"These are {len(made)} files ({names}): say --output DIRECTORY.")
        self.stdout.write(made[0].text, ending="")

    def _documents(self, options: dict[str, Any]) -> list[Document]:
        language = Format(options["format"])
        if options["with_discovery_role"] is False and options["may_update_metadata"]:
            raise BadInput("--may-update-metadata is about --with-discovery-role.")
        if options["existing_policy"]:
            return [self._mended(options, language)]
        found = self._chosen(options)
        chosen = Options(
            boundary=managed_policy(options["boundary"]) if options["boundary"] else None,
            policies=tuple(map(managed_policy, options["policy"])),
            make_providers=not options["existing_provider"],
            saml_metadata=queries.saml_metadata(found, now=timezone.now()),
        )
        return documents(found, chosen, language)

    def _chosen(self, options: dict[str, Any]) -> list[AccountSetUp]:
        more: dict[str, Any] = {
            "discovery": options["with_discovery_role"],
            "update_metadata": options["may_update_metadata"],
            "broker_arn": options["broker_role"],
        }
        asked = [bool(options["all"]), bool(options["account"]), bool(options["role"])]
        if sum(asked) != 1:
            raise BadInput("Say one of --account, --role and --all.")
        if options["role"]:
            roles = [self._role(arn) for arn in options["role"]]
            accounts = {role.account_id: role.account for role in roles}
            return queries.set_ups(accounts.values(), roles={role.pk for role in roles}, **more)
        if options["all"]:
            return queries.set_ups(
                AwsAccount.objects.filter(enabled=True).order_by("account_id"), **more
            )
        return queries.set_ups([self._account(text) for text in options["account"]], **more)

    def _account(self, text: str) -> AwsAccount:
        try:
            number = parse_account_id(text)
        except BadInput:
            number = ""
        found = AwsAccount.objects.filter(Q(account_id=number) | Q(alias=text.strip())).exclude(
            account_id="", alias=""
        )
        account = found.first()
        if account is None:
            raise BadInput(
                f"No account {text[:80]!r} is registered.",
                remedy="Register it in the admin under AWS accounts.",
            )
        return account

    def _role(self, arn: str) -> AwsRole:
        role = AwsRole.objects.select_related("account").filter(arn=arn.strip()).first()
        if role is None:
            raise BadInput(
                f"No role {arn[:200]!r} is registered.",
                remedy="Register it in the admin under AWS roles.",
            )
        return role

    def _mended(self, options: dict[str, Any], language: Format) -> Document:
        if language != Format.STATEMENT or len(options["role"]) != 1:
            raise BadInput("--existing-policy goes with --format statement and one --role.")
        role = self._role(options["role"][0])
        subject = queries.role_trust(role, broker_arn=options["broker_role"])
        if subject is None:
            raise BadInput(f"The role {role.name} does not trust Daypass itself.")
        try:
            present = Path(options["existing_policy"]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise BadInput(f"{options['existing_policy']} cannot be read.") from None
        text = trust_policy(subject, existing=present) + "\n"
        return Document(f"{role.account.account_id}-{role.name}.json", "application/json", text)
