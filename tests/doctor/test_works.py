"""What works is said to work, is recorded as a try, and leaves nothing behind."""

from __future__ import annotations

import io
import json
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from broker.audit.models import AuditEvent
from broker.doctor import queries, tasks
from broker.doctor.models import TrustCheck
from broker.doctor.rules import Step
from broker.entitlements.models import AwsRole
from broker.errors import AuditBroken
from broker.sessions.models import Session
from tests import factories as make
from tests.assume.test_issue import break_the_audit, mend_the_audit
from tests.aws.servers import Answer

pytestmark = pytest.mark.django_db

DENY = {"Effect": "Deny", "Action": "*", "Resource": "*"}


def tries(world) -> list:
    return [seen for seen in world.sts.requests if seen.form.get("RoleArn") == world.role.arn]


@pytest.mark.parametrize("trust", ["web_identity", "saml", "assume_role"])
def test_a_role_where_everything_is_right_works(company, trust):
    world = company(trust, max_seconds=7200)
    world.mapping(session_tags={"team": "department"})

    check = world.check()

    assert (check.outcome, check.code, check.cause) == ("works", "", "")
    states = {step["step"]: step["state"] for step in check.steps}
    assert list(states) == [step.value for step in Step]
    assert set(states.values()) <= {"ok", "skipped"}, check.steps


@pytest.mark.parametrize("trust", ["web_identity", "saml", "assume_role"])
def test_every_try_denies_everything_to_itself(company, trust):
    world = company(trust, max_seconds=7200)
    theirs = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    world.mapping(session_policy=json.dumps({"Version": "2012-10-17", "Statement": theirs}))
    world.mapping(session_tags={"team": "department"})

    world.check()

    assert len(tries(world)) >= 3
    for seen in tries(world):
        assert seen.code == ""
        assert DENY in json.loads(seen.form["Policy"])["Statement"]
    assert any(theirs in json.loads(seen.form["Policy"])["Statement"] for seen in tries(world))


def test_a_policy_with_letters_beyond_latin_ones_is_tried_as_sessions_send_it(company):
    world = company("web_identity")
    theirs = {
        "Effect": "Allow",
        "Action": "s3:*",
        "Resource": "*",
        "Condition": {"StringEquals": {"aws:ResourceTag/部署": "開発"}},
    }
    # As a mapping keeps it: STS takes no character beyond U+00FF.
    world.mapping(session_policy=json.dumps({"Version": "2012-10-17", "Statement": theirs}))

    check = world.check()

    assert (check.outcome, check.cause) == ("works", "")
    assert any(theirs in json.loads(seen.form["Policy"])["Statement"] for seen in tries(world))


def test_a_try_lives_for_fifteen_minutes_but_where_the_length_itself_is_tried(company):
    world = company("web_identity", max_seconds=28800)

    world.check()

    assert [seen.form["DurationSeconds"] for seen in tries(world)] == ["900", "28800"]


def test_every_try_is_recorded_as_what_it_is_and_is_nobodys_session(company):
    world = company("web_identity")

    world.check()
    world.statement["Action"].remove("sts:SetSourceIdentity")
    world.check()

    opened, refused = AuditEvent.objects.filter(kind="role.checked").order_by("seq")
    assert (opened.actor_id, opened.subject_id) == ("task:doctor", str(world.role.pk))
    assert opened.data["outcome"] == "opened"
    assert opened.data["access_key_id"] in world.sts.given
    assert opened.data["source_identity"] == "daypass=doctor"
    assert (refused.data["outcome"], refused.data["code"]) == ("refused", "AccessDenied")
    assert not Session.objects.exists()


def test_nothing_that_aws_gave_is_kept(company):
    world = company("web_identity")

    world.check()

    kept = json.dumps(
        [list(TrustCheck.objects.values()), list(AuditEvent.objects.values())], default=str
    )
    for caller in world.sts.callers.values():
        assert caller.secret not in kept
        assert not caller.token or caller.token not in kept


def test_what_cannot_be_recorded_is_not_tried_further(company):
    world = company("web_identity")
    break_the_audit()
    try:
        with pytest.raises(AuditBroken):
            world.check()
    finally:
        mend_the_audit()

    assert not TrustCheck.objects.exists()


def test_iam_is_read_only_after_a_refusal(company):
    world = company("web_identity")

    world.check()

    assert not AuditEvent.objects.filter(kind="role.borrowed").exists()


def test_a_federated_user_is_not_looked_for_in_iam(company):
    world = company("web_identity")
    AwsRole.objects.filter(pk=world.role.pk).update(trust="federation_token")

    check = world.check()

    assert (check.outcome, check.code) == ("unsure", "not_tried")
    assert "no role" in check.cause
    assert world.sts.requests == []


def test_a_later_look_takes_the_place_of_the_last_one(company):
    world = company("web_identity")
    world.check()
    world.sts.roles.pop(world.role.arn)

    world.check()

    assert TrustCheck.objects.get().outcome == "fails"


