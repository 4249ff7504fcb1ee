"""What accounts announces, as audit events. Subscribed in broker/apps.py; each runs in the announcer's transaction."""

from __future__ import annotations

from accounts import events
from broker.audit.rules import Kind
from broker.audit.services import NOBODY, Actor, Subject, record
from broker.awssso.services import end_lines


def signed_in(event: events.SignedIn) -> None:
    actor = Actor(id=str(event.person_id), name=event.handle)
    if event.created:
        record(
            Kind.PERSON_CREATED,
            actor=actor,
            subject=Subject("person", str(event.person_id)),
            data={"handle": event.handle, "provider": event.provider},
            address=event.address,
            at=event.at,
        )
    record(
        Kind.SIGN_IN_ACCEPTED,
        actor=actor,
        subject=Subject("person", str(event.person_id)),
        data={
            "provider_id": str(event.provider_id or ""),
            "provider": event.provider,
            "method": event.method,
            "mfa": event.mfa,
            "groups": list(event.groups),
            "evidence": dict(event.evidence),
        },
        address=event.address,
        at=event.at,
    )


def sign_in_refused(event: events.SignInRefused) -> None:
    record(
        Kind.SIGN_IN_REFUSED,
        actor=NOBODY,
        subject=Subject("provider", str(event.provider_id or "")),
        data={"provider": event.provider, "code": event.code, "reason": event.reason},
        reference=event.reference,
        address=event.address,
        at=event.at,
    )


def relay_kept(event: events.RelayKept) -> None:
    record(
        Kind.RELAY_KEPT,
        actor=Actor(id=str(event.person_id), name=event.handle),
        subject=Subject("person", str(event.person_id)),
        data={
            "provider": event.provider,
            "roles": list(event.roles),
            "evidence": dict(event.evidence),
        },
        address=event.address,
        at=event.at,
    )


def signed_out(event: events.SignedOut) -> None:
    record(
        Kind.SIGN_OUT,
        actor=Actor(id=str(event.person_id), name=event.handle),
        subject=Subject("person", str(event.person_id)),
        data={"how": event.how},
        address=event.address,
        at=event.at,
    )


def terminals_end(event: events.LinesOver) -> None:
    """Who signs out of the browser signs out what they let in from it; a browser left alone ends nothing else."""
    if event.how not in ("idle", "absolute"):
        end_lines(event.lines, event.at)


def staff_changed(event: events.StaffChanged) -> None:
    record(
        Kind.PERSON_STAFF_CHANGED,
        actor=Actor.task("directory"),
        subject=Subject("person", str(event.person_id)),
        data={"handle": event.handle, "staff": event.staff, "group": event.group},
        at=event.at,
    )


_NEWS = {
    "refreshed": Kind.PROVIDER_REFRESHED,
    "refresh_failed": Kind.PROVIDER_REFRESH_FAILED,
    "certificate_expiring": Kind.PROVIDER_CERTIFICATE_EXPIRING,
    "proposed": Kind.PROVIDER_PROPOSED,
    "proposal_dismissed": Kind.PROVIDER_PROPOSAL_DISMISSED,
    "proposal_withdrawn": Kind.PROVIDER_PROPOSAL_WITHDRAWN,
    "resealed": Kind.PROVIDER_RESEALED,
    "tested": Kind.SIGN_IN_TESTED,
}


def provider_news(event: events.ProviderNews) -> None:
    record(
        _NEWS[event.what],
        actor=Actor(id=event.actor_id, name=event.actor)
        if event.actor_id
        else Actor.task("providers"),
        subject=Subject("provider", str(event.provider_id)),
        data={"provider": event.provider, **event.details},
        at=event.at,
    )


_KEY_NEWS = {
    "made": Kind.KEY_CREATED,
    "state": Kind.KEY_STATE_CHANGED,
    "resealed": Kind.KEY_STATE_CHANGED,
    "expiring": Kind.KEY_EXPIRING,
}


def service_provider_key_news(event: events.ServiceProviderKeyNews) -> None:
    data = {"purpose": event.purpose, **event.details}
    if event.what == "resealed":
        data["resealed"] = True
    record(
        _KEY_NEWS[event.what],
        actor=Actor(id=event.actor_id, name=event.actor)
        if event.actor_id
        else Actor.task("service provider keys"),
        subject=Subject("service_provider_key", str(event.key_id)),
        data=data,
        at=event.at,
    )


def changed(event: events.Changed) -> None:
    record(
        Kind.ADMIN_CHANGED,
        actor=Actor(id=event.actor_id, name=event.actor),
        subject=Subject(event.subject_type, event.subject_id),
        data={"label": event.label, "before": dict(event.before), "after": dict(event.after)},
        address=event.address,
        at=event.at,
    )
