"""Access denied: the role, the very line of its trust policy, or something above both; and it put right. Pure."""

from __future__ import annotations

import difflib

from broker.doctor.rules.evidence import (
    Attempt,
    Cause,
    Evidence,
    Problem,
    Registered,
    RoleSeen,
    Step,
)
from broker.errors import BadInput
from broker.policies import Call, Condition, Reading, Statement, allows, read, read_policy
from broker.trust.rules import trust_policy


def tags_refused(evidence: Evidence, attempt: Attempt, problem: Problem) -> Cause:
    return trust_cause(
        evidence,
        Step.TAGS,
        "tags_not_allowed",
        f"The trust policy does not allow sts:TagSession, and {attempt.what or 'a mapping'} sends session tags "
        f"({', '.join(attempt.tag_keys) or 'some'}). {said_by_aws(problem)}",
        "Add sts:TagSession to the actions of the statement for Daypass, or take the session tags off the mapping.",
    )


def source_identity_refused(evidence: Evidence, attempt: Attempt, problem: Problem) -> Cause:
    return trust_cause(
        evidence,
        Step.SOURCE_IDENTITY,
        "source_identity_not_allowed",
        f"The trust policy does not allow sts:SetSourceIdentity, by which AWS knows who it is. {said_by_aws(problem)}",
        "Add sts:SetSourceIdentity to the actions of the statement for Daypass.",
    )


def trust_cause(
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


def said_by_aws(problem: Problem) -> str:
    """AWS's own words, which stand at the end of every cause."""
    _, mark, said = problem.cause.rpartition("AWS said: ")
    return f"AWS said: {said}" if mark else ""


# --- Access denied: the role, its trust policy, or something above both


def access_denied(evidence: Evidence, attempt: Attempt, problem: Problem) -> Cause:
    told = problem.cause.lower()
    if "explicit deny" in told:
        return _explicitly_denied(evidence, problem)
    iam = evidence.iam
    if iam is None or iam.unread:
        if attempt.step is Step.POLICY and attempt.tag_keys:
            return tags_refused(evidence, attempt, problem)  # without tags AWS has just opened
        return _denied_unseen(evidence, attempt, problem)
    if iam.role is None:
        return role_missing(evidence, problem)
    if iam.role.arn != evidence.registered.arn:
        return role_path_wrong(evidence, iam.role, problem)
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
                cause=f"{said} No trust policy can overrule that. {said_by_aws(problem)}",
                remedy=f"Whoever looks after these policies has to make an exception for "
                f"{evidence.registered.action} on "
                f"{arn}, or take the Deny away (AWS Organizations, the policies of the account and of the units above "
                "it)."
                if code != "denied_by_boundary"
                else f"Allow {evidence.registered.action} on {arn} in the boundary of the role that Daypass runs as.",
            )
    return trust_cause(
        evidence,
        Step.TRUST,
        "trust_denies",
        f"A Deny stands in the way: in the trust policy, or in a policy of Daypass's own role. {said_by_aws(problem)}",
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
    return trust_cause(
        evidence,
        Step.TRUST,
        "trust_refuses",
        f"AWS does not let Daypass into the role. {proven}Which of these it is could not be seen ({why}): the "
        "role does "
        f"not exist under exactly this ARN, or its trust policy is not as it has to be. {said_by_aws(problem)}",
        "Compare the role's ARN in IAM, path and capital letters included, then replace its trust policy by the "
        "corrected one. A role that was made in the last minute needs a moment. With a discovery role for the account "
        "Daypass names the very line.",
    )


def role_path_wrong(evidence: Evidence, seen: RoleSeen, problem: Problem | None = None) -> Cause:
    said = f" {said_by_aws(problem)}" if problem else ""
    return Cause(
        step=Step.ROLE,
        code="role_path_wrong",
        cause=f"There is no role {evidence.registered.arn}; the role of this name is {seen.arn}. The path is part of "
        f"the ARN.{said}",
        remedy=f"Register {seen.arn} in Daypass, and switch this one off.",
    )


def role_missing(evidence: Evidence, problem: Problem | None = None) -> Cause:
    ours = evidence.registered
    name = ours.arn.rsplit("/", 1)[-1]
    near = difflib.get_close_matches(name, evidence.iam.role_names if evidence.iam else (), 1, 0.6)
    like = f" It has a role {near[0]}." if near else ""
    said = f" {said_by_aws(problem)}" if problem else ""
    return Cause(
        step=Step.ROLE,
        code="role_missing",
        cause=f"The account {ours.account_id} has no role {name}.{like}{said}",
        remedy=f"Create the role{' with the trust policy that belongs to it' if evidence.wanted else ''}, or, if it "
        "was deleted or renamed, register the right one in Daypass and switch this one off.",
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
        return trust_cause(
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
            return trust_cause(
                evidence,
                step,
                code,
                f"The trust policy does not allow {action}. {said_by_aws(problem)}",
                f"Add {action} to the actions of the statement for Daypass.",
            )
        return found
    return Cause(
        step=Step.TRUST,
        code="denied_elsewhere",
        cause=f"The trust policy of {ours.arn} is right, and AWS refuses all the same. {said_by_aws(problem)}",
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
    fix = "Replace the trust policy by the corrected one."
    said = said_by_aws(problem)
    for reading in readings:
        if reading.statement.effect == "Deny" and reading.applies:
            sid = f" ({reading.statement.sid})" if reading.statement.sid else ""
            return trust_cause(
                evidence,
                Step.TRUST,
                "trust_denies",
                f"A Deny in the trust policy{sid} covers {call.action} for Daypass. {said}",
                "Take that statement away or narrow it: a Deny beats every Allow. The corrected policy keeps it, "
                "because it may be there for a reason.",
            )
    letting = [reading for reading in readings if reading.statement.effect == "Allow"]
    ours_only = [reading for reading in letting if reading.admits]
    if not ours_only:
        return _wrong_principal(evidence, letting, call, said)
    acting = [reading for reading in ours_only if reading.covers]
    if not acting:
        named = ", ".join(dict.fromkeys(a for r in ours_only for a in r.statement.actions))
        return trust_cause(
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
    return trust_cause(
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
    return trust_cause(
        evidence,
        Step.TRUST,
        code,
        f"No statement of the trust policy names {' or '.join(wanted[:1])}; it names {listed}.{because} {said}",
        "Replace the trust policy by the corrected one, which adds the statement for Daypass.",
    )


def _unmet(evidence: Evidence, condition: Condition, call: Call, said: str) -> Cause:
    key = condition.key.lower()
    had = call.context.get(key)
    sends = " or ".join(had) if had else "nothing"
    code = next((code for end, code in _CONDITIONS if key.endswith(end)), "trust_condition")
    if key.startswith("saml:") and key.endswith(":aud"):
        code = "trust_recipient"
    hint = _HINTS.get(code, "Replace the trust policy by the corrected one.")
    return trust_cause(
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
    "trust policy by the corrected one.",
    "trust_source_identity": "Daypass sends the handle of the person, and in a check daypass=doctor. Demand * in "
    "sts:SourceIdentity, as the corrected policy does.",
    "trust_session_name": "Session names begin with the handle of the person and end with random letters, unless the "
    "role has a template of its own in Daypass. Take the condition away or make room for them.",
    "trust_mfa": "AWS never sets this key for people who come by federation. Take the condition away; to demand "
    "a second "
    "factor, use the key amr (docs/aws-trust.md) or a mapping that demands it.",
    "trust_roles_claim": "Daypass's tokens name the role, so the key is true. The condition has to be Bool "
    "sts:RoleAuthorizedByIdp = true.",
}
