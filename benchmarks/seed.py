"""People with many roles, and a browser session for each; prints cookies and role ids as JSON.

Runs in a process of its own with the benchmark's environment: python -m benchmarks.seed 10 200 4000
"""

from __future__ import annotations

import json
import sys
import time

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.middleware.csrf import _get_new_csrf_string  # noqa: E402
from django.utils import timezone  # noqa: E402

from accounts.models import (  # noqa: E402
    DirectoryGroup,
    Handle,
    IdentityProvider,
    Membership,
    Person,
    Protocol,
)
from broker.entitlements.models import (  # noqa: E402
    AwsAccount,
    AwsRole,
    Environment,
    Mapping,
    MappingRole,
)
from broker.minting import keys  # noqa: E402

ROLES_PER_ACCOUNT = 4
ROLES_PER_MAPPING = 20


def main(sizes: list[int]) -> None:
    now = timezone.now()
    keys.ensure_keys(now)
    provider = IdentityProvider.objects.create(
        slug="bench",
        name="Bench",
        protocol=Protocol.OIDC,
        issuer="https://bench.example",
        client_id="bench",
        enabled=True,
    )
    production = Environment.objects.create(name="Production", colour="red", production=True)
    staging = Environment.objects.create(name="Staging", colour="amber")
    accounts = AwsAccount.objects.bulk_create(
        AwsAccount(
            account_id=f"{100000000000 + n}",
            name=f"Team {n:04} {'production' if n % 2 else 'staging'}",
            environment=production if n % 2 else staging,
            region="eu-west-1",
        )
        for n in range(max(sizes) // ROLES_PER_ACCOUNT + 1)
    )
    roles = AwsRole.objects.bulk_create(
        AwsRole(
            account=accounts[n // ROLES_PER_ACCOUNT],
            name=f"{('Administrator', 'Developer', 'ReadOnly', 'Billing')[n % ROLES_PER_ACCOUNT]}",
            arn=f"arn:aws:iam::{accounts[n // ROLES_PER_ACCOUNT].account_id}:role/"
            f"{('Administrator', 'Developer', 'ReadOnly', 'Billing')[n % ROLES_PER_ACCOUNT]}",
            description="What this role is for, in one line.",
        )
        for n in range(max(sizes))
    )
    people = {}
    for size in sizes:
        person = Person(
            handle=f"bench{size}", name=f"Bench {size}", provider=provider, subject=str(size)
        )
        person.set_unusable_password()
        person.save()
        Handle.objects.create(value=person.handle, person=person)
        groups = DirectoryGroup.objects.bulk_create(
            DirectoryGroup(provider=provider, key=f"{size}-{n}", name=f"Group {size} {n}")
            for n in range((size + ROLES_PER_MAPPING - 1) // ROLES_PER_MAPPING)
        )
        Membership.objects.bulk_create(Membership(person=person, group=group) for group in groups)
        mappings = Mapping.objects.bulk_create(Mapping(group=group) for group in groups)
        MappingRole.objects.bulk_create(
            MappingRole(
                mapping=mappings[n // ROLES_PER_MAPPING],
                group=groups[n // ROLES_PER_MAPPING],
                role=roles[n],
            )
            for n in range(size)
        )
        people[str(size)] = {
            **_session(person, provider),
            "roles": [str(role.id) for role in roles[:size]],
        }
    print(json.dumps(people))


def _session(person: Person, provider: IdentityProvider) -> dict[str, str]:
    """What a sign-in leaves in the browser."""
    moment = time.time()
    session = SessionStore()
    session[SESSION_KEY] = str(person.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = person.get_session_auth_hash()
    session["daypass"] = {
        "proof": {
            "provider_id": str(provider.id),
            "provider_name": provider.name,
            "method": "oidc",
            "at": moment,
            "mfa": True,
            "context": "",
            "methods": ["mfa"],
        },
        "epoch": person.epoch,
        "began": moment,
        "seen": moment,
        "ends": None,
        "logout": {},
    }
    session.save()
    token = _get_new_csrf_string()
    cookies = (
        f"{settings.SESSION_COOKIE_NAME}={session.session_key}; {settings.CSRF_COOKIE_NAME}={token}"
    )
    return {"cookies": cookies, "csrf": token}


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]])
