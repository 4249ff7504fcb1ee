"""Accounts, roles, mappings and denies in the admin: asked in order, checked at the field, recorded once."""

from __future__ import annotations

import html
import json
import re
from datetime import timedelta

import pytest
from django.utils import timezone

from broker.audit.models import AuditEvent
from broker.audit.rules import Kind
from broker.entitlements.models import AwsAccount, AwsRole, Deny, Environment, Mapping
from broker.sessions.models import Session
from tests import factories as make

pytestmark = pytest.mark.django_db

ACCOUNT = "/admin/broker/awsaccount/add/"
ROLE = "/admin/broker/awsrole/add/"
MAPPING = "/admin/broker/mapping/add/"
DENY = "/admin/broker/deny/add/"


def changed() -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(kind=Kind.ADMIN_CHANGED.value).order_by("seq"))


def account_form(**answers: object) -> dict[str, object]:
    return {
        "account_id": "1111-2222-3333",
        "name": "Payments production",
        "alias": "",
        "region": "",
        "partition": "aws",
        "saml_provider_name": "",
        "enabled": "on",
        **answers,
    }


def role_form(**answers: object) -> dict[str, object]:
    return {
        "arn": "arn:aws:iam::111122223333:role/Developer",
        "description": "",
        "trust": "web_identity",
        "console": "federation",
        "max_seconds": "8 h",
        "external_id": "",
        "enabled": "on",
        **answers,
    }


def mapping_form(group, *roles, **answers: object) -> dict[str, object]:
    empty = dict.fromkeys(
        (
            "note",
            "max_seconds",
            "max_sign_in_age",
            "networks",
            "valid_from",
            "valid_until",
            "session_policy",
            "policy_arns",
            "session_tags",
        ),
        "",
    )
    return {
        "group": group.pk,
        "roles": [str(role.pk) for role in roles],
        "enabled": "on",
        "allow_console": "on",
        "allow_keys": "on",
        **empty,
        **answers,
    }


# --- Environments and accounts


def test_an_environment_is_a_word_and_a_colour(admin_client):
    admin_client.post(
        "/admin/broker/environment/add/",
        {"name": "Production", "colour": "red", "production": "on", "position": "0"},
    )

    assert Environment.objects.get().production
    assert len(changed()) == 1


@pytest.mark.parametrize("typed", ["111122223333", "1111-2222-3333", " 1111 2222 3333 "])
def test_an_account_id_is_taken_in_every_form_that_people_paste(admin_client, typed):
    admin_client.post(ACCOUNT, account_form(account_id=typed))

    assert AwsAccount.objects.get().account_id == "111122223333"
    assert AwsAccount.objects.get().saml_provider_name == "Daypass"


@pytest.mark.parametrize(
    ("answers", "field", "said"),
    [
        ({"account_id": "12345"}, "account_id", "12 digits"),
        ({"region": "mars-north-1"}, "region", "not a region"),
        ({"alias": "-Odd-"}, "alias", "alias"),
        ({"name": ""}, "name", "required"),
    ],
)
def test_what_is_wrong_with_an_account_stands_at_its_field(
    admin_client, errors_of, answers, field, said
):
    answer = admin_client.post(ACCOUNT, account_form(**answers))

    assert said in errors_of(answer)[field]
    assert not AwsAccount.objects.exists()
    assert changed() == []


def test_an_account_id_stays_what_it_was(admin_client):
    account = make.account("Payments", account_id="111122223333")

    admin_client.post(
        f"/admin/broker/awsaccount/{account.pk}/change/",
        account_form(account_id="444455556666", name="Payments again"),
    )

    account.refresh_from_db()
    assert (account.account_id, account.name) == ("111122223333", "Payments again")


def test_that_nothing_was_saved_stands_above_all_that_is_known(admin_client):
    account = make.account("Payments", account_id="111122223333")

    answer = admin_client.post(
        f"/admin/broker/awsaccount/{account.pk}/change/", account_form(region="mars-north-1")
    )
    page = answer.content.decode()

    assert page.index("Not saved.") < page.index("<dt>State</dt>") < page.index('id="settings"')


