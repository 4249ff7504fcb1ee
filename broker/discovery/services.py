"""Looking into AWS, keeping what is new as proposals and flagging what is gone; and taking proposals into the
catalogue.

Nothing is deleted, and nobody gets a right by a discovery: a role that was taken into the catalogue is given to people
by a mapping, as every other.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from unicodedata import category
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from broker.arns import oidc_provider_arn, saml_provider_arn
from broker.assume.services import borrow_discovery_role
from broker.audit.rules import Kind
from broker.audit.services import Actor, Subject, record
from broker.aws import organizations
from broker.aws.iam import Iam, IamRole
from broker.aws.organizations import OrganisationAccount
from broker.discovery.models import Finding
from broker.discovery.rules import Ourselves, trust_in
from broker.entitlements.drafts import AccountDraft, RoleDraft
from broker.entitlements.models import AwsAccount, AwsRole
from broker.entitlements.services import register_account, register_role
from broker.errors import BadInput

log = logging.getLogger("daypass.discovery")

PURPOSE = "discovery"
State = Finding.State


@dataclass(frozen=True, slots=True)
class Looked:
    """What one look at an account found: how many proposals are new, how much of the catalogue is newly gone."""

    new: int
    gone: int


def look(account: AwsAccount, *, actor: Actor, now: datetime) -> Looked:
    """Read the account's roles, and the organisation's accounts where it may list them.

    Never inside a transaction. Raises AwsError, AwsUnavailable and what `borrow` raises; then nothing is changed.
    """
    credentials = borrow_discovery_role(account, purpose=PURPOSE, now=now)
    # Everything is read before anything is written: half a list would make the other half vanish.
    roles = list(Iam(credentials, partition=account.partition).roles())
    accounts = (
        list(organizations.accounts(credentials, partition=account.partition))
        if account.management
        else None
    )
    with transaction.atomic():
        _one_at_a_time(account, listing=accounts is not None)
        new, gone = _keep_roles(account, roles, now)
        if accounts is not None:
            new_accounts, gone_accounts = _keep_accounts(account, accounts, now)
            new, gone = new + new_accounts, gone + gone_accounts
        record(
            Kind.DISCOVERY_LOOKED,
            actor=actor,
            subject=Subject("account", str(account.pk)),
            data={
                "account": account.name,
                "roles": len(roles),
                "accounts": len(accounts or ()),
                "new": new,
                "gone": gone,
            },
            at=now,
        )
    log.info("looked into AWS", extra={"account": account.account_id, "new": new, "gone": gone})
    return Looked(new, gone)


def _one_at_a_time(account: AwsAccount, *, listing: bool) -> None:
    """The schedule and an administrator may look at once, and two accounts may list one organisation."""
    locked = Q(pk=account.pk) | Q(management=True) if listing else Q(pk=account.pk)
    held = AwsAccount.objects.select_for_update(no_key=True).filter(locked).order_by("pk")
    list(held.values_list("pk"))


def ourselves_in(account: AwsAccount) -> Ourselves:
    return Ourselves(
        account_id=account.account_id,
        issuer=settings.DAYPASS_ISSUER,
        oidc_provider_arn=oidc_provider_arn(
            account.partition, account.account_id, settings.DAYPASS_ISSUER
        ),
        saml_provider_arn=saml_provider_arn(
            account.partition, account.account_id, account.saml_provider_name
        ),
    )


def _keep_roles(account: AwsAccount, roles: Iterable[IamRole], now: datetime) -> tuple[int, int]:
    ourselves = ourselves_in(account)
    there = set()
    found: dict[str, Finding] = {}
    for role in roles:
        there.add(role.arn)
        trust = trust_in(role.trust_policy, role.name, ourselves)
        if trust is None:
            continue
        found[role.arn] = Finding(
            kind=Finding.Kind.ROLE,
            arn=role.arn,
            account_id=account.account_id,
            name=role.name,
            details={
                "trust": trust,
                "path": role.path,
                "max_seconds": role.max_seconds,
                "description": role.description[:200],
            },
        )
    # A federation token is no role in IAM, so IAM cannot list it, and it cannot vanish from there.
    registered = AwsRole.objects.filter(account=account).exclude(
        trust=AwsRole.Trust.FEDERATION_TOKEN
    )
    known = set(registered.values_list("arn", flat=True))
    earlier = Finding.objects.filter(kind=Finding.Kind.ROLE, account_id=account.account_id)
    new = _keep(found, earlier, known, now)
    gone = registered.exclude(arn__in=there).filter(vanished_at=None).update(vanished_at=now)
    registered.filter(arn__in=there).exclude(vanished_at=None).update(vanished_at=None)
    return new, gone


def _keep_accounts(
    lister: AwsAccount, accounts: Iterable[OrganisationAccount], now: datetime
) -> tuple[int, int]:
    found = {
        one.arn: Finding(
            kind=Finding.Kind.ACCOUNT,
            arn=one.arn,
            account_id=one.account_id,
            name=one.name[:200],
            details={
                "listed_by": lister.account_id,
                "partition": lister.partition,
                "region": lister.region,
                "discovery_role": lister.discovery_role,
            },
        )
        for one in accounts
        if one.active
    }
    there = {finding.account_id for finding in found.values()}
    registered = AwsAccount.objects.filter(partition=lister.partition)
    # What it lists now counts too: another account may have listed the same organisation before.
    earlier = Finding.objects.filter(
        Q(details__listed_by=lister.account_id) | Q(arn__in=list(found)),
        kind=Finding.Kind.ACCOUNT,
    )
    # Only what this organisation listed before can vanish from it: other accounts may be of another one.
    listed = set(earlier.values_list("account_id", flat=True))
    known = {
        arn for arn, one in found.items() if registered.filter(account_id=one.account_id).exists()
    }
    new = _keep(found, earlier, known, now)
    missing = registered.filter(account_id__in=listed - there, vanished_at=None)
    gone = missing.update(vanished_at=now)
    registered.filter(account_id__in=there).exclude(vanished_at=None).update(vanished_at=None)
    return new, gone


def _keep(found: Mapping[str, Finding], earlier: Any, known: set[str], now: datetime) -> int:
    """Findings as they are now; how many proposals are new. `known`: ARNs of the catalogue."""
    rows: dict[str, Finding] = {row.arn: row for row in earlier.select_for_update()}
    new = 0
    for arn, finding in found.items():
        row = rows.get(arn)
        state = State.ACCEPTED if arn in known else State.NEW
        if row is None:
            finding.state, finding.first_seen_at, finding.last_seen_at = state, now, now
            finding.save()
            new += state == State.NEW
            continue
        row.name, row.details, row.last_seen_at = finding.name, finding.details, now
        if row.state != State.DISMISSED or arn in known:
            new += state == State.NEW and row.state != State.NEW
            row.state = state
        row.save()
    for arn, row in rows.items():
        if arn not in found and row.state in (State.NEW, State.ACCEPTED):
            row.state = State.VANISHED
            row.save(update_fields=["state"])
    return new


# --- Deciding on proposals


def accept(finding: int, *, actor: Actor, address: str = "") -> AwsAccount | AwsRole:
    """Take a proposal into the catalogue, filled in as AWS shows it. Raises BadInput, FieldErrors."""
    with transaction.atomic():
        row = _waiting(finding)
        if row.kind == Finding.Kind.ACCOUNT:
            made: AwsAccount | AwsRole = register_account(
                AccountDraft(
                    account_id=row.account_id,
                    name=row.name[:100],
                    partition=row.details["partition"],
                    region=row.details["region"],
                    discovery_role=row.details["discovery_role"],
                ),
                actor=actor,
                address=address,
            )
        else:
            made = register_role(
                RoleDraft(
                    arn=row.arn,
                    description=_one_line(row.details["description"]),
                    trust=row.details["trust"],
                    max_seconds=row.details["max_seconds"],
                ),
                actor=actor,
                address=address,
            )
        _decide(row, State.ACCEPTED, actor)
    return made


def _one_line(text: str) -> str:
    """A description as the catalogue has it: IAM takes line breaks, tabs and soft hyphens in one."""
    plain = (
        "" if category(one) == "Cf" else " " if category(one)[0] == "C" else one for one in text
    )
    return " ".join("".join(plain).split())


def dismiss(finding: int, *, actor: Actor, address: str = "") -> None:
    """Set a proposal aside; it is not proposed again. Raises BadInput."""
    with transaction.atomic():
        row = _waiting(finding)
        _decide(row, State.DISMISSED, actor)
        record(
            Kind.DISCOVERY_DISMISSED,
            actor=actor,
            subject=Subject("finding", str(row.pk)),
            data={"label": row.arn},
            address=address,
        )


def _waiting(finding: int) -> Finding:
    row = Finding.objects.select_for_update().filter(pk=finding).first()
    if row is None or row.state not in (State.NEW, State.DISMISSED):
        raise BadInput("This was decided already, or is not there any more.", code="gone")
    return row


def _decide(row: Finding, state: Finding.State, actor: Actor) -> None:
    row.state, row.decided_at = state, timezone.now()
    try:
        row.decided_by_id = UUID(actor.id)
    except ValueError:
        row.decided_by_id = None
    row.save(update_fields=["state", "decided_at", "decided_by"])
