"""Prepared reads answer what the query itself answers, on every connection, for every value."""

from __future__ import annotations

import threading
import uuid
from datetime import UTC, datetime

import pytest
from django.db import IntegrityError, connection, transaction

from accounts.models import Person
from broker.entitlements.models import Mapping
from broker.prepared import Prepared, PreparedInsert
from tests import factories as make

pytestmark = pytest.mark.django_db


def of_person(id):
    return (
        Person.objects.filter(pk=id)
        .order_by()
        .values_list("id", "is_active", "attributes", "created_at", "provider_id", "epoch")
    )


def test_rows_and_their_types_are_those_of_the_query():
    alice = make.person("alice", attributes={"team": ["blue"]})
    prepared = Prepared(of_person)

    for _ in range(2):
        assert prepared(id=alice.id) == list(of_person(alice.id))
    assert prepared(id=uuid.uuid4()) == []


def test_every_call_has_its_own_values():
    people = [make.person() for _ in range(3)]
    prepared = Prepared(of_person)

    assert [prepared(id=person.id)[0][0] for person in people] == [person.id for person in people]


def test_texts_numbers_constants_and_a_value_used_twice():
    group = make.group("developers")
    when = datetime(2030, 1, 1, tzinfo=UTC)
    mapping = make.mapping(group, note="why", valid_until=when)
    prepared = Prepared(
        lambda note, group_id: (
            Mapping.objects.filter(note=note, group_id=group_id, enabled=True)
            .order_by()
            .values_list("id", "valid_until")
            .union(
                Mapping.objects.filter(group_id=group_id)
                .order_by()
                .values_list("id", "valid_until")
            )
        )
    )

    assert prepared(note="why", group_id=group.id) == [(mapping.id, when)]
    assert prepared(note="'; DROP TABLE x; --", group_id=group.id) == [(mapping.id, when)]
    assert prepared(note="why", group_id=group.id + 1) == []


def test_a_value_that_looks_like_a_slot_is_only_a_value():
    make.mapping(make.group(), note="\N{WHITE SQUARE} slot 0")
    prepared = Prepared(lambda note: Mapping.objects.filter(note=note).values_list("note"))

    assert len(prepared(note="\N{WHITE SQUARE} slot 0")) == 1
    assert prepared(note="other") == []


def test_what_is_no_slot_of_the_query_is_a_mistake():
    with pytest.raises(ValueError, match="other"):
        Prepared(lambda id, other: of_person(id))(id=uuid.uuid4(), other="x")
    with pytest.raises(TypeError):
        Prepared(lambda id: Person.objects.all().values_list("id"))(id=None)


def test_it_is_one_query_that_the_debugger_sees(django_assert_num_queries):
    prepared = Prepared(of_person)
    prepared(id=uuid.uuid4())

    with django_assert_num_queries(1):
        prepared(id=uuid.uuid4())


@pytest.mark.django_db(transaction=True)
def test_threads_have_a_statement_each_and_the_same_answer():
    alice = make.person("alice")
    prepared = Prepared(of_person)
    answers = []

    def ask() -> None:
        for _ in range(20):
            answers.append(prepared(id=alice.id))
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == [list(of_person(alice.id))] * 80


def test_prepared_inserts_write_what_saving_would(django_assert_num_queries):
    provider, insert = make.provider(), PreparedInsert(Person)
    made = [
        Person(handle=f"p{n}", provider=provider, subject=f"s{n}", attributes={"team": ["ä", "'"]})
        for n in range(3)
    ]

    with django_assert_num_queries(1):
        insert(made)

    for one in made:
        read = Person.objects.get(pk=one.pk)
        assert (read.handle, read.attributes, read.created_at, read.is_active) == (
            one.handle,
            {"team": ["ä", "'"]},
            one.created_at,
            True,
        )
        assert read.last_login is None


def test_a_prepared_insert_keeps_the_rules_of_the_table():
    person = make.person("alice")

    with pytest.raises(IntegrityError), transaction.atomic():
        PreparedInsert(Person)([Person(handle="alice", provider=person.provider, subject="other")])
