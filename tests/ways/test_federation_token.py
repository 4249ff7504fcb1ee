"""Federation tokens: only narrowed, only of the broker's own IAM user, one name for each person, and never unwarned."""

from __future__ import annotations

import json
import re

import pytest
from django.utils import timezone
from hypothesis import assume, given
from hypothesis import strategies as st

from accounts.rules import HANDLE
from broker.assume.rules import SUFFIX_LENGTH, SUFFIX_LETTERS, Unplannable, federated_name
from broker.assume.services import Issued
from broker.audit.services import Actor
from broker.aws import sts as aws_sts
from broker.doctor.models import TrustCheck
from broker.doctor.services import Who, check_role
from broker.entitlements.models import AwsRole, Mapping
from broker.entitlements.rules import Ask, Refused
from broker.errors import AwsError
from broker.handover.console import ConsoleLink, open_console
from broker.sessions.models import Session
from tests import factories as make
from tests.admin.conftest import ada, admin_client, okta  # noqa: F401  (fixtures)
from tests.admin.test_rights import mapping_form, role_form
from tests.ways.cast import ACCOUNT, BROKER, World

USER = f"arn:aws:iam::{ACCOUNT}:user/daypass"
LABEL = f"arn:aws:sts::{ACCOUNT}:federated-user/Developer"
POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "s3:Get*", "Resource": "*"}],
    },
    separators=(",", ":"),
)
handles = st.from_regex(HANDLE, fullmatch=True)
suffixes = st.text(SUFFIX_LETTERS, min_size=SUFFIX_LENGTH, max_size=SUFFIX_LENGTH)


# --- Names


@given(handles, suffixes)
def test_aws_takes_every_name(handle, suffix):
    assert re.fullmatch(r"[\w+=,.@-]{2,32}", federated_name(handle, suffix), re.ASCII)


@given(handles, handles, suffixes)
def test_two_people_never_share_a_name_even_when_theirs_begin_alike(one, other, suffix):
    assume(one != other)

    assert federated_name(one, suffix) != federated_name(other, suffix)
    long, longer = ("maximilian.alexander." + "x" * 10 + end for end in "ab")
    assert federated_name(long, suffix) != federated_name(longer, suffix)


def test_a_handle_that_fits_is_left_as_it_is():
    assert federated_name("alice", "9f3k2c7d") == "alice.9f3k2c7d"
    assert federated_name("x" * 23, "9f3k2c7d") == "x" * 23 + ".9f3k2c7d"


# --- From AWS


@pytest.fixture
def world(strict, client, published, monkeypatch):
    aws_sts._clients.clear()
    world = World(strict, client, {"department": ["blue"]})
    run_with(monkeypatch, *strict.add_user(USER))
    yield world
    aws_sts._clients.clear()


def run_with(monkeypatch, key_id: str, secret: str, token: str = "") -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    if token:
        monkeypatch.setenv("AWS_SESSION_TOKEN", token)
    else:
        monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)


def entry(world: World, *, arn: str = LABEL, **limits) -> AwsRole:
    row = make.role(
        "Developer", of=world.account, arn=arn, trust="federation_token", max_seconds=28800
    )
    make.mapping(world.developers, row, **({"session_policy": POLICY} | limits))
    return row


@pytest.mark.django_db
def test_alice_becomes_a_federated_user_narrowed_by_the_policy(world):
    issued = world.issue(entry(world, session_tags={"Team": "department"}))

    given_ = world.given(issued)
    assert re.fullmatch(rf"arn:aws:sts::{ACCOUNT}:federated-user/alice\.[0-9a-z]{{8}}", given_.arn)
    assert world.whoami(issued) == given_.arn == Session.objects.get().assumed_role_arn
    assert (given_.seconds, given_.tags) == (28800, {"Team": "blue"})
    seen = world.sts.requests[0]
    assert seen.action == "GetFederationToken"
    assert seen.form["Policy"] == POLICY


@pytest.mark.django_db
def test_managed_policies_narrow_as_well(world):
    arn = "arn:aws:iam::aws:policy/ReadOnlyAccess"

    world.given(world.issue(entry(world, session_policy="", policy_arns=[arn])))

    assert world.sts.requests[0].form["PolicyArns.member.1.arn"] == arn


@pytest.mark.django_db
def test_the_same_with_moto(world, moto, settings):
    settings.DAYPASS_STS_ENDPOINT = moto.url
    # moto answers for its own account, whoever asks
    world.account.account_id = "123456789012"
    world.account.save()
    arn = "arn:aws:sts::123456789012:federated-user/Developer"

    issued = world.issue(entry(world, arn=arn))

    assert isinstance(issued, Issued)
    assert ":federated-user/alice." in Session.objects.get().assumed_role_arn


@pytest.mark.django_db
def test_its_console_names_no_length(world, signin_stand_in):
    """AWS refuses a length for the console of a federation token; it lasts as its credentials do."""
    role = entry(world)

    opened = open_console(
        make.principal(world.alice), Ask(role.id, "console", 3600), now=timezone.now()
    )

    assert isinstance(opened, ConsoleLink)
    [request] = signin_stand_in.requests
    assert "SessionDuration" not in request.form
    assert world.sts.requests[0].form["DurationSeconds"] == "3600"


# --- Never without a session policy


