"""People: let in, refused, switched on and off; their groups, and the break-glass account."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from allauth.socialaccount.models import SocialAccount
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.events import (
    LinesOver,
    SignedIn,
    SignedOut,
    SignInRefused,
    StaffChanged,
    announce,
)
from accounts.models import (
    DirectoryGroup,
    Handle,
    IdentityProvider,
    Membership,
    Person,
)
from accounts.rules import (
    PersonClaims,
    account_id,
    handle_candidates,
    handle_stem,
)
from accounts.services.common import By, announce_changed
from accounts.services.once import OneUse, consume
from broker.errors import BadInput
from broker.errors import SignInRefused as Refused

MAX_GROUPS_OF_A_PROVIDER = 20_000


@dataclass(frozen=True, slots=True)
class Admission:
    """Somebody who was let in. `account` is allauth's row for the same person at the same provider."""

    person: Person
    account: SocialAccount
    created: bool


def sign_in(
    provider_id: UUID,
    claims: PersonClaims,
    *,
    message: OneUse,
    evidence: Mapping[str, str],
    address: str,
    now: datetime,
) -> Admission:
    """Let in the person that a verified message is about, with the groups it says; all of it or nothing.

    A person is (provider, subject) and nobody else, whatever their email address. Raises SignInRefused.
    """
    with transaction.atomic():
        provider = IdentityProvider.objects.get(pk=provider_id)
        if not provider.enabled:
            raise Refused(
                code="provider_disabled",
                cause="This identity provider is switched off.",
                remedy="Switch it on once its test sign-in looks right.",
            )
        consume(provider, message)
        person, created = _find_or_create(provider, claims, now)
        if not person.is_active:
            raise Refused(
                code="person_inactive",
                cause=f"{person.handle} is switched off in Daypass.",
                remedy="Switch the person on again under People, if that is intended.",
            )
        person.name = claims.name
        person.email = claims.email
        person.attributes = {name: list(values) for name, values in claims.attributes.items()}
        person.signed_in_at = now
        groups = _groups_of(provider, claims.groups)
        _replace_memberships(person, provider, groups, now)
        staff = settle_staff(person, groups)
        person.save()
        account, _ = SocialAccount.objects.update_or_create(
            provider=str(provider.pk),
            uid=account_id(claims.subject),
            defaults={"user": person, "extra_data": {}},
        )
        if staff is not None:
            announce(
                StaffChanged(
                    person_id=person.pk,
                    handle=person.handle,
                    staff=person.is_staff,
                    group=staff,
                    at=now,
                )
            )
        announce(
            SignedIn(
                person_id=person.pk,
                handle=person.handle,
                provider_id=provider.pk,
                provider=provider.name,
                method=provider.protocol,
                mfa=claims.mfa,
                at=now,
                address=address,
                created=created,
                groups=claims.groups,
                evidence=dict(evidence),
            )
        )
    return Admission(person=person, account=account, created=created)


def _find_or_create(
    provider: IdentityProvider, claims: PersonClaims, now: datetime
) -> tuple[Person, bool]:
    people = Person.objects.select_for_update(of=("self",))
    found = people.filter(provider=provider, subject=claims.subject).first()
    if found is not None:
        return found, False
    handle = give_handle(
        handle_stem(username=claims.username, email=claims.email, name=claims.name), now=now
    )
    person = Person(handle=handle.value, provider=provider, subject=claims.subject, created_at=now)
    person.set_unusable_password()
    try:
        with transaction.atomic():
            person.save(force_insert=True)
    except IntegrityError:  # the same person, in another tab, a moment earlier
        handle.delete()
        return people.get(provider=provider, subject=claims.subject), False
    handle.person = person
    handle.save(update_fields=["person"])
    return person, True


