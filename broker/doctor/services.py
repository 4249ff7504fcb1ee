"""The doctor: look, try, read, and keep what follows. Everything that it obtains is dropped here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from broker.arns import PARTITIONS, oidc_provider_arn, saml_provider_arn
from broker.assume import probing
from broker.assume.probing import Door, Opened, Wish
from broker.assume.rules import SHORTEST
from broker.audit.services import Actor
from broker.aws import clock
from broker.doctor import looking
from broker.doctor.models import TrustCheck
from broker.doctor.rules import (
    Attempt,
    Diagnosis,
    Evidence,
    IssuerLook,
    Problem,
    Registered,
    Step,
    diagnose,
)
from broker.entitlements.models import AwsRole, Mapping
from broker.entitlements.rules import LONGEST_CHAINED_SECONDS
from broker.errors import AuditBroken, AwsError, DaypassError
from broker.handover import console
from broker.minting.oidc import subject_claim
from broker.trust.queries import role_trust
from broker.trust.rules import TRUSTS

log = logging.getLogger("daypass.doctor")

MOST_WISHES = 6
"""Different session policies and tags of mappings that are tried for one role."""
SAMPLE = "daypass-check"
"""The value of every session tag in a try."""

_UNTRIED = {
    AwsRole.Trust.RELAYED_TOKEN: "Not tried: only an employee's own ID token of {provider} opens this role, and nobody "
    "can be asked for theirs.",
    AwsRole.Trust.RELAYED_ASSERTION: "Not tried: only the assertion that {provider}'s application for AWS makes for an "
    "employee opens this role, and nobody can be asked for theirs.",
}
_NO_ROLE = (
    "A federation token is no role in IAM: nobody trusts anybody there, and nothing is tried with the rights of the "
    "broker's own user."
)


@dataclass(frozen=True, slots=True)
class Who:
    """On whose behalf it is looked: the administrator, or the task."""

    actor: Actor
    address: str = ""


def check_role(
    role: AwsRole, *, who: Who, now: datetime, issuer: IssuerLook | None = None
) -> TrustCheck:
    """Look at one role, and keep the result in place of the last one. issuer: seen before, to be fetched once a run.

    Never inside a transaction: every try is recorded in its own. Raises AuditBroken; everything else is a result.
    """
    diagnosis = diagnose(gather(role, who=who, now=now, issuer=issuer))
    log.info(
        "role checked",
        extra={"role": role.arn, "outcome": diagnosis.outcome, "code": diagnosis.code},
    )
    return keep(role, diagnosis, now=now)


def keep(role: AwsRole, diagnosis: Diagnosis, *, now: datetime) -> TrustCheck:
    """The result in place of the last one."""
    check, _ = TrustCheck.objects.update_or_create(
        role=role,
        defaults={
            "at": now,
            "outcome": diagnosis.outcome,
            "code": diagnosis.code,
            "cause": diagnosis.cause,
            "remedy": diagnosis.remedy,
            "document": diagnosis.document,
            "steps": [{**asdict(step), "title": step.title} for step in diagnosis.steps],
        },
    )
    return check


def check_roles(
    roles: Iterable[AwsRole], *, who: Who, now: Callable[[], datetime]
) -> Iterator[TrustCheck]:
    """Each of these roles, one after the other; Daypass's documents are fetched once for all. now: the clock."""
    issuer: IssuerLook | None = None
    for role in roles:
        if issuer is None and role.trust == AwsRole.Trust.WEB_IDENTITY:
            issuer = looking.look_at_issuer()
        yield check_role(role, who=who, now=now(), issuer=issuer)


def gather(role: AwsRole, *, who: Who, now: datetime, issuer: IssuerLook | None = None) -> Evidence:
    """See everything that there is to see of one role: try for real, and where that fails read IAM."""
    wishes = _wishes(role)
    registered = registered_of(role, wishes)
    wanted = role_trust(role)
    if role.trust == AwsRole.Trust.FEDERATION_TOKEN:
        return Evidence(registered=registered, wanted=wanted, untried=_NO_ROLE)
    if role.trust in _UNTRIED:
        return Evidence(
            registered=registered,
            wanted=wanted,
            iam=looking.look_at_iam(role, now=now),
            untried=_UNTRIED[AwsRole.Trust(role.trust)].format(provider=role.relay_provider),
        )
    if issuer is None and role.trust == AwsRole.Trust.WEB_IDENTITY:
        issuer = looking.look_at_issuer()
    attempts = tuple(_try_all(role, wishes, who=who, now=now))
    reading = clock.latest()
    failed = any(attempt.problem for attempt in attempts)
    return Evidence(
        registered=registered,
        wanted=wanted,
        attempts=attempts,
        issuer=issuer,
        clock_ahead=reading.ahead if reading else None,
        iam=looking.look_at_iam(role, now=now) if failed else None,
    )


