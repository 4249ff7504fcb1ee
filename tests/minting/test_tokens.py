"""A minted token keeps itself to itself, and only two stages may take it out."""

from __future__ import annotations

import ast
import copy
import json
import logging
import pickle
from datetime import UTC, datetime
from pathlib import Path

import pytest

import broker
from broker.minting.tokens import MintedToken

TEXT = "eyJhbGciOiJSUzI1NiJ9.a-bearer-secret.signature"
BROKER = Path(broker.__file__).parent


@pytest.fixture
def token() -> MintedToken:
    return MintedToken(
        TEXT, id="7f3e", key_id="kid-1", expires_at=datetime(2026, 3, 2, 9, 5, tzinfo=UTC)
    )


def test_it_is_revealed_on_request_only(token, caplog):
    with caplog.at_level(logging.INFO):
        logging.getLogger("daypass.test").info("minted %s %r", token, token, extra={"token": token})

    shown = [repr(token), str(token), f"{token}", f"{token!r:>90}", f"{[token]}", caplog.text]
    assert all("bearer" not in text for text in shown)
    assert all("7f3e" in text for text in shown)
    assert token.reveal() == TEXT


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_is_not_pickled(token, protocol):
    with pytest.raises(TypeError):
        pickle.dumps(token, protocol=protocol)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, json.dumps, vars])
def test_it_is_not_copied_or_serialised_in_any_other_way(token, duplicate):
    with pytest.raises(TypeError) as caught:
        duplicate(token)

    assert "bearer" not in str(caught.value)


def sources(*, outside: tuple[str, ...]) -> list[tuple[str, ast.Module]]:
    found = [
        (str(file.relative_to(BROKER)), ast.parse(file.read_text(encoding="utf-8")))
        for folder in (BROKER, BROKER.parent / "accounts")
        for file in sorted(folder.rglob("*.py"))
        if file.is_relative_to(BROKER)
    ]
    assert len(found) > 40
    return [(name, tree) for name, tree in found if not name.startswith(outside)]


BORROWED = ("aws/clients.py",)
"""What Daypass borrowed for itself, never what it minted: tests/aws/test_credentials.py names each call."""


def test_only_assume_and_handover_reveal_what_is_minted_or_issued():
    callers = [
        f"{name}:{node.lineno}"
        for name, tree in sources(outside=("assume/", "handover/", *BORROWED))
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "reveal"
    ]

    assert callers == []


def test_only_minting_opens_a_private_key():
    users = [
        f"{name}:{node.lineno}"
        for name, tree in sources(outside=("minting/",))
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr in ("signing_key", "OpenedKey"))
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "broker.minting.keys"
            and any(alias.name in ("signing_key", "OpenedKey", "_open") for alias in node.names)
        )
    ]

    assert users == []


def test_only_the_two_minters_sign():
    signers = {
        name
        for name, tree in sources(outside=())
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "signing_key"
    }

    assert signers == {"minting/oidc.py", "minting/saml.py"}