def give_handle(stem: str, *, now: datetime) -> Handle:
    """A handle that nobody has or ever had: the stem, or the stem with the next free number.

    Race-safe: the primary key decides who gets it.
    """
    taken = set(Handle.objects.filter(value__startswith=stem[:24]).values_list("value", flat=True))
    for value in handle_candidates(stem):
        if value in taken:
            continue
        try:
            with transaction.atomic():
                handle = Handle(value=value, given_at=now)
                handle.save(force_insert=True)
                return handle
        except IntegrityError:
            continue
    raise AssertionError("handles do not run out")


def _groups_of(provider: IdentityProvider, keys: Iterable[str]) -> list[DirectoryGroup]:
    """The rows of these groups. One that was never seen becomes a row, which by itself grants nothing.

    A provider may bring at most MAX_GROUPS_OF_A_PROVIDER rows into being; beyond that, unknown groups are left out.
    """
    keys = list(keys)
    known = {group.key: group for group in provider.groups.filter(key__in=keys)}
    unseen = [key for key in keys if key not in known]
    if unseen:
        room = max(0, MAX_GROUPS_OF_A_PROVIDER - provider.groups.count())
        DirectoryGroup.objects.bulk_create(
            [DirectoryGroup(provider=provider, key=key) for key in unseen[:room]],
            ignore_conflicts=True,
        )
        known = {group.key: group for group in provider.groups.filter(key__in=keys)}
    return [known[key] for key in keys if key in known]


def _replace_memberships(
    person: Person, provider: IdentityProvider, groups: Iterable[DirectoryGroup], now: datetime
) -> None:
    """The sign-in memberships at this provider become exactly these, all confirmed now. SCIM's are left alone."""
    wanted = {group.pk for group in groups}
    told = Membership.objects.filter(
        person=person, group__provider=provider, source=Membership.Source.SIGN_IN
    )
    told.exclude(group_id__in=wanted).delete()
    told.update(confirmed_at=now)
    present = set(
        Membership.objects.filter(person=person, group_id__in=wanted).values_list(
            "group_id", flat=True
        )
    )
    Membership.objects.bulk_create(
        [
            Membership(
                person=person, group_id=pk, source=Membership.Source.SIGN_IN, confirmed_at=now
            )
            for pk in sorted(wanted - present)
        ],
        ignore_conflicts=True,
    )


def settle_staff(person: Person, groups: Iterable[DirectoryGroup]) -> str | None:
    """Give or take the right to the admin as the groups say. Answers the group that decided, None for no change."""
    kept_by_scim = Membership.objects.filter(
        person=person, source=Membership.Source.SCIM, group__confers_staff=True
    ).select_related("group")
    conferring = [g for g in groups if g.confers_staff] + [m.group for m in kept_by_scim]
    if conferring and not person.is_staff:
        person.is_staff = person.staff_from_group = True
        return conferring[0].name or conferring[0].key
    if not conferring and person.staff_from_group:
        person.is_staff = person.staff_from_group = False
        return ""
    return None


def refuse(
    provider: IdentityProvider | None,
    *,
    code: str,
    reason: str,
    reference: str,
    address: str,
    now: datetime,
) -> None:
    """Record a refused sign-in: the real reason for administrators, the reference that the person saw."""
    with transaction.atomic():
        announce(
            SignInRefused(
                provider_id=provider.pk if provider else None,
                provider=provider.name if provider else "",
                code=code,
                reason=reason,
                reference=reference,
                address=address,
                at=now,
            )
        )


def signed_in_locally(person: Person, *, mfa: bool, address: str, now: datetime) -> None:
    """The break-glass account is in use: recorded like every sign-in, and an alarm to whoever listens."""
    with transaction.atomic():
        Person.objects.filter(pk=person.pk).update(signed_in_at=now)
        announce(
            SignedIn(
                person_id=person.pk,
                handle=person.handle,
                provider_id=None,
                provider="",
                method="local",
                mfa=mfa,
                at=now,
                address=address,
                created=False,
            )
        )


def signed_out(
    person_id: UUID, handle: str, *, how: str, address: str, now: datetime, line: str = ""
) -> None:
    """Record that a browser session ended, and how."""
    with transaction.atomic():
        if line:
            announce(LinesOver((line,), how, now))
        announce(SignedOut(person_id=person_id, handle=handle, how=how, address=address, at=now))


