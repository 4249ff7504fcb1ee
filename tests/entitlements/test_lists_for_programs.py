"""What programs are told of a person's accounts and roles: what keys can be had of, in order, piece by piece."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from broker.entitlements import queries
from broker.entitlements.models import AwsRole
from broker.errors import BadInput
from tests import factories

pytestmark = pytest.mark.django_db


def now():
    return datetime.now(UTC)


def accounts(principal, **options):
    options = {"door": "terminal", "most": 100, **options}
    return queries.accounts_with_keys(principal, now=now(), **options)


def roles(principal, account_id, **options):
    options = {"door": "terminal", "most": 100, **options}
    return queries.roles_with_keys(principal, account_id, now=now(), **options)


def names(found):
    return [row.name for row in found.rows]


@pytest.fixture
def group():
    return factories.group("developers")


@pytest.fixture
def alice(group):
    return factories.principal(factories.person("alice", groups=[group]))


def test_accounts_come_by_name_each_once_and_nobody_elses(alice, group):
    zebra = factories.account("Zebra", account_id="100000000001")
    first = factories.account("Ape", account_id="200000000002")
    second = factories.account("Ape", account_id="200000000003")
    factories.mapping(
        group,
        *(factories.role(name, of=zebra) for name in ("A", "B")),
        factories.role(of=second),
        factories.role(of=first),
    )
    factories.mapping(factories.group(), factories.role(of=factories.account("Hidden")))

    found = accounts(alice)

    assert [(one.name, one.account_id) for one in found.rows] == [
        ("Ape", "200000000002"),
        ("Ape", "200000000003"),
        ("Zebra", "100000000001"),
    ]
    assert found.following == ()


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5])
def test_accounts_piece_by_piece_are_all_accounts_once(alice, group, most):
    for name, number in (("B", 5), ("A", 9), ("A", 3), ("\u00c4", 1)):
        of = factories.account(name, account_id=f"10000000000{number}")
        factories.mapping(group, factories.role(of=of))

    pieces, after = [], ()
    while True:
        piece = accounts(alice, most=most, after=after)
        assert 0 < len(piece.rows) <= most
        pieces += piece.rows
        after = piece.following
        if not after:
            break

    assert tuple(pieces) == accounts(alice).rows
    assert len({one.account_id for one in pieces}) == 4


def test_roles_of_one_account_come_by_name_piece_by_piece(alice, group):
    of = factories.account(account_id="100000000001")
    made = [factories.role(name, of=of) for name in ("Reader", "Administrator", "Deployer")]
    factories.mapping(group, *made, factories.role("Elsewhere"))

    first = roles(alice, "100000000001", most=2)
    rest = roles(alice, "100000000001", most=2, after=first.following)

    assert (names(first), first.following) == (["Administrator", "Deployer"], ("Deployer",))
    assert (names(rest), rest.following) == (["Reader"], ())
    assert roles(alice, "100000000001", most=3).following == ()
    assert {one.account_id for one in first.rows} == {"100000000001"}


def test_an_account_where_the_person_has_nothing_has_no_roles_and_nor_has_one_that_is_not(alice):
    other = factories.role(of=factories.account(account_id="100000000001"))
    factories.mapping(factories.group(), other)

    assert roles(alice, "100000000001").rows == roles(alice, "999999999999").rows == ()


def test_a_role_without_keys_is_not_listed_unless_another_mapping_gives_keys(alice, group):
    of = factories.account(account_id="100000000001")
    console_only, both = factories.role("ConsoleOnly", of=of), factories.role("Both", of=of)
    lonely = factories.role("Lonely", of=factories.account("No keys at all"))
    factories.mapping(group, console_only, both, lonely, allow_keys=False)
    factories.mapping(group, both, allow_console=False)

    assert names(roles(alice, "100000000001")) == ["Both"]
    assert [one.account_id for one in accounts(alice).rows] == ["100000000001"]


@pytest.mark.parametrize(
    "limits",
    [{"enabled": False}, {"valid_until": datetime(2020, 1, 1, tzinfo=UTC)}],
    ids=["off", "over"],
)
def test_a_mapping_that_gives_keys_no_longer_lists_nothing(alice, group, limits):
    of = factories.account(account_id="100000000001")
    role = factories.role(of=of)
    factories.mapping(group, role, allow_keys=False)
    factories.mapping(group, role, **limits)

    assert roles(alice, "100000000001").rows == ()
    assert accounts(alice).rows == ()


@pytest.mark.parametrize(
    "limits",
    [
        {"require_mfa": True},
        {"networks": ["192.0.2.0/24"]},
        {"valid_from": datetime(2099, 1, 1, tzinfo=UTC)},
        {"max_sign_in_age": 1},
    ],
    ids=str,
)
def test_what_depends_on_a_condition_is_listed_so_that_the_refusal_can_say_which(
    alice, group, limits
):
    of = factories.account(account_id="100000000001")
    factories.mapping(group, factories.role("Conditional", of=of), **limits)

    assert names(roles(alice, "100000000001")) == ["Conditional"]
    assert len(accounts(alice).rows) == 1


def test_a_stale_membership_still_lists(group):
    stale = factories.person(at=group.provider)
    factories.membership(stale, group, confirmed_at=now() - timedelta(hours=9))
    factories.mapping(
        group, factories.role("Mine", of=factories.account(account_id="100000000001"))
    )

    assert names(roles(factories.principal(stale), "100000000001")) == ["Mine"]


@pytest.mark.parametrize("switched_off", ["role", "account", "provider", "person"])
def test_what_is_switched_off_is_not_listed(alice, group, switched_off):
    of = factories.account(account_id="100000000001", enabled=switched_off != "account")
    factories.mapping(group, factories.role(of=of, enabled=switched_off != "role"))
    if switched_off == "provider":
        group.provider.enabled = False
        group.provider.save()
    if switched_off == "person":
        alice = replace(alice, active=False)

    assert roles(alice, "100000000001").rows == ()
    assert accounts(alice).rows == ()


def test_a_device_code_is_told_of_no_sensitive_role(alice, group):
    mixed = factories.account("Mixed", account_id="100000000001")
    secret = factories.account("Secret", account_id="100000000002")
    factories.mapping(
        group,
        factories.role("Admin", of=mixed, sensitive=True),
        factories.role("Reader", of=mixed),
        factories.role("Root", of=secret, sensitive=True),
    )

    assert names(roles(alice, "100000000001", door="device_code")) == ["Reader"]
    assert names(accounts(alice, door="device_code")) == ["Mixed"]
    assert names(roles(alice, "100000000001")) == ["Admin", "Reader"]
    assert names(accounts(alice)) == ["Mixed", "Secret"]


def test_who_may_ask_for_one_role_is_told_of_that_role_alone(alice, group):
    mine = factories.role("Mine", of=factories.account("First", account_id="100000000001"))
    beside = factories.role("Beside", of=mine.account)
    other = factories.role("Other", of=factories.account("Second", account_id="100000000002"))
    factories.mapping(group, mine, beside, other)

    assert names(accounts(alice, only=mine.id)) == ["First"]
    assert names(roles(alice, "100000000001", only=mine.id)) == ["Mine"]
    assert roles(alice, "100000000002", only=mine.id).rows == ()
    assert accounts(alice, only=uuid.uuid4()).rows == ()


def test_lists_cost_the_same_queries_however_many_roles_there_are(
    alice, group, django_assert_num_queries
):
    of = factories.account(account_id="100000000001")
    factories.mapping(group, *(factories.role(of=of) for _ in range(20)))

    with django_assert_num_queries(1):
        accounts(alice)
    with django_assert_num_queries(3):
        assert len(roles(alice, "100000000001").rows) == 20


@pytest.mark.parametrize("after", [("a", "b", "c"), ("\x00", "b"), ("\x00",)])
def test_a_place_that_no_list_named_is_refused(alice, group, after):
    factories.mapping(group, factories.role())

    with pytest.raises(BadInput):
        accounts(alice, after=after)
    with pytest.raises(BadInput):
        roles(alice, "100000000001", after=after)


def test_a_role_is_found_by_account_and_exact_name(alice):
    role = factories.role("Reader", of=factories.account(account_id="100000000001"))

    assert queries.role_named("100000000001", "Reader") == role.id
    assert queries.role_named("100000000001", "reader") is None
    assert queries.role_named("100000000002", "Reader") is None
    assert queries.role_named("100000000001", "Rea\x00der") is None


def test_rows_of_a_device_code_say_that_sensitive_roles_are_not_for_it(alice, group):
    role = factories.role(sensitive=True)
    factories.mapping(group, role)

    (row,) = queries.rows_of(alice, [role.id], now=now(), door="device_code")

    assert row.keys.code == row.console.code == "device_code_not_allowed"


def test_an_asserted_role_is_no_right_of_a_mapping(alice, group):
    of = factories.account(account_id="100000000001")
    role = factories.role(
        of=of,
        trust=AwsRole.Trust.RELAYED_ASSERTION,
        relay_provider=group.provider,
    )
    factories.mapping(group, role)

    assert accounts(alice).rows == ()
    assert roles(alice, "100000000001").rows == ()
