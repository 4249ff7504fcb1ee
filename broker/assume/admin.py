"""What a role's own trust policy has to say so that Daypass gets in, ready to copy; and whether the clocks agree."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse

from broker.arns import PARTITIONS, oidc_provider_arn, saml_provider_arn
from broker.aws import clock
from broker.backoffice import Attention, Panel, attentions, contributes, health, panel
from broker.entitlements.models import AwsRole
from broker.minting.oidc import subject_claim

BROKER_ROLE = "arn:{partition}:iam::ACCOUNT-OF-DAYPASS:role/ROLE-OF-DAYPASS"
"""In AssumeRole policies: Daypass cannot know its own role before it runs with it."""


def trust_policy(role: AwsRole) -> dict[str, Any]:
    """The narrowest trust policy under which Daypass can issue this role with tags and source identity.

    The same as in docs/aws-trust.md, filled in. Web identity pins audience, subject and the roles claim, so that a
    token for another role never opens this one (threats.md R11).
    """
    account = role.account
    named: dict[str, Any] = {"StringLike": {"sts:SourceIdentity": "*"}}
    match AwsRole.Trust(role.trust):
        case AwsRole.Trust.WEB_IDENTITY:
            issuer = settings.DAYPASS_ISSUER
            key = issuer.partition("://")[2]
            return _policy(
                {"Federated": oidc_provider_arn(account.partition, account.account_id, issuer)},
                ["sts:AssumeRoleWithWebIdentity", "sts:TagSession", "sts:SetSourceIdentity"],
                {
                    "StringEquals": {f"{key}:aud": settings.DAYPASS_AUDIENCE},
                    "StringLike": {
                        f"{key}:sub": subject_claim(role.role_arn, "*"),
                        "sts:SourceIdentity": "*",
                    },
                    "Bool": {"sts:RoleAuthorizedByIdp": "true"},
                },
            )
        case AwsRole.Trust.SAML:
            partition = PARTITIONS[account.partition]
            recipients = dict.fromkeys(
                (partition.saml_recipient(), partition.saml_recipient(account.region))
            )
            provider = saml_provider_arn(
                account.partition, account.account_id, account.saml_provider_name
            )
            return _policy(
                {"Federated": provider},
                ["sts:AssumeRoleWithSAML", "sts:TagSession", "sts:SetSourceIdentity"],
                {"StringEquals": {"SAML:aud": list(recipients)}, **named},
            )
        case AwsRole.Trust.ASSUME_ROLE:
            principal = {"AWS": BROKER_ROLE.format(partition=account.partition)}
            wanted = (
                {"StringEquals": {"sts:ExternalId": role.external_id}} if role.external_id else {}
            )
            policy = _policy(
                principal, ["sts:AssumeRole", "sts:SetSourceIdentity"], {**wanted, **named}
            )
            # Tagging is a statement of its own, without those conditions (docs/aws-trust.md).
            policy["Statement"].append(
                {"Effect": "Allow", "Principal": principal, "Action": "sts:TagSession"}
            )
            return policy


def _policy(
    principal: Mapping[str, str], actions: list[str], condition: Mapping[str, Any]
) -> dict[str, Any]:
    statement = {
        "Effect": "Allow",
        "Principal": principal,
        "Action": actions,
        "Condition": condition,
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


@panel("broker.awsrole", position=15)
def what_iam_needs(request: HttpRequest, role: AwsRole) -> Panel:
    return Panel(
        "The trust policy that IAM needs",
        "admin/trust_policy.html",
        {
            "policy": json.dumps(trust_policy(role), indent=2),
            "trust": role.trust,
            "role": role,
            "account": role.account,
            "issuer": settings.DAYPASS_ISSUER,
            "audience": settings.DAYPASS_AUDIENCE,
            "metadata": settings.DAYPASS_SAML_ENTITY_ID,
        },
        note="In the IAM console: the role, Trust relationships, Edit trust policy. Both extra actions are needed.",
    )


# --- The clocks


@contributes(attentions)
def clocks_apart(request: HttpRequest) -> Iterable[Attention]:
    """Wrong clocks: soon people will not get in, or they do not already."""
    reading = clock.latest()
    if reading is None or abs(reading.ahead) < clock.ALARM:
        return
    refused = abs(reading.ahead) >= clock.REFUSAL
    consequence = "Nothing is issued" if refused else "At 60 s nothing is issued any more"
    yield Attention(
        "wrong" if refused else "soon",
        f"Daypass's clock {clock.spoken(reading)}. {consequence}.",
        reverse("admin:health"),
        "See health",
    )


@contributes(health)
def clock_health(request: HttpRequest) -> Panel:
    reading = clock.latest()
    return Panel(
        "Clock",
        "admin/clock.html",
        {
            "spoken": clock.spoken(reading) if reading else "",
            "apart": bool(reading and abs(reading.ahead) >= clock.ALARM),
            "at": datetime.fromtimestamp(reading.at, UTC) if reading else None,
            "region": reading.region if reading else "",
        },
        note="Compared with the Date of every answer of STS. At 60 s difference nothing is issued.",
    )
