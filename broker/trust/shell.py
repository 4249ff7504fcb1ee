"""Commands of the AWS CLI in a script for any POSIX shell, one for each account. Pure.

Specification: POSIX shell quoting (nothing is special between single quotes), and the AWS CLI's reading of parameters:
a value that begins with file:// or http:// would be fetched, and one that begins with a hyphen taken for an option.
The script may be run again: it looks for what is there before it makes it, and leaves roles that exist as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from shlex import quote

from broker.trust.rules import Policy, trust_document
from broker.trust.setup import AccountSetUp, Options, RoleToMake

_ENTITY_ID = re.compile(r'entityID="[^"]*"')
_FETCHED = re.compile(r"(?i)\s*(?:fileb?|https?)://")


def commands(account: AccountSetUp, options: Options) -> str:
    """The script for one account; it stops before it touches another one."""
    parts = [_head(account)]
    if account.issuer and options.make_providers:
        parts.append(_oidc_provider(account))
    if account.saml_provider_name and options.make_providers:
        parts.append(_saml_provider(account, options.saml_metadata))
    for role in account.all_roles:
        parts.append(_role(role, account, options))
    return "\n".join(parts)


def _head(account: AccountSetUp) -> str:
    return f"""#!/bin/sh
# Lets people into the account {account.account_id} through Daypass.
# Run it with credentials of that account that may administer IAM; it may be run again.
set -eu

# IAM is the same in every region of a partition; the AWS CLI wants to know one.
AWS_REGION={account.home_region}
AWS_DEFAULT_REGION={account.home_region}
AWS_PAGER=''
export AWS_REGION AWS_DEFAULT_REGION AWS_PAGER

account=$(aws sts get-caller-identity --query Account --output text)
if [ "$account" != {account.account_id} ]; then
  echo "These are credentials of the account $account, and this is for {account.account_id}." >&2
  exit 1
fi
"""


def _oidc_provider(account: AccountSetUp) -> str:
    arn, audience = quote(account.oidc_provider), quote(account.audience)
    there = f"aws iam get-open-id-connect-provider --open-id-connect-provider-arn {arn}"
    return f"""if clients=$({there} --query ClientIDList --output text 2>/dev/null); then
  printf '%s\\n' "$clients" | tr '\\t' '\\n' | grep -qxF -e {audience} ||
    aws iam add-client-id-to-open-id-connect-provider \\
      --open-id-connect-provider-arn {arn} \\
      --client-id {audience}
else
  aws iam create-open-id-connect-provider \\
    --url {quote(account.issuer)} \\
    --client-id-list {audience}
fi
"""


def _saml_provider(account: AccountSetUp, metadata: str) -> str:
    arn = quote(account.saml_provider)
    entity = _ENTITY_ID.search(metadata)
    ours = quote(entity[0] if entity else metadata)
    other = f"The SAML provider {account.saml_provider_name} is there and is not Daypass's."
    there = f"aws iam get-saml-provider --saml-provider-arn {arn}"
    return f"""metadata={quote(metadata)}
if present=$({there} --query SAMLMetadataDocument --output text 2>/dev/null); then
  case $present in
    *{ours}*) ;;
    *) echo {quote(other)} >&2; exit 1 ;;
  esac
  aws iam update-saml-provider \\
    --saml-provider-arn {arn} \\
    --saml-metadata-document "$metadata"
else
  aws iam create-saml-provider \\
    --name={quote(account.saml_provider_name)} \\
    --saml-metadata-document "$metadata"
