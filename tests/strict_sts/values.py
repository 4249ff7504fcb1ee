"""What the strict STS holds and says: roles, callers, calls, refusals, and its numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

TOLERANCE = 300
"""Seconds by which a token's times may be off (seen, not promised)."""


FETCH_SECONDS = 5.0


REDEEM_SECONDS = 300
"""An assertion is redeemed within five minutes of its issue."""


CHAINED_SECONDS = 3600


TAG_SPACE = 480


TAG_OVERHEAD = 12


POLICY_SPACE = 1500
"""How AWS packs is not documented. These bytes fit what has been seen: 9 tags of 250 characters about 498 %, the six
tags of an EKS pod about 74 %, the policy of AWS's own example 6 %."""


ALGORITHMS = ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"]


NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)


_AWS = "https://aws.amazon.com/"


SAML_ATTRIBUTES = "https://aws.amazon.com/SAML/Attributes/"


NS = {
    "samlp": "urn:oasis:names:tc:SAML:2.0:protocol",
    "saml": "urn:oasis:names:tc:SAML:2.0:assertion",
    "md": "urn:oasis:names:tc:SAML:2.0:metadata",
    "ds": "http://www.w3.org/2000/09/xmldsig#",
}


SAML_AUDIENCES = {
    "aws": "urn:amazon:webservices",
    "aws-us-gov": "urn:amazon:webservices:govcloud",
    "aws-cn": "urn:amazon:webservices:cn-north-1",
    "aws-eusc": "https://eusc-de-east-1.signin.amazonaws-eusc.eu/saml",
}


_HOME = {
    "aws": "us-east-1",
    "aws-us-gov": "us-gov-west-1",
    "aws-cn": "cn-north-1",
    "aws-eusc": "eusc-de-east-1",
}


@dataclass
class StrictRole:
    """A role. trust_policy: JSON or the document. permissions: actions its sessions may use (None: all)."""

    trust_policy: str | Mapping[str, Any]
    max_seconds: int = 3600
    permissions: Iterable[str] | None = None
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def document(self) -> Mapping[str, Any]:
        policy = self.trust_policy
        return json.loads(policy) if isinstance(policy, str) else policy


@dataclass
class Caller:
    """Whose credentials these are. arn: of the user or of the assumed-role session. role_arn: "" for a user."""

    arn: str
    secret: str
    token: str = ""
    role_arn: str = ""
    expires_at: datetime | None = None
    source_identity: str = ""
    transitive_tags: Mapping[str, str] = field(default_factory=dict)
    permissions: Iterable[str] | None = None
    federated: bool = False

    @property
    def account(self) -> str:
        return self.arn.split(":")[4]

    @property
    def names(self) -> set[str]:
        """What a trust policy may call it."""
        partition = self.arn.split(":")[1]
        account = f"arn:{partition}:iam::{self.account}:root"
        return {"*", self.account, account, self.arn} | (
            {self.role_arn} if self.role_arn else set()
        )


@dataclass(frozen=True)
class Seen:
    """One call as it was answered. code: "" for success. session: what was given, if anything."""

    action: str
    region: str
    form: Mapping[str, str]
    code: str
    message: str
    status: int
    at: datetime


@dataclass(frozen=True)
class Given:
    """What an issued session is, beside its credentials."""

    arn: str
    seconds: int
    source_identity: str
    tags: Mapping[str, str]
    transitive_tag_keys: tuple[str, ...]
    packed_policy_size: int


class Refusal(Exception):
    """An answer that is no: AWS's code and words."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status = code, message, status


@dataclass
class Outage:
    """What a region does instead of answering: wait, then (drop) close the connection, or answer with `status`."""

    status: int = 0
    code: str = ""
    hang: float = 0.0
    drop: bool = False


INTERNAL = Outage(500, "InternalFailure")


UNAVAILABLE = Outage(503, "ServiceUnavailable")


THROTTLED = Outage(400, "Throttling")


DROPPED = Outage(drop=True)