# --- Roles


def test_a_role_is_registered_by_its_arn(admin_client):
    make.account("Payments", account_id="111122223333")

    answer = admin_client.post(ROLE, role_form())

    made = AwsRole.objects.get()
    assert answer.status_code == 302
    assert (made.name, made.max_seconds, made.trust) == ("Developer", 28800, "web_identity")


@pytest.mark.parametrize(
    ("answers", "field", "said"),
    [
        ({"arn": "arn:aws:iam::111122223333:user/eve"}, "arn", "ARN of an IAM role"),
        ({"arn": "arn:aws:iam::999999999999:role/Lost"}, "arn", "not registered"),
        ({"max_seconds": "13 h"}, "max_seconds", "12 h"),
        ({"max_seconds": "a while"}, "max_seconds", "length of time"),
        ({"console": "saml_form"}, "console", "SAML"),
        ({"external_id": "x-1"}, "external_id", "AssumeRole"),
        ({"trust": "magic"}, "trust", "valid choice"),
    ],
)
def test_what_is_wrong_with_a_role_stands_at_its_field(
    admin_client, errors_of, answers, field, said
):
    make.account("Payments", account_id="111122223333")

    answer = admin_client.post(ROLE, role_form(**answers))

    assert said in errors_of(answer)[field]
    assert not AwsRole.objects.exists()


def test_many_roles_are_pasted_and_every_line_says_what_became_of_it(admin_client):
    make.account("Payments", account_id="111122223333")
    form = role_form(
        arns="""
        arn:aws:iam::111122223333:role/Developer
        arn:aws:iam::111122223333:role/ReadOnly,
        arn:aws:iam::111122223333:role/Developer
        arn:aws:iam::444455556666:role/Auditor
        arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_Admin_1
        not an arn
        """
    )

    answer = admin_client.post("/admin/broker/awsrole/bulk/", form)

    outcomes = [(r.line.rpartition("/")[2], r.outcome) for r in answer.context["results"]]
    assert outcomes == [
        ("Developer", "registered"),
        ("ReadOnly", "registered"),
        ("Developer", "twice"),
        ("Auditor", "registered"),
        ("AWSReservedSSO_Admin_1", "not taken"),
        ("not an arn", "not taken"),
    ]
    assert AwsRole.objects.count() == 3
    assert AwsAccount.objects.get(account_id="444455556666").name == "444455556666"
    assert "3 of 6 registered" in answer.content.decode()


def test_pasting_the_same_roles_again_registers_nothing(admin_client):
    role = make.role("Developer")
    before = len(changed())

    answer = admin_client.post("/admin/broker/awsrole/bulk/", role_form(arns=role.arn))

    assert [result.outcome for result in answer.context["results"]] == ["there"]
    assert len(changed()) == before


def test_a_roles_page_shows_everyone_who_reaches_it_and_why(admin_client, okta):
    role = make.role("Developer")
    engineers = make.group("engineers", at=okta)
    make.person("grace", groups=[engineers], name="Grace Hopper")
    make.person("linus", groups=[engineers], name="Linus Berg", is_active=False)
    make.mapping(engineers, role, networks=["192.0.2.0/24"], note="Everybody who builds")

    page = admin_client.get(f"/admin/broker/awsrole/{role.pk}/change/").content.decode()

    assert "Grace Hopper" in page
    assert "engineers: Everybody who builds" in page
    assert "192.0.2.0/24" in page
    linus = page.split("Linus Berg")[1]
    assert 'data-colour="red">no<' in linus.split("</li>")[0]


