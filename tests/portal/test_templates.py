"""What holds for every page: no inline script or style, the headers, the error pages, one heading, labels."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.test import RequestFactory
from django.urls import path

from broker.portal import errors
from tests.portal.conftest import sign_in

ROOT = Path(__file__).parents[2]
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))


def test_there_are_templates_to_look_at():
    assert len(TEMPLATES) > 15


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda one: str(one.relative_to(ROOT)))
def test_no_template_has_script_or_style_in_line(template):
    text = template.read_text(encoding="utf-8")

    assert not re.search(r"<script(?![^>]*\b(?:src=|type=\"application/json\"))", text)
    assert "<style" not in text
    assert not re.search(r"\sstyle\s*=", text)
    assert not re.search(r"\son[a-z]+\s*=", text)
    assert "javascript:" not in text
    assert "hx-on" not in text and "hx-vals='js" not in text
    assert not re.search(r"(?:src|href)=[\"'](?:https?:)?//", text)


def test_the_script_evaluates_nothing_and_writes_no_markup():
    script = (ROOT / "static" / "portal.js").read_text(encoding="utf-8")

    for forbidden in ("eval(", "new Function", "innerHTML =", "outerHTML =", "insertAdjacentHTML"):
        assert forbidden not in script


@pytest.mark.django_db
def test_pages_carry_a_strict_policy_and_are_kept_by_nobody(browser, developer):
    for address in ("/", "/sessions/", f"/roles/{developer.id}/", "/nowhere"):
        answer = browser.get(address)

        policy = answer["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy + ";"
        assert "style-src 'self';" in policy + ";"
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "no-store" in answer["Cache-Control"]
        assert answer["Cross-Origin-Opener-Policy"] == "same-origin"
        assert answer["X-Content-Type-Options"] == "nosniff"


@pytest.mark.django_db
@pytest.mark.parametrize("address", ["/sign-out/", "/terminal/token/"])
def test_the_address_of_a_button_opened_by_hand_says_so(browser, developer, page_text, address):
    answer = browser.get(address, headers={"Accept": "text/html,*/*;q=0.8"})

    assert (answer.status_code, answer["Allow"]) == (405, "POST")
    assert "There is nothing to show here" in page_text(answer)
    assert browser.get(address).content == b""


@pytest.mark.django_db
def test_forms_may_lead_to_the_console_of_every_partition_and_nowhere_else(client):
    policy = client.get("/nowhere")["Content-Security-Policy"]

    allowed = re.search(r"form-action ([^;]+)", policy)[1].split()
    assert "'self'" in allowed
    for origin in (
        "https://signin.aws.amazon.com",
        "https://*.signin.aws.amazon.com",
        "https://*.console.aws.amazon.com",
        "https://console.amazonaws.cn",
        "https://signin.amazonaws-us-gov.com",
        "https://*.console.amazonaws-eusc.eu",
    ):
        assert origin in allowed
    assert all(one == "'self'" or ".amazon" in one for one in allowed)


@pytest.mark.django_db
def test_every_page_has_one_heading_a_language_a_main_part_and_labels(browser, developer):
    from lxml import html

    for address in ("/", "/sessions/", f"/roles/{developer.id}/", "/go/x/y/", "/nowhere"):
        tree = html.document_fromstring(browser.get(address).content.decode())

        assert len(tree.xpath("//h1")) == 1, address
        assert tree.get("lang") == "en"
        assert len(tree.xpath("//main[@id='content']")) == 1
        assert tree.xpath("//a[@class='skip' and @href='#content']")
        labelled = set(tree.xpath("//label/@for"))
        for field in tree.xpath("//input[not(@type='hidden')]|//select|//textarea"):
            assert field.get("id") in labelled, html.tostring(field)
        for control in tree.xpath("//button|//a"):
            assert control.text_content().strip() or control.get("aria-label"), html.tostring(
                control
            )
        ids = tree.xpath("//@id")
        assert len(ids) == len(set(ids))


@pytest.mark.django_db
def test_the_chosen_theme_is_on_the_page_from_the_start(browser):
    browser.cookies["daypass_theme"] = "dark"
    assert '<html lang="en" data-theme="dark">' in browser.get("/sessions/").content.decode()

    browser.cookies["daypass_theme"] = '"><script>'
    assert '<html lang="en">' in browser.get("/sessions/").content.decode()


@pytest.mark.django_db
def test_only_staff_are_shown_the_way_to_the_admin(ada, browser):
    assert "/admin/" not in browser.get("/sessions/").content.decode()

    ada.is_staff = True
    ada.save()
    assert 'href="/admin/"' in sign_in(ada).get("/sessions/").content.decode()


# ---- Error pages


def broken(request):
    raise RuntimeError("canary detail")


class Broken:
    from broker.urls import handler400, handler403, handler404, handler500, urlpatterns

    urlpatterns = [*urlpatterns, path("broken/", broken)]


@pytest.mark.django_db
@pytest.mark.parametrize("headers", [{}, {"HX-Request": "true"}])
def test_what_nobody_foresaw_says_nothing_but_a_reference(
    settings, browser, caplog, headers, page_text
):
    settings.ROOT_URLCONF = Broken
    browser.raise_request_exception = False

    answer = browser.get("/broken/", headers=headers)

    assert answer.status_code == 500
    assert "canary" not in answer.content.decode() and "Traceback" not in answer.content.decode()
    reference = page_text(answer).split("Reference ")[1].split()[0]
    assert [r for r in caplog.records if getattr(r, "reference", "") == reference]
    assert ("<html" in answer.content.decode()) is not bool(headers)


def test_the_page_for_failures_has_a_last_resort(settings):
    settings.TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]

    answer = errors.server_error(RequestFactory().get("/"))

    assert answer.status_code == 500
    assert answer["Content-Type"].startswith("text/plain")
    assert b"Reference: " in answer.content


@pytest.mark.django_db
def test_a_page_that_does_not_exist_leads_back(client, page_text):
    answer = client.get("/nowhere")

    assert answer.status_code == 404
    assert "There is no such page" in page_text(answer)


def test_a_request_that_cannot_be_understood_is_said_so(rf, page_text):
    request = rf.get("/")
    request.principal = None
    request.session = {}

    answer = errors.bad_request(request, ValueError("canary"))

    assert answer.status_code == 400
    assert "canary" not in page_text(answer)
