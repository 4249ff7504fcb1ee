"""What an administrator writes (accounts, roles, mappings, denies), and what is wrong with it, field by field. Pure.

A draft is checked for everything that can be known without the database; services check the rest. The checks return
the draft as it will be kept: trimmed, normalised, policies without blanks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from ipaddress import IPv6Network, ip_network
from typing import Any
from unicodedata import category, normalize
from uuid import UUID

from broker.arns import (
    PARTITIONS,
    RoleArn,
    parse_account_id,
    parse_federated_user_arn,
    parse_role_arn,
)
from broker.entitlements.names import problem_of_template
from broker.entitlements.rules import LONGEST_SECONDS, SHORTEST_SECONDS, duration
from broker.errors import BadInput

MOST_ROLES = 1000
MOST_NETWORKS = 50
MOST_POLICY_ARNS = 10
MOST_TAGS = 50
LONGEST_POLICY = 2048
LONGEST_TAG_KEY = 128
SHORTEST_SIGN_IN_AGE = 60
LONGEST_SIGN_IN_AGE = 30 * 86400

TRUSTS = (
    "web_identity",
    "saml",
    "assume_role",
    "relayed_token",
    "relayed_assertion",
    "federation_token",
)
RELAYED = ("relayed_token", "relayed_assertion")
CONSOLES = ("federation", "saml_form")
COLOURS = ("red", "amber", "green", "blue", "violet", "grey")


class FieldErrors(BadInput):
    """Something in a draft is wrong. errors: field name -> one sentence for the administrator, in field order."""

    code = "field_errors"

    def __init__(self, errors: Mapping[str, str]) -> None:
        self.errors = dict(errors)
        super().__init__(" ".join(self.errors.values()))


@dataclass(frozen=True, slots=True)
class EnvironmentDraft:
    name: str
    colour: str = "grey"
    production: bool = False
    position: int = 0


@dataclass(frozen=True, slots=True)
class AccountDraft:
    """environment: primary key of an Environment."""

    account_id: str
    name: str
    partition: str = "aws"
    alias: str = ""
    environment: int | None = None
    region: str = ""
    second_region: str = ""
    saml_provider_name: str = "Daypass"
    external_id: str = ""
    discovery_role: str = ""
    management: bool = False
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class RoleDraft:
    """session_name: the template of names.py, "" for the usual one."""

    arn: str
    description: str = ""
    trust: str = "web_identity"
    console: str = "federation"
    session_name: str = ""
    external_id: str = ""
    max_seconds: int = 3600
    sensitive: bool = False
    enabled: bool = True
    relay_provider_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class MappingDraft:
    """group: primary key of a DirectoryGroup. session_tags: tag key -> name of a person attribute.

    transitive_tag_keys: those of them that stay on when a role is assumed from the session.
    """

    group: int
    roles: tuple[UUID, ...]
    note: str = ""
    enabled: bool = True
    max_seconds: int | None = None
    allow_console: bool = True
    allow_keys: bool = True
    require_mfa: bool = False
    max_sign_in_age: int | None = None
    networks: tuple[str, ...] = ()
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    session_policy: str = ""
    policy_arns: tuple[str, ...] = ()
    session_tags: Mapping[str, str] = field(default_factory=dict)
    transitive_tag_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DenyDraft:
    """Primary keys. Exactly one of group and person; at most one of role and account (neither: every role)."""

    reason: str
    group: int | None = None
    person: UUID | None = None
    role: UUID | None = None
    account: int | None = None
    enabled: bool = True
    valid_until: datetime | None = None


class _Checks:
    """Collects what is wrong; the first thing found about a field is what is said."""

    def __init__(self) -> None:
        self.errors: dict[str, str] = {}

    def wrong(self, field: str, sentence: str) -> None:
        self.errors.setdefault(field, sentence)

    def text(self, field: str, value: str, *, longest: int, required: bool = False) -> str:
        """One line of visible characters, composed (NFC), trimmed."""
        value = normalize("NFC", value).strip()
        if required and not value:
            self.wrong(field, "Fill this in.")
        if len(value) > longest:
            self.wrong(field, f"Use at most {longest} characters; these are {len(value)}.")
        if any(category(character)[0] == "C" for character in value):
            self.wrong(field, "Leave out line breaks and invisible characters.")
        return value

    def choice(self, field: str, value: str, choices: Iterable[str]) -> None:
        choices = tuple(choices)
        if value not in choices:
            self.wrong(field, f"Choose one of {', '.join(choices)}.")

    def between(self, field: str, value: int, *, least: int, most: int) -> None:
        if not least <= value <= most:
            self.wrong(
                field,
                f"Use {least} to {most} seconds ({duration(least)} to {duration(most)}).",
            )

    def moment(self, field: str, value: datetime | None) -> None:
        if value is not None and value.tzinfo is None:
            self.wrong(field, "Say the time zone of this moment.")

    def done(self) -> None:
        if self.errors:
            raise FieldErrors(self.errors)


def check_environment(draft: EnvironmentDraft) -> EnvironmentDraft:
    """The draft as it will be kept. Raises FieldErrors."""
    checks = _Checks()
    name = checks.text("name", draft.name, longest=40, required=True)
    checks.choice("colour", draft.colour, COLOURS)
    if not 0 <= draft.position <= 32767:
        checks.wrong("position", "Use a number from 0 to 32767.")
    checks.done()
    return replace(draft, name=name)


_ALIAS = re.compile(r"[a-z0-9](?:[a-z0-9-]{1,61}[a-z0-9])", re.ASCII)
_SAML_PROVIDER_NAME = re.compile(r"[\w.-]{1,128}", re.ASCII)


def check_account(draft: AccountDraft) -> AccountDraft:
    """The draft as it will be kept. Raises FieldErrors."""
    checks = _Checks()
    account_id = draft.account_id
    try:
        account_id = parse_account_id(draft.account_id)
    except BadInput as error:
        checks.wrong("account_id", error.message)
    name = checks.text("name", draft.name, longest=100, required=True)
    checks.choice("partition", draft.partition, PARTITIONS)
    alias = draft.alias.strip()
    if alias and (not _ALIAS.fullmatch(alias) or alias.isdigit() or "--" in alias):
        checks.wrong(
            "alias",
            "An account alias has 3 to 63 lower-case letters, digits and single hyphens, begins and "
            "ends with a letter or digit, and is not a number.",
        )
    region, second_region = draft.region.strip(), draft.second_region.strip()
    partition = PARTITIONS.get(draft.partition)
    if partition is not None:
        for field, named in (("region", region), ("second_region", second_region)):
            if named and not partition.owns_region(named):
                checks.wrong(
                    field,
                    f"{named} is not a region of the partition {partition.title}; one is {partition.home_region}.",
                )
        if second_region and second_region == (region or partition.home_region):
            checks.wrong("second_region", "Name another region than the first one.")
    provider_name = draft.saml_provider_name.strip()
    if not _SAML_PROVIDER_NAME.fullmatch(provider_name):
        checks.wrong(
            "saml_provider_name",
            "The name of an IAM SAML provider has 1 to 128 letters, digits, and . _ -",
        )
    external_id = _external_id(checks, draft.external_id)
    discovery_role = draft.discovery_role.strip().lstrip("/")
    if discovery_role and not _ROLE_NAME.fullmatch(discovery_role):
        checks.wrong(
            "discovery_role",
            "Use the role's name, with its path if it has one, for example DaypassDiscovery.",
        )
    checks.done()
    return replace(
        draft,
        discovery_role=discovery_role,
        account_id=account_id,
        name=name,
        alias=alias,
        region=region,
        second_region=second_region,
        saml_provider_name=provider_name,
        external_id=external_id,
    )


_ROLE_NAME = re.compile(r"(?:[\x21-\x7e]{1,510}/)?[\w+=,.@-]{1,64}", re.ASCII)
_EXTERNAL_ID = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)


def _external_id(checks: _Checks, text: str) -> str:
    text = text.strip()
    if text and not _EXTERNAL_ID.fullmatch(text):
        checks.wrong(
            "external_id", "An external id has 2 to 1224 letters, digits, and _ + = , . @ : / -"
        )
    return text


_SPLITTERS = {"web_identity": ";*?", "saml": ",*?"}
"""What AWS reads as a separator or a wildcard where a token or an assertion names its role, by the role's trust."""