def test_a_role_whose_last_issue_failed_says_why_and_what_mends_it(admin_client, grace):
    from broker.sessions.models import Session

    role = make.role("Developer")
    Session.objects.create(
        person=grace,
        role=role,
        state="failed",
        hand_over="keys",
        session_name="grace-1",
        source_identity="grace",
        seconds=3600,
        aws_error_code="AccessDenied",
        failure="The trust policy does not allow sts:TagSession.",
        remedy="Add sts:TagSession to its actions.",
    )

    page = admin_client.get(f"/admin/broker/awsrole/{role.pk}/change/").content.decode()
    today = admin_client.get("/admin/").content.decode()

    assert "The last issue of this role failed" in page
    assert page.index('id="the-last-issue-of-this-role-failed"') < page.index('id="settings"')
    jumps = page.partition('<nav class="jumps"')[2].partition("</nav>")[0]
    led = re.findall(r'href="#([a-z-]+)"', jumps)
    assert led[:2] == ["the-last-issue-of-this-role-failed", "settings"]
    assert all(page.count(f'id="{anchor}"') == 1 for anchor in led)
    assert "Add sts:TagSession to its actions." in page
    assert "does not allow sts:TagSession" in today


def test_a_page_leads_to_everything_on_it(admin_client):
    account = make.account("Payments", account_id="111122223333")
    for thing in (account, make.role("Developer", of=account)):
        page = admin_client.get(f"/admin/broker/{thing._meta.model_name}/{thing.pk}/change/")
        said = page.content.decode()
        jumps = said.partition('<nav class="jumps"')[2].partition("</nav>")[0]

        assert re.findall(r'href="#([a-z-]+)"', jumps) == [
            "settings",
            *(panel.anchor for panel in page.context["panels"]),
        ]


# --- Mappings


@pytest.fixture
def engineers(okta):
    return make.group("engineers", at=okta)


def test_a_mapping_with_every_limit_is_saved_as_it_was_asked(admin_client, ada, engineers):
    roles = [make.role("Developer"), make.role("ReadOnly")]
    policy = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "s3:Get*", "Resource": "*"}],
    }

    answer = admin_client.post(
        MAPPING,
        mapping_form(
            engineers,
            *roles,
            note="Everybody who builds",
            max_seconds="1 h 30 min",
            max_sign_in_age="30 min",
            require_mfa="on",
            networks="192.0.2.0/24\n\n2001:db8::/32",
            valid_until="2099-01-01T00:00",
            session_policy=json.dumps(policy, indent=2),
            policy_arns="arn:aws:iam::aws:policy/ReadOnlyAccess",
            session_tags="CostCenter = cost_center",
        ),
    )

    made = Mapping.objects.get()
    assert answer.status_code == 302
    assert set(made.roles.all()) == set(roles)
    assert (made.max_seconds, made.max_sign_in_age, made.require_mfa) == (5400, 1800, True)
    assert made.networks == ["192.0.2.0/24", "2001:db8::/32"]
    assert json.loads(made.session_policy) == policy
    assert made.session_tags == {"CostCenter": "cost_center"}
    event = changed()[-1]
    assert len(changed()) == 1
    assert event.actor_id == str(ada.pk)
    assert event.data["after"]["max_seconds"] == 5400
    assert len(event.data["after"]["roles"]) == 2


@pytest.mark.parametrize(
    ("answers", "field", "said"),
    [
        ({"roles": []}, "roles", "required"),
        ({"max_seconds": "5 min"}, "max_seconds", "15 min"),
        ({"networks": "not a network"}, "networks", "not a network"),
        ({"networks": "192.0.2.7/24"}, "networks", "single address"),
        ({"session_policy": "{"}, "session_policy", "not JSON"),
        ({"session_policy": '{"Version": "2012-10-17"}'}, "session_policy", "Statement"),
        ({"policy_arns": "ReadOnlyAccess"}, "policy_arns", "managed policy"),
        ({"session_tags": "aws:x = team"}, "session_tags", "reserved"),
        ({"session_tags": "team"}, "session_tags", "pair"),
        ({"allow_console": "", "allow_keys": ""}, "allow_console", "both"),
        ({"valid_until": "2001-01-01T00:00"}, "valid_until", "passed"),
    ],
)
def test_what_is_wrong_with_a_mapping_stands_at_its_field(
    admin_client, errors_of, engineers, answers, field, said
):
    role = make.role("Developer")

    answer = admin_client.post(MAPPING, mapping_form(engineers, role, **answers))

    assert said in errors_of(answer)[field]
    assert not Mapping.objects.exists()
    assert changed() == []


