"""The spine: from a person's wish to credentials. Read this file first.

1. authorise: one frozen snapshot -> decide() -> the verdict is recorded, with every reason.
2. plan: Allowed -> a pending session row with its unique name. `begin` does both in one transaction and commits.
3. obtain: outside any transaction, sign a token where the role trusts us, and one call to STS.
4. In one last transaction: the person is looked at again, the row becomes active or failed, and what is handed over
   is recorded.
5. Only then are there credentials for the caller. No audit row, no credential.

A refusal is a value (Refused), a failure an exception of broker.errors.
"""

from __future__ import annotations

import logging
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, assert_never
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from accounts.identity import Principal
from accounts.models import Person
from accounts.services import relayed_assertion, relayed_token
from broker.assume import rules
from broker.assume.rules import Loan, Plan
from broker.audit.rules import Kind
from broker.audit.services import Actor, Entry, Subject, record
from broker.aws import clock, sts
from broker.aws.credentials import Credentials
from broker.entitlements.models import AwsAccount
from broker.entitlements.queries import load_snapshot
from broker.entitlements.rules import (
    Allowed,
    Ask,
    Decision,
    NextStep,
    Reason,
    Refused,
    RoleFacts,
    decide,
)
from broker.errors import AwsError, DaypassError
from broker.minting import oidc, saml
from broker.minting.tokens import MintedToken
from broker.prepared import Prepared
from broker.sessions import services as sessions

log = logging.getLogger("daypass.assume")


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session whose pending row is committed: the only thing that credentials can be obtained for."""

    id: UUID
    plan: Plan
    principal: Principal
    client: str


@dataclass(frozen=True, slots=True)
class Issued:
    """Credentials, recorded as issued. expires_at is AWS's."""

    session_id: UUID
    credentials: Credentials
    role: RoleFacts
    expires_at: datetime
    session_name: str
    seconds: int
    chained: bool


@dataclass(frozen=True, slots=True)
class Vouched:
    """A SAML response for the browser to post to AWS, recorded as issued. AWS makes the credentials in the browser."""

    session_id: UUID
    response: MintedToken
    role: RoleFacts
    expires_at: datetime
    session_name: str


def issue(
    principal: Principal,
    ask: Ask,
    *,
    now: datetime,
    client: str = "",
    also: Sequence[Entry] = (),
) -> Issued | Refused:
    """The whole way. Raises AwsError and its kin when AWS refuses or fails; the session row says so as well."""
    opened = begin(principal, ask, now, client=client)
    if isinstance(opened, Refused):
        return opened
    return obtain(opened, also=also)


def begin(
    principal: Principal, ask: Ask, now: datetime, *, client: str = ""
) -> OpenSession | Refused:
    """Authorise and plan in one transaction: verdict and pending row stand or fall together, and are committed."""
    session_id = uuid.uuid4()
    with transaction.atomic(durable=True):
        decision = authorise(principal, ask, now, client=client, session_id=session_id)
        if isinstance(decision, Refused):
            return decision
        return plan(principal, decision, client=client, session_id=session_id)


def authorise(
    principal: Principal,
    ask: Ask,
    now: datetime,
    *,
    client: str = "",
    session_id: UUID | None = None,
) -> Decision:
    """May they? The verdict is recorded with every reason, whichever it is.

    The person's row is locked and read again, so that somebody who was switched off a moment ago is refused
    (threats.md R10). session_id: of the session that will follow, to tie the two together.
    """
    with transaction.atomic(savepoint=False):
        problem = _no_longer_valid(principal)
        snapshot = load_snapshot(principal, ask.role_id)
        if problem is not None:
            decision: Decision = problem
        elif snapshot is None:
            decision = _refusal(
                "no_such_role", "There is no such role.", NextStep.ASK_ADMINISTRATOR
            )
        else:
            decision = decide(principal, ask, snapshot, now)
        role = snapshot.role if snapshot else None
        record(
            Kind.ROLE_AUTHORISED if isinstance(decision, Allowed) else Kind.ROLE_REFUSED,
            actor=_actor(principal),
            subject=Subject("role", str(ask.role_id)),
            data=_verdict(principal, ask, decision, role, client, session_id),
            address=principal.address,
            at=now,
        )
    return decision


