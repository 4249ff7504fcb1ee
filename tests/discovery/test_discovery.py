"""What AWS shows becomes proposals and flags, on moto's Organizations and IAM; nothing is deleted or given."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse
from django.utils import timezone

from broker.audit.models import AuditEvent
from broker.audit.services import Actor
from broker.discovery import services, tasks
from broker.discovery.models import Finding
from broker.discovery.rules import Ourselves, trust_in
from broker.entitlements.models import AwsAccount, AwsRole
from broker.errors import AwsError, BadInput
from broker.trust.rules import trust_policy
from tests import factories as make
from tests.admin.conftest import ada, admin_client, okta  # noqa: F401  (fixtures)
from tests.aws.servers import Answer, Request, StandIn
from tests.discovery.conftest import ISSUER, MANAGEMENT, subject

pytestmark = pytest.mark.django_db

ACTOR = Actor.task("test")


def look(account: AwsAccount) -> services.Looked:
    account.refresh_from_db()
    return services.look(account, actor=ACTOR, now=timezone.now())


def states(kind: str = "role") -> dict[str, str]:
    return dict(Finding.objects.filter(kind=kind).values_list("name", "state"))


# --- Roles


def test_roles_that_trust_this_broker_are_proposed_and_no_others(amazon, management):
    amazon.trusting(MANAGEMENT, "Developer", MaxSessionDuration=28800, Description="Debug.")
    amazon.trusting(MANAGEMENT, "Auditor", "saml", Path="/team/")
    amazon.role(
        MANAGEMENT,
        "DaypassDiscovery",
        trust_policy(subject(MANAGEMENT, "DaypassDiscovery", caller="task")),
    )
    service = {"Service": "ec2.amazonaws.com"}
    amazon.role(
        MANAGEMENT,
        "Instance",
        {"Statement": {"Effect": "Allow", "Principal": service, "Action": "sts:AssumeRole"}},
    )

    looked = look(management)

    assert states() == {"Developer": "new", "Auditor": "new"}
    assert looked.new >= 2
    developer = Finding.objects.get(name="Developer")
    assert developer.details == {
        "trust": "web_identity",
        "path": "/",
        "max_seconds": 28800,
        "description": "Debug.",
    }
    assert Finding.objects.get(name="Auditor").details["trust"] == "saml"
    assert not AwsRole.objects.exists()


def test_more_roles_than_one_page_are_all_read(amazon, management):
    client = amazon.client("iam", MANAGEMENT)
    for number in range(230):
        name = f"Role{number:03}"
        client.create_role(
            RoleName=name, AssumeRolePolicyDocument=trust_policy(subject(MANAGEMENT, name))
        )

    look(management)

    assert len(states()) == 230


def test_a_proposal_is_taken_into_the_catalogue_filled_in(amazon, management):
    amazon.trusting(
        MANAGEMENT, "Auditor", "saml", Path="/team/", MaxSessionDuration=7200, Description="Look."
    )
    look(management)

    role = services.accept(Finding.objects.get(kind="role").pk, actor=ACTOR)

    assert (role.arn, role.trust, role.max_seconds, role.description) == (
        f"arn:aws:iam::{MANAGEMENT}:role/team/Auditor",
        "saml",
        7200,
        "Look.",
    )
    assert not role.mappings.exists()
    assert states() == {"Auditor": "accepted"}
    assert look(management).new == 0
    with pytest.raises(BadInput):
        services.accept(Finding.objects.get(kind="role").pk, actor=ACTOR)


def test_a_description_of_several_lines_is_taken_as_one(amazon, management):
    amazon.trusting(MANAGEMENT, "Operator", Description="Runs\tthings.\r\nAsk oper\u00adations.\n")
    look(management)

    role = services.accept(Finding.objects.get(kind="role").pk, actor=ACTOR)

    assert role.description == "Runs things. Ask operations."


def test_what_was_set_aside_is_not_proposed_again(amazon, management):
    amazon.trusting(MANAGEMENT, "Developer")
    look(management)

    services.dismiss(Finding.objects.get(kind="role").pk, actor=ACTOR)

    assert look(management).new == 0
    assert states() == {"Developer": "dismissed"}
    assert AuditEvent.objects.filter(kind="discovery.dismissed").exists()


def test_a_role_that_is_gone_is_flagged_and_unflagged_and_never_deleted(amazon, management):
    role = make.role("Developer", of=management)
    amazon.trusting(MANAGEMENT, "Other")

    assert look(management).gone == 1
    role.refresh_from_db()
    assert role.vanished_at is not None and role.enabled

    amazon.trusting(MANAGEMENT, "Developer")
    assert look(management).gone == 0
    role.refresh_from_db()
    assert role.vanished_at is None
    assert states()["Developer"] == "accepted"


def test_a_federation_token_is_no_role_and_does_not_vanish(amazon, management):
    arn = f"arn:aws:sts::{management.account_id}:federated-user/Operators"
    row = make.role("Operators", of=management, arn=arn, trust="federation_token")

    look(management)

    row.refresh_from_db()
    assert row.vanished_at is None


def test_a_proposal_that_is_gone_is_said_to_be(amazon, management):
    amazon.trusting(MANAGEMENT, "Developer")
    look(management)
    amazon.client("iam", MANAGEMENT).delete_role(RoleName="Developer")

    look(management)

    assert states() == {"Developer": "vanished"}


# --- Accounts


def test_accounts_of_the_organisation_are_proposed_and_read_once_they_are_taken(amazon, management):
    made = amazon.client("organizations", MANAGEMENT).create_account(
        Email="payments@example.com", AccountName="Payments"
    )
    number = made["CreateAccountStatus"]["AccountId"]
    amazon.trusting(number, "Developer")

    look(management)
    assert states("account")["Payments"] == "new"
    account = services.accept(Finding.objects.get(name="Payments").pk, actor=ACTOR)

    assert (account.account_id, account.discovery_role, account.region) == (
        number,
        "DaypassDiscovery",
        "eu-west-1",
    )
    assert look(account).new == 1
    assert states()["Developer"] == "new"


def test_an_account_that_left_is_flagged_and_one_of_nobody_is_let_be(amazon, management):
    client = amazon.client("organizations", MANAGEMENT)
    made = client.create_account(Email="old@example.com", AccountName="Old")
    number = made["CreateAccountStatus"]["AccountId"]
    old = make.account("Old", account_id=number)
    elsewhere = make.account("Elsewhere", account_id="999988887777")
    look(management)
    client.remove_account_from_organization(AccountId=number)

    assert look(management).gone == 1

    old.refresh_from_db()
    elsewhere.refresh_from_db()
    assert old.vanished_at is not None and old.enabled
    assert elsewhere.vanished_at is None


@pytest.fixture
def organisation(amazon, settings) -> Iterator[dict[str, dict[str, str]]]:
    """Organizations in moto's place: account id -> what ListAccounts says besides its id and name."""
    listed: dict[str, dict[str, str]] = {}

    def answer(request: Request) -> Answer:
        accounts = [
            {
                "Id": number,
                "Arn": f"arn:aws:organizations::{MANAGEMENT}:account/o-abc/{number}",
                "Name": f"Account {number}",
                **said,
            }
            for number, said in listed.items()
        ]
        body = json.dumps({"Accounts": accounts}).encode()
        return Answer(200, body, "application/x-amz-json-1.1")

    server = StandIn(answer)
    settings.DAYPASS_ORGANIZATIONS_ENDPOINT = server.url
    yield listed
    server.stop()


