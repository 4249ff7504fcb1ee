"""People are read, and switched off or on; groups can be entered before anybody came with them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import DirectoryGroup, Person
from broker.audit.models import AuditEvent
from broker.audit.rules import Kind
from broker.sessions.models import Session
from tests import factories as make
from tests.admin.conftest import browser_at_origin, sign_in

pytestmark = pytest.mark.django_db


def page_of(client, thing) -> str:
    label = thing._meta.label_lower.replace(".", "/")
    return client.get(f"/admin/{label}/{thing.pk}/change/").content.decode()


# --- Every role they get, and why


def test_a_persons_page_shows_every_role_and_the_mapping_behind_it(admin_client, okta):
    oncall = make.group("payments-oncall", at=okta)
    role = make.role("Operator", of=make.account("Payments production"))
    mapping = make.mapping(oncall, role, require_mfa=True, allow_keys=False, note="On-call")
    grace = make.person("grace", groups=[oncall])

    page = page_of(admin_client, grace)

    assert "Operator" in page
    assert "Payments production" in page
    assert f"/admin/broker/mapping/{mapping.pk}/change/" in page
    assert "payments-oncall: On-call" in page
    assert "signed in with a second factor" in page
    assert "Console only" in page


def test_a_deny_shows_on_the_page_of_the_person_it_stops(admin_client, okta):
    engineers = make.group("engineers", at=okta)
    role = make.role("Developer")
    make.mapping(engineers, role)
    grace = make.person("grace", groups=[engineers])
    deny = make.deny(person=grace, role=role, reason="On leave until September")

    page = page_of(admin_client, grace)

    assert "On leave until September" in page
    assert "Denied: " not in page
    assert f'<a href="/admin/broker/deny/{deny.pk}/change/">See the deny</a>' in page
    assert '<span class="chip" data-colour="red">no</span>' in page


def test_a_deny_that_is_lifted_is_still_named_with_its_reason(admin_client, okta):
    engineers = make.group("engineers", at=okta)
    role = make.role("Developer")
    make.mapping(engineers, role)
    grace = make.person("grace", groups=[engineers])
    deny = make.deny(person=grace, role=role, reason="On leave", enabled=False)

    page = page_of(admin_client, grace)

    said = f'A deny that was lifted: <a href="/admin/broker/deny/{deny.pk}/change/">On leave</a>'
    assert said in page
    assert "Denied: " not in page


def test_a_stale_membership_is_said_to_be_one(admin_client, okta, settings):
    engineers = make.group("engineers", at=okta)
    make.mapping(engineers, make.role("Developer"))
    grace = make.person("grace", at=okta)
    make.membership(
        grace,
        engineers,
        confirmed_at=timezone.now() - settings.DAYPASS_MEMBERSHIP_MAX_AGE - timedelta(hours=1),
    )

    page = page_of(admin_client, grace)

    assert "they have to sign in again" in page
    assert '<span class="chip" data-colour="amber">stale</span>' in page


def test_many_roles_are_paged_and_searched(admin_client, okta):
    engineers = make.group("engineers", at=okta)
    roles = [make.role(f"Role{number:03}") for number in range(60)]
    make.mapping(engineers, *roles)
    grace = make.person("grace", groups=[engineers])
    url = f"/admin/accounts/person/{grace.pk}/change/"

    first = admin_client.get(url).content.decode()
    found = admin_client.get(url, {"why": "Role042"}).content.decode()

    assert "60 roles" in first
    assert "Page 1 of 3" in first
    assert "Role042" in found
    assert "Role041" not in found


# --- Switching off and on


def live_session(person: Person) -> Session:
    return Session.objects.create(
        person=person,
        role=make.role(),
        state="active",
        hand_over="keys",
        session_name=f"{person.handle}-live",
        source_identity=person.handle,
        seconds=3600,
        expires_at=timezone.now() + timedelta(minutes=50),
    )


def test_switching_off_says_first_what_it_cannot_take_back(admin_client, grace):
    live_session(grace)

    page = admin_client.get(f"/admin/accounts/person/{grace.pk}/do/deactivate/").content.decode()

    assert "1 live AWS session cannot be taken back" in page
    assert "This is you." not in page
    grace.refresh_from_db()
    assert grace.is_active


def test_an_administrator_is_told_before_switching_off_themselves(admin_client, ada):
    page = admin_client.get(f"/admin/accounts/person/{ada.pk}/do/deactivate/").content.decode()

    assert "This is you." in page


def test_somebody_switched_off_is_signed_out_everywhere_and_it_is_recorded(
    admin_client, ada, grace
):
    theirs = sign_in(browser_at_origin(), grace)
    assert theirs.get("/").status_code == 200

    admin_client.post(f"/admin/accounts/person/{grace.pk}/do/deactivate/")

    grace.refresh_from_db()
    assert not grace.is_active
    assert theirs.get("/").status_code == 302
    event = AuditEvent.objects.get(kind=Kind.ADMIN_CHANGED.value)
    assert (event.subject_id, event.actor_id) == (str(grace.pk), str(ada.pk))
    assert event.data["before"] == {"active": True}
    assert event.data["after"] == {"active": False}


def test_switching_on_again_does_not_revive_what_was_held(admin_client, grace):
    theirs = sign_in(browser_at_origin(), grace)
    admin_client.post(f"/admin/accounts/person/{grace.pk}/do/deactivate/")

    admin_client.post(f"/admin/accounts/person/{grace.pk}/do/reactivate/")

    grace.refresh_from_db()
    assert grace.is_active
    assert theirs.get("/").status_code == 302


def test_a_deed_that_is_done_already_does_nothing_twice(admin_client, grace):
    for _ in range(2):
        admin_client.post(f"/admin/accounts/person/{grace.pk}/do/deactivate/")

    assert AuditEvent.objects.filter(kind=Kind.ADMIN_CHANGED.value).count() == 1


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_a_deed_answers_only_to_its_methods(admin_client, grace, method):
    answer = getattr(admin_client, method)(f"/admin/accounts/person/{grace.pk}/do/deactivate/")

    assert answer.status_code == 405
    grace.refresh_from_db()
    assert grace.is_active


def test_a_deed_that_does_not_exist_is_not_there(admin_client, grace):
    assert admin_client.post(f"/admin/accounts/person/{grace.pk}/do/promote/").status_code == 404


def test_people_are_found_by_name_handle_and_address(admin_client, okta):
    make.person("zoe", at=okta, name="Zoë Washburne", email="zoe@serenity.example")
    make.person("mal", at=okta, name="Malcolm Reynolds")

    for text in ("zoe", "Washburne", "zoe@serenity"):
        page = admin_client.get("/admin/accounts/person/", {"q": text}).content.decode()
        assert "Zoë Washburne" in page
        assert "Malcolm" not in page


# --- Groups


def test_a_group_can_be_entered_before_anybody_came_with_it(admin_client, okta):
    answer = admin_client.post(
        "/admin/accounts/directorygroup/add/",
        {"provider": okta.pk, "key": "CN=cloud, OU=groups ", "name": "Cloud"},
    )

    made = DirectoryGroup.objects.get(name="Cloud")
    assert answer.status_code == 302
    assert made.key == "CN=cloud, OU=groups "
    assert not made.confers_staff


def test_a_group_that_confers_the_admin_does_so_at_once_for_its_members(admin_client, okta):
    operators = make.group("operators", at=okta)
    mary = make.person("mary", groups=[operators])

    admin_client.post(
        f"/admin/accounts/directorygroup/{operators.pk}/change/",
        {"name": "operators", "confers_staff": "on"},
    )

    mary.refresh_from_db()
    assert mary.is_staff
    assert mary.staff_from_group
    assert not mary.is_superuser


def test_key_and_provider_of_a_group_stay_what_they_were(admin_client, okta):
    operators = make.group("operators", at=okta)
    other = make.provider("other")

    admin_client.post(
        f"/admin/accounts/directorygroup/{operators.pk}/change/",
        {"name": "Operators", "key": "daypass-admins", "provider": other.pk},
    )

    operators.refresh_from_db()
    assert (operators.key, operators.provider) == ("operators", okta)
    assert operators.name == "Operators"


def test_a_groups_page_shows_members_and_what_they_get(admin_client, okta):
    engineers = make.group("engineers", at=okta)
    make.person("grace", groups=[engineers], name="Grace Hopper")
    make.mapping(engineers, make.role("Developer"))

    page = page_of(admin_client, engineers)

    assert "Grace Hopper" in page
    assert "Developer" in page
    assert f"/admin/broker/mapping/add/?group={engineers.pk}" in page