def plan(
    principal: Principal,
    allowed: Allowed,
    *,
    client: str = "",
    session_id: UUID | None = None,
) -> OpenSession:
    """Decide every parameter and write the pending row. Raises Unplannable.

    Called by itself it commits; inside `begin` it is committed together with the verdict.
    """
    planned = rules.make_plan(principal, allowed, suffix=_suffix())
    opened = OpenSession(session_id or uuid.uuid4(), planned, principal, client)
    with transaction.atomic(savepoint=False):
        sessions.open_session(
            sessions.Opening(
                person_id=principal.person_id,
                role_id=planned.role.id,
                mapping_id=planned.mapping_id,
                hand_over=planned.hand_over,
                session_name=planned.session_name,
                source_identity=planned.source_identity,
                seconds=planned.seconds,
                address=principal.address,
                client=client,
            ),
            session_id=opened.id,
        )
    return opened


def obtain(opened: OpenSession, *, also: Sequence[Entry] = ()) -> Issued | Refused:
    """One call to STS for a committed pending row, outside any transaction, and the record of how it went.

    `also`: what is recorded in the same transaction as the issue, such as the hand-over that is about to happen.
    Refused when the person lost their access while AWS was being asked: then the credentials are thrown away.
    Raises AwsError, AwsUnavailable, KeyUnavailable (the row is failed then), SessionOver, AuditBroken.
    """
    try:
        answer = _ask_sts(opened.plan, opened.principal)
    except DaypassError as error:
        _fail(opened, error)
        raise
    kept = sessions.Answer(
        access_key_id=answer.credentials.access_key_id,
        expires_at=answer.credentials.expires_at,
        assumed_role_arn=answer.assumed_role_arn,
        packed_policy_size=answer.packed_policy_size,
    )
    refused = _commit(opened, kept, also)
    if refused is not None:
        return refused
    return Issued(
        session_id=opened.id,
        credentials=answer.credentials,
        role=opened.plan.role,
        expires_at=answer.credentials.expires_at,
        session_name=opened.plan.session_name,
        seconds=opened.plan.seconds,
        chained=opened.plan.chained,
    )


def vouch(
    opened: OpenSession, *, recipient: str = "", also: Sequence[Entry] = ()
) -> Vouched | Refused:
    """Sign a SAML response for the browser to take to AWS itself; for roles whose console is the SAML form.

    Daypass never sees these credentials: the row becomes active without an access key id, until the end that the
    assertion asks for. recipient: the address that the browser will post it to; "": the planned one. Raises as
    `obtain`.
    """
    try:
        clock.check()
        response = _saml_response(
            replace(opened.plan, recipient=recipient or opened.plan.recipient)
        )
    except DaypassError as error:
        _fail(opened, error)
        raise
    expires_at = timezone.now() + timedelta(seconds=opened.plan.seconds)
    kept = sessions.Answer(
        access_key_id="", expires_at=expires_at, assumed_role_arn=opened.plan.expected_arn
    )
    refused = _commit(opened, kept, also)
    if refused is not None:
        return refused
    return Vouched(opened.id, response, opened.plan.role, expires_at, opened.plan.session_name)


def borrow(
    *,
    account_id: str,
    partition: str,
    region: str,
    role_name: str,
    purpose: str,
    now: datetime,
    second_region: str = "",
) -> Credentials:
    """Credentials for Daypass itself, for fifteen minutes, recorded before they are returned.

    Obtained like anybody else's: a token of Daypass's own signature, for this one role, and never in another way when
    that fails. Its subject is `role/{account}/{role}/task/{purpose}`, so the role's trust policy has to name tasks.
    role_name: with its path, if it has one. purpose: a word, such as "discovery". second_region: who is asked when the
    first does not answer; "": the partition's choice. Never inside a transaction.
    Raises AwsError, AwsUnavailable, KeyUnavailable, BadInput, Unplannable, AuditBroken.
    """
    with transaction.atomic(durable=True):
        pass  # inside a transaction this fails before AWS is asked, and not with the credentials in hand
    loan = rules.make_loan(
        account_id=account_id,
        partition=partition,
        region=region,
        role_name=role_name,
        purpose=purpose,
        suffix=_suffix(),
    )
    call = sts.RoleCall(
        role_arn=str(loan.role),
        partition=partition,
        region=region,
        session_name=loan.session_name,
        seconds=rules.SHORTEST,
        second_region=second_region,
    )
    try:
        answer = sts.with_web_identity(
            call, lambda: _task_token(loan).reveal(), issuer=settings.DAYPASS_ISSUER
        )
    except DaypassError as error:
        log.warning("role not borrowed", extra={"purpose": purpose, "code": error.code})
        raise
    with transaction.atomic(durable=True):
        record(
            Kind.ROLE_BORROWED,
            actor=Actor.task(purpose),
            subject=Subject("aws_account", account_id),
            data={
                "role": str(loan.role),
                "session_name": loan.session_name,
                "source_identity": loan.source_identity,
                "seconds": rules.SHORTEST,
                "access_key_id": answer.credentials.access_key_id,
                "expires_at": answer.credentials.expires_at.isoformat(),
            },
            at=now,
        )
    return answer.credentials


