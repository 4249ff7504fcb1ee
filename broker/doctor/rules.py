"""From what was seen to what is wrong: the doctor's reasoning. Pure.

The order of the steps is the order in which AWS looks: who signed, for whom, with which certificate, and only then the
role and its trust policy. So a refusal by the policy proves that everything before it is right, and a success proves
all of it. Specification: "Troubleshoot IAM" and "Troubleshoot SAML federation" in the IAM user guide, the errors of the
STS API reference; docs/doctor.md is the table for people, and a test keeps the two together.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal

from broker.errors import BadInput
from broker.policies import Call, Condition, Reading, Statement, allows, read, read_policy
from broker.trust.rules import RoleTrust, trust_policy

Outcome = Literal["works", "fails", "unsure"]
State = Literal["ok", "bad", "unknown", "skipped"]

LARGE_PERCENT = 80
"""From here on somebody with longer attributes may be refused for the size of policy and tags."""
CLOCK_REFUSAL = 60.0
LONGEST_KEY_SET = 100
"""Keys of one type beyond which AWS takes none of them."""


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

    trust: as in the catalogue. subject: `sub` of the token or NameID. tag_keys: of all mappings that give the role.
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
}


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

    role, client_ids, thumbprints, metadata: None when IAM says that there is no such thing, or nobody looked.
    """

    unread: str = ""
    role: RoleSeen | None = None
    role_names: tuple[str, ...] = ()
    provider_there: bool | None = None
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


def diagnose(evidence: Evidence) -> Diagnosis:
    """Name the exact cause, as far as the evidence goes, and the exact fix."""
    evidence = _knowing_ourselves(evidence)
    cause = _cause(evidence)
    steps = tuple(_steps(evidence, cause))
    if cause is None:
        outcome: Outcome = "works" if evidence.entry else "unsure"
        said = "" if evidence.entry else evidence.untried
        return Diagnosis(
            outcome=outcome, code="" if evidence.entry else "not_tried", cause=said, steps=steps
        )
    return Diagnosis(
        outcome="fails" if cause.sure else "unsure",
        code=cause.code,
        cause=cause.cause,
        remedy=cause.remedy,
        document=cause.document,
        steps=steps,
    )


_CALLER = re.compile(
    r"User: arn:(?P<partition>[a-z-]+):(?:sts::(?P<account>\d{12}):assumed-role/(?P<role>[\w+=,.@-]+)/"
    r"|iam::(?P<of_user>\d{12}):user/(?P<user>[\w+=,.@/-]+))"
)


def _knowing_ourselves(evidence: Evidence) -> Evidence:
    """With AssumeRole: who Daypass is to AWS, as AWS's refusal says it.

    It drops the path of a role, so that one of this name and account in the trust policy is believed to be ours.
    """
    entry, wanted = evidence.entry, evidence.wanted
    if wanted is None or wanted.trust != "assume_role" or entry is None or entry.problem is None:
        return evidence
    match = _CALLER.search(entry.problem.cause)
    if match is None:
        return evidence
    if match["user"]:
        arn = f"arn:{match['partition']}:iam::{match['of_user']}:user/{match['user']}"
    else:
        arn = f"arn:{match['partition']}:iam::{match['account']}:role/{match['role']}"
        seen = evidence.iam.role.trust_policy if evidence.iam and evidence.iam.role else ""
        beginning = re.escape(arn.removesuffix(match["role"]))
        longer = re.search(rf'"({beginning}[\w+=,.@/-]*/{re.escape(match["role"])})"', seen)
        arn = longer[1] if longer else arn
    return replace(
        evidence,
        registered=replace(evidence.registered, broker_arn=arn),
        wanted=replace(wanted, broker_arn=arn),
    )


def _cause(evidence: Evidence) -> Cause | None:
    """What is wrong: the first refusal, explained by everything else that was seen."""
    for attempt in evidence.attempts:
        if attempt.problem is not None:
            explain = _EXPLANATIONS.get(attempt.problem.code, _as_told)
            return explain(evidence, attempt, attempt.problem)
    return None if evidence.attempts else _before_trying(evidence)


def _before_trying(evidence: Evidence) -> Cause | None:
    """What can be known without a try, where only somebody else's signature opens the role."""
    iam = evidence.iam
    if iam is not None and not iam.unread and iam.role is None:
        return _role_missing(evidence)
    return None


# --- Explanations of refusals


def _as_told(
    evidence: Evidence, attempt: Attempt, problem: Problem, step: Step | None = None
) -> Cause:
    """AWS's refusal is exact enough."""
    return Cause(
        step=step or _STEPS.get(problem.code, attempt.step),
        code=problem.code,
        cause=problem.cause,
        remedy=problem.remedy,
        sure=not problem.passing,
    )


