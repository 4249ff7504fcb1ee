"""Terraform configurations, one for each account. Pure.

Specification: the native syntax of HCL (expressions, quoted templates) and the documentation of the AWS provider. It
names no thumbprint, which only older versions of that provider demand, and it names the account that it is for, so that
it is not applied to another one by mistake.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from broker.trust.rules import statements
from broker.trust.setup import AccountSetUp, Options, RoleToMake, identifiers


@dataclass(frozen=True, slots=True)
class _Expression:
    """Something of HCL's own in the place of a value."""

    text: str


def configuration(account: AccountSetUp, options: Options) -> str:
    """A whole configuration: `terraform init && terraform apply` with credentials of the account."""
    blocks = [_head(account)]
    principals: dict[str, Any] = {}
    if account.issuer and options.make_providers:
        principals["web_identity"] = {
            "Federated": _Expression("aws_iam_openid_connect_provider.daypass.arn")
        }
        url = {"url": account.issuer, "client_id_list": [account.audience]}
        blocks.append(_resource("aws_iam_openid_connect_provider", "daypass", url))
    if account.saml_provider_name and options.make_providers:
        principals["saml"] = {"Federated": _Expression("aws_iam_saml_provider.daypass.arn")}
        provider = {
            "name": account.saml_provider_name,
            "saml_metadata_document": options.saml_metadata,
        }
        blocks.append(_resource("aws_iam_saml_provider", "daypass", provider))
    if account.roles:
        blocks.append(_variable(account, options))
    labels = identifiers([role.name for role in account.all_roles], "[A-Za-z0-9_]")
    for label, role in zip(labels, account.all_roles, strict=True):
        blocks += _role(f"role_{label}", role, account, options, principals)
    return "\n".join(blocks)


def _head(account: AccountSetUp) -> str:
    return f"""# Lets people into the account {account.account_id} through Daypass.
# As a module of a larger configuration, leave out the provider block.

terraform {{
  required_version = ">= 1.3"

  required_providers {{
    aws = {{
      source  = "hashicorp/aws"
      version = ">= 6.0"
    }}
  }}
}}

provider "aws" {{
  region              = {_value(account.home_region)}
  allowed_account_ids = [{_value(account.account_id)}]
}}
"""


def _variable(account: AccountSetUp, options: Options) -> str:
    chosen = [policy.arn(account.partition, account.account_id) for policy in options.policies]
    default = _value({role.name: chosen for role in account.roles}, "  ")
    return f"""variable "managed_policies" {{
  description = "What people may do: ARNs of managed policies by the name of the role."
  type        = map(list(string))
  default = {default}
}}
"""


def _role(
    label: str,
    role: RoleToMake,
    account: AccountSetUp,
    options: Options,
    principals: Mapping[str, Any],
) -> list[str]:
    trust = statements(role.subject, principal=principals.get(role.subject.trust))
    values: dict[str, Any] = {"name": role.name}
    if role.path != "/":
        values["path"] = role.path
    if role.description:
        values["description"] = role.description
    values["max_session_duration"] = role.max_seconds
    if options.boundary is not None:
        values["permissions_boundary"] = options.boundary.arn(account.partition, account.account_id)
    values["assume_role_policy"] = _encoded({"Version": "2012-10-17", "Statement": trust})
    blocks = [_resource("aws_iam_role", label, values)]
    name = _Expression(f"aws_iam_role.{label}.name")
    if account.discovery is not None and role is account.discovery.role:
        reading = {
            "name": "daypass-discovery",
            "role": name,
            "policy": _encoded(account.discovery.permissions()),
        }
        return [*blocks, _resource("aws_iam_role_policy", label, reading)]
    wanted = f"lookup(var.managed_policies, {_value(role.name)}, [])"
    attached = {
        "for_each": _Expression(f"toset({wanted})"),
        "role": name,
        "policy_arn": _Expression("each.value"),
    }
    return [*blocks, _resource("aws_iam_role_policy_attachment", label, attached)]


def _encoded(document: Mapping[str, Any]) -> _Expression:
    return _Expression(f"jsonencode({_value(document, '  ')})")


def _resource(kind: str, label: str, values: Mapping[str, Any]) -> str:
    rows = _aligned([(name, _value(value, "  ")) for name, value in values.items()], "  ")
    return "\n".join([f'resource "{kind}" "{label}" {{', *rows, "}", ""])


def _aligned(pairs: Sequence[tuple[str, str]], indent: str) -> list[str]:
    """Definitions as `terraform fmt` lays them out: equals signs below each other, except around long values."""
    lines: list[str] = []
    for long, several in groupby(pairs, key=lambda pair: "\n" in pair[1]):
        group = list(several)
        width = 0 if long else max(len(name) for name, _ in group)
        lines += [f"{indent}{name:{width}} = {value}" for name, value in group]
    return lines


def _value(value: Any, indent: str = "") -> str:
    """An expression; strings are never templates, whatever is in them."""
    if isinstance(value, _Expression):
        return value.text
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return f'"{_escaped(value)}"'
    inner = indent + "  "
    if isinstance(value, Mapping):
        if not value:
            return "{}"
        pairs = [(_value(key), _value(item, inner)) for key, item in value.items()]
        rows = _aligned(pairs, inner)
        return "\n".join(["{", *rows, f"{indent}}}"])
    if all(isinstance(item, str) for item in value):
        return f"[{', '.join(map(_value, value))}]"
    rows = [f"{inner}{_value(item, inner)}," for item in value]
    return "\n".join(["[", *rows, f"{indent}]"])


_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}


def _escaped(text: str) -> str:
    said = "".join(
        _NAMED.get(one, one if " " <= one <= "~" else f"\\U{ord(one):08X}") for one in text
    )
    # In a quoted template, the beginning of an interpolation or directive is written with its sign twice.
    return re.sub(r"([$%])\{", r"\1\1{", said)
