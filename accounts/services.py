"""The verbs of accounts, and its only writer: people signing in and out, providers, groups, keys, test sign-ins.

Calls to a provider are made before the transaction begins, never inside it. What happened is announced in the
transaction that made it happen (accounts/events.py), so that it stands or falls with its audit event.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from allauth.socialaccount.models import SocialAccount
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from accounts import oidc, outbound, saml
from accounts.events import (
    Changed,
    ProviderNews,
    SignedIn,
    SignedOut,
    SignInRefused,
    StaffChanged,
    announce,
)
from accounts.identity import Method
from accounts.models import (
    ConsumedMessage,
    DirectoryGroup,
    Handle,
    IdentityProvider,
    Membership,
    Person,
    Protocol,
    ServiceProviderKey,
    SignInTest,
)
from accounts.rules import (
    PRESETS,
    ClaimMap,
    PersonClaims,
    VerifiedAttributes,
    account_id,
    handle_candidates,
    handle_stem,
)
from broker.errors import BadInput, ProviderUnavailable
from broker.errors import SignInRefused as Refused
from broker.sealing import seal, unseal

MAX_GROUPS_OF_A_PROVIDER = 20_000
TEST_KEPT = timedelta(hours=1)
KEYS_ASKED_AT_MOST_EVERY = timedelta(minutes=5)
WARN_BEFORE_DAYS = (60, 30, 7)

RESERVED_SLUGS = frozenset({"local", "test"})
"""Parts of sign-in addresses that are not providers."""

_REFERENCE_LETTERS = "23456789ABCDEFGHJKMNPQRSTVWXYZ"


@dataclass(frozen=True, slots=True)
class By:
    """Who changes something here, and from where: an administrator, or a task by name."""

    id: str
    name: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class OneUse:
    """A message that may be accepted once: the kind and id of it, and until when it would be fresh enough."""

    kind: str
    id: str
    expires_at: datetime


# --- One-use messages


def consume(provider: IdentityProvider, message: OneUse) -> None:
    """Accept a message for the first and last time. Raises SignInRefused when it was accepted before.

    The unique constraint decides, so that of parallel attempts one wins (threats.md R4, R61).
    """
    digest = hashlib.sha256(f"{message.kind}\0{message.id}".encode()).hexdigest()
    try:
        with transaction.atomic():
            ConsumedMessage.objects.create(
                provider=provider, digest=digest, expires_at=message.expires_at
            )
    except IntegrityError:
        raise Refused(
            code="replayed",
            cause=f"The same {message.kind} was used before.",
            remedy="Nothing, if somebody went back in the browser. Otherwise the message may have been stolen.",
        ) from None


# --- Signing in


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

    A person is (provider, subject) and nobody else, whatever their e-mail address. Raises SignInRefused.
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
        staff = _settle_staff(person, groups)
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


def _settle_staff(person: Person, groups: Iterable[DirectoryGroup]) -> str | None:
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


def new_reference() -> str:
    """A number that a person can read out on the telephone."""
    return "".join(secrets.choice(_REFERENCE_LETTERS) for _ in range(8))


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


def signed_out(person_id: UUID, handle: str, *, how: str, address: str, now: datetime) -> None:
    """Record that a browser session ended, and how."""
    with transaction.atomic():
        announce(SignedOut(person_id=person_id, handle=handle, how=how, address=address, at=now))


# --- Break-glass


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
        announce(
            Changed(
                actor_id=by.id,
                actor=by.name,
                subject_type="person",
                subject_id=str(person.pk),
                label=handle,
                before={} if created else {"break_glass": "set"},
                after={"break_glass": "set anew", "second_factor": "not set"},
                address=by.address,
                at=now,
            )
        )
    return person, created


# --- Identity providers


def client_secret(provider: IdentityProvider) -> str:
    """The OIDC client secret, "" when there is none. Raises KeyUnavailable when it cannot be opened."""
    if not provider.client_secret_sealed:
        return ""
    return unseal(provider.client_secret_sealed, place=_secret_place(provider)).decode()


def set_client_secret(provider: IdentityProvider, secret: str) -> None:
    """Seal the client secret into this row, for this issuer and no other (threats.md R44). Does not save."""
    provider.client_secret_sealed = (
        seal(secret.encode(), place=_secret_place(provider)) if secret else ""
    )


def _secret_place(provider: IdentityProvider) -> str:
    endpoint = str(provider.discovery.get("token_endpoint", ""))
    return f"identity-provider:{provider.pk}:{provider.issuer}:{endpoint}"


def create_provider_from_metadata(
    *,
    slug: str,
    name: str,
    by: By,
    metadata_url: str = "",
    metadata_xml: str = "",
    entity_id: str = "",
    claim_map: ClaimMap | None = None,
    enabled: bool = False,
    response_signed: bool = True,
    position: int = 0,
    now: datetime | None = None,
) -> IdentityProvider:
    """A SAML provider by its metadata's address or text. Raises BadInput, ProviderUnavailable."""
    provider = IdentityProvider(
        slug=slug,
        name=name,
        protocol=Protocol.SAML,
        metadata_url=metadata_url,
        metadata_xml=metadata_xml,
        entity_id=entity_id,
        claim_map=(claim_map or PRESETS["saml"]).to_json(),
        enabled=enabled,
        response_signed=response_signed,
        position=position,
    )
    return save_provider(provider, by=by, now=now)