def _clock(evidence: Evidence, attempt: Attempt, problem: Problem) -> Cause:
    ahead = evidence.clock_ahead
    measured = (
        f" Daypass's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} AWS's."
        if ahead is not None and abs(ahead) >= 1
        else ""
    )
    return Cause(
        step=Step.CLOCK,
        code="clock_skew",
        cause=f"The clocks of Daypass and AWS do not agree.{measured} {problem.cause}",
        remedy="Synchronise the clocks of all machines that run Daypass (chrony, systemd-timesyncd, or the platform's "
        "time service). Daypass looks again every minute.",
    )


def _keys(evidence: Evidence, attempt: Attempt, problem: Problem) -> Cause:
    """AWS could not verify the signature of a token: because of the documents, which we can fetch as well."""
    own = _issuer_cause(evidence)
    if own is not None:
        return replace(own, cause=f"{own.cause} {_said(problem)}")
    told = _as_told(evidence, attempt, problem, Step.ISSUER)
    return Cause(
        step=Step.ISSUER,
        code="issuer_not_reachable_for_aws",
        cause=f"From Daypass itself the documents look right, and yet: {told.cause}",
        remedy=f"AWS comes from the internet, at any address of its own. {problem.remedy}",
    )


def _refused(evidence: Evidence, attempt: Attempt, problem: Problem) -> Cause:
    """AWS found something about the token or assertion wrong and does not say more than that."""
    if evidence.registered.trust == "web_identity" and _issuer_cause(evidence) is not None:
        return _keys(evidence, attempt, problem)
    return _as_told(evidence, attempt, problem, Step.PROVIDER)


def _issuer_cause(evidence: Evidence) -> Cause | None:
    """What is wrong with the documents as we see them."""
    look, issuer = evidence.issuer, evidence.registered.issuer
    if look is None:
        return None

    def cause(code: str, said: str, remedy: str) -> Cause:
        return Cause(step=Step.ISSUER, code=code, cause=said, remedy=remedy)

    if look.private:
        return cause(
            "issuer_private",
            f"AWS cannot fetch Daypass's documents: {look.private}",
            f"Publish {issuer}/.well-known/openid-configuration and the key set where AWS can fetch them, and set "
            "DAYPASS_ISSUER to that address; or let the role trust Daypass by SAML, which needs no reachability.",
        )
    if look.problem:
        return cause(
            "issuer_unreachable",
            f"Daypass's documents cannot be fetched from outside. {look.problem}",
            f"See that {issuer}/.well-known/openid-configuration and the key set that it names answer with 200 and "
            "JSON, over TLS with a certificate that everybody trusts, without sign-in, redirect or rate limit.",
        )
    if look.issuer != issuer:
        return cause(
            "issuer_differs",
            f"The discovery document at {issuer} says that its issuer is {look.issuer or 'nothing'}; AWS wants "
            "it letter "
            "for letter.",
            "Publish Daypass's own document there, unchanged, or set DAYPASS_ISSUER to what it says. Capital "
            "letters and "
            "a slash at the end count.",
        )
    if look.signing_kid and look.signing_kid not in look.kids:
        return cause(
            "key_not_published",
            f"The key set that {issuer} shows to the world does not have the key {look.signing_kid} that Daypass signs "
            "with.",
            "Publish the current key set: empty the cache in front of it, or copy the two documents anew to where they "
            "are published.",
        )
    if look.keys_of_one_type > LONGEST_KEY_SET:
        return cause(
            "too_many_keys",
            f"The key set has {look.keys_of_one_type} keys of one type; AWS takes none beyond {LONGEST_KEY_SET}.",
            "Revoke keys that sign no more.",
        )
    return None


def _provider(evidence: Evidence, attempt: Attempt, problem: Problem) -> Cause:
    """The account does not know us, or under a slightly other name."""
    ours = evidence.registered
    if ours.trust == "saml":
        arn, kind = ours.saml_provider_arn, "SAML provider"
        name = arn.rsplit("/", 1)[-1]
        made = (
            f"aws iam create-saml-provider --name {name} --saml-metadata-document "
            "file://daypass-saml-metadata.xml"
        )
    else:
        arn, kind = ours.oidc_provider_arn, "OIDC provider"
        made = (
            f"aws iam create-open-id-connect-provider --url {ours.issuer} --client-id-list "
            f"{ours.audience}"
        )
    near = _nearest(arn, evidence.iam.provider_arns if evidence.iam else ())
    like = f" It has {near}, which is not the same: every letter and slash counts." if near else ""
    rename = (
        " Or change the name of the IAM SAML provider of the account in Daypass to the one that exists."
        if near and ours.trust == "saml"
        else ""
    )
    return Cause(
        step=Step.PROVIDER,
        code="provider_missing",
        cause=f"The account {ours.account_id} has no {kind} {arn}.{like} {_said(problem)}",
        remedy=f"Create it: {made}.{rename} If the account is in another partition than {ours.partition} (the "
        "beginning "
        "of its ARNs says so), register it in that one: no trust crosses from one to another.",
    )


