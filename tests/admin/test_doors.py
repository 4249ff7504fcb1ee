"""Who gets into the admin: administrators by directory group, and the emergency account with its second factor."""

from __future__ import annotations

import re

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from accounts.models import Person
from broker.audit.rules import Kind
from broker.audit.services import Subject, record_now
from broker.sessions.models import Session
from tests import factories as make
from tests.admin.conftest import browser_at_origin, sign_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def everything(ada, grace, okta, signing_keys) -> dict[str, object]:
    """One object of every kind that the admin has a page for, by its model."""
    production = make.environment("Production", production=True)
    account = make.account("Payments", environment=production)
    role = make.role("Developer", of=account)
    group = make.group("engineers", at=okta)
    mapping = make.mapping(group, role)
    deny = make.deny(person=grace, role=role)
    session = Session.objects.create(
        person=grace,
        role=role,
        hand_over="keys",
        session_name="grace-1",
        source_identity="grace",
        seconds=3600,
    )
    event = record_now(Kind.ROLE_REFUSED, subject=Subject("role", str(role.pk)))
    from broker.minting.models import SigningKey

    made = [okta, grace, group, production, account, role, mapping, deny, session, event]
    made.append(SigningKey.objects.first())
    return {thing._meta.label_lower: thing for thing in made}


def admin_paths(everything: dict[str, object]) -> list[str]:
    """Every address of the admin, with objects of the right kind put in. New pages are walked without being listed."""
    resolver = next(
        entry
        for entry in get_resolver().url_patterns
        if isinstance(entry, URLResolver) and entry.namespace == "admin"
    )
    found = []

    def walk(patterns: list[URLPattern | URLResolver], before: str, thing: object) -> None:
        for entry in patterns:
            route = before + str(entry.pattern)
            if isinstance(entry, URLResolver):
                label = str(entry.pattern).strip("/").replace("/", ".")
                walk(entry.url_patterns, route, everything.get(label))
                continue
            if "<" not in route:
                found.append(route)
            elif "<path:object_id>" in route and thing is not None:
                route = route.replace("<path:object_id>", str(thing.pk))
                names = [d.name for d in admin.site.get_model_admin(type(thing)).deeds]
                if "<slug:name>" not in route:
                    found.append(route)
                else:
                    found.extend(route.replace("<slug:name>", name) for name in names)

    walk(resolver.url_patterns, "/admin/", None)
    return [path for path in found if "(?P<" not in path]


NEVER_PAGES = ("/admin/password_change/", "/admin/password_change/done/")


def test_the_walk_finds_every_kind_of_page(everything):
    paths = admin_paths(everything)

    assert len(paths) > 60
    for label in everything:
        assert any(f"/{label.replace('.', '/')}/" in path for path in paths), label


def test_every_page_opens_for_an_administrator(everything, admin_client):
    odd = {}
    for path in admin_paths(everything):
        answer = admin_client.get(path)
        fine = answer.status_code in (200, 302) or (
            # only for POST, nothing to add there, or Django's password pages, which are not ours
            answer.status_code == 405 and path.endswith(("/verify/", "/preview/"))
        )
        read_only = path.endswith("/add/") and answer.status_code in (403, 404)
        gone = path in NEVER_PAGES or "/delete/" in path or path.endswith("/autocomplete/")
        if not (fine or read_only or gone):
            odd[path] = answer.status_code
        assert answer.status_code != 500, path

    assert odd == {}


def test_an_employee_is_refused_on_every_page_and_learns_nothing(everything, employee_client):
    for path in admin_paths(everything):
        for ask in (employee_client.get, employee_client.post):
            answer = ask(path, follow=True, headers={"host": "daypass.test"})
            assert answer.status_code in (403, 404), path
            said = answer.content.decode()
            for secret in ("Payments", "Developer", "engineers", "grace-1"):
                assert secret not in said, path


