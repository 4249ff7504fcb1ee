"""docs/aws-setup.md: every command in it is run as it stands there, and then people sign in."""

from __future__ import annotations

import io
import json
import re
import shlex
from pathlib import Path

import pytest
from django.core.management import call_command
from django.utils import timezone

from broker.assume.services import Issued, Vouched, begin, issue, vouch
from broker.entitlements.rules import Ask
from tests import factories as make
from tests.trust.aws import ACCOUNT

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("signing_keys", "published")]

PAGE = (Path(__file__).parents[2] / "docs" / "aws-setup.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"```sh (\w+)\n(.*?)```", PAGE, re.DOTALL))
PYTHON = "python manage.py "


def follow(name: str, cloud, folder: Path) -> list[str]:
    """The commands of a block, one after the other, in an empty folder: Daypass's in this process, the others by sh."""
    done = []
    for line in BLOCKS[name].replace("\\\n", "").replace("111122223333", ACCOUNT).splitlines():
        if line.startswith(PYTHON):
            said, _, target = line.removeprefix(PYTHON).partition(" > ")
            out = io.StringIO()
            words = shlex.split(said)
            if "--output" in words:
                words[-1] = str(folder / words[-1])
            if "--existing-policy" in words:
                words[-1] = str(folder / words[-1])
            call_command(*words, stdout=out, stderr=io.StringIO())
            if target:
                (folder / target.strip()).write_text(out.getvalue())
        else:
            ran = cloud.run(line, folder, AWS_DEFAULT_REGION="eu-west-1")
            assert ran.returncode == 0, (line, ran.stderr)
        done.append(line)
    return done


@pytest.fixture
def alice():
    return make.person("alice", groups=[make.group("developers")])


@pytest.fixture
def account():
    return make.account("Payments", account_id=ACCOUNT)


def mapped(person, role):
    make.mapping(person.memberships.get().group, role)
    return role


def test_every_block_of_commands_on_the_page_is_tried_here():
    assert set(BLOCKS) == {"public", "private", "existing", "terraform", "organisation"}
    assert PAGE.count("```") == 2 * len(BLOCKS)


def test_a_public_daypass_from_nothing_to_the_first_sign_in(
    cloud, strict, alice, account, tmp_path
):
    role = mapped(alice, make.role("Developer", of=account))

    follow("public", cloud, tmp_path)

    cloud.into(strict)
    issued = issue(make.principal(alice), Ask(role.id, "console"), now=timezone.now())
    assert isinstance(issued, Issued)


def test_a_private_daypass_from_nothing_to_the_first_sign_in(
    cloud, strict, documents, alice, account, tmp_path
):
    role = mapped(alice, make.role("Developer", of=account, trust="saml", console="saml_form"))
    documents.documents.clear()

    follow("private", cloud, tmp_path)
    follow("private", cloud, tmp_path)

    cloud.into(strict)
    opened = begin(make.principal(alice), Ask(role.id, "console"), timezone.now())
    vouched = vouch(opened)
    assert isinstance(vouched, Vouched)
    issued = issue(make.principal(alice), Ask(role.id, "keys"), now=timezone.now())
    assert isinstance(issued, Issued)
    assert documents.fetched == {}, "AWS fetched something of a Daypass that it cannot reach"


def test_a_role_that_exists_lets_people_in_and_whom_it_let_in_before(
    cloud, strict, alice, account, settings, tmp_path
):
    own = {
        "Effect": "Allow",
        "Principal": {"Service": "ec2.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    cloud.iam.create_open_id_connect_provider(
        Url=settings.DAYPASS_ISSUER, ClientIDList=[settings.DAYPASS_AUDIENCE]
    )
    cloud.iam.create_role(
        RoleName="Operator",
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [own]}),
    )
    role = mapped(alice, make.role("Operator", of=account))

    follow("existing", cloud, tmp_path)

    cloud.into(strict)
    assert cloud.trust_of("Operator")["Statement"][0] == own
    issued = issue(make.principal(alice), Ask(role.id, "console"), now=timezone.now())
    assert isinstance(issued, Issued)


@pytest.mark.parametrize(
    ("block", "written"),
    [
        ("terraform", ["daypass.tf"]),
        ("organisation", ["daypass-stackset.sh", "daypass-stackset.yaml"]),
    ],
)
def test_the_other_languages_write_the_files_that_the_page_names(block, written, account, tmp_path):
    make.role("Developer", of=account)

    follow(block, None, tmp_path)

    assert sorted(path.name for path in tmp_path.rglob("*.*")) == written
    for name in written:
        assert name in PAGE