def create_oidc_provider(
    *,
    slug: str,
    name: str,
    issuer: str,
    client_id: str,
    by: By,
    secret: str = "",
    scopes: Iterable[str] = ("openid", "profile", "email"),
    id_token_algorithm: str = "RS256",  # noqa: S107 (the name of an algorithm)
    groups_from_userinfo: bool = False,
    claim_map: ClaimMap | None = None,
    enabled: bool = False,
    position: int = 0,
    now: datetime | None = None,
) -> IdentityProvider:
    """An OpenID Connect provider by its issuer. Raises BadInput, ProviderUnavailable."""
    provider = IdentityProvider(
        slug=slug,
        name=name,
        protocol=Protocol.OIDC,
        issuer=issuer,
        client_id=client_id,
        scopes=list(scopes),
        id_token_algorithm=id_token_algorithm,
        groups_from_userinfo=groups_from_userinfo,
        claim_map=(claim_map or PRESETS["oidc"]).to_json(),
        enabled=enabled,
        position=position,
    )
    return save_provider(provider, by=by, now=now, secret=secret)


def save_provider(
    provider: IdentityProvider,
    *,
    by: By,
    now: datetime | None = None,
    secret: str | None = None,
) -> IdentityProvider:
    """Check a provider as an administrator wrote it, fetch what can be fetched, save, record before and after.

    secret: the OIDC client secret; None keeps the one there is, unless issuer or token endpoint changed.
    SAML: pasted metadata, or a metadata address that is new, fill in entity id, addresses and certificates.
    Raises BadInput for what is wrong, ProviderUnavailable when the provider does not answer.
    """
    now = now or timezone.now()
    stored = IdentityProvider.objects.filter(pk=provider.pk).first()
    if stored is not None and stored.protocol != provider.protocol:
        raise BadInput("A provider cannot change from one protocol to the other: add a new one.")
    if provider.slug in RESERVED_SLUGS:
        raise BadInput(f"“{provider.slug}” is taken by Daypass itself: choose another name.")
    provider.claim_map = ClaimMap.from_json(provider.claim_map).to_json()
    if provider.protocol == Protocol.SAML:
        _prepare_saml(provider, stored, now)
    else:
        _prepare_oidc(provider, stored, secret, now)
    try:
        provider.full_clean()
    except ValidationError as error:
        raise BadInput(_sentence(error)) from None
    with transaction.atomic():
        provider.save()
        announce(
            Changed(
                actor_id=by.id,
                actor=by.name,
                subject_type="provider",
                subject_id=str(provider.pk),
                label=provider.name,
                before=_facts(stored) if stored else {},
                after=_facts(provider),
                address=by.address,
                at=now,
            )
        )
    return provider