def check_role(draft: RoleDraft) -> tuple[RoleDraft, RoleArn]:
    """The draft as it will be kept, and its ARN. Raises FieldErrors."""
    checks = _Checks()
    arn = None
    try:
        federated = draft.trust == "federation_token"
        arn = parse_federated_user_arn(draft.arn) if federated else parse_role_arn(draft.arn)
    except BadInput as error:
        checks.wrong("arn", error.message)
    if arn is not None and arn.name.startswith("AWSReservedSSO_"):
        checks.wrong(
            "arn",
            "This role belongs to IAM Identity Center, which alone may let people into it. "
            "Register a role of your own.",
        )
    if arn is not None and arn.path.startswith("/aws-service-role/"):
        checks.wrong("arn", "This role belongs to an AWS service; nobody else can use it.")
    if arn is not None and (split := _SPLITTERS.get(draft.trust, "")):
        found = [character for character in split if character in str(arn)]
        if found:
            checks.wrong(
                "arn",
                f"AWS would read {' '.join(found)} in this ARN as the end of one role and the beginning of another. "
                "Use a role without it in its path and name.",
            )
    description = checks.text("description", draft.description, longest=200)
    checks.choice("trust", draft.trust, TRUSTS)
    checks.choice("console", draft.console, CONSOLES)
    if draft.console == "saml_form" and draft.trust != "saml":
        checks.wrong("console", "The SAML form works only for a role that trusts Daypass by SAML.")
    session_name = draft.session_name.strip()
    problem = problem_of_template(session_name)
    if session_name and draft.trust == "federation_token":
        problem = "AWS takes 32 characters for a federated user, so Daypass makes the name."
    if problem:
        checks.wrong("session_name", problem)
    if draft.external_id.strip() and draft.trust != "assume_role":
        checks.wrong(
            "external_id",
            "Only AssumeRole takes an external id; leave it empty or change the trust.",
        )
    if draft.trust in RELAYED and draft.relay_provider_id is None:
        checks.wrong("relay_provider_id", "Choose the identity provider that the role trusts.")
    if draft.trust not in RELAYED and draft.relay_provider_id is not None:
        checks.wrong(
            "relay_provider_id",
            "Only what is relayed is somebody else's word; choose none or change the trust.",
        )
    external_id = _external_id(checks, draft.external_id)
    checks.between("max_seconds", draft.max_seconds, least=SHORTEST_SECONDS, most=LONGEST_SECONDS)
    checks.done()
    assert arn is not None
    kept = replace(
        draft,
        arn=str(arn),
        description=description,
        session_name=session_name,
        external_id=external_id,
    )
    return kept, arn


