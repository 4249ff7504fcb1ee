"""Credentials do not give themselves away, and only the hand-over may ask them to."""

from __future__ import annotations

import ast
import copy
import dataclasses
import json
import logging
import pickle
import traceback
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.template import Context, Template

from broker.aws.credentials import Credentials

SECRET, TOKEN = "wJalrSecretKey", "FwoGZXIvSessionToken"
ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def credentials() -> Credentials:
    return Credentials("ASIAEXAMPLE", SECRET, TOKEN, datetime(2030, 1, 1, tzinfo=UTC))


def shown(thing: object) -> str:
    """Every way in which a value ends up in text without anybody meaning it to."""
    record = logging.makeLogRecord({"msg": "%s %r", "args": (thing, thing)})
    page = Template("{{ it }} {{ it.secret_access_key }}").render(Context({"it": str(thing)}))
    texts = [
        str(thing),
        repr([thing, {"it": thing}]),
        f"{thing} {thing!r} {thing:>200}",
        "{0} {0!r}".format(thing),  # noqa: UP032
        record.getMessage(),
        json.dumps({"it": thing}, default=str),
        page,
        repr(dir(thing)),
    ]
    try:
        raise ValueError(thing)
    except ValueError as error:
        texts.append(
            "".join(
                traceback.TracebackException.from_exception(error, capture_locals=True).format()
            )
        )
    return "\n".join(texts)


def test_neither_text_nor_traceback_nor_template_shows_a_secret(credentials):
    for thing in (credentials, credentials.reveal()):
        text = shown(thing)

        assert SECRET not in text
        assert TOKEN not in text


def test_the_key_id_and_the_end_are_shown_because_people_need_them(credentials):
    assert "ASIAEXAMPLE" in repr(credentials)
    assert "2030-01-01T00:00:00" in repr(credentials)


@pytest.mark.parametrize(
    "leak",
    [pickle.dumps, copy.copy, copy.deepcopy, json.dumps, vars, dataclasses.asdict, dict, list],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("revealed", [False, True])
def test_credentials_are_not_copied_or_serialised(credentials, leak, revealed):
    thing = credentials.reveal() if revealed else credentials

    with pytest.raises(TypeError):
        leak(thing)


def test_no_attribute_of_credentials_shows_the_secret(credentials):
    values = [getattr(credentials, name) for name in dir(credentials) if name != "reveal"]

    assert SECRET not in repr(values)
    with pytest.raises(AttributeError):
        credentials.access_key_id = "other"


def test_revealed_they_are_what_aws_gave(credentials):
    revealed = credentials.reveal()

    assert (revealed.access_key_id, revealed.secret_access_key, revealed.session_token) == (
        "ASIAEXAMPLE",
        SECRET,
        TOKEN,
    )


MAY_REVEAL = {
    # The hand-over: credentials and, for the SAML form, the signed response.
    ("broker/handover/console.py", "issued.credentials"),
    ("broker/handover/console.py", "vouched.response"),
    ("broker/handover/keys.py", "issued.credentials"),
    ("broker/handover/machines.py", "issued.credentials"),
    # A borrowed role, for two or three calls of IAM.
    # Tokens signed for AWS (broker.minting), shown to STS alone.
    ("broker/assume/services.py", "_web_identity_token(planned)"),
    ("broker/assume/services.py", "_saml_response(planned)"),
    ("broker/assume/services.py", "_task_token(loan)"),
    # The employee's own token, passed on to STS and nowhere else.
    ("broker/assume/services.py", "relayed"),
    # The doctor's tries: signed for AWS alone, and credentials that allow nothing, shown to the sign-in service.
    ("broker/assume/probing.py", "_token(door, wish)"),
    ("broker/assume/probing.py", "_assertion(door, wish, session_name)"),
    ("broker/handover/console.py", "credentials"),
    # What Daypass borrowed for itself, to read IAM with.
    ("broker/aws/clients.py", "credentials"),
}


def revealing() -> set[tuple[str, str]]:
    """Every mention of an attribute named `reveal` in the product, and getattr by that name: (file, of what)."""
    found = set()
    for path in [*(ROOT / "broker").rglob("*.py"), *(ROOT / "accounts").rglob("*.py")]:
        name = str(path.relative_to(ROOT))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in ("reveal", "_open"):
                if isinstance(node.value, ast.Name) and node.value.id == "self":
                    continue
                found.add((name, ast.unparse(node.value)))
            if isinstance(node, ast.Constant) and node.value in ("reveal", "_open"):
                found.add((name, repr(node.value)))
    return found


def test_only_the_hand_over_reveals_credentials():
    inside_credentials = {("broker/aws/credentials.py", "'_open'")}

    assert revealing() - inside_credentials == MAY_REVEAL
