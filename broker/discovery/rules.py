"""Whether a role's trust names this broker, and as what. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from broker.errors import BadInput
from broker.policies import Call, read, read_policy

Named = Literal["web_identity", "saml"]


@dataclass(frozen=True, slots=True)
class Ourselves:
    """What Daypass is called in one account. issuer: its URL."""

    account_id: str
    issuer: str
    oidc_provider_arn: str
    saml_provider_arn: str


def trust_in(trust_policy: str, role_name: str, ourselves: Ourselves) -> Named | None:
    """As what the policy lets people of Daypass in; None when it does not, or lets in only Daypass's own tasks.

    It need not let them in today (an audience may be wrong; the doctor tells): it has to name Daypass, and not by its
    condition on `sub` speak of something else.
    """
    try:
        statements = read_policy(trust_policy)
    except BadInput:
        return None
    key = f"{ourselves.issuer.removeprefix('https://').lower()}:sub"
    person = f"role/{ourselves.account_id}/{role_name}/person/somebody"
    ways: tuple[tuple[Named, str, str], ...] = (
        ("web_identity", "sts:AssumeRoleWithWebIdentity", ourselves.oidc_provider_arn),
        ("saml", "sts:AssumeRoleWithSAML", ourselves.saml_provider_arn),
    )
    for named, action, provider in ways:
        call = Call(action, frozenset({("Federated", provider)}), {key: (person,)})
        for statement in statements:
            reading = read(statement, call)
            if (
                statement.effect == "Allow"
                and reading.admits
                and reading.covers
                and not reading.unmet
            ):
                return named
    return None
