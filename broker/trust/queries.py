"""From the catalogue to what IAM has to hold: reads accounts and roles, and the names that Daypass goes by."""

from __future__ import annotations

from django.conf import settings

from broker.arns import PARTITIONS
from broker.entitlements.models import AwsRole
from broker.trust.rules import TRUSTS, RoleTrust


def role_trust(role: AwsRole, *, broker_arn: str = "") -> RoleTrust | None:
    """Who this role is to trust so that Daypass gets in; None where it trusts somebody else, who signs by himself.

    broker_arn: the role that Daypass runs with, where known; for AssumeRole. Raises BadInput.
    """
    trust = next((known for known in TRUSTS if known == role.trust), None)
    if trust is None:
        return None
    account = role.account
    partition = PARTITIONS[account.partition]
    return RoleTrust(
        account_id=account.account_id,
        partition=account.partition,
        role_name=role.name,
        trust=trust,
        issuer=settings.DAYPASS_ISSUER,
        audience=settings.DAYPASS_AUDIENCE,
        saml_provider_name=account.saml_provider_name,
        recipient=partition.saml_recipient(account.region),
        more_recipients=(partition.saml_recipient(account.second_region),)
        if account.second_region
        else (),
        external_id=role.external_id or account.external_id,
        broker_arn=broker_arn,
    )
