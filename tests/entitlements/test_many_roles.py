"""Lists of very many roles read each mapping once, and say the same as short ones."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.queries import principal_of
from broker.entitlements import queries
from broker.entitlements.queries import facts
from tests import factories as make

pytestmark = pytest.mark.django_db


@pytest.fixture
def somebody():
    """With roles by one mapping, by two, by one that has not begun, and beside roles of others."""
    mine, too, others = (make.group(name) for name in ("mine", "too", "others"))
    one, both, later, theirs = (make.role(name) for name in ("One", "Both", "Later", "Theirs"))
    make.mapping(mine, one, both, session_tags={"team": "name"}, networks=["192.0.2.0/24"])
    make.mapping(too, both, require_mfa=True)
    make.mapping(mine, later, valid_from=timezone.now() + timedelta(days=1))
    make.mapping(others, theirs, both)
    make.deny(group=too, role=one)
    person = make.person("ada", groups=[mine, too])
    return principal_of(person, make.proof(of=person.provider), address="192.0.2.7")


def test_many_roles_are_decided_as_few_are(somebody, monkeypatch, django_assert_num_queries):
    now = timezone.now()
    few = queries.find_roles(somebody, now=now)
    monkeypatch.setattr(facts, "MANY", 2)

    with django_assert_num_queries(5):
        many = queries.find_roles(somebody, now=now)

    assert {row.role.name for row in few} == {"One", "Both", "Later"}
    assert few.rows == many.rows


def test_few_roles_take_four_queries(somebody, django_assert_num_queries):
    with django_assert_num_queries(4):
        queries.find_roles(somebody, now=timezone.now())