def test_a_stranger_is_sent_to_sign_in_from_every_page(everything):
    client = browser_at_origin()
    for path in admin_paths(everything):
        for ask in (client.get, client.post):
            answer = ask(path)
            assert answer.status_code in (302, 404), path
            if answer.status_code == 302:
                assert answer["Location"].startswith(("/sign-in/", "/admin/login/", "/admin/")), (
                    path
                )


def test_the_page_that_was_wanted_survives_the_sign_in(db):
    from urllib.parse import parse_qs, urlsplit

    from accounts import places

    answer = browser_at_origin().get("/admin/broker/auditevent/?q=7KX4M2Q9", follow=False)
    answer = browser_at_origin().get(answer["Location"])

    token = parse_qs(urlsplit(answer["Location"]).query)["to"][0]
    assert places.find(token) == "/admin/broker/auditevent/?q=7KX4M2Q9"


def test_nobody_is_sent_outside_the_admin_by_its_sign_in(db):
    from urllib.parse import parse_qs, urlsplit

    from accounts import places

    answer = browser_at_origin().get("/admin/login/?next=/sessions/")

    token = parse_qs(urlsplit(answer["Location"]).query)["to"][0]
    assert places.find(token) == "/admin/"


def test_somebody_whose_group_no_longer_confers_it_is_out_at_once(admin_client, ada):
    Person.objects.filter(pk=ada.pk).update(is_staff=False)

    assert admin_client.get("/admin/", follow=True).status_code == 403


def test_somebody_switched_off_is_out_at_once(admin_client, ada):
    Person.objects.filter(pk=ada.pk).update(is_active=False)

    answer = admin_client.get("/admin/", follow=True)

    assert answer.redirect_chain[-1][0].startswith("/sign-in/")


def test_the_emergency_account_gets_in_with_its_second_factor(emergency):
    client = sign_in(browser_at_origin(), emergency)

    assert client.get("/admin/").status_code == 200


def test_the_emergency_account_without_a_second_factor_does_not_get_in(db):
    person = Person.objects.create_superuser("emergency", "correct horse battery staple")
    client = sign_in(browser_at_origin(), person)

    assert client.get("/admin/").status_code == 302


def test_a_local_account_that_is_no_superuser_does_not_get_in(emergency):
    Person.objects.filter(pk=emergency.pk).update(is_superuser=False)
    client = sign_in(browser_at_origin(), emergency)

    assert (
        client.get("/admin/", follow=True).status_code != 200 or not client.get("/admin/").context
    )


def test_models_of_libraries_have_no_door_here():
    registered = {model._meta.app_label for model in admin.site._registry}

    assert registered == {"accounts", "broker"}


def test_nothing_can_be_deleted_by_djangos_own_way(everything, admin_client):
    for label, thing in everything.items():
        path = f"/admin/{label.replace('.', '/')}/{thing.pk}/delete/"
        assert admin_client.post(path, {"post": "yes"}).status_code in (403, 404), path
        assert type(thing).objects.filter(pk=thing.pk).exists()


@pytest.mark.parametrize("field", ["is_superuser", "is_staff", "password", "epoch", "handle"])
def test_no_form_writes_what_makes_somebody_an_administrator(admin_client, grace, field):
    before = Person.objects.filter(pk=grace.pk).values().get()

    answer = admin_client.post(f"/admin/accounts/person/{grace.pk}/change/", {field: "1"})

    assert answer.status_code == 405
    assert Person.objects.filter(pk=grace.pk).values().get() == before


def test_a_form_from_another_site_is_refused(ada):
    client = sign_in(Client(enforce_csrf_checks=True, headers={"host": "daypass.test"}), ada)

    answer = client.post("/admin/broker/environment/add/", {"name": "Production"})

    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("listed", "title"), [("finding", "Found in AWS"), ("trustcheck", "Doctor")]
)
def test_a_list_is_called_what_the_menu_calls_it(admin_client, listed, title):
    page = admin_client.get(f"/admin/broker/{listed}/").content.decode()

    assert re.search(r"<h1[^>]*>\s*([^<]*?)\s*</h1>", page)[1] == title