def registered_of(role: AwsRole, wishes: list[tuple[str, Wish]]) -> Registered:
    """What Daypass has registered of a role, as the reasoning needs it."""
    account = role.account
    partition = PARTITIONS[account.partition]
    saml = role.trust == AwsRole.Trust.SAML
    signer = looking.signer_of(role)
    return Registered(
        arn=role.arn,
        account_id=account.account_id,
        partition=account.partition,
        trust=role.trust,
        region=account.region,
        max_seconds=role.max_seconds,
        issuer=signer.issuer,
        audience=signer.audience,
        oidc_provider_arn=oidc_provider_arn(account.partition, account.account_id, signer.issuer),
        saml_provider_arn=saml_provider_arn(
            account.partition, account.account_id, account.saml_provider_name
        ),
        saml_entity_id=signer.entity_id,
        recipient=partition.saml_recipient(account.region),
        external_id=role.external_id or account.external_id,
        subject=probing.SUBJECT if saml else subject_claim(role.role_arn, probing.SUBJECT),
        session_name=probing.NAME,
        source_identity=probing.NAME,
        console=role.console,
        tag_keys=tuple(sorted({key for _, wish in wishes for key in wish.session_tags})),
    )


def _wishes(role: AwsRole) -> list[tuple[str, Wish]]:
    """What mappings that give the role ask for besides it, each once, with the mapping's name."""
    rows = (
        Mapping.objects.filter(links__role=role, enabled=True)
        .select_related("group")
        .order_by("created_at", "id")
    )
    found: dict[tuple[Any, ...], tuple[str, Wish]] = {}
    for row in rows[:500]:
        if not (row.session_policy or row.policy_arns or row.session_tags):
            continue
        key = (row.session_policy, tuple(row.policy_arns), tuple(sorted(row.session_tags)))
        wish = Wish(
            session_policy=row.session_policy,
            policy_arns=tuple(row.policy_arns),
            session_tags=dict.fromkeys(sorted(row.session_tags), SAMPLE),
            transitive_tag_keys=tuple(row.transitive_tag_keys),
        )
        found.setdefault(key, (f"The mapping of {row.group.name}", wish))
    return list(found.values())[:MOST_WISHES]


def door_of(role: AwsRole) -> Door:
    """A role as a try needs to know it. It is one that Daypass signs for itself."""
    account = role.account
    partition = PARTITIONS[account.partition]
    trust = next(known for known in TRUSTS if known == role.trust)
    return Door(
        role_id=str(role.pk),
        role=role.role_arn,
        trust=trust,
        region=account.region,
        second_region=account.second_region,
        external_id=role.external_id or account.external_id,
        saml_provider_arn=saml_provider_arn(
            account.partition, account.account_id, account.saml_provider_name
        ),
        recipient=partition.saml_recipient(account.region),
        audience=partition.saml_audience,
    )


def _try_all(
    role: AwsRole, wishes: list[tuple[str, Wish]], *, who: Who, now: datetime
) -> Iterator[Attempt]:
    """The plain way in; then, each only when it worked, what mappings add, the longest session, and the console."""
    door = door_of(role)

    def attempt(step: Step, wish: Wish, what: str = "") -> tuple[Attempt, Opened | None]:
        opened, problem = None, None
        try:
            opened = probing.probe(door, wish, actor=who.actor, address=who.address, now=now)
        except AuditBroken:
            raise  # what cannot be recorded is not done
        except DaypassError as error:
            problem = problem_of(error)
        return Attempt(
            step=step,
            problem=problem,
            what=what,
            seconds=wish.seconds,
            tag_keys=tuple(wish.session_tags),
            packed_percent=opened.packed_percent if opened else None,
        ), opened

    entry, opened = attempt(Step.TRUST, Wish())
    yield entry
    if opened is None:
        return
    for what, wish in wishes:
        made, _ = attempt(Step.POLICY, wish, what)
        yield made
    chained = role.trust == AwsRole.Trust.ASSUME_ROLE
    if role.max_seconds > LONGEST_CHAINED_SECONDS and not chained:
        made, _ = attempt(Step.DURATION, Wish(seconds=role.max_seconds))
        yield made
    if role.console == AwsRole.Console.FEDERATION:
        yield _try_console(role, opened, chained=chained)


def _try_console(role: AwsRole, opened: Opened, *, chained: bool) -> Attempt:
    problem = None
    try:
        console.try_console(
            opened.credentials,
            partition=role.account.partition,
            region=role.account.region,
            second_region=role.account.second_region,
            role_arn=role.arn,
            seconds=0 if chained or role.max_seconds <= SHORTEST else SHORTEST,
        )
    except DaypassError as error:
        problem = problem_of(error)
    return Attempt(step=Step.CONSOLE, problem=problem)


def problem_of(error: DaypassError) -> Problem:
    """A failure as the reasoning takes it."""
    return Problem(
        code=error.code,
        aws_code=error.aws_code if isinstance(error, AwsError) else "",
        cause=error.cause or error.message,
        remedy=error.remedy,
        passing=error.retry,
    )
