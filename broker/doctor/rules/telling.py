"""The whole of it: the first cause of failure, and every step in order. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from broker.doctor.rules.evidence import (
    Cause,
    Diagnosis,
    Evidence,
    Outcome,
    State,
    Step,
    StepFound,
)
from broker.doctor.rules.refusals import EXPLANATIONS, as_told, issuer_cause
from broker.doctor.rules.unopened import (
    cause_in_iam,
    checked_instead,
    is_unopened,
    step_in_iam,
)

LARGE_PERCENT = 80
"""From here on somebody with longer attributes may be refused for the size of policy and tags."""
CLOCK_REFUSAL = 60.0


def diagnose(evidence: Evidence) -> Diagnosis:
    """Name the exact cause, as far as the evidence goes, and the exact fix."""
    evidence = _knowing_ourselves(evidence)
    cause = _cause(evidence)
    steps = tuple(_steps(evidence, cause))
    if cause is None:
        outcome: Outcome = "works" if evidence.entry else "unsure"
        said = "" if evidence.entry else evidence.untried
        if is_unopened(evidence):
            said = checked_instead(evidence, steps)
        return Diagnosis(
            outcome=outcome, code="" if evidence.entry else "not_tried", cause=said, steps=steps
        )
    return Diagnosis(
        outcome="fails" if cause.sure else "unsure",
        code=cause.code,
        cause=f"{cause.cause} This was read in IAM. {evidence.untried}"
        if is_unopened(evidence)
        else cause.cause,
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
            explain = EXPLANATIONS.get(attempt.problem.code, as_told)
            return explain(evidence, attempt, attempt.problem)
    return cause_in_iam(evidence) if is_unopened(evidence) else None


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
    if is_unopened(evidence):
        return step_in_iam(evidence, step)
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
    wrong = issuer_cause(evidence)
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
