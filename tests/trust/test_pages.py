"""Setting AWS up, in the admin."""

from __future__ import annotations

import html
import io
import json
import zipfile

import pytest
import yaml
from django.urls import reverse

from tests import factories as make
from tests.trust import cast

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("signing_keys")]
PAGE = "/admin/aws-setup/"


@pytest.fixture
def payments():
    account = make.account("Payments", account_id="111122223333")
    make.role("Developer", of=account)
    make.role("Auditor", of=account, trust="saml")
    return account


def get(client, **chosen):
    return client.get(PAGE, chosen, secure=True)


def post(client, **values):
    values.setdefault("language", "cloudformation")
    return client.post(PAGE, values, secure=True, headers={"origin": "https://daypass.test"})


def shown(answer) -> list:
    return [one["document"] for one in answer.context["shown"]]


def test_the_pages_of_accounts_and_roles_lead_there(admin_client, payments):
    role = payments.roles.get(name="Developer")
    for thing, chosen in ((payments, f"account={payments.pk}"), (role, f"role={role.pk}")):
        page = admin_client.get(
            reverse(f"admin:broker_{thing._meta.model_name}_change", args=(thing.pk,)), secure=True
        )

        assert f'href="{PAGE}?{chosen}"' in page.content.decode()


def test_an_account_shows_its_template_at_once(admin_client, payments):
    answer = get(admin_client, account=payments.pk)

    (document,) = shown(answer)
    assert answer.status_code == 200
    assert set(yaml.safe_load(document.text)["Resources"]) >= {"RoleDeveloper", "RoleAuditor"}
    assert html.escape(document.text) in answer.content.decode()
    assert "Show the template" in answer.content.decode()


@pytest.mark.parametrize(
    ("language", "names"),
    [
        ("cloudformation", ["daypass-111122223333.yaml"]),
        ("cloudformation-json", ["daypass-111122223333.json"]),
        ("stackset", ["daypass-stackset.yaml", "daypass-stackset.sh"]),
        ("terraform", ["daypass-111122223333.tf"]),
        ("cli", ["daypass-111122223333.sh"]),
        ("statement", ["111122223333-Auditor.json", "111122223333-Developer.json"]),
    ],
)
def test_every_language_is_shown_and_downloaded(admin_client, payments, language, names):
    answer = post(admin_client, account=payments.pk, language=language, make_providers="on")

    assert [one.filename for one in shown(answer)] == names
    download = post(
        admin_client,
        account=payments.pk,
        language=language,
        make_providers="on",
        download=names[0],
    )
    assert download["Content-Disposition"] == f'attachment; filename="{names[0]}"'
    assert download.content.decode() == shown(answer)[0].text
    if len(names) > 1:
        packed = post(admin_client, account=payments.pk, language=language, download="all")
        assert zipfile.ZipFile(io.BytesIO(packed.content)).namelist() == names


def test_a_selection_of_roles_is_set_up_from_their_list(admin_client, payments):
    other = make.role("Operator", of=make.account("Logistics", account_id="222222222222"))
    chosen = [payments.roles.get(name="Developer"), other]

    answer = admin_client.post(
        reverse("admin:broker_awsrole_changelist"),
        {"action": "set_up_aws", "index": "0", "_selected_action": [role.pk for role in chosen]},
        secure=True,
        headers={"origin": "https://daypass.test"},
    )

    assert {one.filename for one in shown(answer)} == {
        "daypass-111122223333.yaml",
        "daypass-222222222222.yaml",
    }
    page = answer.content.decode()
    for role in chosen:
        assert f'<input type="hidden" name="role" value="{role.pk}">' in page
    assert "RoleAuditor" not in page


def test_a_selection_of_accounts_too(admin_client, payments):
    answer = admin_client.post(
        reverse("admin:broker_awsaccount_changelist"),
        {"action": "set_up_aws", "index": "0", "_selected_action": [payments.pk]},
        secure=True,
        headers={"origin": "https://daypass.test"},
    )

    (document,) = shown(answer)
    assert "RoleAuditor" in document.text


def test_the_lists_have_a_box_before_every_row_and_the_button(admin_client, payments):
    for name in ("awsrole", "awsaccount"):
        page = admin_client.get(reverse(f"admin:broker_{name}_changelist"), secure=True)

        assert 'name="_selected_action"' in page.content.decode()
        assert 'value="set_up_aws"' in page.content.decode()
    page = admin_client.get(reverse("admin:broker_environment_changelist"), secure=True)
    assert "_selected_action" not in page.content.decode()