def check_mapping(draft: MappingDraft) -> MappingDraft:
    """The draft as it will be kept: networks normalised, the session policy compacted. Raises FieldErrors."""
    checks = _Checks()
    roles = tuple(dict.fromkeys(draft.roles))
    if not roles:
        checks.wrong("roles", "Choose at least one role.")
    if len(roles) > MOST_ROLES:
        checks.wrong("roles", f"Choose at most {MOST_ROLES} roles for one mapping.")
    note = checks.text("note", draft.note, longest=200)
    if draft.max_seconds is not None:
        checks.between(
            "max_seconds", draft.max_seconds, least=SHORTEST_SECONDS, most=LONGEST_SECONDS
        )
    if not draft.allow_console and not draft.allow_keys:
        checks.wrong("allow_console", "Allow the console, keys, or both.")
    if draft.max_sign_in_age is not None:
        checks.between(
            "max_sign_in_age",
            draft.max_sign_in_age,
            least=SHORTEST_SIGN_IN_AGE,
            most=LONGEST_SIGN_IN_AGE,
        )
    checks.moment("valid_from", draft.valid_from)
    checks.moment("valid_until", draft.valid_until)
    if (
        draft.valid_from is not None
        and draft.valid_until is not None
        and not checks.errors.keys() & {"valid_from", "valid_until"}
        and draft.valid_until <= draft.valid_from
    ):
        checks.wrong("valid_until", "The mapping would end before it begins.")
    networks = _networks(checks, draft.networks)
    session_policy = _session_policy(checks, draft.session_policy)
    policy_arns = _policy_arns(checks, draft.policy_arns)
    session_tags = _session_tags(checks, draft.session_tags)
    transitive = tuple(dict.fromkeys(key.strip() for key in draft.transitive_tag_keys))
    for key in transitive:
        if key not in session_tags:
            checks.wrong(
                "transitive_tag_keys",
                f"{key[:60]!r} is not among the session tags; write its key as it stands there.",
            )
    checks.done()
    return replace(
        draft,
        roles=roles,
        note=note,
        networks=networks,
        session_policy=session_policy,
        policy_arns=policy_arns,
        session_tags=session_tags,
        transitive_tag_keys=transitive,
    )


