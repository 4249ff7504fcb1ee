"""After real journeys, nothing that was issued is on the disk: database, logs, queue or cache."""

from __future__ import annotations

import json
import subprocess
import sys

import redis
from playwright.sync_api import expect

from tests.journeys.steps import role_row, sign_in
from tests.servers import ROOT


def test_nothing_that_was_issued_can_be_found_afterwards(demo, page):
    issued: list[str] = []
    requests_made: list[str] = []
    page.context.on("request", lambda request: requests_made.append(request.url))
    page.context.on(
        "request",
        lambda request: issued.extend(
            part for part in request.url.split("SigninToken=")[1:] if "/federation" in request.url
        ),
    )
    sign_in(page, demo, "aiko")
    row = role_row(page, "Web shop development", "Developer")
    with page.context.expect_page() as opened:
        row.get_by_role("button", name="Open console").click()
    expect(opened.value.locator("#arn")).to_contain_text("assumed-role/Developer/aiko.")
    opened.value.close()
    row.get_by_role("button", name="Get keys").click()
    document = page.locator("#tab-credential_process [data-text]").text_content()
    keys = json.loads(document)
    issued += [keys["SecretAccessKey"], keys["SessionToken"]]

    assert len(issued) == 3, "a sign-in token, a secret key and a session token were seen"
    for secret in issued:
        assert len(secret) > 30
    haystack = {path: path.read_bytes() for path in demo.folder.rglob("*") if path.is_file()}
    assert any(path.name == "daypass.sqlite3" for path in haystack)
    assert any(keys["AccessKeyId"].encode() in content for content in haystack.values())
    with redis.Redis.from_url(demo.stage.redis_url) as memory:
        for key in memory.scan_iter():
            haystack[key] = memory.dump(key) or b""
    for secret in issued:
        needle = secret.partition("&")[0].encode()
        found = [str(place) for place, content in haystack.items() if needle in content]
        assert not found
    # Nor did a secret key or a session token ever travel in an address.
    assert not [url for url in requests_made if any(secret in url for secret in issued[1:])]


def test_the_audit_log_is_whole_after_the_journeys(demo):
    done = subprocess.run(
        [sys.executable, "manage.py", "verify_audit"],
        cwd=ROOT,
        env=demo.stage.environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 0, done.stdout + done.stderr