def _prepare_saml(
    provider: IdentityProvider, stored: IdentityProvider | None, now: datetime
) -> None:
    pasted = provider.metadata_xml.strip()
    if pasted and (stored is None or pasted != stored.metadata_xml.strip()):
        _describe(provider, saml.read_metadata(pasted, entity_id=provider.entity_id, now=now))
    elif provider.metadata_url and (
        stored is None or provider.metadata_url != stored.metadata_url or not provider.certificates
    ):
        document = _fetch_metadata(provider.metadata_url)
        _describe(provider, saml.read_metadata(document, entity_id=provider.entity_id, now=now))
        provider.refreshed_at, provider.refresh_problem = now, ""
    if not provider.entity_id or not provider.sso_url or not provider.certificates:
        raise BadInput(
            "A SAML provider needs its metadata, by address or pasted; or entity id, sign-on address and certificate."
        )
    for url, what in (
        (provider.sso_url, "The sign-on address"),
        (provider.slo_url, "The sign-out address"),
    ):
        if url:
            outbound.check_url(url, what)
    read = [saml.read_certificate(text) for text in provider.certificates]
    provider.certificates = [pem for pem, _ in read]
    provider.certificate_expires_at = min(expires for _, expires in read)


def _describe(provider: IdentityProvider, described: saml.Described) -> None:
    provider.entity_id = described.provider.entity_id
    provider.sso_url = described.provider.sso_url
    provider.slo_url = described.provider.slo_url
    provider.certificates = list(described.provider.certificates)


def _fetch_metadata(url: str) -> bytes:
    outbound.check_url(url, "The metadata address")
    return outbound.get(url, "The metadata", limit=outbound.MAX_METADATA)


def _prepare_oidc(
    provider: IdentityProvider,
    stored: IdentityProvider | None,
    secret: str | None,
    now: datetime,
) -> None:
    if not provider.issuer or not provider.client_id:
        raise BadInput("An OpenID Connect provider needs its issuer and a client id.")
    scopes = provider.scopes or ["openid", "profile", "email"]
    if not all(isinstance(s, str) and s and not any(c.isspace() for c in s) for s in scopes):
        raise BadInput("Scopes have to be a list of words.")
    provider.scopes = list(dict.fromkeys(["openid", *scopes]))
    changed = stored is None or stored.issuer != provider.issuer
    kept_secret = client_secret(stored) if stored and secret is None and not changed else ""
    if changed or not provider.discovery or not provider.jwks:
        provider.discovery, provider.jwks = oidc.discover(provider.issuer)
        provider.refreshed_at, provider.refresh_problem = now, ""
    _choose_algorithm(provider)
    if stored is not None and stored.discovery.get("token_endpoint") != provider.discovery.get(
        "token_endpoint"
    ):
        kept_secret = ""
    set_client_secret(provider, kept_secret if secret is None else secret)


def _choose_algorithm(provider: IdentityProvider) -> None:
    """RS256 unless the provider only has keys for ES256: then there is nothing to choose."""
    kinds = {key.get("kty") for key in provider.jwks.get("keys", ())}
    if provider.id_token_algorithm == "RS256" and kinds == {"EC"}:  # noqa: S105
        provider.id_token_algorithm = "ES256"  # noqa: S105


def _facts(provider: IdentityProvider) -> dict[str, Any]:
    """What the audit keeps of a provider: fingerprints of what is long, never a secret."""
    return {
        "slug": provider.slug,
        "name": provider.name,
        "protocol": provider.protocol,
        "enabled": provider.enabled,
        "position": provider.position,
        "entity_id": provider.entity_id,
        "metadata_url": provider.metadata_url,
        "sso_url": provider.sso_url,
        "slo_url": provider.slo_url,
        "response_signed": provider.response_signed,
        "certificates": [fingerprint(pem) for pem in provider.certificates],
        "issuer": provider.issuer,
        "client_id": provider.client_id,
        "client_credential": "set" if provider.client_secret_sealed else "not set",
        "scopes": list(provider.scopes),
        "algorithm": provider.id_token_algorithm if provider.issuer else "",
        "groups_from_userinfo": provider.groups_from_userinfo,
        "claim_map": provider.claim_map,
    }


