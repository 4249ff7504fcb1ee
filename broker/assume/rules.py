"""From Allowed to a plan: the session's name, its length, and everything that STS will be told. Pure."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast
from uuid import UUID

from accounts.identity import Principal
from broker.arns import (
    PARTITIONS,
    RoleArn,
    assumed_role_arn,
    federated_user_arn,
    parse_role_arn,
    saml_provider_arn,
)
from broker.entitlements import names
from broker.entitlements.rules import Allowed, HandOver, RoleFacts, longest_of
from broker.errors import DaypassError

Trust = Literal[
    "web_identity",
    "saml",
    "assume_role",
    "relayed_token",
    "relayed_assertion",
    "federation_token",
]

SHORTEST = 900

SUFFIX_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"
SUFFIX_LENGTH = names.RANDOM_LENGTH
"""Forty random bits beside a handle that is unique: names stay unique for hundreds of thousands of sessions each."""

_NAME = re.compile(r"[A-Za-z0-9_+=,.@-]{2,64}")


class Unplannable(DaypassError):
    """What was allowed cannot be asked of AWS: a handle or a length that AWS would not take."""

    code = "unplannable"
    message = "Daypass cannot ask AWS for this role. An administrator has to look at it."


@dataclass(frozen=True, slots=True)
class Plan:
    """One issue of credentials, decided to the last parameter.

    seconds: what AWS is asked for. chained: credentials for whose console AWS takes no length of its own: AssumeRole
    with the broker's own role, and federation tokens. region "": the partition's home. source_identity: "" where
    nobody tells AWS one: what is relayed is not ours to add to, and a federation token has none. With a relayed
    assertion AWS also takes the session's name from there, and session_name is ours alone.
    saml_provider_arn, recipient and audience are for SAML trust. expected_arn: what AWS will call the session.
    """

    role: RoleFacts
    trust: Trust
    hand_over: HandOver
    mapping_id: UUID | None
    session_name: str
    source_identity: str
    subject: str
    seconds: int
    chained: bool
    region: str
    session_policy: str
    policy_arns: tuple[str, ...]
    session_tags: Mapping[str, str]
    transitive_tag_keys: tuple[str, ...]
    mfa: bool
    saml_provider_arn: str
    recipient: str
    audience: str
    expected_arn: str


def make_plan(principal: Principal, allowed: Allowed, *, suffix: str) -> Plan:
    """Plan the session that `allowed` permits. `suffix`: random, SUFFIX_LENGTH of SUFFIX_LETTERS.

    Raises Unplannable.
    """
    role = allowed.role
    trust = cast(Trust, role.trust)
    federated = trust == "federation_token"
    if federated and not (allowed.session_policy or allowed.policy_arns):
        raise Unplannable(
            cause="A federation token without a session policy would be all that the broker's own IAM user may do."
        )
    seconds = min(allowed.seconds, longest_of(trust, role.max_seconds))
    if seconds < SHORTEST:
        raise Unplannable(
            cause=f"{seconds} seconds were allowed; AWS issues nothing shorter than {SHORTEST}."
        )
    partition = PARTITIONS[role.partition]
    name = (
        federated_name(principal.handle, suffix)
        if federated
        else session_name(principal.handle, suffix, template=role.session_name)
    )
    return Plan(
        role=role,
        trust=trust,
        hand_over=allowed.hand_over,
        mapping_id=allowed.mapping_id,
        session_name=name,
        source_identity=""
        if federated or trust.startswith("relayed")
        else source_identity(principal.handle),
        subject=str(principal.person_id),
        seconds=seconds,
        chained=federated or trust == "assume_role",
        region=role.region,
        session_policy=allowed.session_policy,
        policy_arns=allowed.policy_arns,
        session_tags=dict(allowed.session_tags),
        # A federated user cannot assume a role, so there is no chain for a tag to stay on.
        transitive_tag_keys=() if federated else allowed.transitive_tag_keys,
        mfa=principal.proof.mfa,
        saml_provider_arn=saml_provider_arn(
            role.partition, role.account_id, role.saml_provider_name
        ),
        recipient=partition.saml_recipient(role.region),
        audience=partition.saml_audience,
        expected_arn=federated_user_arn(role.partition, role.account_id, name)
        if federated
        else assumed_role_arn(parse_role_arn(role.arn), name),
    )


_PURPOSE = re.compile(r"[a-z][a-z0-9_-]{1,31}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Loan:
    """A role that Daypass itself uses for a task, decided to the last parameter."""

    role: RoleArn
    region: str
    purpose: str
    session_name: str
    source_identity: str


def make_loan(
    *, account_id: str, partition: str, region: str, role_name: str, purpose: str, suffix: str
) -> Loan:
    """Plan a use of a role by Daypass itself. role_name: with its path, if it has one. purpose: a word, such as
    "discovery".

    The equals sign keeps its names apart from every person's: no handle has one. Raises BadInput, Unplannable.
    """
    if _PURPOSE.fullmatch(purpose) is None:
        raise Unplannable(cause=f"{purpose!r} does not name a task of Daypass.")
    role = parse_role_arn(f"arn:{partition}:iam::{account_id}:role/{role_name.lstrip('/')}")
    if (role.partition, role.account_id) != (partition, account_id):
        raise Unplannable(cause=f"{role} is not in account {account_id} of {partition}.")
    name = f"daypass={purpose}"
    return Loan(role, region, purpose, f"{name}.{suffix}", name)


def source_identity(handle: str) -> str:
    """What names the person in CloudTrail for as long as the session and all chained from it live: the handle.

    Handles are given out once and never again (threats.md R36). Raises Unplannable for one that AWS would not take.
    """
    if _NAME.fullmatch(handle) is None:
        raise Unplannable(
            cause=f"The handle {handle!r} is not 2 to 64 letters, digits or characters of _+=,.@-"
        )
    return handle


def session_name(handle: str, suffix: str, *, template: str = "") -> str:
    """`alice.9f3k2c7d`, or as the role's template says: readable, unique, within AWS's 64 characters.

    Raises Unplannable rather than shorten: a name that lost its end could be somebody else's.
    """
    problem = names.problem_of_template(template)
    if problem:
        raise Unplannable(cause=f"The session name template {template!r} cannot be used: {problem}")
    name = names.fill(template, handle=handle, random=suffix)
    if _NAME.fullmatch(name) is None:
        raise Unplannable(cause=f"The session name {name!r} is not one that AWS takes.")
    return name


_LONGEST_FEDERATED = 32


def federated_name(handle: str, suffix: str) -> str:
    """The name of a federated user, for which AWS takes 2 to 32 characters.

    `alice.9f3k2c7d`, as a session name. A handle too long for that is cut, and what makes it nobody else's is a hash of
    the whole one behind an equals sign, which no handle has: `maximilian.af=k3v9x2m1q.9f3k2c7d`. Raises Unplannable.
    """
    name = f"{source_identity(handle)}.{suffix}"
    if len(name) > _LONGEST_FEDERATED:
        digest = base64.b32encode(hashlib.sha256(handle.encode()).digest()).decode().lower()[:9]
        kept = _LONGEST_FEDERATED - len(suffix) - len(digest) - 2
        name = f"{handle[:kept]}={digest}.{suffix}"
    return name
