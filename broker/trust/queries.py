"""From the catalogue to what IAM has to hold: reads accounts and roles, and the names that Daypass goes by."""

from __future__ import annotations

from collections.abc import Container, Iterable
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db.models import Prefetch, prefetch_related_objects

from broker.arns import PARTITIONS
from broker.entitlements.models import AwsAccount, AwsRole
from broker.minting import saml
from broker.trust.rules import TRUSTS, RoleTrust
from broker.trust.setup import DISCOVERY_ROLE, AccountSetUp, Discovery, RoleToMake


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


def set_ups(
    accounts: Iterable[AwsAccount],
    *,
    roles: Container[UUID] | None = None,
    discovery: bool = False,
    update_metadata: bool = False,
    broker_arn: str = "",
) -> list[AccountSetUp]:
    """What each of these accounts has to hold, as the catalogue has it; roles that are switched off are left out.

    roles: only these (primary keys), whether in use or not. discovery: with the role that Daypass reads the account
    through, which may renew the SAML provider's metadata too when update_metadata says so. Accounts that come out
    empty are left out. Raises BadInput.
    """
    chosen = list(accounts)
    prefetch_related_objects(chosen, Prefetch("roles", AwsRole.objects.order_by("name")))
    found = []
    for account in chosen:
        made = []
        for role in account.roles.all():
            wanted = role.pk in roles if roles is not None else role.enabled
            subject = role_trust(role, broker_arn=broker_arn) if wanted else None
            if subject is not None:
                made.append(
                    RoleToMake(
                        subject=subject,
                        path=role.path,
                        max_seconds=role.max_seconds,
                        description=role.description,
                    )
                )
        reader = _discovery(account, made, update_metadata) if discovery else None
        if reader is not None:
            made = [role for role in made if role.name != reader.role.name]
        if made or reader:
            found.append(
                AccountSetUp(
                    account_id=account.account_id,
                    partition=account.partition,
                    roles=tuple(made),
                    discovery=reader,
                )
            )
    return found


def _discovery(
    account: AwsAccount, roles: Iterable[RoleToMake], update_metadata: bool
) -> Discovery:
    path, _, name = (account.discovery_role or DISCOVERY_ROLE).strip("/").rpartition("/")
    by_saml = any(role.subject.trust == "saml" for role in roles)
    subject = RoleTrust(
        account_id=account.account_id,
        partition=account.partition,
        role_name=name,
        trust="web_identity",
        issuer=settings.DAYPASS_ISSUER,
        audience=settings.DAYPASS_AUDIENCE,
        caller="task",
    )
    return Discovery(
        role=RoleToMake(
            subject=subject,
            path=f"/{path}/" if path else "/",
            description="Daypass reads here which roles let people in.",
        ),
        organisation=account.management,
        saml_provider=account.saml_provider_name if by_saml and update_metadata else "",
    )


def saml_metadata(accounts: Iterable[AccountSetUp], *, now: datetime) -> str:
    """Daypass's own metadata when one of these accounts needs it, else "". Raises KeyUnavailable."""
    if not any(account.saml_provider_name for account in accounts):
        return ""
    return saml.metadata(now=now).decode("utf-8")
