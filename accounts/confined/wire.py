"""How the web process and the confined one speak: a length, then JSON. Both sides read with a limit.

Values cross as plain JSON, written out by name on both sides, so that whatever a confined process answers can only ever
become these few types (threats.md R52).
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from accounts.confined.values import (
    Described,
    LogoutAsked,
    Provider,
    Us,
    VerifiedResponse,
    Wrapped,
)
from accounts.rules import VerifiedAttributes

HEADER = struct.Struct(">I")
MAX_FRAME = 16 * 1024 * 1024


def frame(document: Mapping[str, Any]) -> bytes:
    """One message, ready to be written."""
    body = json.dumps(document, ensure_ascii=True, allow_nan=False).encode()
    if len(body) > MAX_FRAME:
        raise ValueError("too long for one frame")
    return HEADER.pack(len(body)) + body


def read_frame(read: Callable[[int], bytes]) -> dict[str, Any] | None:
    """The next message, None at the end of the stream. `read(n)` answers exactly n bytes, or b"" at the end.

    Raises ValueError for what is no message.
    """
    header = read(HEADER.size)
    if not header:
        return None
    (length,) = HEADER.unpack(header)
    if length > MAX_FRAME:
        raise ValueError("a frame that is too long")
    document = json.loads(read(length))
    if not isinstance(document, dict):
        raise ValueError("not an object")
    return document


def write_us(us: Us) -> dict[str, Any]:
    return {
        "entity_id": us.entity_id,
        "acs": us.acs,
        "sls": us.sls,
        "recipients": list(us.recipients),
    }


def read_us(document: Mapping[str, Any]) -> Us:
    return Us(
        entity_id=_text(document, "entity_id"),
        acs=_text(document, "acs"),
        sls=_text(document, "sls"),
        recipients=_texts(document["recipients"]),
    )


def write_provider(provider: Provider) -> dict[str, Any]:
    return {
        "entity_id": provider.entity_id,
        "sso_url": provider.sso_url,
        "slo_url": provider.slo_url,
        "certificates": list(provider.certificates),
        "response_signed": provider.response_signed,
        "encryption": provider.encryption,
    }


def read_provider(document: Mapping[str, Any]) -> Provider:
    encryption = document["encryption"]
    if encryption not in ("refused", "accepted", "required"):
        raise ValueError("encryption")
    return Provider(
        entity_id=_text(document, "entity_id"),
        sso_url=_text(document, "sso_url"),
        slo_url=_text(document, "slo_url"),
        certificates=_texts(document["certificates"]),
        response_signed=_flag(document["response_signed"]),
        encryption=encryption,
    )


def write_response(verified: VerifiedResponse) -> dict[str, Any]:
    said = verified.attributes
    return {
        "subject": said.subject,
        "attributes": {name: list(values) for name, values in said.attributes.items()},
        "context": said.context,
        "at": _moment(said.at),
        "session_ends": _moment(said.session_ends),
        "evidence": dict(said.evidence),
        "logout": dict(said.logout),
        "checks": [list(pair) for pair in said.checks],
        "assertion_id": verified.assertion_id,
        "expires_at": verified.expires_at.isoformat(),
    }


def read_response(document: Mapping[str, Any]) -> VerifiedResponse:
    subject = document["subject"]
    if subject is not None and not isinstance(subject, str):
        raise ValueError("subject")
    attributes = document["attributes"]
    if not isinstance(attributes, dict):
        raise ValueError("attributes")
    return VerifiedResponse(
        attributes=VerifiedAttributes(
            protocol="saml",
            subject=subject,
            attributes={name: _values(values) for name, values in attributes.items()},
            context=_text(document, "context"),
            at=_read_moment(document["at"]),
            session_ends=_read_moment(document["session_ends"]),
            evidence=_pairs(document["evidence"]),
            logout=_pairs(document["logout"]),
            checks=tuple(_two(pair) for pair in document["checks"]),
        ),
        assertion_id=_text(document, "assertion_id"),
        expires_at=datetime.fromisoformat(_text(document, "expires_at")),
    )


def write_asked(asked: LogoutAsked) -> dict[str, Any]:
    return {
        "id": asked.id,
        "name_id": asked.name_id,
        "session_indexes": list(asked.session_indexes),
    }


def read_asked(document: Mapping[str, Any]) -> LogoutAsked:
    return LogoutAsked(
        id=_text(document, "id"),
        name_id=_text(document, "name_id"),
        session_indexes=_texts(document["session_indexes"]),
    )


def write_described(described: Described) -> dict[str, Any]:
    return {
        "provider": write_provider(described.provider),
        "valid_until": _moment(described.valid_until),
    }


def read_described(document: Mapping[str, Any]) -> Described:
    return Described(
        provider=read_provider(document["provider"]),
        valid_until=_read_moment(document["valid_until"]),
    )


def write_wrapped(wrapped: Wrapped) -> dict[str, Any]:
    return {
        "ciphertext": write_bytes(wrapped.ciphertext),
        "digest": wrapped.digest,
        "mgf": wrapped.mgf,
        "length": wrapped.length,
    }


def read_wrapped(document: Mapping[str, Any]) -> Wrapped:
    hashes = ("sha1", "sha256", "sha384", "sha512")
    if document["digest"] not in hashes or document["mgf"] not in hashes:
        raise ValueError("hash")
    if document["length"] not in (16, 24, 32):
        raise ValueError("length")
    return Wrapped(
        ciphertext=read_bytes(_text(document, "ciphertext")),
        digest=document["digest"],
        mgf=document["mgf"],
        length=document["length"],
    )


def write_bytes(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def read_bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document[name]
    if not isinstance(value, str):
        raise ValueError(name)
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("flag")
    return value


def _texts(values: object) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError("texts")
    return tuple(values)


def _values(values: object) -> tuple[str | None, ...]:
    if not isinstance(values, list) or not all(
        value is None or isinstance(value, str) for value in values
    ):
        raise ValueError("values")
    return tuple(values)


def _pairs(document: object) -> dict[str, str]:
    if not isinstance(document, dict) or not all(isinstance(v, str) for v in document.values()):
        raise ValueError("pairs")
    return document


def _two(pair: object) -> tuple[str, str]:
    what, seen = _texts(pair)
    return what, seen


def _moment(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment is not None else None


def _read_moment(text: object) -> datetime | None:
    if text is not None and not isinstance(text, str):
        raise ValueError("moment")
    return datetime.fromisoformat(text) if text is not None else None
