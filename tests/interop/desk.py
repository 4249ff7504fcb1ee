"""The administrator's desk: a process of the Daypass under test that calls its services, as the admin pages do.

`python -m tests.interop.desk` in the environment of a demo answers one line of JSON for each on its standard input.
Connecting a provider through the pages has a journey of its own; the rest would only be slower that way.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from tests.servers import ROOT, Demo

if __name__ == "__main__":
    import django

    django.setup()


def connect_saml(slug: str, metadata_url: str, claims: dict[str, Any], **fields: Any) -> None:
    from accounts import services
    from accounts.models import IdentityProvider, Protocol
    from accounts.rules import PRESETS

    services.save_provider(
        IdentityProvider(
            slug=slug,
            name=f"The people of {slug}",
            protocol=Protocol.SAML,
            metadata_url=metadata_url,
            claim_map=PRESETS["saml"].to_json() | claims,
            enabled=True,
            **fields,
        ),
        by=_by(),
    )


def connect_oidc(
    slug: str, issuer: str, client_id: str, secret: str, claims: dict[str, Any], **fields: Any
) -> None:
    from accounts import services
    from accounts.models import IdentityProvider, Protocol
    from accounts.rules import PRESETS

    services.save_provider(
        IdentityProvider(
            slug=slug,
            name=f"The people of {slug}",
            protocol=Protocol.OIDC,
            issuer=issuer,
            client_id=client_id,
            claim_map=PRESETS["oidc"].to_json() | claims,
            enabled=True,
            **fields,
        ),
        by=_by(),
        secret=secret,
    )


def change(
    slug: str, claims: dict[str, Any] | None = None, secret: str | None = None, **fields: Any
) -> None:
    """Save a provider with other values."""
    from accounts import services

    provider = _provider(slug)
    for name, value in fields.items():
        setattr(provider, name, value)
    if claims is not None:
        provider.claim_map = provider.claim_map | claims
    services.save_provider(provider, by=_by(), secret=secret)


def refresh(slug: str) -> bool:
    """What Celery does every hour."""
    from accounts import services

    return services.refresh_provider(_provider(slug).pk)


def give_role(slug: str, group: str, account: str, role: str) -> None:
    """A mapping from a group of the provider to a role."""
    from accounts import services
    from accounts.models import DirectoryGroup
    from broker.audit.services import Actor
    from broker.entitlements import services as entitlements
    from broker.entitlements.drafts import AccountDraft, MappingDraft, RoleDraft
    from broker.entitlements.models import AwsAccount, AwsRole

    actor = Actor.task("tests")
    if not AwsAccount.objects.filter(account_id=account).exists():
        entitlements.register_account(
            AccountDraft(account_id=account, name=f"Account {account}"), actor=actor
        )
    arn = f"arn:aws:iam::{account}:role/{role}"
    registered = AwsRole.objects.filter(arn=arn).first() or entitlements.register_role(
        RoleDraft(arn=arn), actor=actor
    )
    provider = _provider(slug)
    kept = DirectoryGroup.objects.filter(
        provider=provider, key=group
    ).first() or services.register_group(provider, group, by=_by())
    entitlements.create_mapping(
        MappingDraft(group=kept.pk, roles=(registered.pk,), note=f"{group} of {slug}"), actor=actor
    )


def person(slug: str, email: str) -> dict[str, Any]:
    """What Daypass knows of whoever signed in last with this address, which decides nothing."""
    from accounts.models import Person

    people = Person.objects.filter(provider__slug=slug, email=email)
    found = people.order_by("signed_in_at").last()
    assert found is not None
    return {
        "subject": found.subject,
        "handle": found.handle,
        "name": found.name,
        "groups": sorted(found.memberships.values_list("group__key", flat=True)),
    }


def people(slug: str) -> int:
    """How many people of a provider Daypass knows."""
    from accounts.models import Person

    return Person.objects.filter(provider__slug=slug).count()


def last_sign_in(slug: str) -> dict[str, Any]:
    """What the audit log has about the last sign-in at a provider."""
    from broker.audit.models import AuditEvent

    name = _provider(slug).name
    found = AuditEvent.objects.filter(kind="sign_in.accepted").order_by("-seq")[:20]
    return next(dict(event.data) for event in found if event.data.get("provider") == name)


def settle(slug: str) -> None:
    """Believe whatever a provider says now, so that the next test finds it as it is."""
    from django.utils import timezone

    from accounts import services
    from accounts.models import ProviderProposal

    refresh(slug)
    for waiting in ProviderProposal.objects.filter(provider=_provider(slug), state="open"):
        services.accept_proposal(waiting, waiting.digest, _by(), timezone.now())


def _provider(slug: str) -> Any:
    from accounts.models import IdentityProvider

    return IdentityProvider.objects.get(slug=slug)


def _by() -> Any:
    from accounts.services import By

    return By(id="task:tests", name="tests")


DEEDS: dict[str, Callable[..., Any]] = {
    deed.__name__: deed
    for deed in (
        connect_saml,
        connect_oidc,
        change,
        refresh,
        give_role,
        person,
        people,
        last_sign_in,
        settle,
    )
}


class Desk:
    """The other end: `desk.do("refresh", slug="okta")`."""

    def __init__(self, demo: Demo, module: str = "tests.interop.desk") -> None:
        self.demo = demo
        self.origin = demo.stage.origin
        self.process = subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=ROOT,
            env=demo.stage.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def do(self, deed: str, **arguments: Any) -> Any:
        """Raises RuntimeError with what the service said."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps([deed, arguments]) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "problem" in answer:
            raise RuntimeError(answer["problem"])
        return answer["done"]

    def stop(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=10)
        self.process.stdout.close()


def main(deeds: dict[str, Callable[..., Any]]) -> None:
    from django.db import close_old_connections

    for line in sys.stdin:
        deed, arguments = json.loads(line)
        try:
            answer = {"done": deeds[deed](**arguments)}
        except Exception as error:
            answer = {"problem": f"{type(error).__name__}: {error}"}
        close_old_connections()
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(DEEDS)
