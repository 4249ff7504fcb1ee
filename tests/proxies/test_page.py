"""What `python -m tests.proxies` needs of docs/operations.md is there: every proxy's file, whole and where it belongs.

The proxies themselves are not tried here.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.proxies import page
from tests.proxies.fronts import STARTING
from tests.proxies.page import ALL, BEHIND, ENVOY, HOST, NGINX
from tests.proxies.parts import PACKAGES, VERSION

every_proxy = pytest.mark.parametrize("written", ALL, ids=lambda one: one.name)


@every_proxy
def test_the_page_has_the_file_of_each_proxy(written, tmp_path):
    text = page.taken(written)

    assert HOST in text and (BEHIND in text or written is ENVOY)
    assert page.strays(written, text) == []
    moved = page.placed(written, text, tmp_path)
    assert str(tmp_path) in moved
    assert not any(folder in moved for folder in written.folders)


@every_proxy
def test_the_file_says_what_nothing_else_says_for_it(written):
    text = page.taken(written)

    missing = [line for line in written.needs if line not in text]

    assert missing == []


@every_proxy
def test_a_file_that_drops_the_header_can_be_made_of_it(written):
    text = page.taken(written)

    spoilt = page.dropping(written, text)

    assert spoilt != text
    assert yaml.safe_load(spoilt) if written is ENVOY else True


@every_proxy
def test_the_page_says_which_version_was_tried_and_when(written):
    tried = page.PAGE.read_text().partition(page.BEGIN)[2].partition(page.END)[0]

    assert re.search(rf"(?m)^- {written.name} \d+\.\d+\.\d+, tried \d{{4}}-\d\d-\d\d$", tried), (
        tried
    )


@every_proxy
def test_the_command_knows_where_it_comes_from(written):
    program = STARTING[written.name][0]

    assert program in VERSION
    assert program in PACKAGES or written is ENVOY


def test_every_file_on_the_page_is_one_that_is_tried():
    section = page.PAGE.read_text().partition("## The proxy in front\n")[2].partition("\n## ")[0]
    languages = re.findall(r"(?m)^```(\w+)$", section)

    assert sorted({*languages} - {"sh"}) == sorted(one.language for one in ALL)


# --- The reading itself


def test_a_page_without_the_file_or_with_two_is_refused(tmp_path):
    copy = tmp_path / "page.md"
    for text in ("", "```nginx\na\n```\n```nginx\nb\n```\n"):
        copy.write_text(f"## The proxy in front\n{text}")
        with pytest.raises(LookupError):
            page.taken(NGINX, copy)


def test_a_path_that_leads_elsewhere_is_seen():
    assert page.strays(NGINX, "ssl_certificate /etc/letsencrypt/x.pem;") == [
        "/etc/letsencrypt/x.pem"
    ]
    assert page.strays(NGINX, "# as in /etc/letsencrypt\nssl_certificate /etc/ssl/daypass/x;") == []


def test_a_file_in_which_the_special_line_is_missing_is_refused():
    with pytest.raises(LookupError):
        page.dropping(NGINX, "server {}\n")


def test_what_was_tried_is_written_and_the_rest_stays(tmp_path: Path):
    copy = tmp_path / "page.md"
    copy.write_text(f"a\n{page.BEGIN}\n- nginx 1.2.3, tried 2026-01-01\n{page.END}\nb\n")

    page.record({"HAProxy": "2.6.12, tried 2026-11-21"}, copy)

    assert copy.read_text() == (
        f"a\n{page.BEGIN}\n- nginx 1.2.3, tried 2026-01-01\n- HAProxy 2.6.12, tried 2026-11-21\n"
        f"{page.END}\nb\n"
    )
