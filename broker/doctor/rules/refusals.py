"""What a refusal of AWS means, but for those of the trust policy: issuer, provider, certificate, size, time. Pure."""

from __future__ import annotations

import difflib
from dataclasses import replace

from broker.doctor.rules.evidence import Attempt, Cause, Evidence, Problem, Step
from broker.doctor.rules.policy import (
    access_denied,
    said_by_aws,
    source_identity_refused,
    tags_refused,
)

LONGEST_KEY_SET = 100
"""Keys of one type beyond which AWS takes none of them."""


def as_told(
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
    own = issuer_cause(evidence)
    if own is not None:
        return replace(own, cause=f"{own.cause} {said_by_aws(problem)}")
    told = as_told(evidence, attempt, problem, Step.ISSUER)
    return Cause(
        step=Step.ISSUER,
        code="issuer_not_reachable_for_aws",
        cause=f"From Daypass itself the documents look right, and yet: {told.cause}",
        remedy=f"AWS comes from the internet, at any address of its own. {problem.remedy}",
    )


def _refused(evidence: Evidence, attempt: Attempt, problem: Problem) -> Cause:
    """AWS found something about the token or assertion wrong and does not say more than that."""
    if evidence.registered.trust == "web_identity" and issuer_cause(evidence) is not None:
        return _keys(evidence, attempt, problem)
    return as_told(evidence, attempt, problem, Step.PROVIDER)


def issuer_cause(evidence: Evidence) -> Cause | None:
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


def provider_missing(evidence: Evidence, attempt: Attempt, problem: Problem) -> Cause:
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
    near = nearest(arn, evidence.iam.provider_arns if evidence.iam else ())
    like = f" It has {near}, which is not the same: every letter and slash counts." if near else ""
    rename = (
        " Or change the name of the IAM SAML provider of the account in Daypass to the one that exists."
        if near and ours.trust == "saml"
        else ""
    )
    return Cause(
        step=Step.PROVIDER,
        code="provider_missing",
        cause=f"The account {ours.account_id} has no {kind} {arn}.{like} {said_by_aws(problem)}",
        remedy=f"Create it: {made}.{rename} If the account is in another partition than {ours.partition} (the "
        "beginning "
        "of its ARNs says so), register it in that one: no trust crosses from one to another.",
    )


def audience_missing(evidence: Evidence, attempt: Attempt, problem: Problem) -> Cause:
    ours = evidence.registered
    if ours.trust == "saml":
        return Cause(
            step=Step.AUDIENCE,
            code="saml_audience_wrong",
            cause=f"AWS in the partition {ours.partition} does not take the audience of Daypass's assertions. "
            f"{said_by_aws(problem)}",
            remedy="The account is registered in another partition than it is in. Register it anew with its own "
            "partition: the beginning of its ARNs names it.",
        )
    listed = evidence.iam.client_ids if evidence.iam else ()
    seen = f" It lists {', '.join(listed)}." if listed else ""
    return Cause(
        step=Step.AUDIENCE,
        code="audience_missing",
        cause=f"The OIDC provider of the account {ours.account_id} does not list the audience {ours.audience}.{seen} "
        f"{said_by_aws(problem)}",
        remedy="Add it: aws iam add-client-id-to-open-id-connect-provider --open-id-connect-provider-arn "
        f"{ours.oidc_provider_arn} --client-id {ours.audience}",
    )


def _thumbprint(evidence: Evidence, attempt: Attempt, problem: Problem) -> Cause:
    ours = evidence.registered
    return Cause(
        step=Step.CERTIFICATE,
        code="thumbprint_wrong",
        cause=f"The TLS certificate in front of {ours.issuer} comes from no authority that AWS trusts, and its "
        f"thumbprint is not the one that the provider lists. {said_by_aws(problem)}",
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
        cause=f"The SAML provider {ours.saml_provider_arn} {what}. {said_by_aws(problem)}",
        remedy="Upload Daypass's current metadata: aws iam update-saml-provider --saml-provider-arn "
        f"{ours.saml_provider_arn} --saml-metadata-document file://daypass-saml-metadata.xml",
    )


def duration_too_long(evidence: Evidence, attempt: Attempt, problem: Problem) -> Cause:
    ours = evidence.registered
    name = ours.arn.rsplit("/", 1)[-1]
    seen = evidence.iam.role.max_seconds if evidence.iam and evidence.iam.role else 0
    said = f" IAM says {seen}." if seen else ""
    return Cause(
        step=Step.DURATION,
        code="duration_too_long",
        cause=f"The role is registered with sessions of up to {ours.max_seconds} seconds; IAM allows it less.{said} "
        f"{said_by_aws(problem)}".rstrip(),
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


EXPLANATIONS = {
    "clocks_apart": _clock,
    "aws_clock": _clock,
    "aws_cannot_fetch_keys": _keys,
    "aws_provider_missing": provider_missing,
    "aws_audience_wrong": audience_missing,
    "aws_thumbprint_wrong": _thumbprint,
    "aws_issuer_unknown": _metadata,
    "aws_signature_refused": _signature,
    "aws_token_refused": _refused,
    "aws_access_denied": access_denied,
    "aws_tag_session_denied": tags_refused,
    "aws_source_identity_denied": source_identity_refused,
    "aws_policy_too_large": _of_mapping,
    "aws_policy_malformed": _of_mapping,
    "aws_duration_too_long": duration_too_long,
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


# --- Names that are nearly right


def nearest(arn: str, others: tuple[str, ...]) -> str:
    """The provider that somebody most likely meant."""
    folded = {other.lower().rstrip("/"): other for other in others}
    same = folded.get(arn.lower().rstrip("/"))
    if same:
        return same
    near = difflib.get_close_matches(arn, others, 1, 0.85)
    return near[0] if near else ""
