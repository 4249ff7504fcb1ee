"""CloudFormation templates, for one account or as a StackSet for many, in YAML or JSON. Pure.

Specification: CloudFormation user guide, template anatomy and the pages of AWS::IAM::OIDCProvider,
AWS::IAM::SAMLProvider and AWS::IAM::Role. Accounts and partitions stand as pseudo parameters, so that one template
serves every account. No thumbprint is named: AWS then goes by the certificate's authority, and finds a thumbprint by
itself where it wants one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from broker.errors import BadInput
from broker.trust.rules import statements, subject_pattern
from broker.trust.setup import (
    AccountSetUp,
    Discovery,
    ManagedPolicy,
    Options,
    RoleToMake,
    identifiers,
    same_everywhere,
)

LONGEST_BODY = 51_200
"""Bytes of a template that CloudFormation takes from a file; larger ones have to lie in S3."""

Template = dict[str, Any]


def template(accounts: Sequence[AccountSetUp], options: Options) -> Template:
    """One template for all of these accounts, of one partition. What only some of them need is behind a parameter.

    Raises BadInput.
    """
    return _Writer(accounts, options).template()


def overrides(accounts: Sequence[AccountSetUp], options: Options) -> list[dict[str, str]]:
    """For each account, the parameters that differ from their defaults there."""
    return _Writer(accounts, options).overrides()


_Shape = tuple[RoleToMake, bool, str]
"""What makes two roles of different accounts the same: the role, and for a discovery role what it may do."""


def _shapes(
    account: AccountSetUp, somewhere: str
) -> dict[_Shape, tuple[RoleToMake, Discovery | None]]:
    found: dict[_Shape, tuple[RoleToMake, Discovery | None]] = {
        (same_everywhere(role, somewhere), False, ""): (role, None) for role in account.roles
    }
    if (discovery := account.discovery) is not None:
        plain = same_everywhere(discovery.role, somewhere)
        shape = (plain, discovery.organisation, discovery.saml_provider)
        found[shape] = (discovery.role, discovery)
    return found


class _Writer:
    def __init__(self, accounts: Sequence[AccountSetUp], options: Options) -> None:
        if len({account.partition for account in accounts}) > 1:
            raise BadInput(
                "These accounts are in different partitions; nothing deploys across them.",
                code="partitions_apart",
                remedy="Choose accounts of one partition at a time.",
            )
        self.accounts = tuple(accounts)
        self.options = options
        self.parameters: Template = {}
        self.conditions: Template = {}
        self.resources: Template = {}
        self.differing: list[dict[str, str]] = [{} for _ in self.accounts]
        first = self.accounts[0]
        self.held = [_shapes(account, first.account_id) for account in self.accounts]
        shapes: dict[_Shape, tuple[RoleToMake, Discovery | None]] = {}
        for account in self.held:
            for shape, made in account.items():
                shapes.setdefault(shape, made)
        self._providers()
        by_name: dict[str, dict[_Shape, tuple[RoleToMake, Discovery | None]]] = {}
        for shape, made in shapes.items():
            by_name.setdefault(shape[0].name, {})[shape] = made
        labels = identifiers(list(by_name), "[A-Za-z0-9]")
        self.logicals = {f"Role{label}" for label in labels}
        for label, (name, variants) in zip(labels, by_name.items(), strict=True):
            self._role(f"Role{label}", name, variants)

    def template(self) -> Template:
        said = "Lets people into this account through Daypass: its identity providers and roles."
        parts = {
            "AWSTemplateFormatVersion": "2010-09-09",
            "Description": said,
            "Parameters": self.parameters,
            "Conditions": self.conditions,
            "Resources": self.resources,
        }
        return {name: part for name, part in parts.items() if part}

    def overrides(self) -> list[dict[str, str]]:
        return self.differing

    # What only some accounts have

    def _choice(self, name: str, description: str, wanted: Sequence[bool]) -> str:
        """A yes-or-no parameter with its condition; accounts that differ from the default say so."""
        default = all(wanted)
        self.parameters[name] = {
            "Type": "String",
            "AllowedValues": ["yes", "no"],
            "Default": _yes(default),
            "Description": description,
        }
        condition = f"If{name}"
        self.conditions[condition] = {"Fn::Equals": [{"Ref": name}, "yes"]}
        for differing, here in zip(self.differing, wanted, strict=True):
            if here != default:
                differing[name] = _yes(here)
        return condition

    def _providers(self) -> None:
        make = self.options.make_providers
        self.principals: dict[str, Any] = {}
        issuer = next(filter(None, (account.issuer for account in self.accounts)), "")
        if issuer:
            condition = self._choice(
                "CreateOidcProvider",
                "no: the account has an OIDC provider for this issuer already. IAM takes one only.",
                [make and bool(account.issuer) for account in self.accounts],
            )
            audience = next(filter(None, (account.audience for account in self.accounts)))
            self.resources["OidcProvider"] = {
                "Type": "AWS::IAM::OIDCProvider",
                "Condition": condition,
                "Properties": {"Url": issuer, "ClientIdList": [audience]},
            }
            arn = _here(f"oidc-provider/{issuer.partition('://')[2]}")
            self.principals["web_identity"] = {
                "Federated": {"Fn::If": [condition, {"Ref": "OidcProvider"}, arn]}
            }
        names = dict.fromkeys(filter(None, (a.saml_provider_name for a in self.accounts)))
        for logical, name in zip(identifiers(list(names), "[A-Za-z0-9]"), list(names), strict=True):
            logical = "SamlProvider" if len(names) == 1 else f"SamlProvider{logical}"
            condition = self._choice(
                f"Create{logical}",
                f"no: the account has the SAML provider {name} already.",
                [make and account.saml_provider_name == name for account in self.accounts],
            )
            self.resources[logical] = {
                "Type": "AWS::IAM::SAMLProvider",
                "Condition": condition,
                "Properties": {
                    "Name": name,
                    "SamlMetadataDocument": self.options.saml_metadata,
                },
            }
            self.principals[f"saml {name}"] = {
                "Federated": {
                    "Fn::If": [condition, {"Ref": logical}, _here(f"saml-provider/{name}")]
                }
            }

    def _role(
        self,
        logical: str,
        name: str,
        variants: Mapping[_Shape, tuple[RoleToMake, Discovery | None]],
    ) -> None:
        """The role of this name: as it is, or where accounts differ, the variant that a parameter chooses."""
        policies: Template | None = None
        if any(discovery is None for _, discovery in variants.values()):
            parameter = f"{logical}Policies"
            while parameter in self.logicals:  # Admin and AdminPolicies: one name is for one thing
                parameter += "X"
            policies = self._policies(parameter, name)
        everywhere = len(variants) == 1 and all(set(variants) <= set(held) for held in self.held)
        if not everywhere:
            self._variants(logical, name, variants)
        for number, (role, discovery) in enumerate(variants.values(), start=1):
            resource: Template = {"Type": "AWS::IAM::Role"}
            if not everywhere:
                resource["Condition"] = f"If{logical}Is{number}"
            resource["Properties"] = self._properties(role, discovery, policies)
            self.resources[logical if len(variants) == 1 else f"Variant{number}{logical}"] = (
                resource
            )

    def _variants(self, logical: str, name: str, variants: Iterable[_Shape]) -> None:
        choices = {shape: str(number) for number, shape in enumerate(variants, start=1)}
        parameter = f"Give{logical}"
        self.parameters[parameter] = {
            "Type": "String",
            "AllowedValues": ["no", *choices.values()],
            "Default": "no",
            "Description": f"Whether the account gets the role {name}, and which one of them.",
        }
        for choice in choices.values():
            self.conditions[f"If{logical}Is{choice}"] = {"Fn::Equals": [{"Ref": parameter}, choice]}
        for differing, held in zip(self.differing, self.held, strict=True):
            for shape in held:
                if shape in choices:
                    differing[parameter] = choices[shape]

    def _properties(
        self, role: RoleToMake, discovery: Discovery | None, policies: Template | None
    ) -> Template:
        subject = role.subject
        key = f"saml {subject.saml_provider_name}" if subject.trust == "saml" else subject.trust
        here = subject_pattern("${AWS::AccountId}", subject.role_name, subject.caller)
        there = subject_pattern(subject.account_id, subject.role_name, subject.caller)
        trust = statements(subject, principal=self.principals.get(key))
        properties: Template = {
            "RoleName": role.name,
            **({"Path": _literal(role.path)} if role.path != "/" else {}),
            **({"Description": _literal(role.description)} if role.description else {}),
            "MaxSessionDuration": role.max_seconds,
            "AssumeRolePolicyDocument": {
                "Version": "2012-10-17",
                "Statement": _replaced(trust, there, {"Fn::Sub": here}),
            },
        }
        if self.options.boundary is not None:
            properties["PermissionsBoundary"] = _policy(self.options.boundary)
        if discovery is None:
            properties["ManagedPolicyArns"] = policies
        else:
            properties["Policies"] = [
                {
                    "PolicyName": "daypass-discovery",
                    "PolicyDocument": self._permissions(discovery),
                }
            ]
        return properties

    def _permissions(self, discovery: Discovery) -> Any:
        arn = f"saml-provider/{discovery.saml_provider}"
        subject = discovery.role.subject
        literal = f"arn:{subject.partition}:iam::{subject.account_id}:{arn}"
        return _replaced(discovery.permissions(), literal, _here(arn))

    def _policies(self, parameter: str, role_name: str) -> Template:
        chosen = self.options.policies
        if len(self.accounts) > 1 and not all(policy.by_aws for policy in chosen):
            raise BadInput(
                "A template for several accounts cannot name a policy that one of them owns.",
                code="policy_of_one_account",
                remedy="Name policies of AWS, or give each account its own by the parameter.",
            )
        first = self.accounts[0]
        self.parameters[parameter] = {
            "Type": "CommaDelimitedList",
            "Default": ",".join(p.arn(first.partition, first.account_id) for p in chosen),
            "Description": f"ARNs of managed policies: what people may do in the role {role_name}.",
        }
        condition = f"If{parameter}"
        self.conditions[condition] = {
            "Fn::Not": [{"Fn::Equals": [{"Fn::Join": ["", {"Ref": parameter}]}, ""]}]
        }
        return {"Fn::If": [condition, {"Ref": parameter}, {"Ref": "AWS::NoValue"}]}


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _here(rest: str) -> Template:
    """An IAM ARN in whichever account the template is deployed to."""
    return {"Fn::Sub": f"arn:${{AWS::Partition}}:iam::${{AWS::AccountId}}:{_unsubstituted(rest)}"}


def _unsubstituted(text: str) -> str:
    return text.replace("${", "${!")


def _literal(text: str) -> str | Template:
    """A text that looks as if it held a variable is taken apart, so that nobody looks for one."""
    parts = text.split("${")
    if len(parts) == 1:
        return text
    ends = [f"{part}$" for part in parts[:-1]] + parts[-1:]
    return {"Fn::Join": ["", [ends[0], *("{" + end for end in ends[1:])]]}


def _policy(policy: ManagedPolicy) -> Template:
    if policy.by_aws:
        return {"Fn::Sub": f"arn:${{AWS::Partition}}:iam::aws:policy/{policy.name}"}
    return _here(f"policy/{policy.name}")


def _replaced(part: Any, old: str, new: Any) -> Any:
    """The same structure with every string that is `old` given way to `new`."""
    if part == old:
        return new
    if isinstance(part, Mapping):
        return {key: _replaced(value, old, new) for key, value in part.items()}
    if isinstance(part, list):
        return [_replaced(value, old, new) for value in part]
    return part


# --- Writing it down


def as_json(document: Template) -> str:
    """The template as JSON. Raises BadInput when CloudFormation would not take it from a file."""
    return _bounded(json.dumps(document, indent=2, ensure_ascii=True) + "\n")


def as_yaml(document: Template) -> str:
    """The template as YAML, which any reader of YAML 1.1 or 1.2 understands alike: whatever could be read as something
    else than a string is quoted. Raises BadInput as `as_json`."""
    return _bounded("\n".join(_block(document)) + "\n")


def _bounded(text: str) -> str:
    if len(text.encode()) > LONGEST_BODY:
        raise BadInput(
            f"The template has {len(text.encode())} bytes; CloudFormation takes {LONGEST_BODY} from a file.",
            code="template_too_large",
            remedy="Choose fewer roles at a time.",
        )
    return text


_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]*(?:[/.+-][A-Za-z0-9_]+)*")
_PLAIN_KEY = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:::[A-Za-z0-9]+)?")
_WORDS = frozenset(("y", "n", "yes", "no", "on", "off", "true", "false", "null"))


def _block(part: Any) -> list[str]:
    """Lines of a map or list that is not empty, without indentation."""
    lines: list[str] = []
    if isinstance(part, Mapping):
        for key, value in part.items():
            lines += _entry(f"{_scalar(key, _PLAIN_KEY)}:", value)
        return lines
    for value in part:
        if isinstance(value, Mapping | list) and value:
            first, *rest = _block(value)
            lines += [f"- {first}", *(f"  {line}" for line in rest)]
        else:
            lines.append(f"- {_inline(value)}")
    return lines


def _entry(head: str, value: Any) -> list[str]:
    if isinstance(value, Mapping | list) and value:
        return [head, *(f"  {line}" for line in _block(value))]
    return [f"{head} {_inline(value)}"]


def _inline(value: Any) -> str:
    if isinstance(value, str):
        return _scalar(value, _PLAIN)
    if isinstance(value, Mapping | list):
        return "{}" if isinstance(value, Mapping) else "[]"
    return json.dumps(value)


def _scalar(text: str, plain: re.Pattern[str]) -> str:
    if plain.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return f'"{"".join(map(_escaped, text))}"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if " " <= character <= "~":
        return character
    return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(character, f"\\U{ord(character):08X}")
