"""Roles that only an employee's own token or assertion opens: not tried, and what IAM shows of them instead. Pure.

What is passed on was made by the company's own provider for one person, and Daypass has none of its own. So the doctor
reads: whether the account knows that provider, and whether the role's trust policy lets in what it makes.
"""

from __future__ import annotations

from broker.doctor.rules.evidence import (
    RELAYED,
    Attempt,
    Cause,
    Evidence,
    IamLook,
    Problem,
    Registered,
    RoleSeen,
    State,
    Step,
    StepFound,
)
from broker.doctor.rules.policy import role_missing, role_path_wrong
from broker.doctor.rules.refusals import audience_missing, duration_too_long, provider_missing
from broker.errors import BadInput
from broker.policies import Call, allows, read, read_policy

BUILT_IN = {"https://accounts.google.com": "accounts.google.com"}
"""Issuers that AWS knows without a provider in the account -> how a trust policy names them."""

_NOBODY_SAID = Problem(code="")
_NOT_SENT = "Nothing of the kind goes along with what is passed on."
_WITHOUT_ONE = "Not tried: it shows at the first person who opens the role."


def is_unopened(evidence: Evidence) -> bool:
    return evidence.registered.trust in RELAYED


def saml_providers_in(trust_policy: str) -> tuple[str, ...]:
    """The SAML providers that a trust policy names."""
    try:
        statements = read_policy(trust_policy)
    except BadInput:
        return ()
    return tuple(
        dict.fromkeys(
            value
            for statement in statements
            for kind, value in statement.principals
            if kind == "Federated" and ":saml-provider/" in value
        )
    )


def cause_in_iam(evidence: Evidence) -> Cause | None:
    """The first thing that is wrong, as far as it can be read."""
    iam = evidence.iam
    if iam is None or iam.unread:
        return None
    if iam.role is None:
        return role_missing(evidence)
    if iam.role.arn != evidence.registered.arn:
        return role_path_wrong(evidence, iam.role)
    return (
        _provider(evidence, iam)
        or _trust(evidence.registered, iam.role)
        or _duration(evidence, iam.role)
    )


def _provider(evidence: Evidence, iam: IamLook) -> Cause | None:
    ours = evidence.registered
    if ours.trust == "relayed_token":
        if iam.provider_there is False and ours.issuer not in BUILT_IN:
            return provider_missing(evidence, Attempt(step=Step.PROVIDER), _NOBODY_SAID)
        if iam.provider_there and ours.audience not in iam.client_ids:
            return audience_missing(evidence, Attempt(step=Step.AUDIENCE), _NOBODY_SAID)
        return None
    named = ", ".join(saml_providers_in(iam.role.trust_policy if iam.role else ""))
    if named and iam.provider_there is False:
        return Cause(
            step=Step.PROVIDER,
            code="provider_missing",
            cause=f"The trust policy of the role names {named}, and the account {ours.account_id} has no such SAML "
            "provider.",
            remedy="Create it with the metadata of the application for AWS at the identity provider, or let the trust "
            "policy name the one that there is.",
        )
    if iam.metadata_has_entity is False:
        return Cause(
            step=Step.CERTIFICATE,
            code="saml_metadata_of_another",
            cause=f"{iam.provider_arn} holds the metadata of another entity id than {ours.saml_entity_id}, by which "
            "the application for AWS goes.",
            remedy="Upload the application's metadata to it, or register the right application in Daypass.",
        )
    if iam.metadata_has_key is False:
        return Cause(
            step=Step.CERTIFICATE,
            code="saml_metadata_outdated",
            cause=f"{iam.provider_arn} holds none of the certificates with which the application for AWS signs, as "
            "Daypass knows it.",
            remedy="Upload the application's present metadata to it, and to Daypass if that has an old one.",
        )
    return None


def _trust(ours: Registered, seen: RoleSeen) -> Cause | None:
    """The trust policy refuses what is passed on, whoever it is about."""

    def cause(code: str, said: str, remedy: str) -> Cause:
        return Cause(step=Step.TRUST, code=code, cause=said, remedy=remedy)

    try:
        statements = read_policy(seen.trust_policy)
    except BadInput as error:
        return cause("trust_unreadable", error.message, "Replace the trust policy.")
    call = _call(ours, seen)
    wanted = " or ".join(sorted(value for _, value in call.names)) or "a SAML provider"
    add = f"Add a statement that allows {call.action} to {wanted} as Federated principal."
    if allows(statements, call) != "unmet":
        return None
    readings = [read(statement, call) for statement in statements]
    for reading in readings:
        if reading.statement.effect == "Deny" and reading.applies:
            return cause(
                "trust_denies",
                f"A Deny in the trust policy covers {call.action} for {wanted}.",
                "Take that statement away or narrow it: a Deny beats every Allow.",
            )
    letting = [one for one in readings if one.statement.effect == "Allow"]
    ours_only = [one for one in letting if one.admits]
    if not ours_only:
        pairs = [pair for one in letting for pair in one.statement.principals]
        named = ", ".join(f"{kind} {value}" for kind, value in pairs) or "nobody"
        return cause(
            "trust_principal_missing",
            f"No statement of the trust policy names {wanted}; it names {named}.",
            add,
        )
    acting = [one for one in ours_only if one.covers]
    if not acting:
        listed = ", ".join(dict.fromkeys(a for one in ours_only for a in one.statement.actions))
        return cause(
            "trust_action_missing",
            f"The statement for {wanted} allows {listed or 'nothing'}, and not {call.action}.",
            f"Add {call.action} to its actions.",
        )
    condition = min(acting, key=lambda one: len(one.unmet)).unmet[0]
    had = " or ".join(call.context.get(condition.key.lower(), ())) or "nothing"
    return cause(
        "trust_audience" if condition.key.lower().endswith(":aud") else "trust_condition",
        f"The trust policy demands {condition}; what is passed on says {had}.",
        "Put that condition right, or register the role with the provider whose people it is for.",
    )