def nothing_wrong_is_folded_away(answer) -> bool:
    """Whether something is marked as wrong, and all of it stands where it is seen at once."""
    page = answer.content.decode()
    closed = re.findall(r"<details>.*?</details>", page, re.DOTALL)
    return "errorlist" in page and not any("errorlist" in part for part in closed)


def test_what_is_wrong_in_a_fold_is_shown_and_led_to(admin_client, engineers):
    account = make.account("Payments", account_id="111122223333")
    url = f"/admin/broker/awsaccount/{account.pk}/change/"

    changing = admin_client.post(url, account_form(second_region="nowhere"))
    adding = admin_client.post(
        MAPPING,
        mapping_form(engineers, make.role("Developer"), valid_until="2001-01-01T00:00"),
    )

    assert nothing_wrong_is_folded_away(changing)
    assert nothing_wrong_is_folded_away(adding)
    assert (
        'One thing has to be mended below: <a href="#id_second_region">Second region</a>.'
        in changing.content.decode()
    )
    assert '<a href="#id_valid_until">Until</a>.' in adding.content.decode()
    assert "<h2>Session policy and tags</h2>" in "".join(
        re.findall(r"<details>.*?</details>", adding.content.decode(), re.DOTALL)
    )


def change_mapping(client, mapping, **answers: object):
    url = f"/admin/broker/mapping/{mapping.pk}/change/"
    form = client.get(url).context["adminform"].form
    filled = {name: form[name].value() for name in form.fields}
    filled = {n: "" if v is None else v for n, v in filled.items() if v is not False}
    return client.post(url, {**filled, **answers})


def test_a_change_records_what_was_and_what_is(admin_client, engineers):
    mapping = make.mapping(engineers, make.role("Developer"), max_seconds=3600)

    change_mapping(admin_client, mapping, max_seconds="2 h")

    (event,) = changed()
    assert event.data["before"]["max_seconds"] == 3600
    assert event.data["after"]["max_seconds"] == 7200
    page = admin_client.get(f"/admin/broker/auditevent/{event.seq}/change/").content.decode()
    assert "<del>3600</del>" in page
    assert "<ins>7200</ins>" in page


def test_saving_without_a_change_records_nothing(admin_client, engineers):
    mapping = make.mapping(
        engineers,
        make.role("Developer"),
        max_seconds=5400,
        networks=["192.0.2.0/24"],
        session_tags={"Team": "team"},
    )

    answer = change_mapping(admin_client, mapping)

    assert answer.status_code == 302
    assert changed() == []


def test_somebody_elses_change_is_not_overwritten(admin_client, engineers):
    mapping = make.mapping(engineers, make.role("Developer"))
    url = f"/admin/broker/mapping/{mapping.pk}/change/"
    form = admin_client.get(url).context["adminform"].form
    stale = {name: form[name].value() for name in form.fields}
    stale = {n: "" if v is None else v for n, v in stale.items() if v is not False}
    change_mapping(admin_client, mapping, note="By somebody else")

    answer = admin_client.post(url, {**stale, "note": "Mine"})

    mapping.refresh_from_db()
    assert "Somebody else changed this mapping" in answer.content.decode()
    assert f'<a href="{url}">Open it anew</a>' in answer.content.decode()
    assert "to be mended" not in answer.content.decode()  # nothing below is wrong
    assert mapping.note == "By somebody else"


def test_a_mapping_begins_where_its_link_said(admin_client, engineers):
    role = make.role("Developer")

    answer = admin_client.get(f"{MAPPING}?group={engineers.pk}&roles={role.pk}")

    form = answer.context["adminform"].form
    assert form["group"].value() == engineers.pk
    assert form["roles"].value() == [role.pk]
    assert "Developer" in answer.content.decode()


