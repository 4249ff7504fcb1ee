"""People with many roles, a browser session and terminals for each; prints cookies, tokens and roles as JSON.

Runs in a process of its own with the benchmark's environment: python -m benchmarks.seed 10 200 4000
With --catalogue 100000 there are so many roles in all; those beyond the people's own are mapped to others' groups.
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import timedelta

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.middleware.csrf import _get_new_csrf_string  # noqa: E402
from django.utils import timezone  # noqa: E402

from accounts.identity import Proof  # noqa: E402
from accounts.models import (  # noqa: E402
    DirectoryGroup,
    Handle,
    IdentityProvider,
    Membership,
    Person,
    Protocol,
)
from accounts.queries import principal_of  # noqa: E402
from broker.awssso import services as terminals  # noqa: E402
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
TERMINALS = 20
"""For each person: what one terminal may ask in a minute is limited."""


def main(sizes: list[int], catalogue: int) -> None:
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
        for n in range(catalogue // ROLES_PER_ACCOUNT + 1)
    )
    roles = AwsRole.objects.bulk_create(
        AwsRole(
            account=accounts[n // ROLES_PER_ACCOUNT],
            name=f"{('Administrator', 'Developer', 'ReadOnly', 'Billing')[n % ROLES_PER_ACCOUNT]}",
            arn=f"arn:aws:iam::{accounts[n // ROLES_PER_ACCOUNT].account_id}:role/"
            f"{('Administrator', 'Developer', 'ReadOnly', 'Billing')[n % ROLES_PER_ACCOUNT]}",
            description="What this role is for, in one line.",
        )
        for n in range(catalogue)
    )
    _others(provider, roles[max(sizes) :])
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
            "named": [(role.account.account_id, role.name) for role in roles[:size]],
            "tokens": _terminals(person, provider),
        }
    print(json.dumps(people))


def _others(provider: IdentityProvider, roles: list[AwsRole]) -> None:
    """Everybody else's: a group and a mapping for every twenty of these roles."""
    count = (len(roles) + ROLES_PER_MAPPING - 1) // ROLES_PER_MAPPING
    groups = DirectoryGroup.objects.bulk_create(
        DirectoryGroup(provider=provider, key=f"others-{n}", name=f"Others {n}")
        for n in range(count)
    )
    mappings = Mapping.objects.bulk_create(Mapping(group=group) for group in groups)
    MappingRole.objects.bulk_create(
        MappingRole(
            mapping=mappings[n // ROLES_PER_MAPPING],
            group=groups[n // ROLES_PER_MAPPING],
            role=role,
        )
        for n, role in enumerate(roles)
    )


def _terminals(person: Person, provider: IdentityProvider) -> list[str]:
    """Access tokens, each of a terminal of its own that the person let in."""
    now = timezone.now()
    proof = Proof(
        provider_id=provider.id, provider_name=provider.name, method="oidc", at=now, mfa=True
    )
    principal = principal_of(person, proof, address="127.0.0.1")
    tokens = []
    for _ in range(TERMINALS):
        wish = terminals.LetIn(
            kind="sso",
            flow="browser",
            client_name="benchmark",
            client_digest="0" * 64,
            asker=terminals.Asker("127.0.0.1", "benchmark"),
        )
        terminal = terminals.let_in(
            principal, wish, line="", relay="", browser_ends=now + timedelta(hours=8), now=now
        )
        tokens.append(terminals.give_tokens(terminal, now=now).access)
    return tokens


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
    parser = argparse.ArgumentParser()
    parser.add_argument("sizes", type=int, nargs="+")
    parser.add_argument("--catalogue", type=int, default=0)
    arguments = parser.parse_args()
    main(arguments.sizes, max(arguments.catalogue, *arguments.sizes, 0))
