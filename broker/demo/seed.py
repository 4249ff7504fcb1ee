"""Fills the demo through the same services that the admin uses. Running it again changes nothing that is there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from accounts import services as people
from accounts.models import DirectoryGroup, IdentityProvider
from accounts.rules import PRESETS, ClaimMap
from broker.audit.services import Actor
from broker.demo.cast import (
    ACCOUNTS,
    CAST,
    CONTRACTORS,
    DENIES,
    ENVIRONMENTS,
    FLEET_MAPPING,
    MAPPINGS,
    PROVIDERS,
    STAFF,
    STAFF_GROUP,
    CastAccount,
    fleet,
)
from broker.demo.stage import Stage
from broker.entitlements import services as entitlements
from broker.entitlements.drafts import (
    AccountDraft,
    DenyDraft,
    EnvironmentDraft,
    MappingDraft,
    RoleDraft,
)
from broker.entitlements.models import AwsAccount, AwsRole, Deny, Environment, Mapping
from broker.minting import keys

_ACTOR = Actor.task("demo")
_BY = people.By(id=_ACTOR.id, name=_ACTOR.name)


def seed(stage: Stage) -> None:
    """Signing keys, identity providers, accounts, roles and mappings of Northwind."""
    keys.ensure_keys(timezone.now())
    _providers(stage)
    _groups()
    with transaction.atomic():
        _environments()
        roles = _accounts(ACCOUNTS)
        _mappings(roles)
        _denies()


def seed_fleet(*, goes_on: Callable[[], bool]) -> bool:
    """The 2,000 roles of the person who has as many. In steps, so that nobody waits long for the database.

    goes_on: asked between the steps. False when it said no; the next run goes on where this one stopped.
    """
    accounts = fleet()
    slug, key, note = FLEET_MAPPING
    for environment in sorted({account.environment for account in accounts}):
        part = [account for account in accounts if account.environment == environment]
        roles: dict[str, UUID] = {}
        for start in range(0, len(part), 5):
            if not goes_on():
                return False
            with transaction.atomic():
                roles |= _accounts(part[start : start + 5])
            # SQLite lets one write at a time and keeps no queue: make room for whoever waits.
            time.sleep(0.15)
        title = f"{note}: {environment.lower()}"
        if not Mapping.objects.filter(note=title).exists():
            entitlements.create_mapping(
                MappingDraft(group=_group(slug, key).pk, roles=tuple(roles.values()), note=title),
                actor=_ACTOR,
            )
    return True


def _providers(stage: Stage) -> None:
    if not IdentityProvider.objects.filter(slug=STAFF).exists():
        people.create_provider_from_metadata(
            slug=STAFF,
            name=PROVIDERS[STAFF],
            metadata_url=f"{stage.idp}/saml/metadata",
            claim_map=_with_attributes(PRESETS["saml"], department="department", cost="costCentre"),
            enabled=True,
            position=1,
            by=_BY,
        )
    if not IdentityProvider.objects.filter(slug=CONTRACTORS).exists():
        people.create_oidc_provider(
            slug=CONTRACTORS,
            name=PROVIDERS[CONTRACTORS],
            issuer=stage.idp,
            client_id="daypass",
            secret=stage.secrets["DEMO_OIDC_CLIENT_SECRET"],
            scopes=("openid", "profile", "email", "groups"),
            claim_map=_with_attributes(
                PRESETS["oidc"], department="department", cost="cost_centre"
            ),
            enabled=True,
            position=2,
            by=_BY,
        )


def _with_attributes(preset: ClaimMap, *, department: str, cost: str) -> ClaimMap:
    return replace(preset, attributes={"department": (department,), "cost_centre": (cost,)})


def _groups() -> None:
    providers = {provider.slug: provider for provider in IdentityProvider.objects.all()}
    for slug, key in sorted({(person.provider, key) for person in CAST for key in person.groups}):
        if not DirectoryGroup.objects.filter(provider=providers[slug], key=key).exists():
            people.register_group(
                providers[slug], key, confers_staff=(slug, key) == STAFF_GROUP, by=_BY
            )


def _group(slug: str, key: str) -> DirectoryGroup:
    return DirectoryGroup.objects.get(provider__slug=slug, key=key)


def _environments() -> None:
    for position, environment in enumerate(ENVIRONMENTS, start=1):
        if not Environment.objects.filter(name=environment.name).exists():
            entitlements.create_environment(
                EnvironmentDraft(
                    name=environment.name,
                    colour=environment.colour,
                    production=environment.production,
                    position=position,
                ),
                actor=_ACTOR,
            )


def _accounts(accounts: Iterable[CastAccount]) -> dict[str, UUID]:
    """Register what is not there yet. Answers "alias/role name" -> id of the role."""
    environments = {environment.name: environment.pk for environment in Environment.objects.all()}
    answer = {}
    for account in accounts:
        if not AwsAccount.objects.filter(account_id=account.account_id).exists():
            entitlements.register_account(
                AccountDraft(
                    account_id=account.account_id,
                    name=account.name,
                    alias=account.alias,
                    environment=environments[account.environment],
                    region=account.region,
                ),
                actor=_ACTOR,
            )
        for role in account.roles:
            arn = f"arn:aws:iam::{account.account_id}:role{role.path}{role.name}"
            row = AwsRole.objects.filter(arn=arn).first() or entitlements.register_role(
                RoleDraft(
                    arn=arn,
                    description=role.description,
                    trust=role.trust,
                    console=role.console,
                    max_seconds=role.max_seconds,
                    sensitive=role.sensitive,
                ),
                actor=_ACTOR,
            )
            answer[f"{account.alias}/{role.name}"] = row.pk
    return answer


def _mappings(roles: dict[str, UUID]) -> None:
    for mapping in MAPPINGS:
        if Mapping.objects.filter(note=mapping.note).exists():
            continue
        entitlements.create_mapping(
            MappingDraft(
                group=_group(mapping.provider, mapping.group).pk,
                roles=tuple(roles[name] for name in mapping.roles),
                note=mapping.note,
                max_seconds=mapping.max_seconds,
                allow_console=mapping.allow_console,
                allow_keys=mapping.allow_keys,
                require_mfa=mapping.require_mfa,
                max_sign_in_age=mapping.max_sign_in_age,
                session_policy=mapping.session_policy,
                session_tags=dict(mapping.session_tags),
            ),
            actor=_ACTOR,
        )


def _denies() -> None:
    for deny in DENIES:
        if not Deny.objects.filter(reason=deny.reason).exists():
            entitlements.create_deny(
                DenyDraft(
                    reason=deny.reason,
                    group=_group(deny.provider, deny.group).pk,
                    account=AwsAccount.objects.get(alias=deny.account).pk,
                ),
                actor=_ACTOR,
            )