@pytest.mark.parametrize("told", ["State", "Status"])
def test_an_account_that_was_closed_is_flagged_by_whichever_name_aws_says_so(
    organisation, management, told
):
    """AWS retired Status in favour of State in September 2026."""
    old = make.account("Old", account_id="444455556666")
    organisation["444455556666"] = {told: "ACTIVE"}
    look(management)
    organisation["444455556666"] = {told: "SUSPENDED"}
    organisation["777788889999"] = {told: "PENDING_CLOSURE"}

    assert look(management).gone == 1

    old.refresh_from_db()
    assert old.vanished_at is not None
    assert Finding.objects.filter(account_id="777788889999").count() == 0


def test_an_account_that_may_not_list_its_organisation_is_told_which_ones_may(
    amazon, management, settings
):
    refusal = {"__type": "AccessDeniedException", "Message": "You don't have permissions."}
    body = json.dumps(refusal).encode()
    server = StandIn(lambda _: Answer(400, body, "application/x-amz-json-1.1"))
    settings.DAYPASS_ORGANIZATIONS_ENDPOINT = server.url

    with pytest.raises(AwsError) as caught:
        look(management)

    server.stop()
    assert "management account" in caught.value.remedy
    assert "“lists the organisation”" in caught.value.remedy


def test_an_organisation_may_be_listed_by_one_account_after_another(organisation, management):
    organisation |= {"444455556666": {"State": "ACTIVE"}, "777788889999": {"State": "ACTIVE"}}
    look(management)
    delegated = make.account(
        "Delegated",
        account_id="444455556666",
        discovery_role="DaypassDiscovery",
        management=True,
    )

    assert look(delegated).new == 0

    assert states("account")["Account 777788889999"] == "new"
    del organisation["777788889999"]
    look(management)
    look(delegated)
    assert states("account")["Account 777788889999"] == "vanished"