def test_documents_that_look_wrong_from_here_are_told_even_where_aws_lets_daypass_in(company):
    world = company("web_identity")
    world.internet.down = True

    check = world.check()

    assert check.outcome == "works"
    issuer = next(step for step in check.steps if step["step"] == "issuer")
    assert issuer["state"] == "unknown"
    assert "AWS has verified a signature" in issuer["said"]


def test_an_issuer_inside_a_private_network_is_said_not_to_be_seen(company, settings):
    world = company("web_identity")
    settings.DAYPASS_EGRESS_PROXY = ""
    settings.DAYPASS_ISSUER = "https://localhost"

    check = world.check()

    assert check.outcome == "fails"
    issuer = next(step for step in check.steps if step["step"] == "issuer")
    assert "private network" in issuer["said"]
    assert "cannot be seen from here" in issuer["said"]


# --- The command


def run(*words: str) -> str:
    out = io.StringIO()
    call_command("doctor", *words, stdout=out)
    return out.getvalue()


def test_the_command_says_every_step_of_a_role(company):
    world = company("web_identity")

    said = run("--role", world.role.arn)

    assert f"{world.role.arn}: works" in said
    assert "Trust policy lets Daypass in" in said


def test_the_command_ends_with_1_and_shows_the_policy_when_a_role_fails(company):
    world = company("web_identity")
    world.statement["Action"].remove("sts:SetSourceIdentity")
    out = io.StringIO()

    with pytest.raises(CommandError) as ended:
        call_command("doctor", "--account", "1111-2222-3333", stdout=out)

    assert ended.value.returncode == 1
    assert '"sts:SetSourceIdentity"' in out.getvalue()


def test_the_command_speaks_json(company):
    world = company("web_identity")
    other = make.role("Other", of=world.account)
    out = io.StringIO()

    with pytest.raises(CommandError):
        call_command("doctor", "--all", "--json", stdout=out)

    found = {row["role"]: row for row in map(json.loads, out.getvalue().splitlines())}
    assert found[world.role.arn]["outcome"] == "works"
    assert found[other.arn]["code"] == "role_missing"
    assert found[other.arn]["document"]["Version"] == "2012-10-17"


def test_the_command_does_not_know_what_is_not_registered(db):
    with pytest.raises(CommandError):
        run("--role", "arn:aws:iam::111122223333:role/Nobody")


# --- By itself


def test_by_itself_it_does_nothing_unless_it_is_switched_on(company):
    world = company("web_identity")

    tasks.check_due()

    assert not TrustCheck.objects.exists()
    assert tries(world) == []


def test_switched_on_it_looks_at_what_is_due_and_no_more(company, settings, monkeypatch):
    monkeypatch.setattr(tasks, "_PAUSE", 0.0)
    settings.DAYPASS_CHECK_ROLES = True
    world = company("web_identity")
    make.role("Off", of=world.account, enabled=False)

    tasks.check_due()
    tasks.check_due()

    assert TrustCheck.objects.get().role == world.role
    assert len(tries(world)) == 1


def test_somebodys_failure_makes_a_role_due(company, signin_stand_in):
    world = company("web_identity")
    check = world.check()
    assert not queries.due(timezone.now()).exists()

    _session(world, "failed", check.at + timedelta(seconds=1))

    assert queries.due(timezone.now()).get() == world.role


def test_an_account_is_looked_at_for_who_asked(company, monkeypatch):
    monkeypatch.setattr(tasks, "_PAUSE", 0.0)
    world = company("web_identity")

    tasks.check_account(world.account.pk, ["42", "ada"], "192.0.2.7")

    event = AuditEvent.objects.get(kind="role.checked")
    assert (event.actor_id, event.actor, event.address) == ("42", "ada", "192.0.2.7")


# --- For employees


def _session(world, state: str, at) -> Session:
    return Session.objects.create(
        person=make.person(),
        role=world.role,
        hand_over="keys",
        session_name=f"somebody-{state}",
        source_identity="somebody",
        seconds=3600,
        state=state,
        requested_at=at,
        issued_at=at if state == "active" else None,
        expires_at=at + timedelta(hours=1) if state == "active" else None,
    )


def test_people_are_told_of_a_failure_until_somebody_gets_in(company):
    world = company("web_identity")
    world.sts.denied_by_scp.add(world.role.arn)
    check = world.check()
    now = timezone.now()

    assert queries.did_not_work_at(world.role.pk, now) == check.at
    assert queries.did_not_work_at(world.role.pk, now + timedelta(days=8)) is None

    _session(world, "active", check.at + timedelta(seconds=1))

    assert queries.did_not_work_at(world.role.pk, now) is None


def test_a_passing_problem_blames_no_role(company):
    world = company("web_identity")
    world.signin.will(*[Answer(503)] * 3)

    check = world.check()

    assert check.outcome == "unsure"
    assert queries.did_not_work_at(world.role.pk, timezone.now()) is None