def _audience(evidence: Evidence, attempt: Attempt, problem: Problem) -> Cause:
    ours = evidence.registered
    if ours.trust == "saml":
        return Cause(
            step=Step.AUDIENCE,
            code="saml_audience_wrong",
            cause=f"AWS in the partition {ours.partition} does not take the audience of Daypass's assertions. "
            f"{_said(problem)}",
            remedy="The account is registered in another partition than it is in. Register it anew with its own "
            "partition: the beginning of its ARNs names it.",
        )
    listed = evidence.iam.client_ids if evidence.iam else ()
    seen = f" It lists {', '.join(listed)}." if listed else ""
    return Cause(
        step=Step.AUDIENCE,
        code="audience_missing",
        cause=f"The OIDC provider of the account {ours.account_id} does not list the audience {ours.audience}.{seen} "
        f"{_said(problem)}",
        remedy="Add it: aws iam add-client-id-to-open-id-connect-provider --open-id-connect-provider-arn "
        f"{ours.oidc_provider_arn} --client-id {ours.audience}",
    )


def _thumbprint(evidence: Evidence, attempt: Attempt, problem: Problem) -> Cause:
    ours = evidence.registered
    return Cause(
        step=Step.CERTIFICATE,
        code="thumbprint_wrong",
        cause=f"The TLS certificate in front of {ours.issuer} comes from no authority that AWS trusts, and its "
        f"thumbprint is not the one that the provider lists. {_said(problem)}",
        remedy="Take a certificate of a public authority; then thumbprints are not looked at. Otherwise: aws iam "
        "update-open-id-connect-provider-thumbprint --open-id-connect-provider-arn "
        f"{ours.oidc_provider_arn} --thumbprint-list SHA1-OF-THE-TOP-CERTIFICATE",
    )


def _signature(evidence: Evidence, attempt: Attempt, problem: Problem) -> Cause:
    if evidence.registered.trust != "saml":
        return _keys(evidence, attempt, problem)
    return _metadata(evidence, attempt, problem)


def _metadata(evidence: Evidence, attempt: Attempt, problem: Problem) -> Cause:
    ours = evidence.registered
    wrong_entity = problem.code == "aws_issuer_unknown"
    what = (
        f"holds the metadata of another entity id than {ours.saml_entity_id}"
        if wrong_entity
        else "holds metadata without the key that Daypass signs with now"
    )
    return Cause(
        step=Step.CERTIFICATE,
        code="saml_metadata_of_another" if wrong_entity else "saml_metadata_outdated",
        cause=f"The SAML provider {ours.saml_provider_arn} {what}. {_said(problem)}",
        remedy="Upload Daypass's current metadata: aws iam update-saml-provider --saml-provider-arn "
        f"{ours.saml_provider_arn} --saml-metadata-document file://daypass-saml-metadata.xml",
    )


def _duration(evidence: Evidence, attempt: Attempt, problem: Problem) -> Cause:
    ours = evidence.registered
    name = ours.arn.rsplit("/", 1)[-1]
    seen = evidence.iam.role.max_seconds if evidence.iam and evidence.iam.role else 0
    said = f" IAM says {seen}." if seen else ""
    return Cause(
        step=Step.DURATION,
        code="duration_too_long",
        cause=f"The role is registered with sessions of up to {ours.max_seconds} seconds; IAM allows it less.{said} "
        f"{_said(problem)}".rstrip(),
        remedy=f"Raise it: aws iam update-role --role-name {name} --max-session-duration {ours.max_seconds}. Or lower "
        f"the longest session of the role in Daypass{f' to {seen} seconds' if seen else ''}.",
    )


def _of_mapping(evidence: Evidence, attempt: Attempt, problem: Problem) -> Cause:
    """Session policy or tags of one mapping."""
    large = problem.code == "aws_policy_too_large"
    tags = f" Its tags: {', '.join(attempt.tag_keys)}." if attempt.tag_keys and large else ""
    return Cause(
        step=Step.POLICY,
        code="policy_too_large" if large else "policy_malformed",
        cause=f"{attempt.what or 'A mapping'}: {problem.cause}{tags}",
        remedy=problem.remedy,
    )