def narrowed(draft: MappingDraft) -> bool:
    """Whether its sessions get a session policy, inline or managed."""
    return bool(draft.session_policy or draft.policy_arns)


def check_deny(draft: DenyDraft) -> DenyDraft:
    """The draft as it will be kept. Raises FieldErrors."""
    checks = _Checks()
    reason = checks.text("reason", draft.reason, longest=200, required=True)
    if draft.group is None and draft.person is None:
        checks.wrong("group", "Name either a group or a person.")
    if draft.group is not None and draft.person is not None:
        checks.wrong("group", "Name a group or a person, not both.")
    if draft.role is not None and draft.account is not None:
        checks.wrong(
            "role", "Name a role or an account, not both. Leave both empty for every role."
        )
    checks.moment("valid_until", draft.valid_until)
    checks.done()
    return replace(draft, reason=reason)


def _networks(checks: _Checks, networks: Iterable[str]) -> tuple[str, ...]:
    kept: dict[str, None] = {}
    for text in networks:
        text = text.strip()
        try:
            network = ip_network(text, strict=False)
        except ValueError:
            checks.wrong(
                "networks",
                f"{text[:60]!r} is not a network; write it like 192.0.2.0/24 or 2001:db8::/32.",
            )
            continue
        if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped:
            mapped = network.network_address.ipv4_mapped
            checks.wrong("networks", f"Write {mapped} as an IPv4 network.")
        elif not _is_exact(text):
            checks.wrong("networks", f"{text} names a single address; did you mean {network}?")
        kept[str(network)] = None
    if len(kept) > MOST_NETWORKS:
        checks.wrong("networks", f"Name at most {MOST_NETWORKS} networks.")
    return tuple(kept)


def _is_exact(network: str) -> bool:
    """Whether no bit is set behind the prefix."""
    try:
        ip_network(network)
    except ValueError:
        return False
    return True


def _session_policy(checks: _Checks, text: str) -> str:
    """The policy without blanks, as STS will get it; "" for none."""
    text = text.strip()
    if not text:
        return ""
    if len(text) > 10 * LONGEST_POLICY:
        checks.wrong("session_policy", f"AWS accepts at most {LONGEST_POLICY} characters.")
        return text
    try:
        policy = read_json(text)
    except ValueError as error:
        checks.wrong("session_policy", f"This is not JSON: {error}.")
        return text
    problem = _problem_of_policy(policy)
    if problem:
        checks.wrong("session_policy", problem)
        return text
    compact = json.dumps(policy, separators=(",", ":"), ensure_ascii=False)
    if any(ord(character) > 0xFF for character in compact):
        # STS takes U+0020 to U+00FF; the same policy with other characters escaped means the same.
        compact = json.dumps(policy, separators=(",", ":"))
    if len(compact) > LONGEST_POLICY:
        checks.wrong(
            "session_policy",
            f"AWS accepts at most {LONGEST_POLICY} characters; this policy has {len(compact)} "
            "without its blanks.",
        )
    return compact


