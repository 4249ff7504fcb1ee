"""Everything that is kept between requests, with what its key holds; authorisation answers are kept nowhere.

A cache whose key forgets the provider or the person makes one of them the other (threats.md R47). Every use of a cache
in Daypass is in this list: a new one has to say here what its key holds.
"""

from __future__ import annotations

import ast
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from accounts.models import IdentityProvider, Membership
from broker.entitlements.models import Mapping
from tests import factories as make
from tests.aws.servers import _sts_server, sts_stand_in  # noqa: F401  (fixtures)
from tests.portal.conftest import sign_in

ROOT = Path(__file__).resolve().parent.parent

KEPT = {
    "accounts/throttle.py:_shared": "the connection to Redis, by its address; counts in it are keyed by what, and by "
    "a digest of whom or which provider",
    "accounts/throttle.py:_digest": "that digest, by whom it is of",
    "accounts/early.py:_date": "the date as answers say it, by the second",
    "accounts/confined/certificates.py:*": "certificates, parsed, by their own text",
    "accounts/outbound.py:*": "TLS settings, by the bundle of authorities",
    "broker/sealing.py:_build": "ciphers, by all sealing keys there are",
    "broker/minting/keys.py:*": "our own opened keys, by the sealed row",
    "broker/aws/clock.py:*": "how our clock compares with AWS's: about the machine, of nobody",
    "broker/aws/regions.py:*": "which region or sign-in host of AWS did not answer, by its name: of nobody",
    "broker/awssso/checks.py:*": "what became of the header of AWS's clients on its way: of nobody",
    "broker/health.py:_redis": "nothing: whether Redis answers",
    "broker/entitlements/packing.py:_compressed": "the length of a session policy, by its text",
    "broker/entitlements/queries/facts.py:*": "names of columns, by model",
    "broker/portal/tags.py:*": "pictures of the page, by name",
}
"""Place -> what is kept, by which key."""

_CALLS = {
    "get",
    "set",
    "add",
    "incr",
    "decr",
    "delete",
    "touch",
    "get_or_set",
    "get_many",
    "set_many",
}


def uses() -> set[str]:
    """Every function of ours that uses Django's cache, or is itself kept by its arguments."""
    found = set()
    for path in [*ROOT.glob("accounts/**/*.py"), *ROOT.glob("broker/**/*.py")]:
        name = str(path.relative_to(ROOT))
        if name.startswith("broker/demo/"):
            continue
        tree = ast.parse(path.read_text())
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef):
                continue
            kept = any(
                "cache" in ast.unparse(d)
                and "never" not in ast.unparse(d)
                and "property" not in ast.unparse(d)
                for d in function.decorator_list
            )
            asks = any(
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id in ("cache", "caches")
                and node.func.attr in _CALLS
                for node in ast.walk(function)
            )
            if kept or asks:
                found.add(f"{name}:{function.name}")
    return found


def test_every_use_of_a_cache_is_known():
    found = uses()
    assert len(found) >= 10

    unknown = {use for use in found if use not in KEPT and f"{use.partition(':')[0]}:*" not in KEPT}
    places = {use.partition(":")[0] for use in found}
    gone = {place for place in KEPT if place.partition(":")[0] not in places}

    assert not unknown, f"say in KEPT what these keep, and by which key: {sorted(unknown)}"
    assert not gone


def test_no_decision_is_among_what_is_kept():
    for use in uses():
        place = use.partition(":")[0]
        stage = {part.removesuffix(".py") for part in place.split("/")}
        assert not stage & {"rules", "services", "views", "identity"}, use
        assert "session" not in place and "assume" not in place, use


CHANGES = {
    "the mapping is switched off": lambda: Mapping.objects.update(enabled=False),
    "the membership ends": lambda: Membership.objects.all().delete(),
    "the membership grows stale": lambda: Membership.objects.update(
        confirmed_at=timezone.now() - timedelta(hours=9)
    ),
    "the provider is switched off": lambda: IdentityProvider.objects.update(enabled=False),
}


@pytest.mark.django_db
@pytest.mark.parametrize("change", CHANGES)
def test_what_was_allowed_a_moment_ago_is_decided_anew(change, sts_stand_in, signing_keys):  # noqa: F811
    """The very next request of the same browser, without anything in between that could clear a cache."""
    person = make.person("ada", groups=[make.group("developers")])
    role = make.role("Developer")
    make.mapping(person.memberships.get().group, role)
    client = sign_in(person)
    assert client.post(f"/keys/{role.pk}/").status_code == 200
    issued = len(sts_stand_in.requests)

    CHANGES[change]()

    answer = client.post(f"/keys/{role.pk}/")
    assert answer.status_code in (302, 403, 404)
    assert len(sts_stand_in.requests) == issued == 1
