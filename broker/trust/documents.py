"""The same set-up in each language, as files to take away. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from broker.arns import PARTITIONS
from broker.errors import BadInput
from broker.trust import cloudformation, shell, terraform
from broker.trust.rules import trust_policy
from broker.trust.setup import AccountSetUp, Document, Options

STACK_SET = "daypass"


class Format(StrEnum):
    CLOUDFORMATION = "cloudformation"
    CLOUDFORMATION_JSON = "cloudformation-json"
    STACKSET = "stackset"
    TERRAFORM = "terraform"
    CLI = "cli"
    STATEMENT = "statement"


def documents(
    accounts: Sequence[AccountSetUp], options: Options, language: Format
) -> list[Document]:
    """Everything to run or paste for these accounts; one document for each account, but a StackSet is one for all.

    Raises BadInput.
    """
    if not accounts:
        raise BadInput(
            "There is nothing to set up: no role in use here trusts Daypass itself.",
            code="nothing_to_set_up",
            remedy="Register a role first, or ask for the role that Daypass reads the account through.",
        )
    if language != Format.STATEMENT:
        _wants_own_role(accounts)
    if language == Format.STACKSET:
        return _stack_set(accounts, options)
    return [made for account in accounts for made in _for_one(account, options, language)]


def _for_one(account: AccountSetUp, options: Options, language: Format) -> list[Document]:
    number = account.account_id
    match language:
        case Format.CLOUDFORMATION:
            text = cloudformation.as_yaml(cloudformation.template([account], options))
            return [Document(f"daypass-{number}.yaml", "application/yaml", text, number)]
        case Format.CLOUDFORMATION_JSON:
            text = cloudformation.as_json(cloudformation.template([account], options))
            return [Document(f"daypass-{number}.json", "application/json", text, number)]
        case Format.TERRAFORM:
            text = terraform.configuration(account, options)
            return [Document(f"daypass-{number}.tf", "text/plain", text, number)]
        case Format.CLI:
            text = shell.commands(account, options)
            return [Document(f"daypass-{number}.sh", "text/x-shellscript", text, number)]
        case _:
            return [
                Document(
                    f"{number}-{role.name}.json",
                    "application/json",
                    trust_policy(role.subject) + "\n",
                    number,
                )
                for role in account.all_roles
            ]


def _stack_set(accounts: Sequence[AccountSetUp], options: Options) -> list[Document]:
    template = cloudformation.as_yaml(cloudformation.template(accounts, options))
    filename = f"{STACK_SET}-stackset.yaml"
    script = shell.stack_set_commands(
        STACK_SET,
        filename,
        PARTITIONS[accounts[0].partition].home_region,
        accounts,
        cloudformation.overrides(accounts, options),
    )
    return [
        Document(filename, "application/yaml", template),
        Document(f"{STACK_SET}-stackset.sh", "text/x-shellscript", script),
    ]


def _wants_own_role(accounts: Sequence[AccountSetUp]) -> None:
    for account in accounts:
        for role in account.roles:
            if role.subject.trust == "assume_role" and not role.subject.broker_arn:
                raise BadInput(
                    f"The role {role.name} is to trust Daypass's own role, and nobody has said which one that is.",
                    code="own_role_unknown",
                    remedy="Name the ARN of the role that Daypass runs with.",
                )