def read_json(text: str) -> Any:
    """JSON as everybody reads it: no key twice, no NaN. Raises ValueError saying what and where."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a name stands twice in one object")
        return found

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not a JSON value")

    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _problem_of_policy(policy: Any) -> str:
    if not isinstance(policy, dict):
        return 'A policy is a JSON object: {"Version": "2012-10-17", "Statement": [...]}.'
    if policy.get("Version") not in ("2012-10-17", "2008-10-17"):
        return 'Say "Version": "2012-10-17".'
    unknown = policy.keys() - {"Version", "Id", "Statement"}
    if unknown:
        return f"A policy has no element {min(unknown)!r}."
    statements = policy.get("Statement")
    if isinstance(statements, dict):
        statements = [statements]
    if not isinstance(statements, list) or not statements:
        return '"Statement" has to hold at least one statement.'
    for number, statement in enumerate(statements, start=1):
        problem = _problem_of_statement(statement)
        if problem:
            return f"Statement {number}: {problem}"
    return ""


def _problem_of_statement(statement: Any) -> str:
    if not isinstance(statement, dict):
        return "it has to be a JSON object."
    if statement.get("Effect") not in ("Allow", "Deny"):
        return '"Effect" has to be "Allow" or "Deny".'
    if {"Principal", "NotPrincipal"} & statement.keys():
        return "a session policy names no principal; it is about the session itself."
    for one, other in (("Action", "NotAction"), ("Resource", "NotResource")):
        if (one in statement) == (other in statement):
            return f'it needs either "{one}" or "{other}".'
    unknown = statement.keys() - {
        "Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition",
    }  # fmt: skip
    if unknown:
        return f"it has no element {min(unknown)!r}."
    return ""


_POLICY_ARN = re.compile(
    r"arn:(?P<partition>aws(?:-us-gov|-cn|-eusc)?):iam::(?P<account>\d{12}|aws):policy"
    r"/(?:[\x21-\x7e]{1,510}/)?[\w+=,.@-]{1,128}",
    re.ASCII,
)


def _policy_arns(checks: _Checks, arns: Iterable[str]) -> tuple[str, ...]:
    kept = tuple(dict.fromkeys(arn.strip() for arn in arns))
    for arn in kept:
        if not _POLICY_ARN.fullmatch(arn):
            checks.wrong(
                "policy_arns",
                f"{arn[:80]!r} is not the ARN of a managed policy; one is "
                "arn:aws:iam::aws:policy/ReadOnlyAccess.",
            )
    if len(kept) > MOST_POLICY_ARNS:
        checks.wrong("policy_arns", f"AWS accepts at most {MOST_POLICY_ARNS} managed policies.")
    return kept


def problem_of_policy_arns(arns: Iterable[str], roles: Iterable[RoleArn]) -> str:
    """Why these policies (well-formed ARNs) cannot narrow a session of each of these roles; "" if they can."""
    places = {(role.partition, role.account_id) for role in roles}
    for arn in arns:
        match = _POLICY_ARN.fullmatch(arn)
        if match is None:
            return f"{arn[:80]!r} is not the ARN of a managed policy."
        for partition, account in sorted(places):
            if match["partition"] != partition:
                return (
                    f"{arn} belongs to the partition {match['partition']}, "
                    f"and a role of this mapping to {partition}."
                )
            if match["account"] not in ("aws", account):
                return (
                    f"{arn} lives in the account {match['account']}, and a role of this mapping in "
                    f"{account}; a session policy has to live where the role does."
                )
    return ""


def _session_tags(checks: _Checks, tags: Mapping[str, str]) -> dict[str, str]:
    kept: dict[str, str] = {}
    seen: set[str] = set()
    for key, attribute in tags.items():
        key, attribute = key.strip(), attribute.strip()
        shown = repr(key[:60])
        if not 1 <= len(key) <= LONGEST_TAG_KEY or not all(
            character in "_.:/=+-@" or category(character)[0] in "LNZ" for character in key
        ):
            checks.wrong(
                "session_tags",
                f"The tag key {shown} has to have 1 to {LONGEST_TAG_KEY} letters, digits, spaces "
                "and _ . : / = + - @",
            )
        elif key.lower().startswith("aws:"):
            checks.wrong("session_tags", f"The tag key {shown} is reserved: it begins with aws:")
        elif key.lower() in seen:
            checks.wrong(
                "session_tags",
                f"The tag key {shown} stands there twice; AWS does not tell upper from lower case.",
            )
        if not attribute or len(attribute) > 100:
            checks.wrong(
                "session_tags", f"Say which attribute of the person the tag {shown} carries."
            )
        seen.add(key.lower())
        kept[key] = attribute
    if len(kept) > MOST_TAGS:
        checks.wrong("session_tags", f"AWS accepts at most {MOST_TAGS} session tags.")
    return kept
