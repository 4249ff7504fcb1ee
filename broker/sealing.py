"""Sealing: secrets at rest, under a key from the environment.

AES-256-GCM, with the place where the secret is kept ("signing-key:42") as associated data, so that a sealed value
copied to another row does not open there. The first of DAYPASS_SEALING_KEYS seals; all of them open, which is how the
key is changed: put the new one first, reseal, drop the old one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.views.decorators.debug import sensitive_variables

from broker.errors import KeyUnavailable

_VERSION = b"\x01"
_KEY_ID_LENGTH = 4
_NONCE_LENGTH = 12
_TAG_LENGTH = 16


@sensitive_variables()
def seal(secret: bytes, *, place: str) -> str:
    """Seal a secret for one place; the answer is text for a database column.

    Layout before base64url: version (1 byte), id of the sealing key (4), nonce (12), ciphertext and tag.
    Raises KeyUnavailable when no sealing key is configured.
    """
    key_id, cipher = next(iter(_ciphers().items()), (b"", None))
    if cipher is None:
        raise KeyUnavailable(
            remedy="Set DAYPASS_SEALING_KEYS; `manage.py new_sealing_key` prints one."
        )
    nonce = os.urandom(_NONCE_LENGTH)
    sealed = cipher.encrypt(nonce, secret, place.encode())
    return base64.urlsafe_b64encode(_VERSION + key_id + nonce + sealed).decode()


@sensitive_variables()
def unseal(sealed: str, *, place: str) -> bytes:
    """Open what `seal` made for the same place. Raises KeyUnavailable, never says what was inside."""
    raw = _decode(sealed)
    head = 1 + _KEY_ID_LENGTH
    if len(raw) < head + _NONCE_LENGTH + _TAG_LENGTH:
        raise KeyUnavailable(
            cause=f"The sealed value of {place} is damaged.",
            remedy="Restore it from a backup of the database.",
        )
    key_id = raw[1:head]
    cipher = _ciphers().get(key_id) if raw[:1] == _VERSION else None
    if cipher is None:
        raise KeyUnavailable(
            cause=f"{place} is sealed under a key that is not in DAYPASS_SEALING_KEYS.",
            remedy="Put the earlier sealing key back into DAYPASS_SEALING_KEYS, after the current one.",
        )
    try:
        return cipher.decrypt(
            raw[head : head + _NONCE_LENGTH], raw[head + _NONCE_LENGTH :], place.encode()
        )
    except InvalidTag:
        raise KeyUnavailable(
            cause=f"The sealed value of {place} was altered or moved.",
            remedy="Restore it from a backup of the database, and find out who could write there.",
        ) from None


def sealed_under_current_key(sealed: str) -> bool:
    """False when resealing is due because the sealing key was changed."""
    return _decode(sealed)[1 : 1 + _KEY_ID_LENGTH] == next(iter(_ciphers()), b"")


@sensitive_variables()
def derived_keys(purpose: str) -> tuple[bytes, ...]:
    """Keys for HMAC-SHA256 that serve one purpose, one from each sealing key: the first makes, any of them verifies.

    Raises KeyUnavailable when no sealing key is configured.
    """
    keys = tuple(settings.DAYPASS_SEALING_KEYS)
    if not keys:
        raise KeyUnavailable(
            remedy="Set DAYPASS_SEALING_KEYS; `manage.py new_sealing_key` prints one."
        )
    return tuple(
        hmac.digest(
            base64.urlsafe_b64decode(text.encode()),
            f"daypass derived key: {purpose}".encode(),
            "sha256",
        )
        for text in keys
    )


def _decode(sealed: str) -> bytes:
    """The bytes of a sealed value; none when it is no base64url at all."""
    try:
        return base64.b64decode(sealed.encode(), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""


def _ciphers() -> dict[bytes, AESGCM]:
    return _build(tuple(settings.DAYPASS_SEALING_KEYS))


@lru_cache(maxsize=4)
def _build(keys: tuple[str, ...]) -> dict[bytes, AESGCM]:
    ciphers: dict[bytes, AESGCM] = {}
    for text in keys:
        key = base64.urlsafe_b64decode(text.encode())
        ciphers[hashlib.sha256(b"daypass sealing key id" + key).digest()[:_KEY_ID_LENGTH]] = AESGCM(
            key
        )
    return ciphers