def borrow_discovery_role(account: AwsAccount, *, purpose: str, now: datetime) -> Credentials:
    """`borrow` the account's discovery role, in the account's regions. Raises what `borrow` raises."""
    return borrow(
        account_id=account.account_id,
        partition=account.partition,
        region=account.region,
        second_region=account.second_region,
        role_name=account.discovery_role,
        purpose=purpose,
        now=now,
    )


def abandon(opened: OpenSession, error: DaypassError) -> None:
    """Give up a pending session before AWS was asked."""
    _fail(opened, error)


# --- Asking AWS


def _ask_sts(planned: Plan, principal: Principal) -> sts.StsAnswer:
    call = sts.RoleCall(
        role_arn=planned.role.arn,
        partition=planned.role.partition,
        region=planned.region,
        session_name=planned.session_name,
        seconds=planned.seconds,
        session_policy=planned.session_policy,
        policy_arns=planned.policy_arns,
        second_region=planned.role.second_region,
    )
    match planned.trust:
        case "web_identity":
            return sts.with_web_identity(
                call,
                lambda: _web_identity_token(planned).reveal(),
                issuer=settings.DAYPASS_ISSUER,
                tag_keys=tuple(planned.session_tags),
            )
        case "saml":
            return sts.with_saml(
                call,
                lambda: _saml_response(planned).reveal(),
                provider_arn=planned.saml_provider_arn,
                tag_keys=tuple(planned.session_tags),
            )
        case "assume_role":
            return sts.assume_role(
                call,
                source_identity=planned.source_identity,
                external_id=planned.role.external_id,
                session_tags=planned.session_tags,
                transitive_tag_keys=planned.transitive_tag_keys,
            )
        case "relayed_token":
            return _relayed_token(call, planned, principal)
        case "relayed_assertion":
            return _relayed_assertion(call, planned, principal)
        case "federation_token":
            return sts.federation_token(call, session_tags=planned.session_tags)
        case _:
            assert_never(planned.trust)


@sensitive_variables()
def _relayed_token(call: sts.RoleCall, planned: Plan, principal: Principal) -> sts.StsAnswer:
    """With the ID token of this very sign-in, fetched now, and gone from here when AWS has answered."""
    assert planned.role.relay_provider_id is not None  # decide() refuses a role without
    relayed = relayed_token(principal, planned.role.relay_provider_id, now=timezone.now())
    return sts.with_web_identity(
        call,
        relayed.reveal,
        issuer=relayed.issuer,
        source_identity=False,
        relayed_for=relayed.audience,
    )


@sensitive_variables()
def _relayed_assertion(call: sts.RoleCall, planned: Plan, principal: Principal) -> sts.StsAnswer:
    """With the response that this very browser session brought, as it was posted."""
    assert planned.role.relay_provider_id is not None  # decide() refuses a role without
    relayed = relayed_assertion(
        principal, planned.role.relay_provider_id, planned.role.arn, now=timezone.now()
    )
    return sts.with_saml(
        call,
        relayed.reveal,
        provider_arn=relayed.provider_arn,
        source_identity=False,
        relayed_from=relayed.issuer,
    )


def _web_identity_token(planned: Plan) -> MintedToken:
    claims = oidc.WebIdentityClaims(
        subject=planned.subject,
        role_arn=planned.role.arn,
        source_identity=planned.source_identity,
        session_tags=planned.session_tags,
        transitive_tag_keys=planned.transitive_tag_keys,
        mfa=planned.mfa,
    )
    return oidc.mint_web_identity_token(claims, now=timezone.now())


def _task_token(loan: Loan) -> MintedToken:
    claims = oidc.WebIdentityClaims(
        subject=loan.purpose,
        role_arn=str(loan.role),
        source_identity=loan.source_identity,
        bearer="task",
    )
    return oidc.mint_web_identity_token(claims, now=timezone.now())


def _saml_response(planned: Plan) -> MintedToken:
    claims = saml.AssertionClaims(
        role_arn=planned.role.arn,
        saml_provider_arn=planned.saml_provider_arn,
        session_name=planned.session_name,
        source_identity=planned.source_identity,
        session_tags=planned.session_tags,
        transitive_tag_keys=planned.transitive_tag_keys,
        session_seconds=planned.seconds,
        subject=planned.subject,
        recipient=planned.recipient,
        audience=planned.audience,
    )
    return saml.mint_saml_response(claims, now=timezone.now())


