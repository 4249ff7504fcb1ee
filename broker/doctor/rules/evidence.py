"""What was seen of a role, and what follows from it, as values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from broker.trust.rules import RoleTrust

Outcome = Literal["works", "fails", "unsure"]
State = Literal["ok", "bad", "unknown", "skipped"]


class Step(StrEnum):
    """What is looked at, in this order."""

    ISSUER = "issuer"
    CLOCK = "clock"
    STS = "sts"
    PROVIDER = "provider"
    AUDIENCE = "audience"
    CERTIFICATE = "certificate"
    ROLE = "role"
    TRUST = "trust"
    TAGS = "tags"
    SOURCE_IDENTITY = "source_identity"
    POLICY = "policy"
    DURATION = "duration"
    CONSOLE = "console"


TITLES: Mapping[Step, str] = {
    Step.ISSUER: "Daypass's documents, as AWS fetches them",
    Step.CLOCK: "Clocks agree",
    Step.STS: "STS answers",
    Step.PROVIDER: "Provider registered in the account",
    Step.AUDIENCE: "Audience",
    Step.CERTIFICATE: "Certificate",
    Step.ROLE: "Role exists",
    Step.TRUST: "Trust policy lets Daypass in",
    Step.TAGS: "Session tags allowed",
    Step.SOURCE_IDENTITY: "Source identity allowed",
    Step.POLICY: "Session policies of mappings",
    Step.DURATION: "Longest session",
    Step.CONSOLE: "Console opens",
}


# --- What was seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """What Daypass has registered, and what a call for this role says of whoever asks.

    trust: as in the catalogue. issuer, audience, oidc_provider_arn, saml_entity_id: of whoever signs, for a relayed
    trust the company's own provider. subject: `sub` of the token or NameID. tag_keys: of all mappings that give it.
    """

    arn: str
    account_id: str
    partition: str
    trust: str
    region: str
    max_seconds: int
    issuer: str
    audience: str
    oidc_provider_arn: str
    saml_provider_arn: str
    saml_entity_id: str
    recipient: str
    external_id: str
    subject: str
    session_name: str
    source_identity: str
    console: str
    broker_arn: str = ""
    tag_keys: tuple[str, ...] = ()

    @property
    def action(self) -> str:
        return _ACTIONS.get(self.trust, "")


_ACTIONS = {
    "web_identity": "sts:AssumeRoleWithWebIdentity",
    "saml": "sts:AssumeRoleWithSAML",
    "assume_role": "sts:AssumeRole",
    "relayed_token": "sts:AssumeRoleWithWebIdentity",
    "relayed_assertion": "sts:AssumeRoleWithSAML",
}
RELAYED = ("relayed_token", "relayed_assertion")
"""Trusts for which somebody else signs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerLook:
    """Daypass's discovery document and key set, fetched over the network like a stranger.

    private: why it could not be fetched as AWS would ("": it could). problem: what went wrong ("": nothing).
    """

    private: str = ""
    problem: str = ""
    issuer: str = ""
    kids: tuple[str, ...] = ()
    keys_of_one_type: int = 0
    signing_kid: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """A refusal: Daypass's code for it, AWS's code, cause (with AWS's own words) and general remedy."""

    code: str
    aws_code: str = ""
    cause: str = ""
    remedy: str = ""
    passing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try. step: what it is about. what: which mapping it stood for. problem: None when it worked."""

    step: Step
    problem: Problem | None = None
    what: str = ""
    seconds: int = 0
    tag_keys: tuple[str, ...] = ()
    packed_percent: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleSeen:
    """A role as IAM shows it."""

    arn: str
    trust_policy: str
    max_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IamLook:
    """What the discovery role could read. unread: why it could not ("": it could).

    role, provider_there, metadata: None when IAM says that there is no such role, or nobody looked. provider_arn: which
    SAML provider was looked at, where the role's trust policy says it.
    """

    unread: str = ""
    role: RoleSeen | None = None
    role_names: tuple[str, ...] = ()
    provider_there: bool | None = None
    provider_arn: str = ""
    provider_arns: tuple[str, ...] = ()
    client_ids: tuple[str, ...] = ()
    metadata_has_entity: bool | None = None
    metadata_has_key: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that was seen of one role. wanted: who it is to trust, None when not Daypass itself signs."""

    registered: Registered
    wanted: RoleTrust | None
    attempts: tuple[Attempt, ...] = ()
    issuer: IssuerLook | None = None
    clock_ahead: float | None = None
    iam: IamLook | None = None
    untried: str = ""
    """Why nothing could be tried."""

    def attempt(self, step: Step) -> Attempt | None:
        """The failed try of this step, else its last one."""
        of_step = [attempt for attempt in self.attempts if attempt.step is step]
        failed = [attempt for attempt in of_step if attempt.problem]
        return failed[0] if failed else of_step[-1] if of_step else None

    @property
    def entry(self) -> Attempt | None:
        return self.attempt(Step.TRUST)


# --- What follows


@dataclass(frozen=True, slots=True)
class StepFound:
    """One line of the result."""

    step: Step
    state: State
    said: str

    @property
    def title(self) -> str:
        return TITLES[self.step]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """The one thing that is wrong. document: the corrected policy, when a policy is what is wrong."""

    step: Step
    code: str
    cause: str
    remedy: str
    document: str = ""
    sure: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """outcome, the first cause of failure with its remedy, and every step in order."""

    outcome: Outcome
    code: str = ""
    cause: str = ""
    remedy: str = ""
    document: str = ""
    steps: tuple[StepFound, ...] = field(default_factory=tuple)
