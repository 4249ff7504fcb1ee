"""Fills the demo through the same services that the admin uses. Running it again changes nothing that is there."""

from __future__ import annotations

from dataclasses import replace

from django.utils import timezone

from accounts import services as accounts
from accounts.models import DirectoryGroup, IdentityProvider
from accounts.rules import PRESETS, ClaimMap
from broker.demo.cast import CAST, CONTRACTORS, PROVIDERS, STAFF, STAFF_GROUP
from broker.demo.stage import Stage
from broker.minting import keys

_BY = accounts.By(id="task:demo", name="demo")


def seed(stage: Stage) -> None:
    """Signing keys, identity providers, accounts, roles and mappings of Northwind."""
    keys.ensure_keys(timezone.now())
    _providers(stage)
    _groups()


def _providers(stage: Stage) -> None:
    if not IdentityProvider.objects.filter(slug=STAFF).exists():
        accounts.create_provider_from_metadata(
            slug=STAFF,
            name=PROVIDERS[STAFF],
            metadata_url=f"{stage.idp}/saml/metadata",
            claim_map=_with_attributes(PRESETS["saml"], department="department", cost="costCentre"),
            enabled=True,
            position=1,
            by=_BY,
        )
    if not IdentityProvider.objects.filter(slug=CONTRACTORS).exists():
        accounts.create_oidc_provider(
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
    for slug, key in {(person.provider, key) for person in CAST for key in person.groups}:
        if not DirectoryGroup.objects.filter(provider=providers[slug], key=key).exists():
            accounts.register_group(
                providers[slug], key, confers_staff=(slug, key) == STAFF_GROUP, by=_BY
            )