# --- Recording how it went


def _commit(opened: OpenSession, answer: sessions.Answer, also: Sequence[Entry]) -> Refused | None:
    """The last transaction: look at the person again, then active and recorded, or failed and Refused."""
    with transaction.atomic(durable=True):
        problem = _no_longer_valid(opened.principal)
        if problem is None:
            sessions.activate(opened.id, answer, _about(opened), also=also)
        else:
            sessions.fail(opened.id, _about(opened), code=problem.code, cause=problem.sentence)
    return problem


def _fail(opened: OpenSession, error: DaypassError) -> None:
    code = error.aws_code if isinstance(error, AwsError) and error.aws_code else error.code
    with transaction.atomic(durable=True):
        sessions.fail(
            opened.id,
            _about(opened),
            code=code,
            cause=error.cause or error.message,
            remedy=error.remedy,
        )
    log.warning(
        "session failed",
        extra={"session": str(opened.id), "code": error.code, "aws_code": code},
    )


_lock_person = Prepared(
    lambda id: (
        Person.objects.select_for_update(no_key=True, of=("self",))
        .filter(pk=id)
        .order_by()
        .values_list("is_active", "epoch", "provider__enabled")
    )
)


def _no_longer_valid(principal: Principal) -> Refused | None:
    """Lock the person's row and see whether they still are who the principal says: active, and of the same epoch.

    And whether who vouched for them is still believed; the break-glass account has no provider, and no role.
    """
    rows = _lock_person(id=principal.person_id)
    if not rows or not rows[0][0]:
        return _refusal(
            "person_inactive",
            "Your account in Daypass is switched off.",
            NextStep.ASK_ADMINISTRATOR,
        )
    if rows[0][1] != principal.epoch:
        return _refusal(
            "access_ended",
            "Your access was ended or changed while you asked. Sign in again.",
            NextStep.SIGN_IN_AGAIN,
        )
    if rows[0][2] is False:
        return _refusal(
            "provider_off",
            "Sign-in with your identity provider is switched off in Daypass.",
            NextStep.ASK_ADMINISTRATOR,
        )
    return None


def _refusal(code: str, sentence: str, step: NextStep) -> Refused:
    return Refused(
        code=code,
        sentence=sentence,
        next_step=step,
        visible=False,
        reasons=(Reason(code, sentence, counts=False),),
    )


def _actor(principal: Principal) -> Actor:
    return Actor(id=str(principal.person_id), name=principal.handle)


def _about(opened: OpenSession) -> sessions.About:
    planned = opened.plan
    return sessions.About(
        actor=_actor(opened.principal),
        address=opened.principal.address,
        data={
            "role": planned.role.arn,
            "account": planned.role.account_name,
            "trust": planned.trust,
            "hand_over": planned.hand_over,
            "session_name": planned.session_name,
            "source_identity": planned.source_identity,
            "seconds": planned.seconds,
            "mapping_id": str(planned.mapping_id or ""),
        },
    )


def _verdict(
    principal: Principal,
    ask: Ask,
    decision: Decision,
    role: RoleFacts | None,
    client: str,
    session_id: UUID | None,
) -> dict[str, Any]:
    proof = principal.proof
    data: dict[str, Any] = {
        "role": role.arn if role else "",
        "account": role.account_name if role else "",
        "hand_over": ask.hand_over,
        "asked_seconds": ask.seconds,
        "door": ask.door,
        "terminal": str(ask.terminal or ""),
        "client": client[:200],
        "proof": {
            "provider": proof.provider_name,
            "method": proof.method,
            "at": proof.at.isoformat(),
            "mfa": proof.mfa,
        },
        "reasons": [
            {
                "code": str(reason.code),
                "sentence": reason.sentence,
                "counts": reason.counts,
                "rule": reason.rule_id,
            }
            for reason in decision.reasons
        ],
    }
    if isinstance(decision, Allowed):
        data["mapping_id"] = str(decision.mapping_id or "")
        data["seconds"] = decision.seconds
        data["session_id"] = str(session_id) if session_id else ""
    else:
        data["code"] = str(decision.code)
    return data


def _suffix() -> str:
    return "".join(secrets.choice(rules.SUFFIX_LETTERS) for _ in range(rules.SUFFIX_LENGTH))
