"""What an administrator says about names, tags that stay on and external ids is kept, shown and carried to AWS."""

from __future__ import annotations

import pytest

from broker.audit.models import AuditEvent
from broker.entitlements.models import AwsAccount, AwsRole, Mapping
from broker.entitlements.queries import load_snapshot
from tests import factories as make
from tests.admin.conftest import ada, admin_client, okta  # noqa: F401  (fixtures)
from tests.admin.test_rights import account_form, mapping_form, role_form

pytestmark = pytest.mark.django_db
ROLE = "/admin/broker/awsrole/add/"
ACCOUNT = "/admin/broker/awsaccount/add/"
MAPPING = "/admin/broker/mapping/add/"


@pytest.fixture
def page(admin_client):  # noqa: F811
    def post(address: str, answers: dict[str, object]) -> str:
        answer = admin_client.post(address, {**answers, "_continue": "1"}, follow=True)
        assert answer.status_code == 200
        return answer.content.decode()

    return post


def test_a_role_shows_how_its_sessions_are_named(page):
    make.account(account_id="111122223333")

    shown = page(ROLE, role_form(session_name="ops-{handle}-{random}"))

    assert AwsRole.objects.get().session_name == "ops-{handle}-{random}"
    assert "ops-alice-9f3k2c7d" in shown


@pytest.mark.parametrize("template", ["{handle}", "ops-{random}", "{email}.{handle}.{random}"])
def test_a_template_that_could_mislead_is_refused_at_its_field(page, template):
    make.account(account_id="111122223333")

    shown = page(ROLE, role_form(session_name=template))

    assert not AwsRole.objects.exists()
    assert "exactly once" in shown or "There is no" in shown


def test_tags_that_stay_on_are_some_of_the_tags(page):
    group, role = make.group("engineers"), make.role()
    tags = "Team = team\nOffice = office"

    refused = page(MAPPING, mapping_form(group, role, session_tags=tags, transitive_tag_keys="X"))
    assert not Mapping.objects.exists()
    assert "is not among the session tags" in refused

    shown = page(MAPPING, mapping_form(group, role, session_tags=tags, transitive_tag_keys="Team"))
    made = Mapping.objects.get()
    assert made.transitive_tag_keys == ["Team"]
    assert shown.count("Team") > 1
    assert AuditEvent.objects.order_by("seq").last().data["after"]["transitive_tag_keys"] == [
        "Team"
    ]


def test_an_accounts_external_id_serves_roles_that_have_none_and_stays_out_of_the_log(page):
    page(ACCOUNT, account_form(external_id="customer-7"))
    account = AwsAccount.objects.get()
    assert account.external_id == "customer-7"
    assert "customer-7" not in str(AuditEvent.objects.order_by("seq").last().data)
    alice = make.person("alice", groups=[make.group("engineers")])
    own = make.role("Own", of=account, trust="assume_role", external_id="own-8")
    shared = make.role("Shared", of=account, trust="assume_role")

    sent = {role.name: load_snapshot(make.principal(alice), role.id) for role in (own, shared)}

    assert sent["Own"].role.external_id == "own-8"
    assert sent["Shared"].role.external_id == "customer-7"


def test_a_role_that_is_assumed_by_a_role_is_listed_with_an_hour(admin_client):  # noqa: F811
    make.role("Chained", trust="assume_role", max_seconds=43200)

    assert "12 h" not in admin_client.get("/admin/broker/awsrole/").content.decode()
