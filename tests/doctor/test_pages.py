"""Where administrators and employees meet the doctor."""

from __future__ import annotations

import html

import pytest
from django.urls import reverse
from django.utils import timezone

from broker.audit.models import AuditEvent
from broker.audit.rules import Kind
from broker.audit.services import Subject, record_now
from broker.doctor.models import TrustCheck
from tests import factories as make
from tests.admin.conftest import (  # noqa: F401  (fixtures)
    ada,
    admin_client,
    employee_client,
    grace,
    okta,
)
from tests.portal.conftest import sign_in

pytestmark = pytest.mark.django_db


def role_page(world) -> str:
    return reverse("admin:broker_awsrole_change", args=(world.role.pk,))


def the_button(world) -> str:
    return reverse("admin:broker_awsrole_do", args=(world.role.pk, "try"))


def text(answer) -> str:
    assert answer.status_code == 200
    return html.unescape(answer.content.decode())


def test_the_button_tries_the_role_in_the_administrators_name(company, admin_client, ada):  # noqa: F811
    world = company("web_identity")
    assert "Nobody has tried this role yet" in text(admin_client.get(role_page(world)))

    answer = admin_client.post(the_button(world), follow=True, secure=True)

    assert "works: AWS let Daypass in" in text(answer)
    assert AuditEvent.objects.get(kind="role.checked").actor_id == str(ada.pk)


def test_a_failure_shows_cause_remedy_policy_and_every_step(company, admin_client):  # noqa: F811
    world = company("web_identity")
    world.statement["Condition"]["StringEquals"]["daypass.test:aud"] = "sigstore"

    said = text(admin_client.post(the_button(world), follow=True, secure=True))

    assert "The trust policy demands StringEquals daypass.test:aud = sigstore" in said
    assert '"daypass.test:aud": "sts.amazonaws.com"' in said
    assert "Provider registered in the account" in said
    assert "by the corrected one. The corrected policy stands under Doctor." in said


def test_an_employee_has_no_such_button(company, employee_client):  # noqa: F811
    world = company("web_identity")

    answer = employee_client.post(the_button(world), follow=True, secure=True)

    assert answer.status_code == 403
    assert not TrustCheck.objects.exists()


def test_a_role_that_fails_is_marked_in_the_catalogue_and_on_the_first_page(company, admin_client):  # noqa: F811
    world = company("web_identity")
    fine = make.role("Fine", of=world.account)
    TrustCheck.objects.create(role=fine, outcome="works")
    TrustCheck.objects.create(role=world.role, outcome="fails", cause="Because.")

    listed = text(admin_client.get(reverse("admin:broker_awsrole_changelist")))
    only = text(
        admin_client.get(
            reverse("admin:broker_awsrole_changelist") + "?trust_check__outcome__exact=fails"
        )
    )

    assert listed.count("does not work</span>") == 1
    assert "Developer" in only and "Fine</a>" not in only
    assert "1 role does not work" in text(admin_client.get(reverse("admin:index")))


def test_the_catalogue_asks_for_no_more_rows_with_more_roles(
    company,
    admin_client,  # noqa: F811
    django_assert_max_num_queries,
):
    world = company("web_identity")
    for number in range(12):
        made = make.role(f"Role{number}", of=world.account)
        TrustCheck.objects.create(role=made, outcome="fails")

    with django_assert_max_num_queries(12):
        admin_client.get(reverse("admin:broker_awsrole_changelist"))


def test_from_an_employees_failure_a_link_leads_to_the_doctors_view_of_the_role(
    company,
    admin_client,  # noqa: F811
):
    world = company("web_identity")
    TrustCheck.objects.create(
        role=world.role, outcome="fails", cause="The Deny.", remedy="Take it off."
    )
    event = record_now(
        Kind.SESSION_FAILED, subject=Subject("session", "x"), data={"role": world.role.arn}
    )

    said = text(admin_client.get(reverse("admin:broker_auditevent_change", args=(event.pk,))))

    assert "The Deny." in said and "Take it off." in said
    assert f'href="{role_page(world)}#doctor"' in said


def test_an_employee_reads_softly_that_it_did_not_work_and_not_why(company, grace):  # noqa: F811
    world = company("web_identity")
    group = make.group("developers", at=grace.provider)
    make.membership(grace, group)
    make.mapping(group, world.role)
    page = reverse("role", args=(world.role.pk,))
    browser = sign_in(grace)
    assert "did not open this role" not in text(browser.get(page, secure=True))

    TrustCheck.objects.create(
        role=world.role, outcome="fails", cause="Secret cause", at=timezone.now()
    )
    said = text(browser.get(page, secure=True))

    assert "AWS did not open this role when Daypass last tried it" in said
    assert "Secret cause" not in said