def _console(evidence: Evidence, attempt: Attempt, problem: Problem) -> Cause:
    return Cause(
        step=Step.CONSOLE,
        code="console_refused",
        cause=f"The role itself works, and AWS's sign-in service does not take its credentials. {problem.cause}",
        remedy=problem.remedy,
    )


def _tags(evidence: Evidence, attempt: Attempt, problem: Problem) -> Cause:
    return _trust_cause(
        evidence,
        Step.TAGS,
        "tags_not_allowed",
        f"The trust policy does not allow sts:TagSession, and {attempt.what or 'a mapping'} sends session tags "
        f"({', '.join(attempt.tag_keys) or 'some'}). {_said(problem)}",
        "Add sts:TagSession to the actions of the statement for Daypass, or take the session tags off the mapping.",
    )


def _source_identity(evidence: Evidence, attempt: Attempt, problem: Problem) -> Cause:
    return _trust_cause(
        evidence,
        Step.SOURCE_IDENTITY,
        "source_identity_not_allowed",
        f"The trust policy does not allow sts:SetSourceIdentity, by which AWS knows who it is. {_said(problem)}",
        "Add sts:SetSourceIdentity to the actions of the statement for Daypass.",
    )


def _trust_cause(
    evidence: Evidence, step: Step, code: str, cause: str, remedy: str, *, sure: bool = True
) -> Cause:
    """Something in the trust policy, with the policy put right."""
    return Cause(
        step=step,
        code=code,
        cause=cause.strip(),
        remedy=remedy,
        document=corrected(evidence),
        sure=sure,
    )


def corrected(evidence: Evidence) -> str:
    """The trust policy as it has to be: the present one put right where it could be read, else the narrowest one."""
    if evidence.wanted is None:
        return ""
    seen = evidence.iam.role if evidence.iam else None
    if seen is not None:
        try:
            return trust_policy(evidence.wanted, existing=seen.trust_policy)
        except BadInput:
            pass  # what stands there is no policy: the whole one takes its place
    return trust_policy(evidence.wanted)


def _said(problem: Problem) -> str:
    """AWS's own words, which stand at the end of every cause."""
    _, mark, said = problem.cause.rpartition("AWS said: ")
    return f"AWS said: {said}" if mark else ""


# --- Access denied: the role, its trust policy, or something above both


def _denied(evidence: Evidence, attempt: Attempt, problem: Problem) -> Cause:
    told = problem.cause.lower()
    if "explicit deny" in told:
        return _explicitly_denied(evidence, problem)
    iam = evidence.iam
    if iam is None or iam.unread:
        if attempt.step is Step.POLICY and attempt.tag_keys:
            return _tags(evidence, attempt, problem)  # without tags AWS has just opened
        return _denied_unseen(evidence, attempt, problem)
    if iam.role is None:
        return _role_missing(evidence, problem)
    if iam.role.arn != evidence.registered.arn:
        return Cause(
            step=Step.ROLE,
            code="role_path_wrong",
            cause=f"There is no role {evidence.registered.arn}; the role of this name is {iam.role.arn}. The "
            "path is part "
            f"of the ARN. {_said(problem)}",
            remedy=f"Register {iam.role.arn} in Daypass, and switch this one off.",
        )
    return _in_policy(evidence, attempt, problem, iam.role)


def _explicitly_denied(evidence: Evidence, problem: Problem) -> Cause:
    told = problem.cause.lower()
    arn = evidence.registered.arn
    where = {
        "service control policy": (
            "denied_by_scp",
            "A service control policy of the organisation denies it.",
        ),
        "resource control policy": (
            "denied_by_rcp",
            "A resource control policy of the organisation denies it.",
        ),
        "permissions boundary": (
            "denied_by_boundary",
            "The permissions boundary of Daypass's own role denies it.",
        ),
    }
    for words, (code, said) in where.items():
        if words in told:
            return Cause(
                step=Step.TRUST,
                code=code,
                cause=f"{said} No trust policy can overrule that. {_said(problem)}",
                remedy=f"Whoever looks after these policies has to make an exception for "
                f"{evidence.registered.action} on "
                f"{arn}, or take the Deny away (AWS Organizations, the policies of the account and of the units above "
                "it)."
                if code != "denied_by_boundary"
                else f"Allow {evidence.registered.action} on {arn} in the boundary of the role that Daypass runs as.",
            )
    return _trust_cause(
        evidence,
        Step.TRUST,
        "trust_denies",
        f"A Deny stands in the way: in the trust policy, or in a policy of Daypass's own role. {_said(problem)}",
        "Take the Deny away or narrow it; it beats every Allow, so the corrected policy alone does not help while it "
        "stands.",
    )


