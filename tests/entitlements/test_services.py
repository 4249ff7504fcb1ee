"""Administration: what is kept, what is refused and at which field, and what the audit says about it."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction

from broker.audit.models import AuditEvent
from broker.audit.queries import Verified, verify_chain
from broker.audit.services import Actor
from broker.entitlements import queries, services
from broker.entitlements.drafts import (
    AccountDraft,
    DenyDraft,
    EnvironmentDraft,
    FieldErrors,
    MappingDraft,
    RoleDraft,
)
from broker.entitlements.models import AwsAccount, AwsRole, Deny, Environment, Mapping, MappingRole
from broker.entitlements.rules import Allowed
from broker.errors import BadInput
from broker.sessions.models import Session
from tests import factories

pytestmark = pytest.mark.django_db
ADMIN = Actor(id=str(uuid.UUID(int=77)), name="root")
ARN = "arn:aws:iam::111122223333:role/team/Developer"


def now():
    return datetime.now(UTC)


def last_event():
    assert isinstance(verify_chain(), Verified)
    return AuditEvent.objects.first()


def registered(arn=ARN, **fields):
    return services.register_role(
        RoleDraft(arn=arn, **fields), actor=ADMIN, account_name="Payments"
    )


# --- accounts and environments


def test_a_registered_account_is_kept_as_people_paste_it_and_recorded():
    environment = services.create_environment(
        EnvironmentDraft(" Production ", colour="red", production=True), actor=ADMIN
    )

    account = services.register_account(
        AccountDraft(
            account_id="1111-2222-3333",
            name=" Payments ",
            alias="acme-pay",
            environment=environment.pk,
            region="eu-west-1",
        ),
        actor=ADMIN,
        address="192.0.2.1",
    )

    account.refresh_from_db()
    assert (account.account_id, account.name, account.alias) == (
        "111122223333",
        "Payments",
        "acme-pay",
    )
    assert account.environment.name == "Production"
    event = last_event()
    assert (event.kind, event.actor, event.address) == ("admin.changed", "root", "192.0.2.1")
    assert (event.subject_type, event.subject_id) == ("account", str(account.pk))
    assert event.data["action"] == "created"
    assert event.data["before"] == {}
    assert event.data["after"]["account_id"] == "111122223333"
    assert event.data["raises_own_rights"] is False


def test_an_account_id_and_an_alias_belong_to_one_account():
    services.register_account(
        AccountDraft("111122223333", "Payments", alias="acme-pay"), actor=ADMIN
    )

    with pytest.raises(FieldErrors) as refused:
        services.register_account(
            AccountDraft("111122223333", "Other", alias="acme-pay", environment=99), actor=ADMIN
        )

    assert set(refused.value.errors) == {"account_id", "alias", "environment"}
    assert AwsAccount.objects.count() == 1
    assert AuditEvent.objects.count() == 1


def test_a_change_records_only_what_differs():
    account = services.register_account(AccountDraft("111122223333", "Payments"), actor=ADMIN)

    services.update_account(
        account.pk, AccountDraft("111122223333", "Payments EU", region="eu-west-1"), actor=ADMIN
    )

    event = last_event()
    assert event.data["action"] == "changed"
    assert event.data["before"] == {"name": "Payments", "region": ""}
    assert event.data["after"] == {"name": "Payments EU", "region": "eu-west-1"}


def test_saving_without_a_change_records_nothing():
    draft = AccountDraft("111122223333", "Payments")
    account = services.register_account(draft, actor=ADMIN)

    services.update_account(account.pk, draft, actor=ADMIN)

    assert AuditEvent.objects.count() == 1


def test_an_account_with_roles_keeps_its_id_and_partition():
    role = registered()

    with pytest.raises(FieldErrors) as refused:
        services.update_account(
            role.account_id, AccountDraft("999988887777", "Payments", "aws-cn"), actor=ADMIN
        )

    assert set(refused.value.errors) == {"account_id", "partition"}


def test_an_environment_has_a_name_of_its_own():
    first = services.create_environment(EnvironmentDraft("Production"), actor=ADMIN)
    second = services.create_environment(EnvironmentDraft("Staging"), actor=ADMIN)

    with pytest.raises(FieldErrors):
        services.create_environment(EnvironmentDraft("Production"), actor=ADMIN)
    with pytest.raises(FieldErrors):
        services.update_environment(second.pk, EnvironmentDraft("Production"), actor=ADMIN)
    services.update_environment(first.pk, EnvironmentDraft("Production", "red"), actor=ADMIN)

    assert sorted(Environment.objects.values_list("name", "colour")) == [
        ("Production", "red"),
        ("Staging", "grey"),
    ]


def test_two_who_register_the_same_at_once_both_get_a_sentence():
    """The check before the write sees nothing; the constraint is the one that refuses."""
    services.register_account(AccountDraft("111122223333", "Payments"), actor=ADMIN)

    with pytest.raises(FieldErrors) as refused, services._writing("account_id", "Taken."):
        AwsAccount.objects.create(account_id="111122223333", name="Racer")

    assert refused.value.errors == {"account_id": "Taken."}


# --- roles


def test_a_role_is_registered_from_its_arn_with_its_account():
    role = registered(description="Builds things", max_seconds=7200)

    assert (role.name, role.path, role.arn) == ("Developer", "/team/", ARN)
    assert str(role.role_arn) == ARN
    assert (role.account.account_id, role.account.name) == ("111122223333", "Payments")
    assert [e.subject_type for e in AuditEvent.objects.order_by("seq")] == ["account", "role"]


def test_a_role_of_an_unknown_account_says_what_to_do_first():
    with pytest.raises(FieldErrors) as refused:
        services.register_role(RoleDraft(ARN), actor=ADMIN)

    assert "register it first" in refused.value.errors["arn"]
    assert not AwsRole.objects.exists()


@pytest.mark.parametrize(
    "arn",
    [
        ARN,
        "arn:aws:iam::111122223333:role/Developer",
        "arn:aws-cn:iam::111122223333:role/Other",
    ],
    ids=["the same", "the same name by another path", "another partition"],
)
def test_a_role_is_registered_once_and_in_its_accounts_partition(arn):
    registered()

    with pytest.raises(FieldErrors) as refused:
        services.register_role(RoleDraft(arn), actor=ADMIN)

    assert set(refused.value.errors) == {"arn"}
    assert AwsRole.objects.count() == 1


def test_a_role_keeps_its_arn_and_changes_the_rest():
    role = registered()

    services.update_role(
        role.id, RoleDraft(ARN, trust="assume_role", external_id="ext-1"), actor=ADMIN
    )
    with pytest.raises(FieldErrors):
        services.update_role(
            role.id, RoleDraft("arn:aws:iam::111122223333:role/Other"), actor=ADMIN
        )

    role.refresh_from_db()
    assert (role.arn, role.trust, role.external_id) == (ARN, "assume_role", "ext-1")
    event = last_event()
    assert event.data["after"]["trust"] == "assume_role"
    assert "ext-1" not in json.dumps(event.data)
    assert event.data["after"]["external_id"].startswith("set (")
    assert event.data["before"]["external_id"] == ""


def test_longer_sessions_of_ones_own_role_are_noted_as_raising_ones_own_rights():
    role = registered()
    group = factories.group()
    alice = factories.person("alice", groups=[group])
    factories.mapping(group, role)
    actor = Actor(id=str(alice.id), name="alice")

    services.update_role(role.id, RoleDraft(ARN, max_seconds=7200), actor=actor)
    longer = last_event().data["raises_own_rights"]
    services.update_role(role.id, RoleDraft(ARN, description="x", max_seconds=900), actor=actor)
    shorter = last_event().data["raises_own_rights"]
    services.update_account(
        role.account_id, AccountDraft("111122223333", "Payments", enabled=False), actor=actor
    )
    off = last_event().data["raises_own_rights"]
    services.update_account(role.account_id, AccountDraft("111122223333", "Payments"), actor=actor)

    assert (longer, shorter, off) == (True, False, False)
    assert last_event().data["raises_own_rights"] is True


# --- mappings


def test_a_mapping_gives_its_group_the_roles_and_says_so_in_the_audit():
    group = factories.group("developers")
    alice = factories.person(groups=[group])
    role = registered()

    mapping = services.create_mapping(
        MappingDraft(
            group=group.id,
            roles=(role.id, role.id),
            note="They build it",
            max_seconds=1800,
            networks=("192.0.2.0/24", "2001:DB8::/32", "192.0.2.0/24"),
            session_policy='{ "Version": "2012-10-17",\n "Statement": {"Effect": "Allow", '
            '"Action": "s3:*", "Resource": "*"} }',
            policy_arns=("arn:aws:iam::aws:policy/ReadOnlyAccess",),
            session_tags={"SecretProject": "team"},
        ),
        actor=ADMIN,
    )

    mapping.refresh_from_db()
    assert mapping.networks == ["192.0.2.0/24", "2001:db8::/32"]
    assert mapping.session_policy == (
        '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}'
    )
    row = queries.find_roles(factories.principal(alice), now=now()).rows[0]
    assert row.role.arn == ARN
    event = last_event()
    assert event.data["after"]["roles"] == [ARN]
    assert event.data["after"]["session_tags"] == ["SecretProject = team"]
    assert event.data["raises_own_rights"] is False


def test_an_administrator_who_maps_a_group_of_their_own_is_noted():
    group = factories.group()
    alice = factories.person(groups=[group])
    actor = Actor(id=str(alice.id), name=alice.handle)
    draft = MappingDraft(group.id, (registered().id,), enabled=False)

    mapping = services.create_mapping(draft, actor=actor)
    off = last_event().data["raises_own_rights"]
    services.switch(mapping, True, actor=actor)
    on = last_event().data["raises_own_rights"]
    services.update_mapping(mapping.id, replace(draft, enabled=True, note="x"), actor=actor)
    changed = last_event().data["raises_own_rights"]
    services.switch(mapping, False, actor=actor)

    assert (off, on, changed) == (False, True, True)
    assert last_event().data["raises_own_rights"] is False


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"group": 999_999}, "group"),
        ({"roles": (uuid.UUID(int=7),)}, "roles"),
        ({"roles": ()}, "roles"),
        ({"policy_arns": ("arn:aws-cn:iam::aws:policy/ReadOnlyAccess",)}, "policy_arns"),
        ({"policy_arns": ("arn:aws:iam::999988887777:policy/Ours",)}, "policy_arns"),
        ({"valid_until": datetime(2020, 1, 1, tzinfo=UTC)}, "valid_until"),
    ],
    ids=str,
)
def test_a_mapping_that_cannot_work_is_refused_at_its_field(change, field):
    group, role = factories.group(), registered()
    draft = replace(MappingDraft(group.id, (role.id,)), **change)
    written = AuditEvent.objects.count()

    with pytest.raises(FieldErrors) as refused:
        services.create_mapping(draft, actor=ADMIN)

    assert set(refused.value.errors) == {field}
    assert not Mapping.objects.exists()
    assert AuditEvent.objects.count() == written


def test_policies_of_the_roles_own_account_narrow_roles_of_that_account_only():
    group, role = factories.group(), registered()
    other = registered("arn:aws:iam::444455556666:role/Other")
    own = ("arn:aws:iam::111122223333:policy/team/Ours",)

    services.create_mapping(MappingDraft(group.id, (role.id,), policy_arns=own), actor=ADMIN)
    with pytest.raises(FieldErrors) as refused:
        services.create_mapping(
            MappingDraft(group.id, (role.id, other.id), policy_arns=own), actor=ADMIN
        )

    assert "444455556666" in refused.value.errors["policy_arns"]


def test_a_changed_mapping_moves_its_links_with_it():
    first, second = factories.group(), factories.group()
    alice, bob = factories.person(groups=[first]), factories.person(groups=[second])
    one, two = registered(), registered("arn:aws:iam::111122223333:role/Two")
    mapping = services.create_mapping(MappingDraft(first.id, (one.id,)), actor=ADMIN)

    ends = now() + timedelta(days=1)
    services.update_mapping(
        mapping.id, MappingDraft(second.id, (two.id,), valid_until=ends), actor=ADMIN
    )

    listed = {
        person.handle: [
            row.role.name for row in queries.find_roles(factories.principal(person), now=now()).rows
        ]
        for person in (alice, bob)
    }
    assert listed == {alice.handle: [], bob.handle: ["Two"]}
    link = MappingRole.objects.get()
    assert (link.group_id, link.role_id, link.enabled, link.valid_until) == (
        second.id,
        two.id,
        True,
        ends,
    )
    event = last_event()
    assert event.data["before"]["roles"] == [ARN]
    assert event.data["after"]["roles"] == ["arn:aws:iam::111122223333:role/Two"]


def test_links_say_what_their_mapping_says_after_every_verb():
    group = factories.group()
    role = registered()
    draft = MappingDraft(group.id, (role.id,))
    mapping = services.create_mapping(draft, actor=ADMIN)
    verbs = [
        lambda: services.switch(mapping, False, actor=ADMIN),
        lambda: services.switch(mapping, True, actor=ADMIN),
        lambda: services.update_mapping(mapping.id, replace(draft, enabled=False), actor=ADMIN),
        lambda: services.update_mapping(
            mapping.id, replace(draft, valid_until=now() + timedelta(days=2)), actor=ADMIN
        ),
    ]

    for verb in verbs:
        verb()
        mapping.refresh_from_db()
        link = MappingRole.objects.get()
        assert (link.group_id, link.enabled, link.valid_until) == (
            mapping.group_id,
            mapping.enabled,
            mapping.valid_until,
        )


def test_a_change_that_somebody_else_made_meanwhile_is_not_overwritten():
    group, role = factories.group(), registered()
    draft = MappingDraft(group.id, (role.id,))
    mapping = services.create_mapping(draft, actor=ADMIN)
    seen_at = mapping.updated_at
    services.update_mapping(mapping.id, replace(draft, note="theirs"), actor=ADMIN, seen_at=seen_at)

    with pytest.raises(BadInput) as refused:
        services.update_mapping(
            mapping.id, replace(draft, note="mine"), actor=ADMIN, seen_at=seen_at
        )

    assert refused.value.code == "changed_meanwhile"
    mapping.refresh_from_db()
    assert mapping.note == "theirs"


def test_the_change_and_its_record_stand_or_fall_together():
    group, role = factories.group(), registered()

    with pytest.raises(ZeroDivisionError), transaction.atomic():
        services.create_mapping(MappingDraft(group.id, (role.id,)), actor=ADMIN)
        raise ZeroDivisionError

    assert not Mapping.objects.exists()
    assert last_event().subject_type == "role"


# --- denies


def test_a_deny_takes_effect_and_lifting_it_for_oneself_is_noted():
    group = factories.group()
    alice = factories.person(groups=[group])
    role = registered()
    services.create_mapping(MappingDraft(group.id, (role.id,)), actor=ADMIN)
    principal = factories.principal(alice)
    actor = Actor(id=str(alice.id), name="alice")

    deny = services.create_deny(
        DenyDraft("Under repair", group=group.id, account=role.account_id), actor=actor
    )
    noted = [last_event().data["raises_own_rights"]]
    denied = queries.find_roles(principal, now=now()).rows[0].console
    services.update_deny(
        deny.id,
        DenyDraft("Under repair", person=alice.id, account=role.account_id),
        actor=actor,
    )
    noted.append(last_event().data["raises_own_rights"])
    services.switch(deny, False, actor=actor)
    noted.append(last_event().data["raises_own_rights"])
    allowed = queries.find_roles(principal, now=now()).rows[0].console
    services.delete(deny, actor=ADMIN)

    assert denied.code == "denied"
    assert isinstance(allowed, Allowed)
    assert noted == [False, True, True]
    assert not Deny.objects.exists()
    assert last_event().data["before"]["reason"] == "Under repair"


@pytest.mark.parametrize(
    "draft",
    [
        DenyDraft("r", group=999_999),
        DenyDraft("r", person=uuid.uuid4()),
    ],
    ids=["group", "person"],
)
def test_a_deny_names_what_exists(draft):
    with pytest.raises(FieldErrors):
        services.create_deny(draft, actor=ADMIN)


def test_a_deny_of_a_role_or_account_that_is_gone_is_refused():
    person = factories.person()

    with pytest.raises(FieldErrors) as role:
        services.create_deny(DenyDraft("r", person=person.id, role=uuid.uuid4()), actor=ADMIN)
    with pytest.raises(FieldErrors) as account:
        services.create_deny(DenyDraft("r", person=person.id, account=999_999), actor=ADMIN)

    assert set(role.value.errors) == {"role"}
    assert set(account.value.errors) == {"account"}


# --- on, off, gone


def test_switching_twice_records_once():
    role = registered()
    stale = AwsRole.objects.get(pk=role.pk)

    assert services.switch(role, False, actor=ADMIN) is True
    assert services.switch(stale, False, actor=ADMIN) is False

    assert role.enabled is False
    event = last_event()
    assert (event.data["action"], event.data["before"], event.data["after"]) == (
        "switched off",
        {"enabled": True},
        {"enabled": False},
    )
    assert AuditEvent.objects.filter(subject_type="role").count() == 2


def test_switching_on_what_one_can_use_oneself_is_noted():
    group = factories.group()
    alice = factories.person(groups=[group])
    role = registered()
    factories.mapping(group, role)
    actor = Actor(id=str(alice.id), name="alice")
    noted = []

    for row in (role, role.account):
        for enabled in (False, True):
            services.switch(row, enabled, actor=actor)
            noted.append(last_event().data["raises_own_rights"])
    services.switch(role, False, actor=ADMIN)
    services.switch(role, True, actor=Actor.task("importer"))

    assert noted == [False, True, False, True]
    assert last_event().data["raises_own_rights"] is False


def test_a_mapping_is_deleted_with_its_links_and_kept_in_the_audit():
    group, role = factories.group(), registered()
    mapping = services.create_mapping(MappingDraft(group.id, (role.id,)), actor=ADMIN)
    key = str(mapping.id)

    services.delete(mapping, actor=ADMIN)

    assert not Mapping.objects.exists()
    assert not MappingRole.objects.exists()
    event = last_event()
    assert (event.data["action"], event.subject_id) == ("deleted", key)
    assert event.data["before"]["roles"] == [ARN]
    assert event.data["after"] == {}


def test_what_something_depends_on_is_not_deleted():
    group, role = factories.group(), registered()
    environment = services.create_environment(EnvironmentDraft("Production"), actor=ADMIN)
    AwsAccount.objects.update(environment=environment)
    mapped = services.create_mapping(MappingDraft(group.id, (role.id,)), actor=ADMIN)
    used = registered("arn:aws:iam::111122223333:role/Used")
    Session.objects.create(
        person=factories.person(),
        role=used,
        hand_over="keys",
        session_name="s",
        source_identity="s",
        seconds=900,
    )
    written = AuditEvent.objects.count()

    for row in (role, used, role.account, environment):
        with pytest.raises(BadInput) as refused:
            services.delete(row, actor=ADMIN)
        assert refused.value.code == "in_use"

    assert AuditEvent.objects.count() == written
    services.delete(mapped, actor=ADMIN)
    services.delete(role, actor=ADMIN)
    assert not AwsRole.objects.filter(pk=role.pk).exists()


@pytest.mark.parametrize(
    "verb",
    [
        lambda: services.update_role(uuid.uuid4(), RoleDraft(ARN), actor=ADMIN),
        lambda: services.update_account(1, AccountDraft("111122223333", "x"), actor=ADMIN),
        lambda: services.update_environment(1, EnvironmentDraft("x"), actor=ADMIN),
        lambda: services.update_mapping(
            uuid.uuid4(), MappingDraft(1, (uuid.uuid4(),)), actor=ADMIN
        ),
        lambda: services.update_deny(uuid.uuid4(), DenyDraft("x", group=1), actor=ADMIN),
        lambda: services.delete(AwsRole(name="x"), actor=ADMIN),
    ],
)
def test_what_is_gone_says_so(verb):
    with pytest.raises(BadInput) as refused:
        verb()

    assert refused.value.code == "gone"
