"""What AWS has to be told so that Daypass gets in, on the pages of accounts and roles, ready to copy."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest

from broker.backoffice import Panel, panel
from broker.entitlements.models import AwsRole
from broker.trust import rules
from broker.trust.queries import role_trust
from broker.trust.relayed import KNOWN_TO_AWS, relayed_policy


@panel("broker.awsrole", position=15)
def what_iam_needs(request: HttpRequest, role: AwsRole) -> Panel | None:
    subject = role_trust(role)
    if subject is None:
        return None
    return Panel(
        "The trust policy that IAM needs",
        "admin/trust_policy.html",
        {
            "policy": rules.trust_policy(subject),
            "trust": role.trust,
            "role": role,
            "account": role.account,
            "issuer": settings.DAYPASS_ISSUER,
            "audience": settings.DAYPASS_AUDIENCE,
            "metadata": settings.DAYPASS_SAML_ENTITY_ID,
        },
        note="In the IAM console: the role, Trust relationships, Edit trust policy. Both extra actions are needed.",
    )


@panel("broker.awsrole", position=16)
def what_iam_needs_for_a_relayed_token(request: HttpRequest, role: AwsRole) -> Panel | None:
    provider = role.relay_provider
    if role.trust != AwsRole.Trust.RELAYED_TOKEN or provider is None:
        return None
    policy = relayed_policy(
        account_id=role.account.account_id,
        partition=role.account.partition,
        issuer=provider.issuer,
        client_id=provider.client_id,
    )
    return Panel(
        "The trust policy that IAM needs",
        "admin/relayed_trust.html",
        {
            "policy": policy,
            "provider": provider,
            "known": provider.issuer.removeprefix("https://") in KNOWN_TO_AWS,
        },
        note="In the IAM console: the role, Trust relationships, Edit trust policy. docs/relay.md has the whole way.",
    )
