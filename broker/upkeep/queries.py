"""What upkeep reads: the plan of each purpose, the copy, and how each account stands."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from django.conf import settings
from django.db.models import Q, QuerySet

from broker.arns import oidc_provider_arn
from broker.entitlements.models import AwsAccount, AwsRole
from broker.minting import keys
from broker.minting.models import SigningKey
from broker.upkeep import rules
from broker.upkeep.models import Publication

Purpose = SigningKey.Purpose
State = SigningKey.State


def plan(purpose: SigningKey.Purpose) -> tuple[rules.Planned, ...]:
    """Everything that comes next for the keys of one purpose, soonest first."""
    return rules.plan(situation(purpose))


def situation(purpose: SigningKey.Purpose) -> rules.Situation:
    rows = list(SigningKey.objects.filter(purpose=purpose).exclude(state__in=keys.NOT_PUBLISHED))
    held: Mapping[str, str] = {}
    problem = ""
    copied = purpose == Purpose.OIDC and bool(settings.DAYPASS_PUBLISH_TO)
    if copied:
        publication = copy_now()
        if publication is not None:
            held, problem = publication.held, publication.problem
    waiting = next((row.kid for row in rows if row.state == State.PUBLISHED), "")
    behind: tuple[str, ...] = ()
    if purpose == Purpose.SAML and waiting:
        behind = tuple(
            str(account)
            for account in accounts_with_saml_roles()
            if waiting not in account.saml_kids
        )
    no_next = ""
    if keys.in_kms(purpose) and not keys.unused_kms_keys(purpose):
        no_next = (
            "a key in AWS KMS has to be created for it first, and its ARN added to DAYPASS_KMS_KEYS "
            f"(or brought in with manage.py signing_keys adopt {purpose.value} ARN)"
        )
    return rules.Situation(
        keys=tuple(_facts(row, held) for row in rows),
        every=rotation(purpose),
        lead=rules.SAML_LEAD if purpose == Purpose.SAML else rules.OVERLAP,
        copy=copied,
        copy_problem=problem,
        behind=behind,
        no_next=no_next,
    )


def rotation(purpose: SigningKey.Purpose) -> timedelta | None:
    """How long a key of this purpose signs; None when only people change it."""
    days: int = (
        settings.DAYPASS_SAML_KEY_ROTATION_DAYS
        if purpose == Purpose.SAML
        else settings.DAYPASS_KEY_ROTATION_DAYS
    )
    return timedelta(days=days) if days else None


def _facts(row: SigningKey, held: Mapping[str, str]) -> rules.KeyFacts:
    copied = held.get(row.kid)
    return rules.KeyFacts(
        kid=row.kid,
        state=cast(Any, row.state),
        created_at=row.created_at,
        signing_since=row.signing_since,
        retired_at=row.retired_at,
        expires_at=row.expires_at,
        copied_at=datetime.fromisoformat(copied) if copied else None,
    )


# --- The published copy


def copy_now() -> Publication | None:
    """What is known of the place that DAYPASS_PUBLISH_TO names now; None before the first attempt."""
    return Publication.objects.filter(target=settings.DAYPASS_PUBLISH_TO).first()


def kids_in(key_set: Mapping[str, object]) -> list[str]:
    return [str(key["kid"]) for key in cast(list[dict[str, object]], key_set["keys"])]


# --- The accounts


def accounts_with_saml_roles() -> QuerySet[AwsAccount]:
    """Accounts in use whose people come in by SAML: their providers have to hold our keys."""
    return (
        AwsAccount.objects.filter(
            enabled=True,
            vanished_at=None,
            pk__in=AwsRole.objects.filter(
                trust=AwsRole.Trust.SAML, enabled=True, vanished_at=None
            ).values("account"),
        )
        .order_by("name", "account_id")
        .all()
    )


@dataclass(frozen=True, slots=True)
class Standing:
    """Which keys that sign or will sign an account's SAML provider is not known to hold, and which it holds beyond
    what is published."""

    account: AwsAccount
    behind: tuple[SigningKey, ...]
    surplus: tuple[str, ...]

    @property
    def chore(self) -> rules.Chore | None:
        """What a person does about it; None when there is nothing."""
        if self.behind:
            states = sorted({key.get_state_display().lower() for key in self.behind})
            why = f"Its SAML provider is not known to hold the {' and the '.join(states)} key."
        elif self.surplus:
            why = "Its SAML provider still holds a key that Daypass does not publish any more."
        else:
            return None
        return rules.update_provider(
            partition=self.account.partition,
            account_id=self.account.account_id,
            account=str(self.account),
            provider=self.account.saml_provider_name,
            origin=settings.DAYPASS_ORIGIN,
            why=why,
        )


def standing(account: AwsAccount) -> Standing:
    return _standing(account, _saml_keys())


def standings() -> list[Standing]:
    """How every account with SAML roles stands, by name."""
    published = _saml_keys()
    return [_standing(account, published) for account in accounts_with_saml_roles()]


def _saml_keys() -> list[SigningKey]:
    return list(
        SigningKey.objects.filter(purpose=Purpose.SAML).exclude(state__in=keys.NOT_PUBLISHED)
    )


def _standing(account: AwsAccount, published: list[SigningKey]) -> Standing:
    return Standing(
        account,
        tuple(
            key
            for key in published
            if key.state in (State.SIGNING, State.PUBLISHED) and key.kid not in account.saml_kids
        ),
        tuple(sorted(set(account.saml_kids) - {key.kid for key in published})),
    )


def kids_of(certificates: Iterable[str]) -> list[str]:
    """The key ids of those certificates (base64 of DER) that are of our SAML keys, whatever became of them."""
    wanted = set(certificates)
    rows = SigningKey.objects.filter(purpose=Purpose.SAML).values_list("kid", "certificate")
    return sorted(kid for kid, pem in rows if _body(pem) in wanted)


def _body(pem: str) -> str:
    """A PEM certificate without its first and last line, as metadata carries it."""
    lines = [line.strip() for line in pem.splitlines() if line and not line.startswith("-")]
    return base64.b64encode(base64.b64decode("".join(lines))).decode()


# --- After an emergency


def after_revocation(purpose: SigningKey.Purpose, *, now: datetime) -> list[rules.Chore]:
    """What is to be done in each account once a key was revoked, in this order."""
    chores: list[rules.Chore] = []
    trust = AwsRole.Trust.SAML if purpose == Purpose.SAML else AwsRole.Trust.WEB_IDENTITY
    roles = AwsRole.objects.filter(trust=trust, vanished_at=None).select_related("account")
    trusting = Q(pk__in=roles.values("account"))
    if purpose == Purpose.OIDC:  # by which Daypass itself gets into discovery roles, too
        trusting |= ~Q(discovery_role="")
    accounts = list(AwsAccount.objects.filter(trusting, vanished_at=None))
    for account in accounts:
        if purpose == Purpose.SAML:
            chores.append(
                rules.update_provider(
                    partition=account.partition,
                    account_id=account.account_id,
                    account=str(account),
                    provider=account.saml_provider_name,
                    origin=settings.DAYPASS_ORIGIN,
                    why="Until then AWS takes what the revoked key signs, and may not know the key that signs now.",
                )
            )
        else:
            issuer = settings.DAYPASS_ISSUER
            chores.append(
                rules.forget_issuer(
                    provider_arn=oidc_provider_arn(account.partition, account.account_id, issuer),
                    account=str(account),
                    issuer=issuer,
                    audience=settings.DAYPASS_AUDIENCE,
                )
            )
    open_to_it = [
        (str(role.account), role.name) for role in roles.order_by("account__name", "name")
    ]
    if purpose == Purpose.OIDC:
        open_to_it += [
            (str(account), account.discovery_role.rpartition("/")[2])
            for account in accounts
            if account.discovery_role
        ]
    chores.extend(
        rules.end_sessions(role_name=name, account=account, at=now)
        for account, name in dict.fromkeys(open_to_it)
    )
    return chores