def break_glass(handle: str, password: str, *, by: By, now: datetime) -> tuple[Person, bool]:
    """Create the local account, or give it this password; its second factors and its sessions end.

    Raises BadInput when the handle belongs, or ever belonged, to somebody from an identity provider.
    """
    with transaction.atomic():
        person = Person.objects.select_for_update(of=("self",)).filter(handle=handle).first()
        if person is not None and (person.provider_id or not person.is_superuser):
            raise BadInput(f"{handle} is somebody from an identity provider.")
        created = person is None
        if person is None:
            taken = Handle(value=handle, given_at=now)
            try:
                with transaction.atomic():
                    taken.save(force_insert=True)
            except IntegrityError:
                raise BadInput(f"{handle} was given to somebody before.") from None
            person = Person(handle=handle, name="Break-glass", created_at=now)
        person.is_staff = person.is_superuser = person.is_active = True
        person.epoch = person.epoch if created else person.epoch + 1
        person.set_password(password)
        person.save()
        Handle.objects.filter(value=handle).update(person=person)
        from allauth.mfa.models import Authenticator

        Authenticator.objects.filter(user=person).delete()
        announce_changed(
            "person",
            person.pk,
            handle,
            before={} if created else {"break_glass": "set"},
            after={"break_glass": "set anew", "second_factor": "not set"},
            by=by,
            now=now,
        )
    return person, created


def update_group(
    group: DirectoryGroup, *, name: str, confers_staff: bool, by: By, now: datetime | None = None
) -> DirectoryGroup:
    """Name a group for people, and let it confer staff rights or not; who gains or loses them does so at once."""
    now = now or timezone.now()
    with transaction.atomic():
        stored = DirectoryGroup.objects.select_for_update(of=("self",)).get(pk=group.pk)
        before = {"name": stored.name, "confers_staff": stored.confers_staff}
        stored.name, stored.confers_staff = name[:200], confers_staff
        stored.save()
        announce_changed(
            "group",
            stored.pk,
            str(stored)[:200],
            before=before,
            after={"name": stored.name, "confers_staff": stored.confers_staff},
            by=by,
            now=now,
        )
        if before["confers_staff"] != confers_staff:
            members = Person.objects.select_for_update(of=("self",)).filter(
                memberships__group=stored
            )
            for person in members:
                held = DirectoryGroup.objects.filter(memberships__person=person)
                decided_by = settle_staff(person, held)
                if decided_by is not None:
                    person.save(update_fields=["is_staff", "staff_from_group"])
                    announce(
                        StaffChanged(
                            person_id=person.pk,
                            handle=person.handle,
                            staff=person.is_staff,
                            group=decided_by,
                            at=now,
                        )
                    )
    return stored


def register_group(
    provider: IdentityProvider,
    key: str,
    *,
    name: str = "",
    confers_staff: bool = False,
    by: By,
    now: datetime | None = None,
) -> DirectoryGroup:
    """A group that an administrator knows before anybody came with it. The key is kept byte for byte."""
    now = now or timezone.now()
    if not key or len(key) > 512:
        raise BadInput("A group's key has 1 to 512 characters.")
    with transaction.atomic():
        group, _ = DirectoryGroup.objects.get_or_create(provider=provider, key=key)
        return update_group(group, name=name, confers_staff=confers_staff, by=by, now=now)


def set_person_active(
    person: Person, active: bool, *, by: By, now: datetime | None = None
) -> Person:
    """Switch a person off (all their browser sessions are dead at once) or on again."""
    now = now or timezone.now()
    with transaction.atomic():
        stored = Person.objects.select_for_update(of=("self",)).get(pk=person.pk)
        before = {"active": stored.is_active}
        stored.is_active = active
        stored.epoch += 1
        stored.save(update_fields=["is_active", "epoch"])
        announce_changed(
            "person",
            stored.pk,
            stored.handle,
            before=before,
            after={"active": active},
            by=by,
            now=now,
        )
    return stored