def _denied_unseen(evidence: Evidence, attempt: Attempt, problem: Problem) -> Cause:
    """IAM could not be read, so the policy is shown as it has to be, and the candidates in the order of likelihood."""
    iam = evidence.iam
    why = (iam.unread if iam else "") or "no discovery role is set for this account"
    proven = (
        "AWS has verified Daypass's signature, so provider, audience and keys are right. "
        if evidence.registered.trust in ("web_identity", "saml")
        else ""
    )
    return _trust_cause(
        evidence,
        Step.TRUST,
        "trust_refuses",
        f"AWS does not let Daypass into the role. {proven}Which of these it is could not be seen ({why}): the "
        "role does "
        f"not exist under exactly this ARN, or its trust policy is not as it has to be. {_said(problem)}",
        "Compare the role's ARN in IAM, path and capital letters included, then replace its trust policy by the one "
        "below. A role that was made in the last minute needs a moment. With a discovery role for the account Daypass "
        "names the very line.",
    )


def _role_missing(evidence: Evidence, problem: Problem | None = None) -> Cause:
    ours = evidence.registered
    name = ours.arn.rsplit("/", 1)[-1]
    near = difflib.get_close_matches(name, evidence.iam.role_names if evidence.iam else (), 1, 0.6)
    like = f" It has a role {near[0]}." if near else ""
    said = f" {_said(problem)}" if problem else ""
    return Cause(
        step=Step.ROLE,
        code="role_missing",
        cause=f"The account {ours.account_id} has no role {name}.{like}{said}",
        remedy="Create the role with the trust policy below, or, if it was deleted or renamed, register the "
        "right one in "
        "Daypass and switch this one off.",
        document=trust_policy(evidence.wanted) if evidence.wanted else "",
    )


def call_of(ours: Registered, action: str, *, tag_keys: tuple[str, ...] = ()) -> Call:
    """The call for this role as AWS evaluates it, as far as Daypass can know it."""
    context: dict[str, tuple[str, ...]] = {
        "sts:rolesessionname": (ours.session_name,),
        "sts:sourceidentity": (ours.source_identity,),
    }
    if tag_keys:
        context["aws:tagkeys"] = tag_keys
    known: tuple[str, ...] = (
        "sts:",
        "aws:multifactorauth",
        *(() if tag_keys else ("aws:tagkeys", "aws:requesttag/")),
    )
    match ours.trust:
        case "web_identity":
            key = ours.issuer.removeprefix("https://").lower()
            names = {("Federated", ours.oidc_provider_arn)}
            context |= {
                f"{key}:aud": (ours.audience,),
                f"{key}:sub": (ours.subject,),
                f"{key}:amr": ("mfa",),
                "aws:federatedprovider": (ours.oidc_provider_arn,),
                "sts:roleauthorizedbyidp": ("true",),
            }
            known += (f"{key}:", "aws:federatedprovider", "saml:")
        case "saml":
            names = {("Federated", ours.saml_provider_arn)}
            provider = ours.saml_provider_arn.rsplit("/", 1)[-1]
            context |= {
                "saml:aud": (ours.recipient,),
                "saml:iss": (ours.saml_entity_id,),
                "saml:sub": (ours.subject,),
                "saml:sub_type": ("persistent",),
                "saml:doc": (f"{ours.account_id}/{provider}",),
            }
            known += tuple(context)
        case _:
            names = {("AWS", name) for name in _own_names(ours.broker_arn)}
            if ours.external_id:
                context["sts:externalid"] = (ours.external_id,)
            known = tuple(key for key in known if not key.startswith("aws:multi"))
    return Call(action, frozenset(names), context, known)


def _own_names(broker_arn: str) -> tuple[str, ...]:
    """Daypass's own role as a trust policy may name it."""
    if not broker_arn:
        return ("*",)
    parts = broker_arn.split(":")
    return (broker_arn, parts[4], ":".join((*parts[:5], "root")), "*")