def test_a_limit_that_is_there_is_never_folded_away(admin_client, engineers):
    bare = make.mapping(engineers, make.role("Developer"))
    limited = make.mapping(engineers, make.role("Operator"), networks=["192.0.2.0/24"])
    folded = "<details><summary><h2>When and from where"

    assert folded in admin_client.get(f"/admin/broker/mapping/{bare.pk}/change/").content.decode()
    page = admin_client.get(f"/admin/broker/mapping/{limited.pk}/change/").content.decode()
    assert folded not in page
    assert "192.0.2.0/24" in page


def preview(client, *args, **answers: object) -> str:
    return client.post(
        "/admin/broker/mapping/preview/", mapping_form(*args, **answers)
    ).content.decode()


def test_a_mapping_of_many_roles_names_some_and_counts_the_rest(admin_client, engineers):
    account = make.account("Payments")
    make.mapping(engineers, *(make.role(f"Role{number:02}", of=account) for number in range(12)))

    page = admin_client.get("/admin/broker/mapping/").content.decode()

    assert "Role02" in page
    assert "Role03" not in page
    assert "and 9 more" in page


def test_the_form_shows_who_would_get_it_before_it_is_saved(admin_client, engineers):
    production = make.environment("Production", production=True)
    role = make.role("Developer", of=make.account("Payments", environment=production))
    make.person("grace", groups=[engineers], name="Grace Hopper")
    make.person("linus", groups=[engineers], name="Linus Berg")

    said = preview(admin_client, engineers, role)

    assert "2 people" in said
    assert "1 role" in said
    assert "Grace Hopper" in said
    assert "Production" in said
    assert not Mapping.objects.exists()


def test_the_form_warns_who_would_give_themselves_a_role(admin_client, ada, engineers):
    role = make.role("Developer")
    assert "You are in this group" not in preview(admin_client, engineers, role)
    make.membership(ada, engineers)

    assert "You are in this group" in preview(admin_client, engineers, role)

    admin_client.post(MAPPING, mapping_form(engineers, role))
    assert changed()[-1].data["raises_own_rights"] is True
    assert "raised their own rights" in admin_client.get("/admin/").content.decode()


def test_the_form_names_denies_that_stand_in_the_way(admin_client, engineers):
    role = make.role("Developer")
    make.deny(group=engineers, reason="Frozen during the audit")

    assert "Frozen during the audit" in preview(admin_client, engineers, role)


@pytest.fixture
def asserted(okta):
    return make.role(
        "Asserted", of=make.account("Ledger"), trust="relayed_assertion", relay_provider=okta
    )


def test_a_role_that_no_mapping_gives_is_told_before_and_after_it_is_mapped(
    admin_client, engineers, asserted
):
    """Whose it is, only the provider's own AWS application says (docs/relay.md)."""
    developer = make.role("Developer")
    told = "No mapping gives Asserted in Ledger to anybody"

    before = preview(admin_client, engineers, developer, asserted)
    after = admin_client.post(
        MAPPING, mapping_form(engineers, developer, asserted), follow=True
    ).content.decode()

    assert told in before
    assert "yet; whoever does gets <strong>1 role</strong> then." in before
    assert told in after
    mapping = Mapping.objects.get()
    page = admin_client.get(f"/admin/broker/mapping/{mapping.pk}/change/").content.decode()
    fact = page.partition("<dt>Has no effect on</dt>")[2].partition("</dd>")[0]
    assert "Asserted in Ledger</a>: AWS trusts" in fact
    assert "Assign it there, or give the role another trust." in fact
    assert told not in preview(admin_client, engineers, developer)


def test_a_mapping_of_roles_that_mappings_give_is_saved_without_a_warning(admin_client, engineers):
    page = admin_client.post(
        MAPPING, mapping_form(engineers, make.role("Developer")), follow=True
    ).content.decode()

    assert "No mapping gives" not in page
    assert "Has no effect on" not in page


def test_the_page_of_such_a_role_asks_for_no_mapping(admin_client, engineers, asserted):
    url = f"/admin/broker/awsrole/{asserted.pk}/change/"
    bare = admin_client.get(url).content.decode()
    make.mapping(engineers, asserted)
    mapped = admin_client.get(url).content.decode()

    assert "says whose this role is; no mapping does" in bare
    for page in (bare, mapped):
        assert "Add a mapping" not in page
    assert "None of them has an effect on this role." in mapped