def _duration(evidence: Evidence, seen: RoleSeen) -> Cause | None:
    if seen.max_seconds >= evidence.registered.max_seconds:
        return None
    return duration_too_long(evidence, Attempt(step=Step.DURATION), _NOBODY_SAID)


def _call(ours: Registered, seen: RoleSeen) -> Call:
    """The call as AWS evaluates it, of which only what is the same for everybody is known."""
    known = ("sts:sourceidentity", "sts:externalid")
    if ours.trust == "relayed_token":
        name = BUILT_IN.get(ours.issuer, ours.oidc_provider_arn)
        context = {f"{ours.issuer.removeprefix('https://').lower()}:aud": (ours.audience,)}
        return Call(ours.action, frozenset({("Federated", name)}), context, known)
    names = frozenset(
        ("Federated", arn)
        for arn in saml_providers_in(seen.trust_policy)
        if arn.split(":")[4] == ours.account_id
    )
    return Call(ours.action, names, {"saml:iss": (ours.saml_entity_id,)}, known)


def unjudged(ours: Registered, seen: RoleSeen) -> str:
    """Conditions of the trust policy that depend on the person, or on what cannot be known from here."""
    call = _call(ours, seen)
    try:
        statements = read_policy(seen.trust_policy)
    except BadInput:
        return ""
    about = [read(one, call) for one in statements]
    found = [c for one in about if one.admits and one.covers and not one.unmet for c in one.unknown]
    return "; ".join(dict.fromkeys(str(condition) for condition in found))


# --- What was looked at


def step_in_iam(evidence: Evidence, step: Step) -> tuple[State, str]:
    """A step for which nothing was found wrong."""
    ours, iam = evidence.registered, evidence.iam
    token = ours.trust == "relayed_token"
    match step:
        case Step.ISSUER | Step.TAGS | Step.SOURCE_IDENTITY:
            said = "Does not apply to this way in." if step is Step.ISSUER else _NOT_SENT
            return "skipped", said
        case Step.CLOCK | Step.STS | Step.CONSOLE:
            return "unknown", _WITHOUT_ONE
        case Step.POLICY:
            return ("unknown", _WITHOUT_ONE) if token else ("skipped", _NOT_SENT)
        case Step.AUDIENCE if not token:
            return "skipped", "Does not apply to this way in."
        case _:
            pass
    if iam is None or iam.unread:
        return "unknown", f"Not read: {iam.unread if iam else 'nobody looked'}."
    return _in_iam(ours, iam, step, token=token)


def _in_iam(ours: Registered, iam: IamLook, step: Step, *, token: bool) -> tuple[State, str]:
    built_in = token and ours.issuer in BUILT_IN
    match step:
        case Step.PROVIDER if built_in:
            return "ok", f"AWS knows {ours.issuer} without a provider in the account."
        case Step.PROVIDER if iam.provider_there:
            return "ok", f"The account has {iam.provider_arn or ours.oidc_provider_arn}."
        case Step.AUDIENCE if built_in and not iam.provider_there:
            return "skipped", "No list in the account; the trust policy alone names it."
        case Step.AUDIENCE if ours.audience in iam.client_ids:
            return "ok", f"The provider lists {ours.audience}, for which the tokens are made."
        case Step.CERTIFICATE if iam.metadata_has_key:
            return "ok", "The provider holds a certificate with which the application signs."
        case Step.CERTIFICATE if token:
            return "unknown", _WITHOUT_ONE
        case Step.ROLE if iam.role:
            return "ok", f"IAM shows {iam.role.arn}."
        case Step.TRUST if iam.role:
            left = unjudged(ours, iam.role)
            if left:
                return (
                    "unknown",
                    f"As far as it can be judged it lets them in. What cannot be: {left}.",
                )
            return "ok", "It lets in what is passed on."
        case Step.DURATION if iam.role and iam.role.max_seconds >= ours.max_seconds:
            return "ok", f"IAM allows {iam.role.max_seconds} seconds."
    return "unknown", "IAM could not be read so far."


def checked_instead(evidence: Evidence, steps: tuple[StepFound, ...]) -> str:
    """For the result of a role that was not tried: what was looked at in its place."""
    iam = evidence.iam
    if iam is None or iam.unread:
        why = iam.unread if iam else "nobody looked"
        return (
            f"{evidence.untried} Nothing could be checked instead: {why}. With a discovery role Daypass reads whether "
            "the account knows the provider and the trust policy lets it in."
        )
    seen = [step.title.lower() for step in steps if step.state == "ok"]
    return f"{evidence.untried} Checked instead, in IAM, and right: {', '.join(seen)}."
