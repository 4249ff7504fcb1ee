"""AWS applications of identity providers: whose responses Daypass passes on."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from accounts import outbound, saml
from accounts.models import IdentityProvider, RelayApplication
from accounts.services.common import By, announce_changed
from accounts.services.keys import fingerprint
from broker.arns import PARTITIONS
from broker.errors import BadInput


def save_application(
    provider: IdentityProvider,
    *,
    start_url: str,
    metadata_xml: str = "",
    partition: str = "aws",
    subject_attribute: str = "",
    enabled: bool = True,
    by: By,
    now: datetime | None = None,
) -> RelayApplication:
    """Connect, or change, the AWS application of a provider. metadata_xml "": what was read before stays.

    start_url: where the application's sign-in is begun, at the provider. subject_attribute: the attribute that holds
    the person's id as the provider's sign-ins have it; "": the NameID. Raises BadInput.
    """
    now = now or timezone.now()
    outbound.check_url(start_url, "The application's address")
    if partition not in PARTITIONS:
        raise BadInput(f"{partition!r} is no partition of AWS.")
    read = saml.read_metadata(metadata_xml, now=now).provider if metadata_xml.strip() else None
    with transaction.atomic():
        IdentityProvider.objects.select_for_update(of=("self",)).get(pk=provider.pk)
        row = RelayApplication.objects.filter(provider=provider).first()
        before = _facts(row) if row else {}
        if row is None:
            if read is None:
                raise BadInput("Paste the application's SAML metadata.")
            row = RelayApplication(provider=provider, created_at=now)
        if read is not None:
            row.entity_id, row.certificates = read.entity_id, list(read.certificates)
        row.start_url, row.partition = start_url, partition
        row.subject_attribute, row.enabled = subject_attribute.strip(), enabled
        row.save()
        after = _facts(row)
        changed = [name for name in after if before.get(name) != after[name]]
        if changed:
            announce_changed(
                "relay_application",
                row.pk,
                str(row),
                before={name: before[name] for name in changed if before},
                after={name: after[name] for name in changed},
                by=by,
                now=now,
            )
    return row


def delete_application(row: RelayApplication, *, by: By, now: datetime | None = None) -> None:
    """Take it away: nothing of it is passed on any more, and what is kept is not used."""
    with transaction.atomic():
        announce_changed(
            "relay_application",
            row.pk,
            str(row),
            before=_facts(row),
            after={},
            by=by,
            now=now or timezone.now(),
        )
        row.delete()


def _facts(row: RelayApplication) -> dict[str, Any]:
    return {
        "provider": row.provider.name,
        "partition": row.partition,
        "entity_id": row.entity_id,
        "certificates": [fingerprint(pem) for pem in row.certificates],
        "start_url": row.start_url,
        "subject_attribute": row.subject_attribute,
        "enabled": row.enabled,
    }