def test_only_a_session_that_daypass_names_is_told_by_its_name(admin_client, asserted):
    named = {
        role: "Its sessions are named like"
        in admin_client.get(f"/admin/broker/awsrole/{role.pk}/change/").content.decode()
        for role in (asserted, make.role("Developer"))
    }

    assert list(named.values()) == [False, True]


@pytest.mark.parametrize("group", ["", "x", "999999", "1' OR 1=1"])
def test_a_preview_of_half_a_form_asks_for_the_rest(admin_client, group):
    answer = admin_client.post(
        "/admin/broker/mapping/preview/", {"group": group, "roles": ["not-a-uuid"]}
    )

    assert answer.status_code == 200
    assert "Choose a group" in answer.content.decode()


def test_a_mapping_is_switched_off_with_a_word_about_how_many(admin_client, engineers):
    mapping = make.mapping(engineers, make.role("Developer"))
    make.person("grace", groups=[engineers])
    url = f"/admin/broker/mapping/{mapping.pk}/do/off/"

    page = admin_client.get(url).content.decode()
    admin_client.post(url)

    assert "1 person is concerned" in page
    mapping.refresh_from_db()
    assert not mapping.enabled
    assert changed()[-1].data["action"] == "switched off"


def test_a_role_that_a_mapping_gives_is_not_deleted(admin_client, engineers):
    role = make.role("Developer")
    make.mapping(engineers, role)

    answer = admin_client.post(f"/admin/broker/awsrole/{role.pk}/do/delete/", follow=True)

    assert AwsRole.objects.filter(pk=role.pk).exists()
    assert "Mappings still give this role" in answer.content.decode()


def test_the_page_of_a_person_says_what_is_denied_and_whether_it_still_is(admin_client, grace):
    past = timezone.now() - timedelta(days=1)
    for name, values in {
        "Now": {},
        "Past": {"valid_until": past},
        "Lifted": {"enabled": False},
    }.items():
        make.deny(person=grace, role=make.role(name), reason="Audit", **values)

    page = admin_client.get(f"/admin/accounts/person/{grace.pk}/change/").content.decode()

    for name, said in {"Now": "in force", "Past": "over", "Lifted": "lifted"}.items():
        assert re.search(rf">[^<]*{name}[^<]*</a>\s*<span[^>]*>{said}</span>", page), name


def test_what_is_in_the_way_of_a_deletion_is_counted_before(admin_client, engineers, grace):
    production = make.environment("Production")
    account = make.account("Payments", account_id="111122223333", environment=production)
    role = make.role("Developer", of=account)
    mapping = make.mapping(engineers, role)
    make.deny(person=grace, role=role)

    def asked(thing) -> str:
        url = f"/admin/broker/{thing._meta.model_name}/{thing.pk}/do/delete/"
        return admin_client.get(url).content.decode().partition("<h1>")[2]

    said = {thing: asked(thing) for thing in (production, account, role)}
    links = {
        production: f'awsaccount/?environment__id__exact={production.pk}">1 AWS account</a> still refers to it.',
        account: f'awsrole/?account__id__exact={account.pk}">1 AWS role</a> still refers to it.',
        role: f'mapping/?roles__id__exact={role.pk}">1 mapping</a>',
    }
    for thing, link in links.items():
        assert link in said[thing]
        assert ">Delete</button>" not in said[thing]
        target = link.partition('"')[0]
        assert admin_client.get(f"/admin/broker/{target}").status_code == 200
    assert "Move it to another one first." in said[production]
    assert "Delete it first, or switch the account off." in said[account]
    assert "Take it out of them first, or switch it off." in said[role]
    for thing in (account, role):
        off = f'href="/admin/broker/{thing._meta.model_name}/{thing.pk}/do/off/">Switch off…</a>'
        assert off in said[thing]
        type(thing).objects.filter(pk=thing.pk).update(enabled=False)
        assert "Switch off…" not in asked(thing)
        assert "or switch" not in asked(thing)
    assert "Switch off…" not in said[production]

    mapping.delete()
    role.denies.all().delete()
    role.delete()
    assert "No role belongs to it. It will be gone for good." in asked(account)
    assert ">Delete</button>" in asked(account)


