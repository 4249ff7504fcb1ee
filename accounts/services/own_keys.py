"""The life of Daypass's own keys as a SAML service provider: prepared, in use, retired, removed; and resealing.

There are two purposes with keys of their own. A next key stands in the metadata so that providers know it before its
turn; a retired decryption key still opens what a provider encrypts for it until that provider has read the metadata.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from accounts.models import Encryption, IdentityProvider, Protocol, ServiceProviderKey
from accounts.services.common import By, news
from accounts.services.keys import fingerprint, key_place, new_key, tell
from accounts.services.providers import client_secret, set_client_secret
from accounts.services.second_factors import reseal_second_factors
from broker.errors import BadInput
from broker.sealing import seal, sealed_under_current_key, unseal

Purpose = ServiceProviderKey.Purpose
State = ServiceProviderKey.State


def concerned(purpose: ServiceProviderKey.Purpose) -> list[IdentityProvider]:
    """The providers whose administrators have to import new metadata when a key of this purpose changes."""
    found = IdentityProvider.objects.filter(protocol=Protocol.SAML)
    if purpose == Purpose.DECRYPTION:
        found = found.exclude(encryption=Encryption.REFUSED)
    return list(found)


def prepare_key(
    purpose: ServiceProviderKey.Purpose, *, by: By, now: datetime
) -> ServiceProviderKey:
    """Make the next key of a purpose and show it in the metadata beside the one in use.

    Raises BadInput when one is waiting already, KeyUnavailable without a sealing key.
    """
    key = new_key(purpose, State.NEXT, now=now)
    try:
        with transaction.atomic():
            key.save(force_insert=True)
            tell(key, "made", by=by, now=now, after=State.NEXT)
    except IntegrityError:
        raise BadInput(
            f"The next {purpose.label} key is there already: activate it, or retire it first.",
            code="key_already_prepared",
        ) from None
    return key


def activate_key(
    purpose: ServiceProviderKey.Purpose, *, by: By, now: datetime
) -> ServiceProviderKey:
    """Let the next key take over; the one in use is retired. Raises BadInput when none was prepared."""
    with transaction.atomic():
        rows = ServiceProviderKey.objects.select_for_update().filter(purpose=purpose)
        following = rows.filter(state=State.NEXT).first()
        if following is None:
            raise BadInput(
                f"No next {purpose.label} key was prepared. Prepare one, let every provider read the metadata, then "
                "activate it.",
                code="no_key_prepared",
            )
        current = rows.filter(state=State.ACTIVE).first()
        if current is not None:
            _move(current, State.RETIRED, by=by, now=now)
        _move(following, State.ACTIVE, by=by, now=now)
    return following


def retire_key(key: ServiceProviderKey, *, by: By, now: datetime) -> ServiceProviderKey:
    """Take a key out of the metadata: a next one, or the decryption key once no provider encrypts for it.

    Raises BadInput for one that is still needed, or retired already.
    """
    with transaction.atomic():
        current = ServiceProviderKey.objects.select_for_update().get(pk=key.pk)
        if current.state == State.RETIRED:
            raise BadInput("This key is retired already.", code="key_retired")
        if current.state == State.ACTIVE:
            if current.purpose == Purpose.SIGNING:
                raise BadInput(
                    "This key signs every request: prepare the next one and activate it.",
                    code="key_needed",
                )
            wanting = concerned(Purpose.DECRYPTION)
            if wanting:
                raise BadInput(
                    f"{', '.join(map(str, wanting))} may encrypt for this key: prepare the next one and activate it.",
                    code="key_needed",
                )
        _move(current, State.RETIRED, by=by, now=now)
    return current


def remove_key(key: ServiceProviderKey, *, by: By, now: datetime) -> None:
    """Destroy a retired key; what was encrypted for it cannot be opened any more. Raises BadInput for any other."""
    with transaction.atomic():
        current = ServiceProviderKey.objects.select_for_update().get(pk=key.pk)
        if current.state != State.RETIRED:
            raise BadInput("Only a retired key can be removed.", code="key_needed")
        tell(current, "state", by=by, now=now, before=State.RETIRED, after="removed")
        current.delete()


def find_key(text: str) -> ServiceProviderKey:
    """A key by the beginning of its fingerprint, eight digits or more. Raises BadInput."""
    wanted = text.replace(":", "").lower()
    found = [
        key
        for key in ServiceProviderKey.objects.all()
        if len(wanted) >= 8 and fingerprint(key.certificate).startswith(wanted)
    ]
    if len(found) != 1:
        raise BadInput(f"There is no key with the fingerprint {text}.", code="no_such_key")
    return found[0]


def _move(
    key: ServiceProviderKey, state: ServiceProviderKey.State, *, by: By, now: datetime
) -> None:
    before = key.state
    key.state, key.state_since = state, now
    key.save(update_fields=["state", "state_since"])
    tell(key, "state", by=by, now=now, before=before, after=state)


@sensitive_variables()
def reseal(*, by: By, now: datetime | None = None) -> int:
    """Seal everything of this app again that is not under the current sealing key; how many.

    Client secrets, service-provider keys and second factors. What lives for hours in a browser's session is left.

    Raises KeyUnavailable when the sealing key that one was sealed under is gone.
    """
    now = now or timezone.now()
    done = 0
    for provider in IdentityProvider.objects.exclude(client_secret_sealed="").order_by("pk"):
        sealed = provider.client_secret_sealed
        if not sealed_under_current_key(sealed):
            set_client_secret(provider, client_secret(provider))
            done += _reseal_provider(provider.pk, sealed, provider.client_secret_sealed, by, now)
    for key in ServiceProviderKey.objects.order_by("pk"):
        if sealed_under_current_key(key.private_sealed):
            continue
        place = key_place(key.certificate)
        renewed = seal(unseal(key.private_sealed, place=place), place=place)
        with transaction.atomic():
            mine = ServiceProviderKey.objects.filter(pk=key.pk, private_sealed=key.private_sealed)
            if mine.update(private_sealed=renewed) == 1:
                tell(key, "resealed", by=by, now=now)
                done += 1
    return done + reseal_second_factors(by=by, now=now)


@sensitive_variables()
def _reseal_provider(pk: UUID, sealed: str, renewed: str, by: By, now: datetime) -> int:
    with transaction.atomic():
        mine = IdentityProvider.objects.filter(pk=pk, client_secret_sealed=sealed)
        changed = mine.update(client_secret_sealed=renewed)
        if changed:
            news("resealed", IdentityProvider.objects.get(pk=pk), {}, now, by=by)
    return changed
