"""Trust policies: the narrowest document under which Daypass, and nothing else of Daypass, gets into one role. Pure.

Specification: IAM user guide, "Create a role for OpenID Connect federation", "Create a role for SAML 2.0 federation",
"Access to AWS accounts owned by third parties", "Pass session tags in AWS STS" and "Monitor and control actions taken
with assumed roles". docs/aws-trust.md explains every line for people; the tests compare the two.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, assert_never, get_args

from broker.arns import PARTITIONS, oidc_provider_arn, saml_provider_arn
from broker.errors import BadInput

Trust = Literal["web_identity", "saml", "assume_role"]
TRUSTS: tuple[Trust, ...] = get_args(Trust)
Caller = Literal["person", "task"]

Policy = dict[str, Any]
"""A policy document as IAM's JSON has it."""

LONGEST = 2048
"""Characters of a trust policy, without its blanks, that IAM takes unless the account's quota was raised."""

BROKER_ROLE = "arn:{partition}:iam::ACCOUNT-OF-DAYPASS:role/ROLE-OF-DAYPASS"
"""What stands in AssumeRole policies where nobody has said which role Daypass itself runs with."""

_ACCOUNT_ID = re.compile(r"\d{12}", re.ASCII)
_ROLE_NAME = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)
_PROVIDER_NAME = re.compile(r"[\w.-]{1,128}", re.ASCII)
_ISSUER = re.compile(r"https?://[A-Za-z0-9.-]+(?::\d+)?(?:/[A-Za-z0-9._~%/-]*)?")
_ISSUER_OF_IAM = re.compile(r"https://[A-Za-z0-9.-]+(?:/[A-Za-z0-9._~%/-]*)?")
_AUDIENCE = re.compile(r"[A-Za-z0-9._:/@+=,-]{1,255}")
_RECIPIENT = re.compile(r"https://[a-z0-9.-]+/saml")
_EXTERNAL_ID = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)
_BROKER = re.compile(
    r"arn:(?:aws|aws-us-gov|aws-cn|aws-eusc):iam::\d{12}:(?:role|user)/[\w+=,.@/-]{1,512}",
    re.ASCII,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleTrust:
    """Who one role is to trust, and for what.

    caller: whether people use the role, or Daypass itself (a task such as discovery); a token says which, and one kind
    never opens the other's roles. issuer and audience are for web identity; saml_provider_name and recipients for
    SAML; external_id (may be empty) and broker_arn (the role that Daypass runs with) for AssumeRole. recipient: the
    address that assertions are posted to; the partition's own is always among the accepted ones, and so are
    more_recipients. Raises BadInput for anything that could not stand in a policy.
    """

    account_id: str
    partition: str
    role_name: str
    trust: Trust
    issuer: str = ""
    audience: str = ""
    saml_provider_name: str = ""
    recipient: str = ""
    more_recipients: tuple[str, ...] = ()
    external_id: str = ""
    broker_arn: str = ""
    caller: Caller = "person"

    def __post_init__(self) -> None:
        _fits("account id", self.account_id, _ACCOUNT_ID)
        _fits("role name", self.role_name, _ROLE_NAME)
        if self.partition not in PARTITIONS:
            raise _unfit("partition", self.partition)
        match self.trust:
            case "web_identity":
                _fits("issuer", self.issuer, _ISSUER)
                _fits("audience", self.audience, _AUDIENCE)
            case "saml":
                _fits("SAML provider name", self.saml_provider_name, _PROVIDER_NAME)
                for recipient in filter(None, (self.recipient, *self.more_recipients)):
                    _fits("recipient", recipient, _RECIPIENT)
            case "assume_role":
                if self.external_id:
                    _fits("external id", self.external_id, _EXTERNAL_ID)
                if self.broker_arn and self.broker_arn != BROKER_ROLE.format(
                    partition=self.partition
                ):
                    _fits("ARN of Daypass's own role", self.broker_arn, _BROKER)
            case _:
                raise _unfit("trust", str(self.trust))
        if self.caller == "task" and self.trust != "web_identity":
            raise BadInput(
                "Daypass enters a role for its own tasks by web identity only.",
                code="bad_trust",
            )

    @property
    def principal(self) -> dict[str, str]:
        """Who signs, in the words of a policy's Principal."""
        match self.trust:
            case "web_identity":
                # IAM knows https only; the demo on this machine is shown as it is.
                https = f"https://{self.issuer.partition('://')[2]}"
                return {"Federated": oidc_provider_arn(self.partition, self.account_id, https)}
            case "saml":
                return {
                    "Federated": saml_provider_arn(
                        self.partition, self.account_id, self.saml_provider_name
                    )
                }
            case "assume_role":
                return {"AWS": self.broker_arn or BROKER_ROLE.format(partition=self.partition)}
            case _:
                assert_never(self.trust)

    @property
    def recipients(self) -> list[str]:
        """Every address that an assertion for this role may be posted to, the partition's own first."""
        home = PARTITIONS[self.partition].saml_recipient()
        return list(dict.fromkeys(filter(None, (home, self.recipient, *self.more_recipients))))


def _fits(what: str, value: str, pattern: re.Pattern[str]) -> None:
    if pattern.fullmatch(value) is None:
        raise _unfit(what, value)


def _unfit(what: str, value: str) -> BadInput:
    return BadInput(
        f"{value[:80]!r} is no {what} that can stand in a trust policy.", code="bad_trust"
    )


def fit_for_iam(issuer: str) -> bool:
    """Whether IAM takes a provider of this URL: https, no port. Daypass itself demands it, but of a demo."""
    return len(issuer) <= 255 and _ISSUER_OF_IAM.fullmatch(issuer) is not None


def subject_pattern(account_id: str, role_name: str, caller: Caller = "person") -> str:
    """What `sub` of every token for this role looks like (minting writes it), and of no token for another one."""
    return f"role/{account_id}/{role_name}/{caller}/*"


def statements(subject: RoleTrust, *, principal: Mapping[str, Any] | None = None) -> list[Policy]:
    """The statements that let Daypass in. principal: the same one in another notation, such as CloudFormation's."""
    signed_by = dict(principal or subject.principal)
    named = {"sts:SourceIdentity": "*"}
    match subject.trust:
        case "web_identity":
            key = subject.issuer.partition("://")[2]
            pattern = subject_pattern(subject.account_id, subject.role_name, subject.caller)
            return [
                _allow(
                    signed_by,
                    ["sts:AssumeRoleWithWebIdentity", "sts:TagSession", "sts:SetSourceIdentity"],
                    {
                        "StringEquals": {f"{key}:aud": subject.audience},
                        "StringLike": {f"{key}:sub": pattern, **named},
                        "Bool": {"sts:RoleAuthorizedByIdp": "true"},
                    },
                )
            ]
        case "saml":
            return [
                _allow(
                    signed_by,
                    ["sts:AssumeRoleWithSAML", "sts:TagSession", "sts:SetSourceIdentity"],
                    {"StringEquals": {"SAML:aud": subject.recipients}, "StringLike": named},
                )
            ]
        case "assume_role":
            secret = {"StringEquals": {"sts:ExternalId": subject.external_id}}
            return [
                _allow(
                    signed_by,
                    ["sts:AssumeRole", "sts:SetSourceIdentity"],
                    {**(secret if subject.external_id else {}), "StringLike": named},
                ),
                # Tagging is a statement of its own: it is checked by itself, and nothing is gained by conditions on it.
                {"Effect": "Allow", "Principal": signed_by, "Action": "sts:TagSession"},
            ]
        case _:
            assert_never(subject.trust)


def _allow(principal: Policy, actions: list[str], condition: Policy) -> Policy:
    return {"Effect": "Allow", "Principal": principal, "Action": actions, "Condition": condition}


def trust_document(subject: RoleTrust) -> Policy:
    """The whole trust policy of a role that trusts Daypass and nobody else."""
    return {"Version": "2012-10-17", "Statement": statements(subject)}


def trust_policy(subject: RoleTrust, *, existing: str | None = None) -> str:
    """The trust policy as indented JSON.

    existing: the role's present document. Statements that allow Daypass and nobody else give way to the right ones,
    where the first of them stood and under its Sid; conditions of theirs on other keys than ours stay (a demanded
    `amr` for example). Where Daypass is named beside others, it leaves that statement and the others stay in it. Every
    other statement, and every Deny, is kept as it is. Raises BadInput when `existing` is no policy.
    """
    if existing is None:
        return written(trust_document(subject))
    return written(_put_right(subject, _read(existing)))


def written(document: Policy) -> str:
    """A policy as people read and paste it, in characters that IAM takes."""
    return _json(document, indent=2)


def length(document: str) -> int:
    """How much of IAM's limit (LONGEST) a policy takes: its characters without blanks."""
    return len(_json(json.loads(document), separators=(",", ":")))


def _json(document: Policy, **how: Any) -> str:
    """IAM takes no character of a policy beyond U+00FF; escaped, it means the same."""
    text = json.dumps(document, ensure_ascii=False, **how)
    return text if max(text) <= "\xff" else json.dumps(document, **how)


def _read(text: str) -> Policy:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a name stands twice in one object")
        return found

    try:
        document = json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise BadInput(
            f"The present trust policy is not JSON: {error}.", code="bad_policy"
        ) from None
    held = document.get("Statement") if isinstance(document, dict) else None
    held = [held] if isinstance(held, dict) else held
    if not isinstance(held, list) or not all(isinstance(one, dict) for one in held):
        raise BadInput(
            "The present trust policy holds no statements. Copy the whole of it, from { to }.",
            code="bad_policy",
        )
    return {**document, "Statement": held}


def _put_right(subject: RoleTrust, document: Policy) -> Policy:
    wanted = statements(subject)
    ((kind, ours),) = subject.principal.items()
    kept: list[Policy] = []
    place: int | None = None
    sid: Any = None
    for statement in document["Statement"]:
        principal = statement.get("Principal")
        names = principal.get(kind) if isinstance(principal, dict) else None
        named = [names] if isinstance(names, str) else names if isinstance(names, list) else []
        if statement.get("Effect") != "Allow" or ours not in named:
            kept.append(statement)
            continue
        assert isinstance(principal, dict)
        others = [name for name in named if name != ours]
        rest = {**principal, kind: others}
        if not others:
            del rest[kind]
        if place is None:
            place = len(kept)
            if not rest:
                sid = statement.get("Sid")
                _carry_over(wanted[0], statement.get("Condition"))
        if rest:
            kept.append({**statement, "Principal": rest})
    if sid:
        wanted[0] = {"Sid": sid, **wanted[0]}
    at = len(kept) if place is None else place
    return {
        "Version": "2012-10-17",
        **document,
        "Statement": [*kept[:at], *wanted, *kept[at:]],
    }


def _carry_over(statement: Policy, present: Any) -> None:
    """Into our statement, the conditions of the present one on keys that ours says nothing about."""
    if not isinstance(present, dict):
        return
    condition: Policy = statement["Condition"]
    said = {key.lower() for keys in condition.values() for key in keys}
    # AWS never sets it for people who come by federation, so that a demand for it locks everybody out.
    said |= {"aws:multifactorauthpresent", "aws:multifactorauthage", "sts:externalid"}
    for operator, keys in present.items():
        if not isinstance(keys, dict):
            continue
        other = {key: value for key, value in keys.items() if key.lower() not in said}
        if other:
            condition[operator] = {**other, **condition.get(operator, {})}
