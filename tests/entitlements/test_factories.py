"""The factories tell the truth: what they make holds together."""

from __future__ import annotations

import pytest

from tests import factories


@pytest.mark.django_db
def test_a_principal_has_the_groups_of_its_person_and_none_of_a_disabled_provider():
    group = factories.group("developers")
    person = factories.person("alice", groups=[group])
    other = factories.group("elsewhere", at=factories.provider(enabled=False))
    factories.membership(person, other)

    principal = factories.principal(person)

    assert [g.key for g in principal.groups] == ["developers"]
    assert principal.handle == "alice"
    assert principal.groups[0].fresh_until > principal.proof.at
