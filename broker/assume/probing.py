"""Knocking at a role's door to see whether it opens: the same calls as for people, with nothing behind them.

A probe asks AWS exactly as a session does, under a session policy that denies everything, and what AWS gives is dropped
by the caller after a look; nobody gets it. It speaks for no person: its subject and source identity say that it is a
check. Every probe is recorded as what it is, and whether AWS opened.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, assert_never

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from broker.arns import RoleArn
from broker.assume import rules
from broker.audit.rules import Kind
from broker.audit.services import Actor, Subject, record
from broker.aws import sts
from broker.aws.credentials import Credentials
from broker.errors import AwsError, DaypassError
from broker.minting import oidc, saml
from broker.minting.tokens import MintedToken

NAME = "daypass=doctor"
"""Session name (with random letters behind it) and source identity; no handle has an equals sign."""
SUBJECT = "doctor"
"""Who the token speaks for, in the place of a person's id, so that the same trust policy judges it."""
LONGEST_POLICY = 2048

_NOTHING = {"Effect": "Deny", "Action": "*", "Resource": "*"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """A role of the catalogue (role_id), as far as a call for it needs to know it. region "": the partition's own."""

    role_id: str
    role: RoleArn
    trust: Literal["web_identity", "saml", "assume_role"]
    region: str
    second_region: str = ""
    external_id: str = ""
    saml_provider_arn: str = ""
    recipient: str = ""
    audience: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked for besides the role. session_policy: of a mapping; it never gives the probe a right."""

    seconds: int = rules.SHORTEST
    session_policy: str = ""
    policy_arns: tuple[str, ...] = ()
    session_tags: Mapping[str, str] = field(default_factory=dict)
    transitive_tag_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Opened:
    """AWS opened. credentials: allow nothing; to look at and drop. packed_percent: of AWS's space for policy and
    tags."""

    credentials: Credentials
    packed_percent: int | None


def probe(door: Door, wish: Wish, *, actor: Actor, address: str = "", now: datetime) -> Opened:
    """Ask AWS for the role as a session would, for nobody. actor: the administrator or the task that checks.

    Never inside a transaction. Raises AwsError, AwsUnavailable, KeyUnavailable, BadInput, AuditBroken.
    """
    with transaction.atomic(durable=True):
        pass  # inside a transaction this fails before AWS is asked
    suffix = "".join(secrets.choice(rules.SUFFIX_LETTERS) for _ in range(rules.SUFFIX_LENGTH))
    session_name = f"{NAME}.{suffix}"
    try:
        answer = _ask(door, wish, session_name)
    except DaypassError as error:
        code = error.aws_code if isinstance(error, AwsError) and error.aws_code else error.code
        _record(door, wish, session_name, actor, address, now, {"outcome": "refused", "code": code})
        raise
    _record(
        door,
        wish,
        session_name,
        actor,
        address,
        now,
        {"outcome": "opened", "access_key_id": answer.credentials.access_key_id},
    )
    return Opened(answer.credentials, answer.packed_policy_size)


def without_rights(session_policy: str) -> str:
    """The policy with everything denied besides, in as few characters as possible.

    Raises AwsError for what is no policy: what cannot be read is not sent.
    """
    if not session_policy:
        return _compact({"Version": "2012-10-17", "Statement": [_NOTHING]})
    try:
        document = json.loads(session_policy)
        held = document["Statement"]
        held = held if isinstance(held, list) else [held]
    except (ValueError, KeyError, TypeError):
        raise AwsError(
            code="aws_policy_malformed",
            cause="The session policy of this mapping is no JSON object with a Statement.",
            remedy="Check the mapping's session policy with the policy validator in the IAM console.",
        ) from None
    return _compact({**document, "Statement": [*held, _NOTHING]})


def _compact(document: Mapping[str, object]) -> str:
    """STS takes no character beyond U+00FF; escaped, the same policy means the same, as a mapping keeps it."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    return text if max(text) <= "\xff" else json.dumps(document, separators=(",", ":"))


def _ask(door: Door, wish: Wish, session_name: str) -> sts.StsAnswer:
    policy = without_rights(wish.session_policy)
    if (
        len(policy) > LONGEST_POLICY
    ):  # with the Deny it would be too long, and without it would give rights
        policy = without_rights("")
    call = sts.RoleCall(
        role_arn=str(door.role),
        partition=door.role.partition,
        region=door.region,
        session_name=session_name,
        seconds=wish.seconds,
        session_policy=policy,
        policy_arns=wish.policy_arns,
        second_region=door.second_region,
    )
    match door.trust:
        case "web_identity":
            return sts.with_web_identity(
                call,
                lambda: _token(door, wish).reveal(),
                issuer=settings.DAYPASS_ISSUER,
                tag_keys=tuple(wish.session_tags),
            )
        case "saml":
            return sts.with_saml(
                call,
                lambda: _assertion(door, wish, session_name).reveal(),
                provider_arn=door.saml_provider_arn,
                tag_keys=tuple(wish.session_tags),
            )
        case "assume_role":
            return sts.assume_role(
                call,
                source_identity=NAME,
                external_id=door.external_id,
                session_tags=wish.session_tags,
                transitive_tag_keys=wish.transitive_tag_keys,
            )
        case _:
            assert_never(door.trust)


def _token(door: Door, wish: Wish) -> MintedToken:
    claims = oidc.WebIdentityClaims(
        subject=SUBJECT,
        role_arn=str(door.role),
        source_identity=NAME,
        session_tags=wish.session_tags,
        transitive_tag_keys=wish.transitive_tag_keys,
        mfa=True,  # as somebody who did everything that a trust policy may ask for
    )
    return oidc.mint_web_identity_token(claims, now=timezone.now())


def _assertion(door: Door, wish: Wish, session_name: str) -> MintedToken:
    claims = saml.AssertionClaims(
        role_arn=str(door.role),
        saml_provider_arn=door.saml_provider_arn,
        session_name=session_name,
        source_identity=NAME,
        session_tags=wish.session_tags,
        transitive_tag_keys=wish.transitive_tag_keys,
        session_seconds=wish.seconds,
        subject=SUBJECT,
        recipient=door.recipient,
        audience=door.audience,
    )
    return saml.mint_saml_response(claims, now=timezone.now())


def _record(
    door: Door,
    wish: Wish,
    session_name: str,
    actor: Actor,
    address: str,
    now: datetime,
    how: Mapping[str, str],
) -> None:
    with transaction.atomic(durable=True):
        record(
            Kind.ROLE_CHECKED,
            actor=actor,
            subject=Subject("role", door.role_id),
            data={
                "role": str(door.role),
                "trust": door.trust,
                "session_name": session_name,
                "source_identity": NAME,
                "seconds": wish.seconds,
                "tag_keys": sorted(wish.session_tags),
                **how,
            },
            address=address,
            at=now,
        )
