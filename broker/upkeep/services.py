"""The verbs of upkeep: take the due step with the keys, write the published copy, follow up in the accounts."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction

from broker.arns import saml_provider_arn
from broker.assume.services import borrow_discovery_role
from broker.audit.rules import Kind
from broker.audit.services import Actor, Subject, record
from broker.aws import saml_provider
from broker.entitlements.models import AwsAccount
from broker.errors import BadInput, DaypassError
from broker.minting import keys, oidc, saml
from broker.minting.models import SigningKey
from broker.upkeep import places, queries, rules
from broker.upkeep.models import Publication

log = logging.getLogger("daypass.upkeep")

Purpose = SigningKey.Purpose
_TURN = Actor.task("turn_keys")
_COPY = Actor.task("publish_keys")
_FOLLOW = Actor.task("saml_providers")

DISCOVERY_SECONDS = 3600
KEY_SET_SECONDS = 300
_WRITINGS = 3


# --- The keys


def turn_keys(*, now: datetime) -> list[rules.Planned]:
    """Take every step that is due; answers those that were taken. A step that fails is logged and tried again later."""
    taken = []
    for purpose in Purpose:
        for planned in queries.plan(purpose):
            if not planned.due(now):
                continue
            try:
                _take(planned, purpose, now)
                taken.append(planned)
            except DaypassError as error:
                log.error(
                    "a due step with the signing keys failed",
                    extra={
                        "step": planned.deed,
                        "purpose": purpose.value,
                        "code": error.code,
                        "cause": error.cause,
                    },
                )
    return taken


def _take(planned: rules.Planned, purpose: SigningKey.Purpose, now: datetime) -> None:
    match planned.deed:
        case "publish":
            keys.publish_next(purpose, now=now, actor=_TURN)
        case "rotate":
            keys.rotate(purpose, now, _TURN)
        case "remove":
            keys.remove(planned.kid, now=now, actor=_TURN)


def rotate(
    purpose: SigningKey.Purpose, *, now: datetime, actor: Actor, at_once: bool = False
) -> SigningKey:
    """Let the published key sign, by a person's hand.

    Raises BadInput while somebody could not know the key yet: AWS, the published copy, an account with SAML roles.
    at_once: an emergency, in which sign-in fails where it is not known.
    """
    turn = next((p for p in queries.plan(purpose) if p.deed == "rotate"), None)
    if turn is not None and not at_once:
        if turn.obstacles:
            raise BadInput(
                f"Key {turn.kid} cannot sign yet. In the way: {'; '.join(turn.obstacles)}.",
                code="key_not_known",
            )
        if now < turn.at:
            raise BadInput(
                f"Key {turn.kid} has to stay published until {turn.at:%Y-%m-%d %H:%M} UTC before it signs, so that "
                "AWS knows it by then.",
                code="key_published_too_recently",
            )
    return keys.rotate(purpose, now, actor, at_once=at_once)


def revoke(kid: str, *, now: datetime, actor: Actor) -> tuple[SigningKey, list[rules.Chore]]:
    """Take a key out of everything published, at once; answers it and what is to be done in each account now.

    Raises BadInput.
    """
    key = keys.revoke(kid, now=now, actor=actor)
    return key, queries.after_revocation(Purpose(key.purpose), now=now)


# --- The published copy


def publish_copy(*, now: datetime) -> Publication | None:
    """Write the discovery document and the key set where DAYPASS_PUBLISH_TO says; None when it says nothing.

    Always writes, so that what was changed or deleted there is put right. What went wrong is kept, for the admin and
    because no key signs while it stands, and recorded when it is new. Raises DaypassError when it went wrong.
    """
    target = settings.DAYPASS_PUBLISH_TO
    if not target:
        return None
    try:
        where = places.place(target)
        # Before any transaction: this may make the first key.
        key_set = oidc.key_set(now=now)
        for _ in range(_WRITINGS):
            written = key_set
            # The key set first: the discovery document never points to one that is not there.
            for document in documents(written):
                where.put(document)
            # Somebody may have changed a key, and published it, while we wrote the older set over it.
            key_set = oidc.key_set(now=now)
            if key_set == written:
                break
    except DaypassError as error:
        _keep_copy(target, now=now, problem=error.why)
        raise
    return _keep_copy(target, now=now, kids=queries.kids_in(written))


def documents(key_set: dict[str, object]) -> list[places.Document]:
    """The two files of an issuer, as the doors of minting serve them."""
    return [
        places.Document(".well-known/jwks.json", _json(key_set), KEY_SET_SECONDS),
        places.Document(
            ".well-known/openid-configuration",
            _json(oidc.discovery_document()),
            DISCOVERY_SECONDS,
        ),
    ]


def _json(document: dict[str, object]) -> bytes:
    return json.dumps(document).encode()


def _keep_copy(
    target: str, *, now: datetime, kids: Iterable[str] = (), problem: str = ""
) -> Publication:
    with transaction.atomic():
        kept, _ = Publication.objects.select_for_update().get_or_create(target=target)
        before = (kept.problem, set(kept.held))
        kept.tried_at = now
        kept.problem = problem
        if not problem:
            kept.held = {kid: kept.held.get(kid, now.isoformat()) for kid in kids}
            kept.succeeded_at = now
        kept.save()
        if (kept.problem, set(kept.held)) != before:
            record(
                Kind.KEYS_NOT_PUBLISHED if problem else Kind.KEYS_PUBLISHED,
                actor=_COPY,
                subject=Subject("publication", target[:64]),
                data={"target": target, "keys": sorted(kept.held), "problem": problem},
                at=now,
            )
    return kept


# --- The SAML providers of the accounts


def follow_up(account_pk: int, *, now: datetime) -> bool:
    """Bring one account's SAML provider up to date by its discovery role; whether it is now known to be.

    Only metadata of Daypass itself is ever replaced. What went wrong is kept with the account for its page. Never
    inside a transaction. Raises nothing that AWS or the role may cause.
    """
    account = AwsAccount.objects.get(pk=account_pk)
    if not account.discovery_role:
        return False
    try:
        held, updated = _bring_up_to_date(account, now)
    except DaypassError as error:
        AwsAccount.objects.filter(pk=account_pk).update(saml_problem=error.why)
        log.warning(
            "a SAML provider could not be looked after",
            extra={"account": account.account_id, "code": error.code},
        )
        return False
    _know(account, held, now=now, actor=_FOLLOW, updated=updated)
    return True


def _bring_up_to_date(account: AwsAccount, now: datetime) -> tuple[list[str], bool]:
    """The keys that the provider holds now, and whether we changed it."""
    arn = saml_provider_arn(account.partition, account.account_id, account.saml_provider_name)
    credentials = borrow_discovery_role(account, purpose="saml-metadata", now=now)
    held = rules.held_by(saml_provider.metadata(credentials, arn))
    if held.entity_id != settings.DAYPASS_SAML_ENTITY_ID:
        raise BadInput(
            f"The SAML provider {arn} holds the metadata of {held.entity_id or 'nobody'}, not of Daypass. "
            "It was left alone."
        )
    wanted = frozenset(key.certificate for key in keys.published_keys(Purpose.SAML))
    updated = held.certificates != wanted
    if updated:
        saml_provider.replace(credentials, arn, saml.metadata(now=now).decode())
        held = rules.held_by(saml_provider.metadata(credentials, arn))
    return queries.kids_of(held.certificates), updated


def note_uploaded(account_pk: int, *, now: datetime, actor: Actor, address: str = "") -> AwsAccount:
    """Believe a person who says that the account's SAML provider holds today's metadata."""
    account = AwsAccount.objects.get(pk=account_pk)
    held = [key.kid for key in keys.published_keys(Purpose.SAML)]
    _know(account, held, now=now, actor=actor, updated=True, address=address)
    account.refresh_from_db()
    return account


def _know(
    account: AwsAccount,
    held: list[str],
    *,
    now: datetime,
    actor: Actor,
    updated: bool,
    address: str = "",
) -> None:
    with transaction.atomic():
        AwsAccount.objects.filter(pk=account.pk).update(
            saml_kids=sorted(held), saml_checked_at=now, saml_problem=""
        )
        if updated or sorted(held) != sorted(account.saml_kids):
            record(
                Kind.ACCOUNT_SAML_KEYS,
                actor=actor,
                subject=Subject("aws_account", str(account.pk)),
                data={
                    "account": account.account_id,
                    "before": sorted(account.saml_kids),
                    "after": sorted(held),
                    "metadata_uploaded": updated,
                },
                address=address,
                at=now,
            )


CHECKED_AGAIN = timedelta(hours=12)


def to_follow_up(*, now: datetime) -> list[int]:
    """The accounts whose turn it is: those behind, and others twice a day."""
    return [
        standing.account.pk
        for standing in queries.standings()
        if standing.account.discovery_role
        and (
            standing.behind
            or standing.surplus
            or standing.account.saml_checked_at is None
            or now - standing.account.saml_checked_at >= CHECKED_AGAIN
        )
    ]
