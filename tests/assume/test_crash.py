"""A process that is killed between the pending row and the answer of STS: nothing is lost, nobody got anything."""

from __future__ import annotations

import os

import pytest

from tests.aws.servers import SECRET, Answer
from tests.product import Product, kill, until

ISSUE = """
from django.utils import timezone
from broker.entitlements.rules import Ask
from broker.handover.keys import get_keys
from broker.minting.keys import ensure_keys
from tests import factories as make
ensure_keys(timezone.now())
alice = make.person("alice", groups=[make.group("developers")])
role = make.role("Developer")
make.mapping(alice.memberships.get().group, role)
keys = get_keys(make.principal(alice), Ask(role.id, "keys"), now=timezone.now())
print("handed over", keys.forms[0].text)
"""


@pytest.fixture
def product(tmp_path, sts_stand_in):
    made = Product(
        tmp_path, redis_url=os.environ["REDIS_URL"], DAYPASS_STS_ENDPOINT=sts_stand_in.url
    )
    yield made
    made.stop()


def kinds(product: Product) -> list[str]:
    rows = product.rows(
        "SELECT kind FROM broker_auditevent WHERE kind NOT LIKE 'key.%' ORDER BY seq"
    )
    return [kind for (kind,) in rows]


def test_killed_while_sts_is_asked_the_row_is_resolved_as_unknown(product, sts_stand_in):
    sts_stand_in.will(Answer(hang=60))
    process = product.start_python(ISSUE)
    until(lambda: sts_stand_in.requests or process.poll() is not None)

    kill(process)
    sts_stand_in.released.set()

    assert product.rows("SELECT state, access_key_id FROM broker_session") == [("pending", "")]
    assert kinds(product) == ["role.authorised"]

    # Not yet: another process could still be waiting for its answer.
    product.manage("run_job", "resolve-pending-sessions", "--skip-checks")
    assert product.rows("SELECT state FROM broker_session") == [("pending",)]

    # A minute later.
    product.rows("UPDATE broker_session SET requested_at = datetime(requested_at, '-60 seconds')")
    product.manage("run_job", "resolve-pending-sessions", "--skip-checks")

    assert product.rows("SELECT state, aws_error_code FROM broker_session") == [
        ("failed", "Unknown")
    ]
    assert kinds(product) == ["role.authorised", "session.resolved"]
    assert "Whole" in product.manage("verify_audit", "--skip-checks")
    assert "handed over" not in product.logs.read_text()


def test_the_same_program_left_alone_hands_the_keys_over(product):
    """A control: it is the kill that the other test shows, not a program that never works."""
    said = product.python(ISSUE)

    assert SECRET in said
    assert product.rows("SELECT state FROM broker_session") == [("active",)]
    assert kinds(product) == ["role.authorised", "session.issued", "hand_over.keys"]
