"""Letting people in: who they are, which groups they are in now, what that confers."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts import services
from accounts.models import DirectoryGroup, Handle, Membership, Person
from accounts.rules import PersonClaims
from broker.audit.models import AuditEvent
from broker.errors import SignInRefused
from tests import factories as make
from tests.accounts.conftest import BY


def claims(subject: str = "u-1", *groups: str, **fields) -> PersonClaims:
    fields = {
        "username": "ada",
        "name": "Ada Lovelace",
        "email": "ada@example.com",
        "attributes": {},
        "mfa": False,
        "context": "",
        "methods": (),
        "at": None,
        **fields,
    }
    return PersonClaims(subject=subject, groups=tuple(groups), **fields)


_messages = iter(range(10**6))


def let_in(row, told: PersonClaims, *, now=None, message: str = "") -> services.Admission:
    now = now or timezone.now()
    return services.sign_in(
        row.pk,
        told,
        message=services.OneUse("test", message or f"m{next(_messages)}", now + timedelta(hours=1)),
        evidence={},
        address="198.51.100.7",
        now=now,
    )


def keys_of(person: Person) -> set[str]:
    return set(person.memberships.values_list("group__key", flat=True))


def recorded(kind: str) -> list[dict]:
    return [event.data for event in AuditEvent.objects.filter(kind=kind).order_by("seq")]


@pytest.fixture
def row(db):
    return make.provider("acme")


def test_somebody_new_is_created_and_recorded(row):
    admitted = let_in(row, claims())

    assert admitted.created
    assert recorded("person.created") == [{"handle": "ada", "provider": "Acme"}]
    assert not admitted.person.has_usable_password()
    assert not admitted.person.is_staff


def test_somebody_known_is_found_by_the_subject_and_refreshed(row):
    first = let_in(row, claims())

    again = let_in(
        row,
        claims(
            name="Ada King", email="king@example.com", username="king", attributes={"t": ("x",)}
        ),
    )

    assert not again.created
    assert again.person.pk == first.person.pk
    assert (again.person.name, again.person.email) == ("Ada King", "king@example.com")
    assert again.person.attributes == {"t": ["x"]}
    assert again.person.handle == "ada"


def test_an_email_address_never_makes_two_people_one(row):
    let_in(row, claims("u-1"))
    let_in(row, claims("u-2"))
    let_in(make.provider("other"), claims("u-1"))

    assert Person.objects.count() == 3
    assert sorted(Person.objects.values_list("handle", flat=True)) == ["ada", "ada-2", "ada-3"]


def test_a_handle_is_never_given_to_a_second_person(row):
    gone = let_in(row, claims("u-1")).person
    Handle.objects.filter(value=gone.handle).update(person=None)
    gone.memberships.all().delete()

    assert let_in(row, claims("u-2")).person.handle == "ada-2"


def test_eight_people_of_one_name_at_once_get_eight_handles(together):
    row = make.provider("acme")
    subjects = iter(f"u-{n}" for n in range(8))

    results = together(lambda: let_in(row, claims(next(subjects))).person.handle, times=8)

    assert sorted(results) == ["ada", *(f"ada-{n}" for n in range(2, 9))]


def test_one_person_eight_times_at_once_is_one_person(together):
    row = make.provider("acme")

    results = together(lambda: let_in(row, claims("u-1", "g1", "g2")).person.pk, times=8)

    assert len(set(results)) == 1
    assert Person.objects.count() == 1
    assert keys_of(Person.objects.get()) == {"g1", "g2"}
    assert Handle.objects.count() == 1


def test_a_message_is_taken_once(row):
    let_in(row, claims(), message="same")

    with pytest.raises(SignInRefused) as refusal:
        let_in(row, claims("u-2"), message="same")

    assert refusal.value.code == "replayed"
    assert Person.objects.count() == 1


def test_a_message_is_taken_once_at_a_time_too(together):
    row = make.provider("acme")

    results = together(lambda: let_in(row, claims(), message="same"), times=8)

    assert sum(isinstance(result, services.Admission) for result in results) == 1
    assert sum(isinstance(result, SignInRefused) for result in results) == 7


# --- Groups


def test_a_sign_in_says_all_the_groups_there_are_now(row):
    person = let_in(row, claims("u-1", "a", "b")).person

    let_in(row, claims("u-1", "b", "c"))

    assert keys_of(person) == {"b", "c"}


def test_without_groups_nothing_is_left(row):
    person = let_in(row, claims("u-1", "a")).person

    let_in(row, claims("u-1"))

    assert keys_of(person) == set()


def test_a_membership_is_as_fresh_as_the_last_sign_in(row):
    then = timezone.now() - timedelta(hours=3)
    person = let_in(row, claims("u-1", "a"), now=then).person
    now = timezone.now()

    let_in(row, claims("u-1", "a"), now=now)

    assert person.memberships.get().confirmed_at == now


def test_what_scim_keeps_is_left_alone(row):
    person = let_in(row, claims("u-1", "a")).person
    kept = make.group("kept", at=row)
    make.membership(person, kept, source="scim")
    make.membership(person, make.group("both", at=row), source="scim")

    let_in(row, claims("u-1", "both"))

    assert set(person.memberships.values_list("group__key", "source")) == {
        ("kept", "scim"),
        ("both", "scim"),
    }


def test_memberships_at_another_provider_are_left_alone(row):
    person = let_in(row, claims("u-1", "a")).person
    make.membership(person, make.group("elsewhere"))

    let_in(row, claims("u-1"))

    assert keys_of(person) == {"elsewhere"}


def test_a_group_of_one_provider_is_never_the_group_of_another(row):
    other = make.provider("other")
    let_in(row, claims("u-1", "admins"))
    let_in(other, claims("u-1", "admins"))

    assert DirectoryGroup.objects.filter(key="admins").count() == 2


def test_groups_that_nobody_registered_confer_nothing(row):
    let_in(row, claims("u-1", "admins"))

    group = DirectoryGroup.objects.get()
    assert (group.key, group.name, group.confers_staff) == ("admins", "", False)


def test_a_provider_cannot_fill_the_table_with_groups(row, monkeypatch):
    monkeypatch.setattr(services.people, "MAX_GROUPS_OF_A_PROVIDER", 3)

    person = let_in(row, claims("u-1", "a", "b", "c", "d")).person
    let_in(row, claims("u-1", "c", "e"))

    assert DirectoryGroup.objects.count() == 3
    assert keys_of(person) == {"c"}


def test_five_hundred_groups_are_a_few_queries(row, django_assert_max_num_queries):
    keys = [f"group-{n}" for n in range(500)]
    let_in(row, claims("u-1", *keys))

    with django_assert_max_num_queries(35):
        let_in(row, claims("u-1", *keys[1:], "one more"))


# --- Staff


def test_a_group_may_confer_staff_and_takes_it_back(row):
    make.group("operators", at=row, confers_staff=True)

    person = let_in(row, claims("u-1", "operators")).person
    assert person.is_staff
    assert not person.is_superuser
    assert recorded("person.staff_changed") == [
        {"handle": "ada", "staff": True, "group": "operators"}
    ]

    person = let_in(row, claims("u-1")).person
    assert not person.is_staff
    assert recorded("person.staff_changed")[1]["staff"] is False


def test_staying_in_the_group_is_no_news(row):
    make.group("operators", at=row, confers_staff=True)
    let_in(row, claims("u-1", "operators"))
    let_in(row, claims("u-1", "operators"))

    assert len(recorded("person.staff_changed")) == 1


def test_the_same_group_name_at_another_provider_confers_nothing(row):
    make.group("operators", at=make.provider("other"), confers_staff=True)

    assert not let_in(row, claims("u-1", "operators")).person.is_staff


def test_marking_a_group_reaches_its_members_at_once(row):
    person = let_in(row, claims("u-1", "operators")).person
    stranger = let_in(row, claims("u-2", "others")).person
    group = DirectoryGroup.objects.get(key="operators")

    services.update_group(group, name="Operators", confers_staff=True, by=BY)
    person.refresh_from_db()
    stranger.refresh_from_db()
    assert (person.is_staff, stranger.is_staff) == (True, False)

    services.update_group(group, name="Operators", confers_staff=False, by=BY)
    person.refresh_from_db()
    assert not person.is_staff
    assert [data["staff"] for data in recorded("person.staff_changed")] == [True, False]


def test_unmarking_one_of_two_groups_leaves_the_other_to_confer(row):
    for key in ("one", "two"):
        services.register_group(row, key, confers_staff=True, by=BY)
    person = let_in(row, claims("u-1", "one", "two")).person

    services.update_group(
        DirectoryGroup.objects.get(key="one"), name="", confers_staff=False, by=BY
    )

    person.refresh_from_db()
    assert person.is_staff


def test_a_superuser_by_hand_keeps_staff_whatever_the_groups_say(row):
    person = let_in(row, claims("u-1")).person
    Person.objects.filter(pk=person.pk).update(is_staff=True)

    assert let_in(row, claims("u-1")).person.is_staff


# --- Refusals


def test_a_provider_that_is_off_lets_nobody_in(row):
    row.enabled = False
    row.save()

    with pytest.raises(SignInRefused) as refusal:
        let_in(row, claims())

    assert refusal.value.code == "provider_disabled"
    assert not Person.objects.exists()


def test_somebody_switched_off_is_refused_and_nothing_changes(row):
    person = let_in(row, claims("u-1", "a")).person
    services.set_person_active(person, False, by=BY)

    with pytest.raises(SignInRefused) as refusal:
        let_in(row, claims("u-1", "a", "b", name="Other"))

    person.refresh_from_db()
    assert refusal.value.code == "person_inactive"
    assert person.name == "Ada Lovelace"
    assert keys_of(person) == {"a"}


def test_without_an_audit_row_nobody_gets_in(row):
    from django.db import connection

    from broker.errors import AuditBroken

    let_in(row, claims("u-0"))
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE broker_auditevent RENAME TO hidden")

    with pytest.raises(AuditBroken):
        let_in(row, claims("u-1"))

    assert not Person.objects.filter(subject="u-1").exists()
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE hidden RENAME TO broker_auditevent")


def test_a_membership_has_one_row_a_group(row):
    person = let_in(row, claims("u-1", "a", "a")).person

    assert Membership.objects.filter(person=person).count() == 1