def _in_policy(evidence: Evidence, attempt: Attempt, problem: Problem, seen: RoleSeen) -> Cause:
    """The trust policy is known: the very line that is wrong, or that none is."""
    ours = evidence.registered
    try:
        statements = read_policy(seen.trust_policy)
    except BadInput as error:
        return _trust_cause(
            evidence, Step.TRUST, "trust_unreadable", error.message, "Replace the trust policy."
        )
    for action, step, code in (
        (ours.action, Step.TRUST, ""),
        ("sts:SetSourceIdentity", Step.SOURCE_IDENTITY, "source_identity_not_allowed"),
        *((("sts:TagSession", Step.TAGS, "tags_not_allowed"),) if attempt.tag_keys else ()),
    ):
        call = call_of(ours, action, tag_keys=attempt.tag_keys)
        verdict = allows(statements, call)
        if verdict == "met":
            continue
        found = _wrong_line(evidence, statements, call, problem)
        if code and found.code == "trust_action_missing":
            return _trust_cause(
                evidence,
                step,
                code,
                f"The trust policy does not allow {action}. {_said(problem)}",
                f"Add {action} to the actions of the statement for Daypass.",
            )
        return found
    return Cause(
        step=Step.TRUST,
        code="denied_elsewhere",
        cause=f"The trust policy of {ours.arn} is right, and AWS refuses all the same. {_said(problem)}",
        remedy="Role and provider may be younger than a minute: try again. Otherwise a service or resource "
        "control policy "
        "of the organisation denies it, or the account is suspended; and with AssumeRole trust the role that Daypass "
        f"runs as may not be allowed {ours.action} on it.",
        sure=True,
    )


def _wrong_line(
    evidence: Evidence, statements: tuple[Statement, ...], call: Call, problem: Problem
) -> Cause:
    readings = [read(statement, call) for statement in statements]
    fix = "Replace the trust policy by the corrected one below."
    said = _said(problem)
    for reading in readings:
        if reading.statement.effect == "Deny" and reading.applies:
            sid = f" ({reading.statement.sid})" if reading.statement.sid else ""
            return _trust_cause(
                evidence,
                Step.TRUST,
                "trust_denies",
                f"A Deny in the trust policy{sid} covers {call.action} for Daypass. {said}",
                "Take that statement away or narrow it: a Deny beats every Allow. The corrected policy below keeps it, "
                "because it may be there for a reason.",
            )
    letting = [reading for reading in readings if reading.statement.effect == "Allow"]
    ours_only = [reading for reading in letting if reading.admits]
    if not ours_only:
        return _wrong_principal(evidence, letting, call, said)
    acting = [reading for reading in ours_only if reading.covers]
    if not acting:
        named = ", ".join(dict.fromkeys(a for r in ours_only for a in r.statement.actions))
        return _trust_cause(
            evidence,
            Step.TRUST,
            "trust_action_missing",
            f"The statement for Daypass allows {named or 'nothing'}, and not {call.action}. {said}",
            f"Add {call.action} to its actions. {fix}",
        )
    best = min(acting, key=lambda reading: (len(reading.unmet), len(reading.unknown)))
    if best.unmet:
        return _unmet(evidence, best.unmet[0], call, said)
    doubtful = [
        *best.unknown,
        *(c for r in readings if r.statement.effect == "Deny" and not r.unmet for c in r.unknown),
    ]
    named = "; ".join(str(condition) for condition in doubtful)
    return _trust_cause(
        evidence,
        Step.TRUST,
        "trust_condition_unjudged",
        f"Everything in the trust policy that can be judged from here is right. What cannot be: {named}. {said}",
        "See whether calls of Daypass meet these conditions; take them away if not.",
    )


def _wrong_principal(evidence: Evidence, letting: list[Reading], call: Call, said: str) -> Cause:
    ours = evidence.registered
    wanted = sorted(value for _, value in call.names if value != "*") or ["Daypass's own role"]
    kind = next(kind for kind, _ in sorted(call.names))
    named = [pair for reading in letting for pair in reading.statement.principals]
    listed = ", ".join(f"{kind} {value}" for kind, value in named) or "nobody"
    code, because = "trust_principal_missing", ""
    if any(value in wanted for _, value in named):
        code = "trust_principal_type"
        because = f" It is named, but under another type: it has to stand under {kind}."
    elif any(value.startswith(("AROA", "AIDA")) for _, value in named):
        code = "trust_principal_recreated"
        because = " It names somebody who was deleted; a role made anew under the old name is somebody else."
    elif any(f":iam::{ours.account_id}:" not in value and ":iam::" in value for _, value in named):
        because = (
            " The provider has to be of the role's own account." if kind == "Federated" else ""
        )
    return _trust_cause(
        evidence,
        Step.TRUST,
        code,
        f"No statement of the trust policy names {' or '.join(wanted[:1])}; it names {listed}.{because} {said}",
        "Replace the trust policy by the corrected one below, which adds the statement for Daypass.",
    )