def test_the_present_policy_of_a_role_is_put_right(admin_client, payments):
    role = payments.roles.get(name="Developer")
    own = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:*"}

    answer = post(
        admin_client,
        role=role.pk,
        language="statement",
        existing=json.dumps({"Version": "2012-10-17", "Statement": [own]}),
    )

    (document,) = shown(answer)
    statements = json.loads(document.text)["Statement"]
    assert statements[0] == own
    assert "sts:SetSourceIdentity" in statements[1]["Action"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"boundary": '"; rm -rf /'},
        {"policies": "every thing"},
        {"language": "cobol"},
        {"language": "statement", "existing": "{"},
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_downloaded(admin_client, payments, wrong):
    role = payments.roles.get(name="Developer")

    answer = post(admin_client, role=role.pk, download="all", **wrong)

    assert "Content-Disposition" not in answer
    assert shown(answer) == []
    assert "errorlist" in answer.content.decode() or answer.context["problem"]


@pytest.mark.parametrize(("nothing_public", "told"), [(True, True), (False, False)])
def test_a_daypass_that_aws_cannot_reach_says_so_beside_web_identity(
    admin_client, payments, settings, nothing_public, told
):
    settings.DAYPASS_NOTHING_PUBLIC = nothing_public
    by_saml = payments.roles.get(name="Auditor")

    assert ("AWS cannot fetch" in get(admin_client, account=payments.pk).content.decode()) is told
    assert "AWS cannot fetch" not in get(admin_client, role=by_saml.pk).content.decode()


def test_an_account_that_is_read_keeps_its_role_for_that(admin_client, payments):
    plain = get(admin_client, account=payments.pk)
    type(payments).objects.filter(pk=payments.pk).update(discovery_role="/ops/Reader")

    (document,) = shown(get(admin_client, account=payments.pk))

    assert "DaypassDiscovery" not in shown(plain)[0].text
    reader = yaml.safe_load(document.text)["Resources"]["RoleReader"]["Properties"]
    assert (reader["RoleName"], reader["Path"]) == ("Reader", "/ops/")


def test_a_setting_that_no_policy_can_name_breaks_no_page(admin_client, payments, settings):
    settings.DAYPASS_AUDIENCE = "two words"
    role = payments.roles.get(name="Developer")

    page = admin_client.get(
        reverse("admin:broker_awsrole_change", args=(role.pk,)), secure=True
    ).content.decode()

    assert "The trust policy that IAM needs" not in page
    assert "two words" in get(admin_client, role=role.pk).content.decode()


def test_nothing_chosen_leads_to_where_it_is_chosen(admin_client):
    page = get(admin_client).content.decode()

    assert "Choose what to set up." in page
    assert f'href="{reverse("admin:broker_awsaccount_changelist")}"' in page
    assert f'href="{reverse("admin:broker_awsrole_changelist")}"' in page
    assert "No template yet" not in page
    assert 'id="set-up"' not in page
    for unknown in ({"role": "x"}, {"account": "-1"}, {"account": "9" * 40}):
        assert "Choose what to set up." in get(admin_client, **unknown).content.decode()


def test_an_account_without_roles_is_told_to_have_nothing_to_set_up(admin_client):
    account = make.account("Empty")

    assert "nothing to set up" in get(admin_client, account=account.pk).content.decode()


def test_hostile_names_are_text_on_the_page(admin_client):
    account = make.account("<script>alert(1)</script>", account_id="111122223333")
    make.role("a+=,.@-b_", of=account, path="/<script>x</script>/", description=cast.HOSTILE_WORDS)

    for language in ("cloudformation", "terraform", "cli", "stackset"):
        answer = post(admin_client, account=account.pk, language=language, make_providers="on")

        assert answer.status_code == 200
        assert "<script>alert" not in answer.content.decode()
        assert "<script>x" not in answer.content.decode()


def test_an_employee_sees_nothing_of_it(employee_client, client, payments):
    assert get(employee_client, account=payments.pk).status_code in (302, 403)
    assert post(employee_client, account=payments.pk).status_code in (302, 403)
    assert get(client, account=payments.pk).status_code in (302, 403)


def test_other_methods_are_refused(admin_client, payments):
    answer = admin_client.delete(PAGE, secure=True, headers={"origin": "https://daypass.test"})

    assert answer.status_code == 405
