"""What AWS has to be told so that Daypass gets in, on the pages of accounts and roles, ready to copy."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest

from broker.backoffice import Panel, panel
from broker.entitlements.models import AwsRole
from broker.trust import rules
from broker.trust.queries import role_trust


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