def _unmet(evidence: Evidence, condition: Condition, call: Call, said: str) -> Cause:
    key = condition.key.lower()
    had = call.context.get(key)
    sends = " or ".join(had) if had else "nothing"
    code = next((code for end, code in _CONDITIONS if key.endswith(end)), "trust_condition")
    if key.startswith("saml:") and key.endswith(":aud"):
        code = "trust_recipient"
    hint = _HINTS.get(code, "Replace the trust policy by the corrected one below.")
    return _trust_cause(
        evidence,
        Step.TRUST if code != "trust_source_identity" else Step.SOURCE_IDENTITY,
        code,
        f"The trust policy demands {condition}; Daypass sends {sends}. {said}",
        hint,
    )


_CONDITIONS = (
    (":aud", "trust_audience"),
    (":sub", "trust_subject"),
    (":amr", "trust_amr"),
    ("sts:externalid", "trust_external_id"),
    ("sts:sourceidentity", "trust_source_identity"),
    ("sts:rolesessionname", "trust_session_name"),
    ("sts:roleauthorizedbyidp", "trust_roles_claim"),
    ("multifactorauthpresent", "trust_mfa"),
    ("multifactorauthage", "trust_mfa"),
)

_HINTS = {
    "trust_external_id": "Set the external id of the role in Daypass to what the trust policy demands, or replace the "
    "trust policy by the corrected one below.",
    "trust_source_identity": "Daypass sends the handle of the person, and in a check daypass=doctor. Demand * in "
    "sts:SourceIdentity, as the corrected policy below does.",
    "trust_session_name": "Session names begin with the handle of the person and end with random letters, unless the "
    "role has a template of its own in Daypass. Take the condition away or make room for them.",
    "trust_mfa": "AWS never sets this key for people who come by federation. Take the condition away; to demand "
    "a second "
    "factor, use the key amr (docs/aws-trust.md) or a mapping that demands it.",
    "trust_roles_claim": "Daypass's tokens name the role, so the key is true. The condition has to be Bool "
    "sts:RoleAuthorizedByIdp = true.",
}


_EXPLANATIONS = {
    "clocks_apart": _clock,
    "aws_clock": _clock,
    "aws_cannot_fetch_keys": _keys,
    "aws_provider_missing": _provider,
    "aws_audience_wrong": _audience,
    "aws_thumbprint_wrong": _thumbprint,
    "aws_issuer_unknown": _metadata,
    "aws_signature_refused": _signature,
    "aws_token_refused": _refused,
    "aws_access_denied": _denied,
    "aws_tag_session_denied": _tags,
    "aws_source_identity_denied": _source_identity,
    "aws_policy_too_large": _of_mapping,
    "aws_policy_malformed": _of_mapping,
    "aws_duration_too_long": _duration,
    "aws_signin_refused": _console,
}

_STEPS = {
    "aws_region_disabled": Step.STS,
    "aws_throttled": Step.STS,
    "aws_internal": Step.STS,
    "aws_unreachable": Step.STS,
    "aws_no_answer": Step.STS,
    "aws_proxy": Step.STS,
    "aws_tls": Step.STS,
    "aws_unreadable": Step.STS,
    "aws_account_not_ready": Step.STS,
    "aws_no_own_credentials": Step.PROVIDER,
    "aws_own_credentials_unreadable": Step.PROVIDER,
    "aws_own_credentials_expired": Step.PROVIDER,
    "aws_own_credentials_refused": Step.PROVIDER,
    "aws_role_not_in_token": Step.ROLE,
    "aws_chained_too_long": Step.DURATION,
}


# --- Every step in order


def _steps(evidence: Evidence, cause: Cause | None) -> list[StepFound]:
    found = []
    reached = False
    for step in Step:
        if cause is not None and step is cause.step:
            found.append(StepFound(step, "bad" if cause.sure else "unknown", cause.cause))
            reached = True
        else:
            state, said = _step(evidence, step, cause, reached)
            found.append(StepFound(step, state, said))
    return found


