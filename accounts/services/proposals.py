"""What a refresh found new about a provider and an administrator decides: shown, then believed or dismissed."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from accounts import oidc, outbound, saml
from accounts.models import IdentityProvider, Person, Protocol, ProviderProposal
from accounts.pinning import Key, Trust, difference, digest, jwk_keys
from accounts.services.common import By, announce_changed, news
from accounts.services.keys import fingerprint
from accounts.services.trust import facts_of, keys_in_words, set_trust, trust_of
from broker.errors import BadInput

State = ProviderProposal.State


def propose(
    provider: IdentityProvider, believed: Trust, waiting: Trust | None, *, now: datetime
) -> ProviderProposal | None:
    """Keep what waits as the one open proposal of a provider, whose row the caller holds locked.

    The same again stays as it is; something else takes its place; what an administrator dismissed is not brought up
    again until the provider says something new.
    """
    standing = provider.proposals.filter(state=State.OPEN).first()
    if waiting is None:
        if standing is not None:
            supersede(provider, now=now)
            news("proposal_withdrawn", provider, {"proposal": str(standing.pk)}, now)
        return None
    content = {"protocol": provider.protocol, **difference(believed, waiting)}
    mark = digest(provider.pk, content)
    if standing is not None and standing.digest == mark:
        return standing
    last = provider.proposals.order_by("-found_at").first()
    if last is not None and last.state == State.DISMISSED and last.digest == mark:
        return None
    supersede(provider, now=now)
    made = ProviderProposal.objects.create(
        provider=provider, content=content, digest=mark, found_at=now
    )
    news(
        "proposed",
        provider,
        {"proposal": str(made.pk), "digest": mark, "changes": in_words(content)},
        now,
    )
    return made


def supersede(provider: IdentityProvider, *, now: datetime) -> None:
    """Close the open proposal, if there is one: it is about a state that is no more."""
    provider.proposals.filter(state=State.OPEN).update(state=State.SUPERSEDED, decided_at=now)


def accept_proposal(
    proposal: ProviderProposal, digest: str, by: By, now: datetime
) -> IdentityProvider:
    """Believe exactly what was shown: the content with this digest, while it is open and still fits the provider.

    A token endpoint that changes forgets the client secret, which was given for the old one (threats.md R44). Raises
    BadInput when it was decided before, is not what was shown, or the provider has changed since.
    """
    with transaction.atomic():
        provider, current = _take(proposal, digest)
        before = facts_of(provider)
        now_believed = trust_of(provider)
        fits = _fits(now_believed, current.content)
        if fits:
            trust = _checked(provider, _after(now_believed, current.content))
            provider.refresh_due_at = now  # so that an address that is believed now is looked at
            fields = (*set_trust(provider, trust), "refresh_due_at")
            if forgets_secret(current.content):
                provider.client_secret_sealed = ""
                fields = (*fields, "client_secret_sealed")
            provider.save(update_fields=fields)
        _close(current, State.ACCEPTED if fits else State.SUPERSEDED, by, now)
        if fits:
            announce_changed(
                "provider",
                provider.pk,
                provider.name,
                before=before,
                after={**facts_of(provider), "accepted_proposal": current.digest},
                by=by,
                now=now,
            )
    if not fits:
        raise BadInput("The provider has changed since this was found. Refresh it and look again.")
    return provider


def dismiss_proposal(proposal: ProviderProposal, digest: str, by: By, now: datetime) -> None:
    """Do not believe what was shown, and do not ask again until the provider says something else.

    Raises BadInput when it was decided before or is not what was shown.
    """
    with transaction.atomic():
        provider, current = _take(proposal, digest)
        _close(current, State.DISMISSED, by, now)
        details = {
            "proposal": str(current.pk),
            "digest": current.digest,
            "changes": in_words(current.content),
        }
        news("proposal_dismissed", provider, details, now, by=by)


def forgets_secret(content: Mapping[str, Any]) -> bool:
    """Whether believing this makes the client secret useless: it is sealed for one token endpoint."""
    return "token_endpoint" in content.get("facts", {})


def in_words(content: Mapping[str, Any]) -> dict[str, Any]:
    """What is proposed, for the audit log: addresses as they are, keys by their fingerprints."""
    changes = dict(content.get("facts", {}))
    keys = content.get("keys")
    if keys and content.get("protocol") == Protocol.SAML:
        changes["certificates"] = {w: [fingerprint(pem) for pem in keys[w]] for w in keys}
    elif keys:
        changes["keys"] = {w: keys_in_words(keys[w]) for w in keys}
    return changes


def _take(proposal: ProviderProposal, shown: str) -> tuple[IdentityProvider, ProviderProposal]:
    """Provider and proposal, locked in the order in which a refresh locks them."""
    rows = IdentityProvider.objects.select_for_update(of=("self",))
    provider = rows.get(pk=proposal.provider_id)
    current = ProviderProposal.objects.select_for_update(of=("self",)).get(pk=proposal.pk)
    if current.state != State.OPEN:
        raise BadInput(
            f"This does not wait any more: it is {current.get_state_display()}.",
            code="proposal_decided",
        )
    genuine = digest(provider.pk, current.content)
    if not hmac.compare_digest(genuine, current.digest) or not hmac.compare_digest(
        genuine.encode(), shown.encode("utf-8", "replace")
    ):
        raise BadInput(
            "What waits is not what you were shown. Look at it again.", code="proposal_changed"
        )
    return provider, current


def _close(
    proposal: ProviderProposal, state: ProviderProposal.State, by: By, now: datetime
) -> None:
    proposal.state, proposal.decided_at = state, now
    proposal.decided_by = _person(by)
    proposal.save(update_fields=["state", "decided_at", "decided_by"])


def _person(by: By) -> Person | None:
    try:
        return Person.objects.filter(pk=UUID(by.id)).first()
    except ValueError:
        return None


def _keys(protocol: str, materials: Any) -> tuple[Key, ...]:
    if protocol == Protocol.SAML:
        return tuple(Key(fingerprint(pem), pem) for pem in materials)
    return jwk_keys(materials)


def _fits(believed: Trust, content: Mapping[str, Any]) -> bool:
    """Whether the provider is still as it was when this was proposed."""
    keys = content.get("keys")
    if keys and {key.id for key in _keys(content["protocol"], keys["before"])} != believed.ids:
        return False
    return all(
        believed.facts.get(name) == change["before"] for name, change in content["facts"].items()
    )


def _after(believed: Trust, content: Mapping[str, Any]) -> Trust:
    keys = content.get("keys")
    facts = {**believed.facts, **{n: change["after"] for n, change in content["facts"].items()}}
    return Trust(
        _keys(content["protocol"], keys["after"]) if keys else believed.keys,
        {name: value for name, value in facts.items() if value not in (None, "")},
    )


def _checked(provider: IdentityProvider, trust: Trust) -> Trust:
    """Everything once more as if it had just arrived: the checks may have become stricter. Raises BadInput."""
    if provider.protocol == Protocol.SAML:
        for name in ("sso_url", "slo_url"):
            if trust.facts.get(name):
                outbound.check_url(trust.facts[name], "An address of the provider")
        for key in trust.keys:
            saml.read_certificate(key.material)
        if not trust.keys or not trust.facts.get("sso_url"):
            raise BadInput("A provider needs a certificate and a sign-on address.")
        return trust
    oidc.check_discovery({"issuer": provider.issuer, **trust.facts}, provider.issuer)
    kept = oidc.check_keys({"keys": [key.material for key in trust.keys]})
    return Trust(jwk_keys(kept["keys"]), trust.facts)