def fingerprint(pem: str) -> str:
    """SHA-256 of a certificate, in hexadecimal."""
    return x509.load_pem_x509_certificate(pem.encode()).fingerprint(hashes.SHA256()).hex()


def _sentence(error: ValidationError) -> str:
    if not hasattr(error, "error_dict"):
        return " ".join(error.messages)
    return " ".join(
        f"{field}: {message}" if field != "__all__" else message
        for field, messages in error.message_dict.items()
        for message in messages
    )


def refresh_provider(provider_id: UUID | str, *, now: datetime | None = None) -> bool:
    """Fetch metadata or discovery and keys again. What there was is kept when that fails; False then.

    Only a change is news: new certificates, addresses or keys; a refresh that begins to fail.
    """
    now = now or timezone.now()
    provider = IdentityProvider.objects.get(pk=provider_id)
    before = _refreshed_facts(provider)
    problem = ""
    try:
        if provider.protocol == Protocol.OIDC:
            token_endpoint = provider.discovery.get("token_endpoint")
            discovery, keys = oidc.discover(provider.issuer)
            if token_endpoint and discovery["token_endpoint"] != token_endpoint:
                raise BadInput(
                    "The provider's token endpoint changed. An administrator has to save the provider and give "
                    "the client secret again."
                )
            provider.discovery, provider.jwks = discovery, keys
        elif provider.metadata_url:
            document = _fetch_metadata(provider.metadata_url)
            described = saml.read_metadata(document, entity_id=provider.entity_id, now=now)
            for url in (described.provider.sso_url, described.provider.slo_url):
                if url:
                    outbound.check_url(url, "An address in the metadata")
            _describe(provider, described)
            provider.certificate_expires_at = min(
                saml.read_certificate(pem)[1] for pem in provider.certificates
            )
        else:
            return True
    except (BadInput, ProviderUnavailable) as error:
        problem = (error.cause or error.message)[:500]
    with transaction.atomic():
        current = IdentityProvider.objects.select_for_update(of=("self",)).get(pk=provider.pk)
        if (current.issuer, current.metadata_url, current.entity_id) != (
            provider.issuer,
            provider.metadata_url,
            before["entity_id"],
        ):
            return True  # an administrator was faster; their values stand
        was_failing = bool(current.refresh_problem)
        current.refresh_problem = problem
        if problem:
            current.save(update_fields=["refresh_problem"])
            if not was_failing:
                _news("refresh_failed", current, {"problem": problem}, now)
            return False
        for name in (
            "discovery",
            "jwks",
            "sso_url",
            "slo_url",
            "certificates",
            "certificate_expires_at",
        ):
            setattr(current, name, getattr(provider, name))
        current.refreshed_at = now
        current.save()
        after = _refreshed_facts(current)
        changes = {
            key: {"before": before[key], "after": after[key]}
            for key in after
            if before[key] != after[key]
        }
        if changes or was_failing:
            _news("refreshed", current, {"changes": changes}, now)
    return True


def _refreshed_facts(provider: IdentityProvider) -> dict[str, Any]:
    endpoints = {n: str(provider.discovery.get(n, "")) for n in oidc.ENDPOINTS}
    return {
        "entity_id": provider.entity_id,
        "sso_url": provider.sso_url,
        "slo_url": provider.slo_url,
        "certificates": [fingerprint(pem) for pem in provider.certificates],
        "endpoints": endpoints if provider.discovery else {},
        "keys": sorted(str(k.get("kid", "")) for k in provider.jwks.get("keys", ())),
    }


def _news(
    what: str,
    provider: IdentityProvider,
    details: Mapping[str, Any],
    now: datetime,
    *,
    by: By | None = None,
) -> None:
    announce(
        ProviderNews(
            what=what,
            provider_id=provider.pk,
            provider=provider.name,
            details=dict(details),
            at=now,
            actor_id=by.id if by else "",
            actor=by.name if by else "",
        )
    )


