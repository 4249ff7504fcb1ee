"""What is read: the snapshot, the list of a person's roles, deep links, pasted addresses, and explanations."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from broker.entitlements import queries
from broker.entitlements.models import AwsRole
from broker.entitlements.rules import Allowed, Ask, Refused, decide
from tests import factories

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


def now():
    return datetime.now(UTC)


def found(principal, text="", **options):
    return queries.find_roles(principal, text, now=now(), **options)


def names(page):
    return [row.role.name for row in page.rows]


# --- the snapshot


def test_the_snapshot_holds_only_what_concerns_this_person_and_this_role(
    django_assert_max_num_queries,
):
    group = factories.group("developers")
    other = factories.group("others", at=group.provider)
    alice = factories.person(groups=[group])
    role = factories.role("Developer", of=factories.account("Payments", alias="pay"))
    mine = factories.mapping(group, role, factories.role(), note="why")
    factories.mapping(other, role)
    factories.mapping(group)
    by_group = factories.deny(group=group, account=role.account)
    by_person = factories.deny(person=alice)
    factories.deny(group=group, role=factories.role())
    factories.deny(group=other)
    factories.deny(person=factories.person(), role=role)
    principal = factories.principal(alice)

    with django_assert_max_num_queries(2):
        snapshot = queries.load_snapshot(principal, role.id)

    assert [m.id for m in snapshot.mappings] == [mine.id]
    assert snapshot.mappings[0].group_name == "developers"
    assert {d.id for d in snapshot.denies} == {by_group.id, by_person.id}
    assert (snapshot.role.id, snapshot.role.account_name) == (role.id, "Payments")
    assert snapshot.role.arn == str(role.role_arn)


def test_every_limit_of_a_mapping_reaches_the_decision():
    group = factories.group()
    alice = factories.person(groups=[group])
    begins, ends = now() - HOUR, now() + HOUR
    role = factories.role(
        of=factories.account(
            environment=factories.environment("Live", production=True, colour="red")
        ),
        external_id="x-1",
        trust="assume_role",
        sensitive=True,
    )
    limits = {
        "max_seconds": 1800,
        "allow_keys": False,
        "require_mfa": True,
        "max_sign_in_age": 60,
        "networks": ["192.0.2.0/24"],
        "valid_from": begins,
        "valid_until": ends,
        "session_policy": "{}",
        "policy_arns": ["arn:aws:iam::aws:policy/A"],
        "session_tags": {"Team": "team"},
        "note": "n",
    }
    factories.mapping(group, role, **limits)

    snapshot = queries.load_snapshot(factories.principal(alice), role.id)

    facts = snapshot.mappings[0]
    for name, value in limits.items():
        expected = tuple(value) if isinstance(value, list) else value
        assert getattr(facts, name) == expected, name
    assert facts.allow_console
    assert facts.created_at is not None
    assert snapshot.role.environment == "Live"
    assert snapshot.role.environment_colour == "red"
    assert snapshot.role.production
    assert snapshot.role.sensitive
    assert (snapshot.role.external_id, snapshot.role.trust) == ("x-1", "assume_role")


def test_a_role_without_a_mapping_for_the_person_is_known_and_has_none():
    role = factories.role()
    factories.mapping(factories.group(), role)
    alice = factories.person()
    deny = factories.deny(person=alice, account=role.account)

    snapshot = queries.load_snapshot(factories.principal(alice), role.id)

    assert snapshot.role.id == role.id
    assert snapshot.role.environment == ""
    assert snapshot.mappings == ()
    assert [d.id for d in snapshot.denies] == [deny.id]


def test_there_is_no_snapshot_of_a_role_that_does_not_exist():
    assert queries.load_snapshot(factories.principal(factories.person()), uuid.uuid4()) is None


def test_a_deny_by_a_group_and_by_the_person_both_appear():
    group = factories.group()
    alice = factories.person(groups=[group])
    role = factories.role()
    factories.mapping(group, role)
    factories.deny(group=group, reason="Frozen")
    factories.deny(person=alice, role=role, reason="On leave")
    principal = factories.principal(alice)

    refused = decide(
        principal, Ask(role.id, "keys"), queries.load_snapshot(principal, role.id), now()
    )

    assert refused.code == "denied"
    text = " ".join(reason.sentence for reason in refused.reasons)
    assert "Frozen" in text
    assert "On leave" in text


def test_a_stale_membership_is_refused_with_a_way_out():
    group = factories.group("developers")
    alice = factories.person(at=group.provider)
    factories.membership(alice, group, confirmed_at=now() - timedelta(hours=9))
    factories.mapping(group, role := factories.role())
    principal = factories.principal(alice)

    refused = decide(
        principal, Ask(role.id, "console"), queries.load_snapshot(principal, role.id), now()
    )
    listed = found(principal)

    assert (refused.code, refused.next_step, refused.visible) == (
        "membership_stale",
        "sign_in_again",
        True,
    )
    assert "Sign in again" in refused.sentence
    assert names(listed) == [role.name]
    assert isinstance(listed.rows[0].console, Refused)


def test_a_membership_that_scim_keeps_current_never_grows_stale():
    group = factories.group()
    alice = factories.person(at=group.provider)
    factories.membership(alice, group, source="scim", confirmed_at=now() - timedelta(days=90))
    factories.mapping(group, role := factories.role())

    row = found(factories.principal(alice)).rows[0]

    assert row.role.id == role.id
    assert isinstance(row.console, Allowed)


def test_groups_of_a_disabled_provider_count_for_nothing():
    provider = factories.provider()
    group = factories.group(at=provider)
    alice = factories.person(groups=[group])
    factories.mapping(group, role := factories.role())
    provider.enabled = False
    provider.save()
    principal = factories.principal(alice)

    refused = decide(
        principal, Ask(role.id, "console"), queries.load_snapshot(principal, role.id), now()
    )

    assert refused.code == "not_a_member"
    assert not refused.visible
    assert found(principal).total == 0


def test_the_same_group_key_at_two_providers_never_mixes():
    ours, theirs = factories.provider(), factories.provider()
    admins, strangers = (factories.group("admins", at=at) for at in (ours, theirs))
    factories.mapping(admins, factories.role("Administrator"))
    alice = factories.person(groups=[admins])
    mallory = factories.person(groups=[strangers])

    assert names(found(factories.principal(alice))) == ["Administrator"]
    assert found(factories.principal(mallory)).total == 0


def test_a_membership_in_another_providers_group_gives_nothing():
    ours, theirs = factories.provider(), factories.provider()
    group = factories.group("admins", at=theirs)
    alice = factories.person(at=ours)
    factories.membership(alice, group)
    factories.mapping(group, role := factories.role())
    principal = factories.principal(alice)

    refused = decide(
        principal, Ask(role.id, "console"), queries.load_snapshot(principal, role.id), now()
    )

    assert (refused.code, refused.visible) == ("other_provider", False)
    assert found(principal).total == 0


# --- the list


def cast():
    """A person with five roles in three accounts, and an account that is none of their business."""
    group = factories.group("developers")
    alice = factories.person(groups=[group])
    production = factories.environment("Live", production=True)
    testing = factories.environment("Testing")
    payments = factories.account(
        "Payments", account_id="111122223333", alias="acme-pay", environment=production
    )
    zurich = factories.account("Zürich Prüfung", account_id="444455556666", environment=testing)
    odd = factories.account("100%_off", account_id="777788889999")
    factories.mapping(
        group,
        factories.role("Administrator", of=payments, description="Everything, with care"),
        factories.role("ReadOnly", of=payments),
        factories.role("Administrator", of=zurich, description="Straße sperren"),
        factories.role("Billing_Report", of=odd),
        factories.role("BillingXReport", of=odd),
    )
    factories.mapping(factories.group(), factories.role("Secret", of=factories.account("Hidden")))
    return factories.principal(alice)


def test_the_list_is_ordered_by_account_and_role_and_counts_both():
    page = found(cast())

    assert [(row.role.account_name, row.role.name) for row in page] == [
        ("100%_off", "BillingXReport"),
        ("100%_off", "Billing_Report"),
        ("Payments", "Administrator"),
        ("Payments", "ReadOnly"),
        ("Zürich Prüfung", "Administrator"),
    ]
    assert (page.total, page.accounts_total, page.page, page.pages) == (5, 3, 1, 1)
    assert all(isinstance(row.console, Allowed) and isinstance(row.keys, Allowed) for row in page)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("prod admin", ["Administrator"]),
        ("ADMIN pay", ["Administrator"]),
        ("live", ["Administrator", "ReadOnly"]),
        ("production", ["Administrator", "ReadOnly"]),
        ("acme-pay", ["Administrator", "ReadOnly"]),
        ("111122223333", ["Administrator", "ReadOnly"]),
        ("1111-2222-3333 read", ["ReadOnly"]),
        ("2222", ["Administrator", "ReadOnly"]),
        ("with CARE", ["Administrator"]),
        ("testing", ["Administrator"]),
        ("ZÜRICH", ["Administrator"]),
        ("Zu\u0308rich", ["Administrator"]),
        ("prüfung STRASSE", []),
        ("prüfung straße", ["Administrator"]),
        ("100%", ["BillingXReport", "Billing_Report"]),
        ("%", ["BillingXReport", "Billing_Report"]),
        ("billing_report", ["Billing_Report"]),
        ("_report", ["Billing_Report"]),
        ("\\", []),
        ("' OR 1=1 --", []),
        ("secret", []),
        ("hidden", []),
        ("pay zürich", []),
        ("   ", ["BillingXReport", "Billing_Report", "Administrator", "ReadOnly", "Administrator"]),
    ],
)
def test_every_word_has_to_stand_somewhere(text, expected):
    assert names(found(cast(), text)) == expected


@pytest.mark.parametrize(
    ("text", "total"), [("e " * 100_000, 5), ("x" * 100_000, 0), ("nul\x00byte", 0)]
)
def test_a_search_of_any_length_is_answered(text, total):
    assert found(cast(), text).total == total


def test_pages_follow_each_other_and_the_last_one_answers_for_those_past_it():
    principal = cast()

    pages = [found(principal, page=number, page_size=2) for number in (1, 2, 3)]

    assert [len(page) for page in pages] == [2, 2, 1]
    assert [name for page in pages for name in names(page)] == names(found(principal))
    assert {(page.total, page.pages) for page in pages} == {(5, 3)}
    assert found(principal, page=99, page_size=2) == pages[2]
    assert found(principal, page=-1, page_size=2) == pages[0]


def test_a_person_without_roles_has_one_empty_page():
    page = found(factories.principal(factories.person()))

    assert (page.rows, page.total, page.accounts_total, page.page, page.pages) == ((), 0, 0, 1, 1)


def test_a_page_costs_four_queries_however_many_roles_there_are(django_assert_num_queries):
    principal = cast()

    with django_assert_num_queries(4):
        found(principal, "prod admin", page_size=50)


@pytest.mark.parametrize(
    "change",
    [
        {"mapping": {"enabled": False}},
        {"mapping": {"valid_until": datetime(2020, 1, 1, tzinfo=UTC)}},
        {"role": {"enabled": False}},
        {"account": {"enabled": False}},
        {"person": {"is_active": False}},
    ],
    ids=str,
)
def test_what_is_no_live_right_is_not_listed_and_not_told(change):
    group = factories.group()
    alice = factories.person(groups=[group], **change.get("person", {}))
    account = factories.account(**change.get("account", {}))
    role = factories.role(of=account, **change.get("role", {}))
    factories.mapping(group, role, **change.get("mapping", {}))
    principal = factories.principal(alice)

    assert found(principal).total == 0
    assert queries.rows_of(principal, [role.id], now=now()) == ()


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"require_mfa": True}, "mfa_missing"),
        ({"networks": ["192.0.2.0/24"]}, "network_not_allowed"),
        ({"valid_from": datetime(2099, 1, 1, tzinfo=UTC)}, "not_yet_valid"),
        ({"max_sign_in_age": 60}, "sign_in_too_old"),
    ],
)
def test_a_role_that_is_not_usable_now_is_listed_with_its_reason(limits, code):
    group = factories.group()
    alice = factories.person(groups=[group])
    factories.mapping(group, **limits)
    signed_in = factories.proof(at=now() - HOUR, of=group.provider)

    row = found(factories.principal(alice, signed_in=signed_in)).rows[0]

    assert row.console.code == row.keys.code == code
    assert row.console.visible


def test_a_denied_role_is_listed_with_the_reason_of_the_deny():
    group = factories.group()
    alice = factories.person(groups=[group])
    factories.mapping(group, role := factories.role())
    factories.deny(group=group, account=role.account, reason="Under repair")

    row = found(factories.principal(alice)).rows[0]

    assert row.console.code == "denied"
    assert "Under repair" in row.console.sentence


def test_console_and_keys_are_decided_apart():
    group = factories.group()
    alice = factories.person(groups=[group])
    factories.mapping(group, allow_keys=False)

    row = found(factories.principal(alice)).rows[0]

    assert isinstance(row.console, Allowed)
    assert row.keys.code == "hand_over_not_allowed"


def test_a_role_of_several_mappings_is_listed_once():
    first, second = (factories.group(at=at) for at in [factories.provider()] * 2)
    alice = factories.person(groups=[first, second])
    role = factories.role()
    for group in (first, second, first):
        factories.mapping(group, role)

    page = found(factories.principal(alice))

    assert page.total == len(page.rows) == 1
    assert len(page.rows[0].console.reasons) == 3


def test_the_local_account_has_no_roles():
    group = factories.group()
    alice = factories.person(groups=[group])
    factories.mapping(group)
    local = factories.proof()
    from dataclasses import replace

    principal = factories.principal(alice, signed_in=replace(local, provider_id=None))

    assert found(principal).total == 0


def test_rows_of_known_roles_keep_their_order_and_leave_out_the_rest():
    principal = cast()
    listed = [row.role.id for row in found(principal)]
    hidden = AwsRole.objects.get(name="Secret").id

    rows = queries.rows_of(
        principal, [listed[3], hidden, listed[0], uuid.uuid4(), listed[3]], now=now()
    )

    assert [row.role.id for row in rows] == [listed[3], listed[0]]
    assert queries.rows_of(principal, [], now=now()) == ()


# --- deep links and pasted addresses


@pytest.mark.parametrize(
    ("account", "role", "there"),
    [
        ("111122223333", "ReadOnly", True),
        ("1111-2222-3333", "ReadOnly", True),
        ("acme-pay", "ReadOnly", True),
        ("ACME-PAY", "ReadOnly", True),
        ("111122223333", "readonly", False),
        ("111122223334", "ReadOnly", False),
        ("", "Billing_Report", False),
        ("Payments", "ReadOnly", False),
        ("١١١١٢٢٢٢٣٣٣٣", "ReadOnly", False),
        ("111122223333", "ReadOnly\x00", False),
        ("acme-pay\x00", "ReadOnly", False),
    ],
)
def test_a_deep_link_finds_its_role_by_account_and_exact_name(account, role, there):
    principal = cast()

    assert (queries.find_role(principal, account, role) is not None) is there


@pytest.mark.parametrize(
    ("text", "expected", "destination"),
    [
        ("arn:aws:iam::111122223333:role/team/ReadOnly", ["ReadOnly"], ""),
        ("arn:aws:sts::111122223333:assumed-role/ReadOnly/alice", ["ReadOnly"], ""),
        (
            "arn:aws:lambda:eu-west-1:111122223333:function:pay",
            ["Administrator", "ReadOnly"],
            "https://console.aws.amazon.com/go/view?arn="
            "arn%3Aaws%3Alambda%3Aeu-west-1%3A111122223333%3Afunction%3Apay",
        ),
        (
            "https://444455556666-abc123.eu-central-1.console.aws.amazon.com/ec2/home?region=eu-central-1#Instances:",
            ["Administrator"],
            "https://eu-central-1.console.aws.amazon.com/ec2/home?region=eu-central-1#Instances:",
        ),
        (
            "https://signin.aws.amazon.com/switchrole?account=acme-pay&roleName=ReadOnly",
            ["ReadOnly"],
            "",
        ),
        ("arn:aws-cn:s3:::bucket", [], "https://console.amazonaws.cn/console/home"),
    ],
)
def test_a_pasted_address_leads_to_the_roles_that_can_open_it(text, expected, destination):
    opening = queries.roles_that_open(cast(), f"  {text}\n", now=now())

    assert names(opening.roles) == expected
    assert opening.place.destination == destination


def test_an_address_that_names_no_account_leads_to_every_role_of_its_partition():
    principal = cast()

    opening = queries.roles_that_open(
        principal, "https://s3.console.aws.amazon.com/s3/buckets/pay", now=now()
    )

    assert opening.roles == found(principal)


def test_words_are_not_an_address():
    assert queries.roles_that_open(cast(), "prod admin", now=now()) is None


# --- explanations


def test_a_person_is_explained_role_by_role_whatever_the_state_of_the_mapping():
    group, old = (
        factories.group(name, at=at)
        for name, at in zip(("developers", "alumni"), [factories.provider()] * 2, strict=True)
    )
    alice = factories.person(groups=[group])
    factories.membership(alice, old, confirmed_at=now() - timedelta(hours=9))
    role = factories.role("Developer", of=factories.account("A"))
    off, stale = (factories.role(name, of=factories.account("B")) for name in ("Off", "Stale"))
    strict = factories.mapping(
        group,
        role,
        require_mfa=True,
        max_sign_in_age=300,
        networks=["192.0.2.0/24"],
        max_seconds=1800,
    )
    factories.mapping(group, off, enabled=False)
    factories.mapping(old, stale)
    denied = factories.deny(person=alice, role=off)

    rights = {right.role.name: right for right in queries.explain_person(alice.id, now())}

    assert set(rights) == {"Developer", "Off", "Stale"}
    developer = rights["Developer"]
    assert isinstance(developer.console, Allowed)
    assert developer.console.mapping_id == strict.id
    (right,) = developer.rights
    assert right.mapping.require_mfa
    assert (right.group.name, right.fresh) == ("developers", True)
    assert [c.code for c in right.conditions] == ["mfa", "sign_in_age", "network"]
    assert [c.sentence for c in right.limits] == ["up to 30 minutes"]
    assert rights["Off"].console.code == "denied"
    assert [d.id for d in rights["Off"].denies] == [denied.id]
    assert "mapping_disabled" in [r.code for r in rights["Off"].console.reasons]
    assert rights["Stale"].console.code == "membership_stale"
    assert rights["Stale"].rights[0].fresh is False


def test_a_role_is_explained_person_by_person():
    group = factories.group("developers")
    _, bob, carol = (factories.person(name, groups=[group]) for name in ("alice", "bob", "carol"))
    carol.is_active = False
    carol.save()
    factories.person("dave", at=group.provider)
    role = factories.role()
    factories.mapping(group, role)
    factories.mapping(factories.group("unused", at=group.provider), role)
    factories.deny(person=bob, account=role.account)

    reach = {one.person.handle: one for one in queries.explain_role(role.id, now())}

    assert set(reach) == {"alice", "bob", "carol"}
    assert isinstance(reach["alice"].keys, Allowed)
    assert reach["alice"].rights[0].mapping.group_name == "developers"
    assert reach["alice"].denies == ()
    assert reach["bob"].keys.code == "denied"
    assert len(reach["bob"].denies) == 1
    assert reach["carol"].keys.code == "person_inactive"
    assert reach["carol"].person.active is False


def test_an_explanation_agrees_with_the_decision_of_a_real_sign_in():
    group = factories.group()
    alice = factories.person(groups=[group], attributes={"team": ["blue"]})
    roles = [factories.role() for _ in range(4)]
    factories.mapping(group, roles[0], session_tags={"Team": "team"})
    factories.mapping(group, roles[1], session_tags={"Team": "nothing"})
    factories.mapping(group, roles[2], allow_console=False)
    factories.mapping(group, roles[3])
    factories.deny(group=group, role=roles[3])
    principal = factories.principal(alice)

    explained = {right.role.id: right for right in queries.explain_person(alice.id, now())}
    reached = {role.id: queries.explain_role(role.id, now()).rows[0] for role in roles}

    for row in found(principal):
        for told in (explained[row.role.id], reached[row.role.id]):
            assert type(told.console) is type(row.console)
            assert [r.code for r in told.keys.reasons] == [r.code for r in row.keys.reasons]


def test_explanations_are_searched_and_paged(django_assert_max_num_queries):
    group = factories.group()
    people = [factories.person(f"p{n:02}", groups=[group]) for n in range(12)]
    account = factories.account()
    role = factories.role("Common", of=account)
    factories.mapping(group, role, *(factories.role(f"R{n:02}", of=account) for n in range(12)))

    with django_assert_max_num_queries(7):
        second = queries.explain_role(role.id, now(), page=2, page_size=5)
    with django_assert_max_num_queries(7):
        roles = queries.explain_person(people[0].id, now(), text="r0", page=9, page_size=5)

    assert [one.person.handle for one in second] == ["p05", "p06", "p07", "p08", "p09"]
    assert (second.total, second.page, second.pages) == (12, 2, 3)
    assert [r.role.name for r in roles] == ["R05", "R06", "R07", "R08", "R09"]
    assert roles.total == 10
    assert queries.explain_role(role.id, now(), text="P11 example.com").total == 1


def test_nobody_and_nothing_are_explained_by_an_empty_page():
    assert len(queries.explain_person(uuid.uuid4(), now())) == 0
    assert len(queries.explain_role(uuid.uuid4(), now())) == 0


def test_a_new_mapping_tells_who_would_get_it():
    group = factories.group()
    fresh = [factories.person(f"a{n}", groups=[group]) for n in range(3)]
    late = factories.person("b", at=group.provider)
    factories.membership(late, group, confirmed_at=now() - timedelta(hours=9))
    gone = factories.person("c", groups=[group], is_active=False)

    audience = queries.who_would_get(group.id, now(), first=2)

    assert (audience.total, audience.fresh) == (4, 3)
    assert [one.handle for one in audience.people] == ["a0", "a1"]
    assert gone.handle not in [one.handle for one in audience.people]
    assert fresh
