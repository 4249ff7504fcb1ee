"""What accounts have to hold so that Daypass gets in: providers and roles, checked letter by letter. Pure.

The writers beside this module (cloudformation, terraform, shell) put it into each tool's language. What they may trust
is settled here: every name is of a kind that IAM takes, and texts for people are reduced to what IAM takes as well.
Quoting is the writers' business all the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from broker.arns import PARTITIONS, oidc_provider_arn, saml_provider_arn
from broker.errors import BadInput
from broker.trust.rules import Policy, RoleTrust

DISCOVERY_ROLE = "DaypassDiscovery"
SHORTEST_MAXIMUM = 3600
LONGEST_MAXIMUM = 43200

_PATH = re.compile(r"/(?:[\x21-\x7e]{1,510}/)?", re.ASCII)
_POLICY = re.compile(
    r"(?:arn:(?P<partition>aws|aws-us-gov|aws-cn|aws-eusc):iam::(?P<owner>\d{12}|aws):policy/)?"
    r"(?P<name>(?:[\w+=,.@/-]{1,510}/)?[\w+=,.@-]{1,128})",
    re.ASCII,
)
_DESCRIPTION = re.compile("[^ -~\u00a1-\u00ff]")


@dataclass(frozen=True, slots=True)
class ManagedPolicy:
    """A managed policy, of AWS or of whichever account the role is in: IAM takes none of another account.

    name: with its path, without a slash in front.
    """

    name: str
    by_aws: bool

    def arn(self, partition: str, account_id: str) -> str:
        owner = "aws" if self.by_aws else account_id
        return f"arn:{partition}:iam::{owner}:policy/{self.name}"


def managed_policy(text: str) -> ManagedPolicy:
    """Read an ARN, or the name of a policy that every account has. Raises BadInput."""
    match = _POLICY.fullmatch(text.strip())
    if match is None or "//" in match["name"] or match["name"].startswith("/"):
        raise BadInput(
            f"{text[:80]!r} is not the ARN of a managed policy; one is "
            "arn:aws:iam::111122223333:policy/Boundary.",
            code="bad_policy_arn",
        )
    return ManagedPolicy(match["name"], match["owner"] == "aws")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleToMake:
    """One role. max_seconds is raised to the hour that IAM demands; description reduced to letters that IAM takes."""

    subject: RoleTrust
    path: str = "/"
    max_seconds: int = SHORTEST_MAXIMUM
    description: str = ""

    def __post_init__(self) -> None:
        if _PATH.fullmatch(self.path) is None:
            raise BadInput(f"{self.path[:80]!r} is not the path of a role.", code="bad_path")
        wanted = min(max(self.max_seconds, SHORTEST_MAXIMUM), LONGEST_MAXIMUM)
        object.__setattr__(self, "max_seconds", wanted)
        said = " ".join(_DESCRIPTION.sub(" ", self.description).split())[:1000]
        object.__setattr__(self, "description", said)

    @property
    def name(self) -> str:
        return self.subject.role_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """The role through which Daypass reads an account; nobody else gets into it.

    organisation: it may list the organisation's accounts too. saml_provider: the provider whose metadata it may
    replace with a new one of Daypass's; "" for none.
    """

    role: RoleToMake
    organisation: bool = False
    saml_provider: str = ""

    def permissions(self) -> Policy:
        """Reading what tells whether Daypass gets in, and no more."""
        subject = self.role.subject
        statements: list[Policy] = [
            {
                "Sid": "ReadWhoIsTrusted",
                "Effect": "Allow",
                "Action": [
                    "iam:GetRole",
                    "iam:ListOpenIDConnectProviders",
                    "iam:ListRoles",
                    "iam:ListSAMLProviders",
                ],
                "Resource": "*",
            },
            {
                "Sid": "ReadProviders",
                "Effect": "Allow",
                "Action": ["iam:GetOpenIDConnectProvider", "iam:GetSAMLProvider"],
                "Resource": "*",
            },
        ]
        if self.organisation:
            statements.append(
                {
                    "Sid": "ListTheOrganisation",
                    "Effect": "Allow",
                    "Action": ["organizations:DescribeOrganization", "organizations:ListAccounts"],
                    "Resource": "*",
                }
            )
        if self.saml_provider:
            statements.append(
                {
                    "Sid": "RenewTheMetadata",
                    "Effect": "Allow",
                    "Action": "iam:UpdateSAMLProvider",
                    "Resource": saml_provider_arn(
                        subject.partition, subject.account_id, self.saml_provider
                    ),
                }
            )
        return {"Version": "2012-10-17", "Statement": statements}


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSetUp:
    """One account: its roles for people, and the role for Daypass's own tasks if there is to be one."""

    account_id: str
    partition: str
    roles: tuple[RoleToMake, ...]
    discovery: Discovery | None = None

    def __post_init__(self) -> None:
        if not self.roles and self.discovery is None:
            raise BadInput(
                f"The account {self.account_id} has no role that trusts Daypass.",
                code="nothing_to_set_up",
                remedy="Register a role of it first, or ask for the discovery role.",
            )
        names = [role.name.lower() for role in self.all_roles]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise BadInput(
                f"Two roles of the account {self.account_id} are named {twice}; IAM takes one.",
                code="one_name_twice",
            )

    @property
    def all_roles(self) -> tuple[RoleToMake, ...]:
        return (*self.roles, *((self.discovery.role,) if self.discovery else ()))

    @property
    def issuer(self) -> str:
        """The OIDC provider's URL, or "" when no role needs one."""
        return next((role.subject.issuer for role in self.all_roles if _by_token(role)), "")

    @property
    def audience(self) -> str:
        return next((role.subject.audience for role in self.all_roles if _by_token(role)), "")

    @property
    def oidc_provider(self) -> str:
        """Its ARN."""
        url = f"https://{self.issuer.partition('://')[2]}"
        return oidc_provider_arn(self.partition, self.account_id, url)

    @property
    def saml_provider_name(self) -> str:
        """The SAML provider's name, or "" when no role needs one."""
        found = (r.subject.saml_provider_name for r in self.roles if r.subject.trust == "saml")
        return next(found, "")

    @property
    def saml_provider(self) -> str:
        """Its ARN."""
        return saml_provider_arn(self.partition, self.account_id, self.saml_provider_name)

    @property
    def home_region(self) -> str:
        """IAM is the same in all regions; tools want one of the partition all the same."""
        return PARTITIONS[self.partition].home_region


def _by_token(role: RoleToMake) -> bool:
    return role.subject.trust == "web_identity"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the administrator chose.

    boundary: the permission boundary of every role. policies: attached to every role for people. make_providers: False
    where the account has the identity providers already. saml_metadata: Daypass's own, for a SAML provider.
    """

    boundary: ManagedPolicy | None = None
    policies: tuple[ManagedPolicy, ...] = ()
    make_providers: bool = True
    saml_metadata: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """Something to take away: a file, for one account ("" when for all)."""

    filename: str
    media_type: str
    text: str
    account_id: str = ""


def same_everywhere(role: RoleToMake, account_id: str) -> RoleToMake:
    """The role as if it were in the account given, so that roles of different accounts can be compared."""
    return replace(role, subject=replace(role.subject, account_id=account_id), description="")


def identifiers(names: Sequence[str], pattern: str) -> list[str]:
    """One identifier for each name: its characters that match `pattern`, and a number where two are alike."""
    found: list[str] = []
    for name in names:
        plain = "".join(re.findall(pattern, name)) or "X"
        number, said = 2, plain
        while said.lower() in (one.lower() for one in found):
            said, number = f"{plain}{number}", number + 1
        found.append(said)
    return found