def refresh_keys(provider: IdentityProvider, *, now: datetime) -> Mapping[str, Any]:
    """The provider's keys, asked for anew when a token names an unknown one: at most once in five minutes.

    Answers the keys that are stored afterwards. Raises nothing: what cannot be fetched stays as it was.
    """
    mine = IdentityProvider.objects.filter(
        Q(refreshed_at__isnull=True) | Q(refreshed_at__lt=now - KEYS_ASKED_AT_MOST_EVERY),
        pk=provider.pk,
    ).update(refreshed_at=now)
    if mine:
        refresh_provider(provider.pk, now=now)
    return dict(IdentityProvider.objects.get(pk=provider.pk).jwks)


def warn_certificates(*, now: datetime) -> int:
    """Tell once at 60, 30 and 7 days, and at the end, about certificates that expire. Answers how many were told.

    A ConsumedMessage remembers what was told, so that a repeated task stays silent.
    """
    told = 0
    soon = now + timedelta(days=max(WARN_BEFORE_DAYS))
    providers = IdentityProvider.objects.filter(
        enabled=True, certificate_expires_at__isnull=False, certificate_expires_at__lte=soon
    )
    for provider in providers:
        expires = provider.certificate_expires_at
        assert expires is not None
        left = (expires - now).days
        step = min(
            (d for d in (0, *WARN_BEFORE_DAYS) if left < d or (d == 0 and expires <= now)),
            default=60,
        )
        try:
            with transaction.atomic():
                consume(
                    provider,
                    OneUse(
                        kind=f"warning at {step} days",
                        id=expires.isoformat(),
                        expires_at=expires + timedelta(days=90),
                    ),
                )
                _news(
                    "certificate_expiring",
                    provider,
                    {"expires_at": expires.isoformat(), "days_left": left},
                    now,
                )
                told += 1
        except Refused:
            continue
    return told


# --- Directory groups


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
        announce(
            Changed(
                actor_id=by.id,
                actor=by.name,
                subject_type="group",
                subject_id=str(stored.pk),
                label=str(stored)[:200],
                before=before,
                after={"name": stored.name, "confers_staff": stored.confers_staff},
                address=by.address,
                at=now,
            )
        )
        if before["confers_staff"] != confers_staff:
            members = Person.objects.select_for_update(of=("self",)).filter(
                memberships__group=stored
            )
            for person in members:
                held = DirectoryGroup.objects.filter(memberships__person=person)
                decided_by = _settle_staff(person, held)
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
        announce(
            Changed(
                actor_id=by.id,
                actor=by.name,
                subject_type="person",
                subject_id=str(stored.pk),
                label=stored.handle,
                before=before,
                after={"active": active},
                address=by.address,
                at=now,
            )
        )
    return stored


# --- The key with which we sign requests to SAML providers


def service_provider_key(*, now: datetime | None = None) -> tuple[str, str]:
    """Private key and certificate in PEM; made at the first need. Of parallel first needs one wins."""
    now = now or timezone.now()
    key = ServiceProviderKey.objects.filter(active=True).first()
    if key is None:
        private, certificate, expires = _make_key(now)
        try:
            with transaction.atomic():
                key = ServiceProviderKey(
                    certificate=certificate, expires_at=expires, created_at=now
                )
                key.private_sealed = seal(private.encode(), place=_key_place(certificate))
                key.save()
        except IntegrityError:
            key = ServiceProviderKey.objects.get(active=True)
    return unseal(key.private_sealed, place=_key_place(key.certificate)).decode(), key.certificate


def _key_place(certificate: str) -> str:
    return f"saml-service-provider-key:{fingerprint(certificate)}"


def _make_key(now: datetime) -> tuple[str, str, datetime]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=3072)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Daypass SAML service provider")])
    expires = now + timedelta(days=3650)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(expires)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private.decode(), certificate.public_bytes(serialization.Encoding.PEM).decode(), expires