def test_two_looks_at_once_do_not_trip_over_each_other(amazon, management, monkeypatch, together):
    for number in range(10):
        amazon.trusting(MANAGEMENT, f"Role{number:02}")
    both_have_read = threading.Barrier(2, timeout=30)
    reading = services.organizations.accounts

    def read_together(*args, **named):
        found = list(reading(*args, **named))
        both_have_read.wait()
        return found

    monkeypatch.setattr(services.organizations, "accounts", read_together)
    looks = []

    def one() -> None:
        looks.append(services.look(management, actor=ACTOR, now=timezone.now()))

    assert together(one, times=2) == []

    assert min(looked.new for looked in looks) == 0


# --- By itself, by command and by hand


def test_an_account_that_cannot_be_read_stops_no_other_and_loses_nothing(amazon, management):
    amazon.trusting(MANAGEMENT, "Developer")
    broken = make.account("Broken", account_id="222233334444", discovery_role="no such role")
    kept = make.role("Kept", of=broken)
    out, err = io.StringIO(), io.StringIO()

    with pytest.raises(CommandError) as ended:
        call_command("discover", stdout=out, stderr=err)

    assert ended.value.returncode == 1
    assert "Broken (222233334444): not read." in err.getvalue()
    assert states() == {"Developer": "new"}
    kept.refresh_from_db()
    assert kept.vanished_at is None


def test_nothing_is_read_without_a_discovery_role(amazon, monkeypatch):
    make.account("Plain", account_id=MANAGEMENT)
    asked = []
    monkeypatch.setattr(tasks.discover_account, "apply_async", lambda *a, **k: asked.append(a))

    tasks.discover_all()

    assert asked == []
    with pytest.raises(CommandError):
        call_command("discover")


def test_the_task_reads_an_account_and_records_it(amazon, management):
    amazon.trusting(MANAGEMENT, "Developer")

    tasks.discover_account(management.pk)

    event = AuditEvent.objects.get(kind="discovery.looked")
    assert (event.actor_id, event.data["roles"]) == ("task:discovery", 1)
    assert AuditEvent.objects.filter(kind="role.borrowed").count() == 1


def test_administrators_see_proposals_and_take_many_at_once(amazon, management, admin_client):  # noqa: F811
    amazon.trusting(MANAGEMENT, "Developer")
    amazon.trusting(MANAGEMENT, "Auditor")
    page = reverse("admin:broker_awsaccount_do", args=(management.pk, "look"))
    assert admin_client.post(page, secure=True).status_code == 302
    listed = reverse("admin:broker_finding_changelist")
    said = admin_client.get(listed, secure=True).content.decode()
    assert "Developer" in said and "web identity" in said

    chosen = list(Finding.objects.filter(kind="role").values_list("pk", flat=True))
    admin_client.post(
        listed, {"action": "accept_findings", "_selected_action": chosen}, secure=True
    )

    assert set(AwsRole.objects.values_list("name", flat=True)) == {"Developer", "Auditor"}
    assert AwsRole.objects.filter(mappings__isnull=False).count() == 0


# --- Who is named


@pytest.mark.parametrize(
    ("name", "caller", "found"), [("Mine", "person", "web_identity"), ("Mine", "task", None)]
)
def test_a_role_for_tasks_is_not_one_for_people(name, caller, found):
    ours = Ourselves(
        MANAGEMENT,
        ISSUER,
        f"arn:aws:iam::{MANAGEMENT}:oidc-provider/daypass.test",
        f"arn:aws:iam::{MANAGEMENT}:saml-provider/Daypass",
    )
    policy = trust_policy(subject(MANAGEMENT, name, caller=caller))

    assert trust_in(policy, name, ours) == found
    assert trust_in(policy.replace("daypass.test", "other.test"), name, ours) is None
    assert trust_in("no policy", name, ours) is None
