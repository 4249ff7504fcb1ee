"""When a key changes, and what a person has to do about it. Pure.

AWS does not say for how long it keeps an issuer's key set, and IAM's SAML providers hold what was uploaded last: so the
next key is published long before it signs, and the one before it long after.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from broker.arns import saml_provider_arn

OVERLAP = timedelta(hours=24)
"""How long AWS can know a key before it signs, and after it signed last."""
SAML_LEAD = timedelta(days=14)
"""How long before its turn the next SAML key is published: metadata may have to be uploaded by people."""
CERTIFICATE_RESERVE = timedelta(days=60)
"""The next key follows so long before the certificate of the signing one ends, whatever the schedule says."""

Deed = Literal["publish", "rotate", "remove"]


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """One key that is published. copied_at: since when the published copy holds it, None when it does not."""

    kid: str
    state: Literal["published", "signing", "retired"]
    created_at: datetime
    signing_since: datetime | None
    retired_at: datetime | None
    expires_at: datetime
    copied_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Situation:
    """The keys of one purpose, and what they wait for.

    every: how long a key signs, None when only people change it. copy: whether AWS reads a published copy of the
    documents. copy_problem: why that could not be written last time. behind: "name (id)" of the accounts whose SAML
    provider is not known to hold the next key. no_next: why no next key can be made, "" when one can.
    """

    keys: tuple[KeyFacts, ...]
    every: timedelta | None
    lead: timedelta = OVERLAP
    copy: bool = False
    copy_problem: str = ""
    behind: tuple[str, ...] = ()
    no_next: str = ""


@dataclass(frozen=True, slots=True)
class Planned:
    """What comes next: it is done at `at`, or as soon afterwards as nothing is in the way.

    by_hand: only a person does it. kid: of the key concerned, "" for one that is not made yet.
    """

    deed: Deed
    kid: str
    at: datetime
    obstacles: tuple[str, ...] = ()
    by_hand: bool = False

    def due(self, now: datetime) -> bool:
        return self.at <= now and not self.obstacles and not self.by_hand


def plan(situation: Situation) -> tuple[Planned, ...]:
    """Everything that comes next for one purpose, soonest first."""
    found = [
        Planned("remove", key.kid, key.retired_at + OVERLAP)
        for key in situation.keys
        if key.state == "retired" and key.retired_at is not None
    ]
    signing = next((key for key in situation.keys if key.state == "signing"), None)
    waiting = sorted(
        (key for key in situation.keys if key.state == "published"), key=lambda key: key.created_at
    )
    if waiting:
        found.append(_turn(waiting[0], situation))
    elif signing is not None and situation.every is not None:
        since = signing.signing_since or signing.created_at
        at = min(
            since + situation.every - situation.lead,
            signing.expires_at - CERTIFICATE_RESERVE - situation.lead,
        )
        found.append(Planned("publish", "", at, (situation.no_next,) if situation.no_next else ()))
    return tuple(sorted(found, key=lambda planned: planned.at))


def _turn(key: KeyFacts, situation: Situation) -> Planned:
    known_since = key.created_at
    obstacles: list[str] = []
    if situation.copy:
        if situation.copy_problem:
            obstacles.append(f"the published copy could not be written ({situation.copy_problem})")
        if key.copied_at is None:
            obstacles.append("the published copy does not hold the key yet")
        else:
            known_since = max(known_since, key.copied_at)
    obstacles.extend(f"{name} is not known to hold the key" for name in situation.behind)
    return Planned(
        "rotate",
        key.kid,
        known_since + OVERLAP,
        tuple(obstacles),
        by_hand=situation.every is None,
    )


# --- The SAML provider of an account

_CERTIFICATE = re.compile(r"<(?:[\w.-]+:)?X509Certificate[^<>]*>([A-Za-z0-9+/=\s]+)</")
_ENTITY = re.compile(r"<(?:[\w.-]+:)?EntityDescriptor\b[^<>]*\bentityID=[\"']([^\"']*)[\"']")


@dataclass(frozen=True, slots=True)
class Held:
    """What an IAM SAML provider holds: whose metadata, and the certificates in it as base64 without blanks."""

    entity_id: str
    certificates: frozenset[str]


def held_by(metadata: str) -> Held:
    """Read as text, never parsed as XML: it is what somebody else uploaded, and only compared with what is ours."""
    entity = _ENTITY.search(metadata)
    return Held(
        entity.group(1) if entity else "",
        frozenset("".join(found.split()) for found in _CERTIFICATE.findall(metadata)),
    )


@dataclass(frozen=True, slots=True)
class Chore:
    """What is to be done in one account: why, and the commands, line by line."""

    account: str
    why: str
    commands: tuple[str, ...]


def update_provider(
    *, partition: str, account_id: str, account: str, provider: str, origin: str, why: str
) -> Chore:
    """Upload the current metadata to the account's SAML provider."""
    arn = saml_provider_arn(partition, account_id, provider)
    return Chore(
        account,
        why,
        (
            f"curl -fsS -o daypass-metadata.xml {origin}/aws/saml/metadata",
            f"aws iam update-saml-provider --saml-provider-arn {arn} "
            "--saml-metadata-document file://daypass-metadata.xml",
        ),
    )


def end_sessions(*, role_name: str, account: str, at: datetime) -> Chore:
    """End every session of a role that began before this moment, whoever began it."""
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Deny",
                "Action": "*",
                "Resource": "*",
                "Condition": {"DateLessThan": {"aws:TokenIssueTime": f"{at:%Y-%m-%dT%H:%M:%SZ}"}},
            }
        ],
    }
    document = json.dumps(policy, separators=(",", ":"))
    return Chore(
        account,
        f"Ends every session of the role {role_name}, also those that the stolen key may have opened.",
        (
            f"aws iam put-role-policy --role-name {role_name} "
            f"--policy-name AWSRevokeOlderSessions --policy-document '{document}'",
        ),
    )


def forget_issuer(*, provider_arn: str, account: str, issuer: str, audience: str) -> Chore:
    """Make the account drop what it keeps of our key set: nobody comes in between the two commands."""
    return Chore(
        account,
        "AWS keeps a key set for a time that it does not tell. Where you cannot wait, remove the provider: until it is "
        "there again nobody enters this account by web identity.",
        (
            f"aws iam delete-open-id-connect-provider --open-id-connect-provider-arn {provider_arn}",
            f"aws iam create-open-id-connect-provider --url {issuer} --client-id-list {audience}",
        ),
    )


def listed(names: Iterable[str], *, most: int = 3) -> str:
    """Some names in a sentence: "A, B and 4 more"."""
    all_of_them = list(names)
    if len(all_of_them) <= most:
        return ", ".join(all_of_them)
    return f"{', '.join(all_of_them[:most])} and {len(all_of_them) - most} more"