def service_provider(provider: IdentityProvider) -> saml.ServiceProvider:
    """Daypass as this SAML provider sees it, with the key to sign."""
    private, certificate = service_provider_key()
    return saml.ServiceProvider(
        slug=provider.slug,
        origin=settings.DAYPASS_ORIGIN,
        private_key=private,
        certificate=certificate,
    )


def saml_provider(provider: IdentityProvider) -> saml.Provider:
    """What is pinned about a SAML provider."""
    return saml.Provider(
        entity_id=provider.entity_id,
        sso_url=provider.sso_url,
        slo_url=provider.slo_url,
        certificates=tuple(provider.certificates),
        response_signed=provider.response_signed,
    )


# --- Test sign-ins


def start_test(provider: IdentityProvider, person: Person, *, now: datetime) -> SignInTest:
    """Begin a test sign-in. Whatever comes back is shown to this administrator and grants nothing."""
    return SignInTest.objects.create(provider=provider, started_by=person, started_at=now)


def finish_test(
    test_id: UUID | str,
    provider: IdentityProvider,
    *,
    verified: VerifiedAttributes | None = None,
    claims: PersonClaims | None = None,
    message: OneUse | None = None,
    problem: str = "",
    now: datetime,
) -> SignInTest | None:
    """Keep what arrived, what it became and what went wrong, once. None when there is no such open test."""
    with transaction.atomic():
        test = (
            SignInTest.objects.select_for_update(of=("self",))
            .select_related("started_by")
            .filter(pk=test_id, provider=provider, finished_at__isnull=True)
            .first()
        )
        if test is None:
            return None
        if message is not None:
            consume(provider, message)
        test.finished_at = now
        test.problem = problem[:500]
        if verified is not None:
            test.arrived = _arrived(verified)
            test.checks = list(_CHECKS[verified.protocol])
        if claims is not None:
            known = {g.key for g in provider.groups.filter(key__in=claims.groups)}
            test.became = {
                "subject": claims.subject,
                "handle": handle_stem(
                    username=claims.username, email=claims.email, name=claims.name
                ),
                "name": claims.name,
                "email": claims.email,
                "groups": [{"key": key, "known": key in known} for key in claims.groups],
                "attributes": {k: list(v) for k, v in claims.attributes.items()},
                "mfa": claims.mfa,
                "context": claims.context,
                "methods": list(claims.methods),
            }
        test.save()
        _news(
            "tested",
            provider,
            {"problem": test.problem, "groups": len(claims.groups) if claims else 0},
            now,
            by=By(id=str(test.started_by_id), name=test.started_by.handle),
        )
    return test


def _arrived(verified: VerifiedAttributes) -> dict[str, Any]:
    hidden = {"nonce", "at_hash", "c_hash", "s_hash"}
    return {
        "subject": verified.subject,
        "attributes": {
            k: list(v) if isinstance(v, tuple) else v
            for k, v in verified.attributes.items()
            if k not in hidden
        },
        "userinfo": dict(verified.group_claims) if verified.group_claims is not None else None,
        "context": verified.context,
        "methods": list(verified.methods),
        "authenticated_at": verified.at.isoformat() if verified.at else None,
    }


_CHECKS: Mapping[Method, tuple[str, ...]] = {
    "saml": (
        "The signatures are the provider's, and cover what was read",
        "Issuer, audience, recipient and destination are exactly as expected",
        "It answers the request that was just sent, and is used once",
        "It is fresh: issue, validity and authentication times",
    ),
    "oidc": (
        "The ID token's signature is the provider's, with the pinned algorithm",
        "Issuer, audience and authorised party are exactly as expected",
        "State, nonce and proof key (PKCE) belong to this very sign-in",
        "It is fresh: issue and expiry times",
    ),
    "local": (),
}


# --- Clearing up


def clear_expired(*, now: datetime) -> dict[str, int]:
    """Delete what has done its work: one-use messages that would be too old anyway, and test sign-ins."""
    messages, _ = ConsumedMessage.objects.filter(expires_at__lt=now).delete()
    tests, _ = SignInTest.objects.filter(started_at__lt=now - TEST_KEPT).delete()
    return {"messages": messages, "tests": tests}
