"""manage.py aws_setup, as an operator uses it."""

from __future__ import annotations

import io
import json

import pytest
import yaml
from django.core.management import CommandError, call_command

from tests import factories as make

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("signing_keys")]


def run(*words: str) -> str:
    out = io.StringIO()
    call_command("aws_setup", *words, stdout=out, stderr=io.StringIO())
    return out.getvalue()


@pytest.fixture
def payments():
    account = make.account("Payments", account_id="111122223333", alias="payments")
    make.role("Developer", of=account)
    make.role("Auditor", of=account, trust="saml")
    make.role("Retired", of=account, enabled=False)
    return account


def roles_in(template: str) -> set[str]:
    resources = yaml.safe_load(template)["Resources"].values()
    return {r["Properties"]["RoleName"] for r in resources if r["Type"] == "AWS::IAM::Role"}


@pytest.mark.parametrize("named", ["111122223333", "1111-2222-3333", "payments"])
def test_an_account_by_its_number_or_alias_with_every_role_in_use(payments, named):
    assert roles_in(run("--account", named)) == {"Developer", "Auditor"}


def test_a_role_by_its_arn_even_one_that_is_switched_off(payments):
    arn = "arn:aws:iam::111122223333:role/Retired"

    assert roles_in(run("--role", arn)) == {"Retired"}


def test_every_account_into_a_folder(payments, tmp_path):
    make.role("Developer", of=make.account(account_id="222222222222"))
    make.role("Developer", of=make.account(account_id="333333333333", enabled=False))
    make.account(account_id="444444444444")

    assert run("--all", "--format", "terraform", "--output", str(tmp_path / "aws")) == ""

    written = sorted(path.name for path in (tmp_path / "aws").iterdir())
    assert written == ["daypass-111122223333.tf", "daypass-222222222222.tf"]


def test_several_documents_are_not_mixed_in_the_output(payments):
    with pytest.raises(CommandError, match="--output"):
        run("--account", "payments", "--format", "stackset")


@pytest.mark.parametrize("language", ["cloudformation", "cloudformation-json", "terraform", "cli"])
def test_what_is_chosen_besides_is_in_every_language(payments, language):
    said = run(
        *("--account", "payments", "--format", language, "--with-discovery-role"),
        *("--may-update-metadata", "--boundary", "Boundary"),
        *("--policy", "arn:aws:iam::aws:policy/ReadOnlyAccess"),
    )

    for wanted in ("DaypassDiscovery", "iam:UpdateSAMLProvider", "policy/Boundary", "ReadOnly"):
        assert wanted in said


def test_the_statement_for_a_role_that_exists_already(payments, tmp_path):
    present = tmp_path / "present.json"
    own = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:*"}
    present.write_text(json.dumps({"Version": "2012-10-17", "Statement": own}))
    arn = "arn:aws:iam::111122223333:role/Developer"

    plain = json.loads(run("--role", arn, "--format", "statement"))
    mended = json.loads(
        run("--role", arn, "--format", "statement", "--existing-policy", str(present))
    )

    assert mended["Statement"] == [own, *plain["Statement"]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "one of"),
        (("--all", "--account", "payments"), "one of"),
        (("--account", "999999999999"), "registered"),
        (("--account", ""), "registered"),
        (("--role", "arn:aws:iam::111122223333:role/Nobody"), "registered"),
        (("--account", "payments", "--boundary", "*"), "managed policy"),
        (("--account", "payments", "--policy", "$(id)"), "managed policy"),
        (("--account", "payments", "--may-update-metadata"), "with-discovery-role"),
        (("--account", "payments", "--existing-policy", "x"), "one --role"),
    ],
)
def test_what_cannot_be_is_told(payments, words, said):
    with pytest.raises(CommandError, match=said):
        run(*words)


def test_daypasss_own_role_has_to_be_named_where_it_is_trusted(payments):
    arn = make.role("Machine", of=payments, trust="assume_role").arn

    with pytest.raises(CommandError, match="which one"):
        run("--role", arn)
    own = "arn:aws:iam::999988887777:role/Daypass"
    assert own in run("--role", arn, "--broker-role", own)


def test_a_role_that_trusts_another_issuer_is_not_ours_to_set_up():
    role = make.role("Developer")
    type(role).objects.filter(pk=role.pk).update(trust="relayed")

    with pytest.raises(CommandError, match="trusts Daypass itself"):
        run("--role", role.arn)