fi
"""


def _role(role: RoleToMake, account: AccountSetUp, options: Options) -> str:
    name = f"--role-name={quote(role.name)}"
    making = [name]
    if role.path != "/":
        making.append(f"--path={quote(role.path)}")
    if role.description and not _FETCHED.match(role.description):
        making.append(f"--description={quote(role.description)}")
    making.append(f"--max-session-duration {role.max_seconds}")
    if options.boundary is not None:
        arn = options.boundary.arn(account.partition, account.account_id)
        making.append(f"--permissions-boundary {quote(arn)}")
    making.append(f"--assume-role-policy-document {_json(trust_document(role.subject))}")
    there = f"{role.name} is there and stays as it is. See that its trust policy lets Daypass in."
    lines = [
        f"if aws iam get-role {name} >/dev/null 2>&1; then",
        f"  echo {quote(there)} >&2",
    ]
    giving: list[str] = []
    if account.discovery is not None and role is account.discovery.role:
        ours = "--policy-name daypass-discovery"
        reading = f"--policy-document {_json(account.discovery.permissions())}"
        giving.append(_indented("aws iam put-role-policy", [name, ours, reading], "  "))
        lines += [
            f"  if aws iam get-role-policy {name} {ours} >/dev/null 2>&1; then",
            _indented("aws iam put-role-policy", [name, ours, reading], "    "),
            "  fi",
        ]
    else:
        for policy in options.policies:
            arn = policy.arn(account.partition, account.account_id)
            attaching = [name, f"--policy-arn {quote(arn)}"]
            giving.append(_indented("aws iam attach-role-policy", attaching, "  "))
    # What people may do is for roles that are made here: one that is there may be somebody else's.
    lines += ["else", _indented("aws iam create-role", making, "  "), *giving, "fi"]
    return "\n".join([*lines, ""])


def _json(document: Policy) -> str:
    return quote(json.dumps(document, separators=(",", ":"), ensure_ascii=True))


def _indented(command: str, arguments: Sequence[str], indent: str) -> str:
    return f" \\\n{indent}  ".join([f"{indent}{command}", *arguments])


def stack_set_commands(
    name: str,
    filename: str,
    region: str,
    accounts: Sequence[AccountSetUp],
    overrides: Sequence[Mapping[str, str]],
) -> str:
    """The script that makes the StackSet in an organisation and deploys it to exactly these accounts.

    Run in the organisation's management account; accounts that need the same parameters are deployed to together.
    """
    groups: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for account, differing in zip(accounts, overrides, strict=True):
        groups.setdefault(tuple(sorted(differing.items())), []).append(account.account_id)
    parts = [
        f"""#!/bin/sh
# Makes the StackSet in the organisation and deploys it to the accounts that were chosen in Daypass.
# Run it beside {filename}, with credentials of the organisation's management account.
# StackSets never deploy to the management account itself: give that one the template by itself.
set -eu

AWS_REGION={region}
AWS_DEFAULT_REGION={region}
AWS_PAGER=''
export AWS_REGION AWS_DEFAULT_REGION AWS_PAGER

root=$(aws organizations list-roots --query 'Roots[0].Id' --output text)

if aws cloudformation describe-stack-set --stack-set-name {quote(name)} >/dev/null 2>&1; then
  change=update-stack-set
else
  change=create-stack-set
fi
aws cloudformation "$change" \\
  --stack-set-name {quote(name)} \\
  --template-body {quote(f"file://{filename}")} \\
  --permission-model SERVICE_MANAGED \\
  --auto-deployment Enabled=false \\
  --managed-execution Active=true \\
  --capabilities CAPABILITY_NAMED_IAM
"""
    ]
    for parameters, numbers in groups.items():
        targets = {
            "OrganizationalUnitIds": ["ROOT"],
            "Accounts": sorted(numbers),
            "AccountFilterType": "INTERSECTION",
        }
        said = quote(json.dumps(targets, separators=(",", ":"))).replace("ROOT", "'\"$root\"'")
        arguments = [
            f"--stack-set-name {quote(name)}",
            f"--regions {region}",
            f"--deployment-targets {said}",
        ]
        if parameters:
            pairs = [f"ParameterKey={key},ParameterValue={value}" for key, value in parameters]
            arguments.append(" ".join(["--parameter-overrides", *map(quote, pairs)]))
        parts.append(_indented("aws cloudformation create-stack-instances", arguments, "") + "\n")
    return "\n".join(parts)