def test_a_role_that_was_used_stays_and_is_switched_off(admin_client, grace):
    role = make.role("Developer")
    Session.objects.create(
        person=grace, role=role, hand_over="keys", session_name="grace-1", seconds=3600
    )

    page = admin_client.get(f"/admin/broker/awsrole/{role.pk}/do/delete/").content.decode()

    assert f'session/?role__id__exact={role.pk}">1 session</a> still refers to it.' in page
    assert "switch it off instead" in page and ">Delete</button>" not in page


def test_what_is_so_already_is_not_done_again(admin_client):
    role = make.role("Developer")
    before = AuditEvent.objects.count()

    answer = admin_client.post(f"/admin/broker/awsrole/{role.pk}/do/on/", follow=True)

    assert "“Switch on” is not possible or not needed now." in answer.content.decode()
    assert AuditEvent.objects.count() == before


def test_an_environment_with_accounts_is_not_told_to_be_switched_off(admin_client):
    production = make.environment("Production")
    make.account("Payments", environment=production)

    url = f"/admin/broker/environment/{production.pk}/do/delete/"
    answer = admin_client.post(url, follow=True).content.decode()

    assert Environment.objects.filter(pk=production.pk).exists()
    assert "Accounts still use this environment." in answer


def test_a_mapping_that_is_deleted_stays_in_the_audit(admin_client, engineers):
    mapping = make.mapping(engineers, make.role("Developer"), note="Old")

    answer = admin_client.post(f"/admin/broker/mapping/{mapping.pk}/do/delete/")

    assert answer["Location"] == "/admin/broker/mapping/"
    assert not Mapping.objects.exists()
    assert changed()[-1].data["before"]["note"] == "Old"


def test_roles_and_groups_are_chosen_by_typing(admin_client, engineers):
    make.role("Developer", of=make.account("Payments production"))
    ask = "/admin/autocomplete/?app_label=broker&model_name=mapping&field_name="

    roles = admin_client.get(f"{ask}roles&term=payments develop").json()["results"]
    groups = admin_client.get(f"{ask}group&term=engin").json()["results"]

    assert [role["text"] for role in roles] == ["Developer in Payments production"]
    assert [group["text"] for group in groups] == ["engineers (Okta)"]


# --- What stands above the pages


def headings_of(client, thing, *deeds: str) -> list[str]:
    base = f"/admin/broker/{thing._meta.model_name}/{thing.pk}/"
    pages = (client.get(base + page).content.decode() for page in ("change/", *deeds))
    return [html.unescape(page.partition("<h1>")[2].partition("</h1>")[0]) for page in pages]


def test_a_deny_is_headed_by_whom_it_denies_what(admin_client, grace, engineers):
    role = make.role("Developer", of=make.account("Payments", account_id="111122223333"))
    deny = make.deny(person=grace, role=role, reason="On leave")
    wide = make.deny(group=engineers, reason="Frozen")
    said = "Deny for Grace Hopper (grace): Developer in Payments"

    assert headings_of(admin_client, deny, "do/delete/") == [said, f"Delete: {said}"]
    assert headings_of(admin_client, wide) == [
        "Deny for members of engineers (Okta): any role at all"
    ]
    url = f"/admin/broker/deny/{deny.pk}/do/delete/"
    gone = admin_client.post(url, follow=True).content.decode()
    assert f"{said} is deleted." in gone
    assert changed()[-1].data["label"] == "On leave"


def test_a_mapping_is_headed_by_who_gets_what(admin_client, engineers):
    account = make.account("Payments", account_id="111122223333")
    one = make.mapping(engineers, make.role("Developer", of=account), note="On call")
    more = make.mapping(engineers, make.role("Reader", of=account), make.role("Ops", of=account))
    said = "engineers (Okta) → Developer in Payments"

    assert headings_of(admin_client, one, "do/off/") == [said, f"Switch off: {said}"]
    assert headings_of(admin_client, more) == ["engineers (Okta) → 2 roles"]