def _step(evidence: Evidence, step: Step, cause: Cause | None, reached: bool) -> tuple[State, str]:
    ours, entry = evidence.registered, evidence.entry
    let_in = entry is not None and entry.problem is None
    if step in _ONLY.get(ours.trust, _NOT_OURS):
        return "skipped", "Does not apply to this way in."
    match step:
        case Step.ISSUER:
            return _issuer_step(evidence, let_in)
        case Step.CLOCK:
            ahead = evidence.clock_ahead
            if ahead is None:
                return "unknown", "AWS has not answered yet, so nothing tells."
            if abs(ahead) < 5:
                return "ok", "To within five seconds of AWS's."
            side = "ahead of" if ahead > 0 else "behind"
            return (
                "ok",
                f"{abs(ahead):.0f} s {side} AWS's: from {CLOCK_REFUSAL:.0f} s on nothing is issued.",
            )
        case Step.STS | Step.PROVIDER | Step.AUDIENCE | Step.CERTIFICATE | Step.ROLE | Step.TRUST:
            if let_in:
                return "ok", "AWS let Daypass in."
            if cause is not None and not reached and cause.step is not step:
                proven = cause.step in _AFTER_SIGNATURE or step is Step.STS
                if proven and step is not Step.ROLE:
                    return "ok", "AWS got beyond this before it refused."
            if step is Step.ROLE and evidence.iam and evidence.iam.role:
                return "ok", f"IAM shows {evidence.iam.role.arn}."
        case Step.SOURCE_IDENTITY:
            if let_in:
                return "ok", f"AWS took {ours.source_identity}."
        case Step.TAGS | Step.POLICY:
            return _mapping_step(evidence, step, let_in)
        case Step.DURATION:
            return _duration_step(evidence, let_in)
        case Step.CONSOLE:
            tried = evidence.attempt(Step.CONSOLE)
            if tried and tried.problem is None:
                return "ok", "The sign-in service gave a token, which was thrown away."
            if ours.console != "federation":
                return (
                    "skipped",
                    "The browser signs in at AWS by itself; nothing can be tried for it.",
                )
    return "unknown", "Not reached."


_ONLY: Mapping[str, frozenset[Step]] = {
    "web_identity": frozenset(),
    "saml": frozenset({Step.ISSUER}),
    "assume_role": frozenset({Step.ISSUER, Step.AUDIENCE, Step.CERTIFICATE}),
}
_NOT_OURS = frozenset({Step.ISSUER})
_AFTER_SIGNATURE = frozenset(
    {
        Step.ROLE,
        Step.TRUST,
        Step.TAGS,
        Step.SOURCE_IDENTITY,
        Step.POLICY,
        Step.DURATION,
        Step.CONSOLE,
    }
)


def _issuer_step(evidence: Evidence, let_in: bool) -> tuple[State, str]:
    wrong = _issuer_cause(evidence)
    if wrong is not None:
        seen = (
            " AWS has verified a signature just now, with what it saw or had kept."
            if let_in
            else ""
        )
        return "unknown", f"{wrong.cause}{seen}"
    if evidence.issuer is None:
        return "unknown", "Not looked at."
    return (
        "ok",
        f"{evidence.registered.issuer} shows the exact issuer, and the key that Daypass signs with.",
    )


def _mapping_step(evidence: Evidence, step: Step, let_in: bool) -> tuple[State, str]:
    tried = [a for a in evidence.attempts if a.step is Step.POLICY and a.problem is None]
    if step is Step.TAGS:
        keys = sorted({key for attempt in tried for key in attempt.tag_keys})
        if keys:
            return "ok", f"AWS took {', '.join(keys)}."
        if let_in and not evidence.registered.tag_keys:
            return "skipped", "No mapping sends session tags."
        return "unknown", "Not reached."
    if not tried:
        return ("skipped", "No mapping has any.") if let_in else ("unknown", "Not reached.")
    percent = max((attempt.packed_percent or 0) for attempt in tried)
    said = f"AWS took those of {len(tried)} kind{'s' if len(tried) > 1 else ''} of mapping"
    said += f", which fill {percent} % of the space that AWS has." if percent else "."
    if percent >= LARGE_PERCENT:
        said += " People with longer attributes may be refused."
    return "ok", said


def _duration_step(evidence: Evidence, let_in: bool) -> tuple[State, str]:
    ours = evidence.registered
    if ours.trust == "assume_role":
        return "ok", "By AssumeRole a session lasts an hour at most, whatever the role allows."
    if ours.max_seconds <= 3600:
        return "ok", "An hour or less is allowed to every role."
    tried = evidence.attempt(Step.DURATION)
    if tried is not None and tried.problem is None:
        return "ok", f"AWS gave {tried.seconds} seconds."
    seen = evidence.iam.role if evidence.iam else None
    if seen is not None and seen.max_seconds >= ours.max_seconds:
        return "ok", f"IAM allows {seen.max_seconds} seconds."
    return "unknown", "Not reached."


# --- Names that are nearly right


def _nearest(arn: str, others: tuple[str, ...]) -> str:
    """The provider that somebody most likely meant."""
    folded = {other.lower().rstrip("/"): other for other in others}
    same = folded.get(arn.lower().rstrip("/"))
    if same:
        return same
    near = difflib.get_close_matches(arn, others, 1, 0.85)
    return near[0] if near else ""
