"""Letting a client in, as the person who does it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction

from accounts.identity import Principal, proof_as_json
from accounts.models import Person
from broker.audit.rules import Kind
from broker.audit.services import record
from broker.awssso import queries, rules
from broker.awssso.models import Terminal
from broker.awssso.services.common import (
    Asker,
    NotAllowed,
    about,
    actor_of,
    allowed,
    network_allowed,
    subject_of,
)


@dataclass(frozen=True, slots=True)
class LetIn:
    """What a person lets in: a client on a computer, and what it may do there.

    asker: the client's, not the person's browser. role_id: the one role that it may ask for. label: the person's own
    word for it. key_thumbprint: of the key that its requests have to be signed with.
    """

    kind: str
    flow: str
    client_name: str
    client_digest: str
    asker: Asker
    role_id: UUID | None = None
    label: str = ""
    key_thumbprint: str = ""


def let_in(
    principal: Principal,
    wish: LetIn,
    *,
    line: str,
    relay: str,
    browser_ends: datetime,
    now: datetime,
) -> Terminal:
    """Let a client in for this person. Recorded. Raises NotAllowed with a sentence for them: also when as many live as
    may (`rules.MOST_LIVE`), because none is ever ended for a new one.

    line, relay, browser_ends: of the browser session they do it in, which the terminal does not outlive.
    """
    if principal.proof.provider_id is None:
        raise NotAllowed(
            "The local account reaches no AWS role, so there is nothing to let in.",
            code="local_account",
        )
    if rules.all_stale(principal.groups, now):
        raise NotAllowed(
            "Your groups were last confirmed too long ago. Sign in to Daypass again first.",
            code="groups_stale",
        )
    policy = queries.policy_of(principal.proof.provider_id)
    allowed(policy, wish.kind, wish.flow)
    if wish.flow == Terminal.Flow.DEVICE:
        for address in (wish.asker.address, principal.address):
            network_allowed(policy, address)
    ends_at = min(browser_ends, now + policy.longest) if policy.longest else browser_ends
    with transaction.atomic():
        person = Person.objects.select_for_update(of=("self",)).get(pk=principal.person_id)
        if (
            not person.is_active
            or person.epoch != principal.epoch
            or person.provider_id != principal.proof.provider_id
            or ends_at <= now
        ):
            raise NotAllowed("Your sign-in is over. Sign in to Daypass again.", code="signed_out")
        if queries.live_count(person.pk, now) >= rules.MOST_LIVE:
            raise NotAllowed(
                f"You have let in {rules.MOST_LIVE} terminals and tokens that are all still good, and there may be no "
                "more. End some of them under Terminal, then try again.",
                code="too_many_terminals",
            )
        terminal = Terminal.objects.create(
            person=person,
            kind=wish.kind,
            flow=wish.flow,
            role_id=wish.role_id,
            label=rules.clean(wish.label, 64),
            client_name=rules.clean(wish.client_name, 100),
            client_digest=wish.client_digest,
            user_agent=rules.clean(wish.asker.user_agent, 200),
            proof=proof_as_json(principal.proof),
            epoch=person.epoch,
            line=line,
            relay=relay,
            key_thumbprint=wish.key_thumbprint,
            asked_from=wish.asker.address or None,
            approved_from=principal.address or None,
            created_at=now,
            ends_at=ends_at,
        )
        record(
            Kind.TERMINAL_LET_IN,
            actor=actor_of(principal),
            subject=subject_of(terminal),
            data=about(terminal) | {"ends_at": ends_at.isoformat()},
            address=principal.address,
            at=now,
        )
    return terminal