def test_a_mapping_is_called_by_its_roles_wherever_it_is_told(admin_client, ada, engineers):
    role = make.role("Developer", of=make.account("Payments", account_id="111122223333"))
    make.membership(ada, engineers)
    said = "engineers (Okta) → Developer in Payments"

    admin_client.post(MAPPING, mapping_form(engineers, role))
    today = admin_client.get("/admin/").content.decode()
    log = admin_client.get("/admin/broker/auditevent/").content.decode()
    mapping = Mapping.objects.get()
    for deed in ("off", "delete"):
        admin_client.post(f"/admin/broker/mapping/{mapping.pk}/do/{deed}/")

    assert f"by changing “{said}”" in html.unescape(today)
    assert f"mapping {said}</a>" in html.unescape(log)
    assert [event.data["label"] for event in changed()] == [said] * 3


# --- In use or not


def test_a_form_switches_nothing_off(admin_client, engineers, grace):
    account = make.account("Payments", account_id="111122223333")
    role = make.role("Developer", of=account)
    mapping, deny = make.mapping(engineers, role), make.deny(person=grace, role=role)
    forms = (
        (account, account_form(name="Payments again")),
        (role, role_form(description="Deploy")),
        (mapping, mapping_form(engineers, role, note="On call")),
        (deny, {"person": grace.pk, "role": role.pk, "reason": "On leave"}),
    )
    for thing, form in forms:
        url = f"/admin/broker/{thing._meta.model_name}/{thing.pk}/change/"
        form.pop("enabled", None)

        page = admin_client.get(url).content.decode()
        answer = admin_client.post(url, form)

        assert 'name="enabled"' not in page
        assert "<dt>State</dt>" in page and "Switch off…" in page
        assert answer.status_code == 302
        assert type(thing).objects.get(pk=thing.pk).enabled
    assert [event.data["action"] for event in changed()] == ["changed"] * 4


def test_nor_does_a_form_switch_anything_on(admin_client):
    account = make.account("Payments", account_id="111122223333", enabled=False)

    admin_client.post(
        f"/admin/broker/awsaccount/{account.pk}/change/", account_form(name="Payments again")
    )

    account.refresh_from_db()
    assert (account.name, account.enabled) == ("Payments again", False)


def test_what_is_dangerous_stands_behind_what_is_not(admin_client):
    role = make.role("Developer")

    page = admin_client.get(f"/admin/broker/awsrole/{role.pk}/change/").content.decode()
    deeds = page.partition("<h1>")[2].partition("<dl")[0]

    assert deeds.index("Try it now") < deeds.index("Switch off…") < deeds.index("Delete…")


def test_a_role_says_that_its_account_is_off(admin_client):
    role = make.role("Developer", of=make.account("Payments", enabled=False))

    page = admin_client.get(f"/admin/broker/awsrole/{role.pk}/change/").content.decode()

    assert "off</span> with its account" in page


# --- Denies


def test_a_deny_names_who_and_what_and_why(admin_client, grace):
    role = make.role("Developer")

    admin_client.post(
        DENY, {"person": grace.pk, "role": role.pk, "reason": "On leave", "enabled": "on"}
    )

    made = Deny.objects.get()
    assert (made.person, made.role, made.enabled) == (grace, role, True)
    assert len(changed()) == 1


@pytest.mark.parametrize(
    ("answers", "field"),
    [({}, "group"), ({"both": True}, "group"), ({"reason": ""}, "reason")],
)
def test_what_is_wrong_with_a_deny_stands_at_its_field(
    admin_client, errors_of, grace, engineers, answers, field
):
    form = {"reason": "Because", "enabled": "on", **answers}
    if form.pop("both", False):
        form.update(group=engineers.pk, person=grace.pk)
    if "reason" in answers:
        form["person"] = grace.pk

    answer = admin_client.post(DENY, form)

    assert field in errors_of(answer)
    assert not Deny.objects.exists()
