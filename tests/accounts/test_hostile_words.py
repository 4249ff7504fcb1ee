"""What strangers and providers say is text: in pages, in the log, and in files that people open (threats.md R51)."""

from __future__ import annotations

import io
import json
import logging
import re

import pytest

from accounts.models import DirectoryGroup, Person
from broker.audit.models import AuditEvent
from broker.logs import JsonFormatter
from tests import factories as make
from tests.accounts import web
from tests.admin.conftest import sign_in

SCRIPT = "<script>alert(1)</script>"
BREAKOUT = "\"'><img src=x onerror=alert(1)>{{7*7}}{%debug%}"
FORMULA = '=HYPERLINK("https://evil.example","x")'
GROUP = f"{BREAKOUT}{SCRIPT}"


@pytest.fixture
def signed_in(saml_row, idp):
    """A person whose every word is hostile, signed in by real, signed words."""
    client = web.browser()
    web.saml_sign_in(
        client,
        idp,
        name_id=f"ada{BREAKOUT}",
        attributes={"uid": [f"ada{SCRIPT}"], "displayName": [SCRIPT], "groups": [GROUP, FORMULA]},
    )
    assert web.is_signed_in(client)
    return client


@pytest.fixture
def administrator(db):
    provider = make.provider("staff")
    return sign_in(
        web.browser(), make.person("root", at=provider, is_staff=True, staff_from_group=True)
    )


def assert_is_text(page: str) -> None:
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "onerror=alert(1)>" not in page.replace("onerror=alert(1)&gt;", "")
    assert "49" not in re.findall(r">\s*49\s*<", page)


def test_a_persons_own_pages_show_their_words_as_text(signed_in):
    for path in ("/", "/sessions/"):
        assert_is_text(signed_in.get(path, secure=True).content.decode())


def test_the_admin_shows_names_subjects_and_groups_as_text(signed_in, administrator):
    person = Person.objects.exclude(subject="").get(name__contains="script")
    group = DirectoryGroup.objects.get(key=GROUP)
    role = make.role("Developer")
    make.mapping(group, role)
    paths = [
        "/admin/",
        "/admin/accounts/person/",
        f"/admin/accounts/person/{person.pk}/change/",
        "/admin/accounts/directorygroup/",
        f"/admin/accounts/directorygroup/{group.pk}/change/",
        "/admin/broker/mapping/",
        "/admin/broker/auditevent/",
        f"/admin/find/?q={'<script>'}",
    ]
    event = AuditEvent.objects.filter(kind="sign_in.accepted").latest("seq")
    paths.append(f"/admin/broker/auditevent/{event.pk}/change/")
    for path in paths:
        answer = administrator.get(path, secure=True, follow=True)
        assert answer.status_code == 200, path
        assert_is_text(answer.content.decode())


def test_a_refusals_reason_is_text_for_administrators_and_nothing_for_strangers(
    saml_row, idp, administrator
):
    client = web.browser()
    answer = web.saml_sign_in(client, idp, name_id=f"ada\u202e{SCRIPT}")
    reference = web.reference_of(answer)
    assert "alert(1)" not in answer.content.decode()

    found = administrator.get(f"/admin/find/?q={reference}", secure=True, follow=True)

    assert found.status_code == 200
    assert_is_text(found.content.decode())


def test_what_arrives_by_query_comes_back_as_text(saml_row):
    for path in (
        f"/sign-in/?to={SCRIPT}&next={BREAKOUT}&over={SCRIPT}",
        f"/oidc/acme/callback/?error={SCRIPT}&state={BREAKOUT}",
        f"/saml/acme/sls/?SAMLRequest={SCRIPT}&RelayState={BREAKOUT}",
        f"/{SCRIPT}",
    ):
        assert_is_text(web.browser().get(path, secure=True).content.decode())


# --- The log


@pytest.mark.parametrize(
    "text",
    [
        'one\n{"level": "INFO", "message": "forged"}',
        "one\r\nforged",
        "one\u2028forged\u2029\x85",
        "\x1b[31mred",
        'quote" and \\ backslash\x00',
        "\ud800",
        FORMULA,
    ],
)
@pytest.mark.parametrize("place", ["message", "extra", "exception", "argument"])
def test_a_log_line_stays_one_line_of_plain_json(text, place):
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    log = logging.getLogger("tests.hostile")
    log.propagate, log.handlers = False, [handler]
    if place == "message":
        log.warning(text)
    elif place == "extra":
        log.warning("refused", extra={"provider": text, "nested": {text: [text]}})
    elif place == "argument":
        log.warning("refused %s", text)
    else:
        try:
            raise ValueError(text)
        except ValueError:
            log.exception("failed")

    written = stream.getvalue()

    assert written.isascii()
    assert written.count("\n") == 1 and written.endswith("\n")
    assert written.splitlines() == [written[:-1]]
    assert "\x1b" not in written and "\x00" not in written
    assert json.loads(written)["logger"] == "tests.hostile"


def test_refused_strangers_leave_lines_without_their_words(saml_row, caplog):
    caplog.set_level(logging.INFO, "daypass")
    client = web.browser()

    client.get(f"/oidc/acme/callback/?error=forged%0aline&state={SCRIPT}", secure=True)
    client.post("/saml/acme/acs/", {"SAMLResponse": SCRIPT}, secure=True)

    assert caplog.records
    for record in caplog.records:
        line = JsonFormatter().format(record)
        assert "alert" not in line and "forged" not in line


# --- Files


def test_nothing_of_daypass_is_handed_out_as_a_table_that_would_calculate(administrator):
    """There is no export; should one come, its cells must not begin a formula."""
    from pathlib import Path

    root = Path(__file__).resolve().parents[2]
    sources = [*root.glob("accounts/**/*.py"), *root.glob("broker/**/*.py")]
    exports = [
        str(path.relative_to(root))
        for path in sources
        if re.search(r"^\s*(import|from) csv\b|text/csv|openpyxl|xlsx", path.read_text(), re.M)
    ]

    assert exports == []


def test_a_handle_and_a_session_name_are_letters_that_no_log_or_policy_reads_twice(signed_in):
    person = Person.objects.get(name__contains="script")

    assert re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,31}", person.handle)