@pytest.mark.django_db
def test_without_a_session_policy_it_is_refused_and_aws_not_asked(world):
    refused = world.issue(entry(world, session_policy=""))

    assert isinstance(refused, Refused)
    assert refused.code == "session_policy_missing"
    assert world.sts.requests == []


@pytest.mark.django_db
def test_the_plan_and_the_call_refuse_it_too(world):
    from dataclasses import replace

    from broker.assume.rules import make_plan
    from broker.entitlements.queries import load_snapshot
    from broker.entitlements.rules import Allowed, decide

    role = entry(world)
    principal = make.principal(world.alice)
    allowed = decide(
        principal, Ask(role.id, "keys"), load_snapshot(principal, role.id), timezone.now()
    )
    assert isinstance(allowed, Allowed)
    bare = replace(allowed, session_policy="")

    with pytest.raises(Unplannable):
        make_plan(principal, bare, suffix="9f3k2c7d")
    call = aws_sts.RoleCall(LABEL, "aws", "", "alice.9f3k2c7d", 900)
    with pytest.raises(ValueError, match="session policy"):
        aws_sts.federation_token(call)
    assert world.sts.requests == []


@pytest.mark.django_db
def test_no_mapping_is_saved_that_would_give_it_without_one(admin_client):  # noqa: F811
    account = make.account(account_id=ACCOUNT)
    role = make.role("Developer", of=account, arn=LABEL, trust="federation_token")
    group = make.group("engineers")

    page = admin_client.post("/admin/broker/mapping/add/", mapping_form(group, role))
    assert "never gives without a session policy" in page.content.decode()
    assert not Mapping.objects.exists()

    admin_client.post(
        "/admin/broker/mapping/add/", mapping_form(group, role, session_policy=POLICY)
    )
    assert Mapping.objects.count() == 1


# --- What AWS says no to


@pytest.mark.django_db
def test_a_broker_that_runs_with_a_role_is_told_that_it_needs_a_user(world, monkeypatch):
    run_with(monkeypatch, *world.sts.lend(BROKER))
    aws_sts._clients.clear()

    with pytest.raises(AwsError) as told:
        world.issue(entry(world))

    assert told.value.code == "aws_federation_needs_user"
    assert "web identity" in told.value.remedy


@pytest.mark.django_db
def test_a_user_who_may_not_is_told_which_actions_are_missing(world, monkeypatch):
    run_with(monkeypatch, *world.sts.add_user(USER, permissions=["s3:*"]))
    aws_sts._clients.clear()

    with pytest.raises(AwsError) as told:
        world.issue(entry(world))

    assert told.value.code == "aws_access_denied"
    assert "sts:GetFederationToken" in told.value.remedy


@pytest.mark.django_db
def test_a_user_of_another_account_gives_nothing(world, monkeypatch):
    """What is called Payments in Daypass would be somebody else's account in AWS."""
    run_with(monkeypatch, *world.sts.add_user("arn:aws:iam::999988887777:user/daypass"))
    aws_sts._clients.clear()

    with pytest.raises(AwsError) as told:
        world.issue(entry(world))

    assert told.value.code == "aws_federation_elsewhere"
    assert Session.objects.get().state == "failed"


# --- The administrator


@pytest.mark.django_db
def test_saving_one_and_its_page_say_what_it_costs(admin_client):  # noqa: F811
    make.account(account_id=ACCOUNT)

    page = admin_client.post(
        "/admin/broker/awsrole/add/",
        {**role_form(arn=LABEL, trust="federation_token"), "_continue": "1"},
        follow=True,
    ).content.decode()

    assert AwsRole.objects.get().arn == LABEL
    assert page.count("Federation tokens need the long-term access key of an IAM user") == 2
    assert f"arn:aws:sts::{ACCOUNT}:federated-user/*" in page
    assert "federation token" in admin_client.get("/admin/broker/awsrole/").content.decode()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("trust", "arn"),
    [
        ("federation_token", f"arn:aws:iam::{ACCOUNT}:role/Developer"),
        ("federation_token", f"arn:aws:sts::{ACCOUNT}:federated-user/" + "x" * 33),
        ("web_identity", LABEL),
    ],
)
def test_a_role_is_not_registered_as_one_nor_one_as_a_role(admin_client, trust, arn):  # noqa: F811
    make.account(account_id=ACCOUNT)

    admin_client.post("/admin/broker/awsrole/add/", role_form(arn=arn, trust=trust))

    assert not AwsRole.objects.exists()


@pytest.mark.django_db
def test_its_name_is_not_for_an_administrator_to_choose(admin_client):  # noqa: F811
    make.account(account_id=ACCOUNT)
    answers = role_form(arn=LABEL, trust="federation_token", session_name="{handle}-{random}")

    page = admin_client.post("/admin/broker/awsrole/add/", answers).content.decode()

    assert "32 characters" in page
    assert not AwsRole.objects.exists()


@pytest.mark.django_db
def test_the_doctor_says_that_there_is_no_trust_to_look_at(world):
    check = check_role(entry(world), who=Who(Actor.task("doctor")), now=timezone.now())

    assert check.outcome != TrustCheck.Outcome.FAILS
    assert "no role in IAM" in str([check.cause, check.steps])
    assert world.sts.requests == []
