"""The confined process: get ready, raise the walls, then answer one message after the other until the pipe closes.

    python -m accounts.confined <process id of whoever asks>

It is started by `accounts.room` and by nobody else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from accounts.confined import logout, metadata, profile, selftest, walls, wire
from accounts.confined.values import Wrapped
from broker.errors import BadInput, SignInRefused

Job = Callable[[Mapping[str, Any], Callable[[Wrapped], bytes]], Any]
"""What a job is given: its arguments, and a way to have a content key unwrapped. It answers JSON."""


def verify_response(said: Mapping[str, Any], unwrap: Callable[[Wrapped], bytes]) -> Any:
    return wire.write_response(
        profile.verify_response(
            said["message"],
            us=wire.read_us(said["us"]),
            provider=wire.read_provider(said["provider"]),
            expected_request=said["expected_request"],
            now=datetime.fromisoformat(said["now"]),
            unwrap=unwrap,
        )
    )


def read_logout_request(said: Mapping[str, Any], _: object) -> Any:
    return wire.write_asked(logout.read_request(said["message"], **_logout(said)))


def read_logout_response(said: Mapping[str, Any], _: object) -> Any:
    return logout.read_response(said["message"], **_logout(said))


def _logout(said: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "posted": said["posted"],
        "us": wire.read_us(said["us"]),
        "provider": wire.read_provider(said["provider"]),
        "now": datetime.fromisoformat(said["now"]),
    }


def read_metadata(said: Mapping[str, Any], _: object) -> Any:
    return wire.write_described(
        metadata.read_metadata(
            wire.read_bytes(said["document"]),
            entity_id=said["entity_id"],
            now=datetime.fromisoformat(said["now"]),
            signers=tuple(said["signers"]),
        )
    )


JOBS: Mapping[str, Job] = {
    "response": verify_response,
    "logout-request": read_logout_request,
    "logout-response": read_logout_response,
    "metadata": read_metadata,
}


def serve(jobs: Mapping[str, Job], parent: int) -> None:
    """Answer until the other end is gone. Whatever goes wrong with a message is an answer, and the last one."""
    try:
        selftest.run()
        stand = walls.raise_walls(parent)
    except Exception as error:  # nothing of anybody's message is here yet, so it may be told
        _write({"failed": f"{type(error).__name__}: {error}"[:500]})
        raise SystemExit(1) from None
    _write({"ready": {"walls": stand, "modules": sorted(sys.modules), "names": sorted(os.environ)}})
    while (asked := wire.read_frame(_read)) is not None:
        walls.for_message()
        try:
            answer = {"done": jobs[asked["job"]](asked, _unwrap)}
        except SignInRefused as refusal:
            answer = {"refused": [refusal.code, refusal.cause, refusal.remedy]}
        except BadInput as problem:
            answer = {"bad": problem.message}
        except (
            Exception
        ) as error:  # lxml, xmlsec and cryptography raise a zoo; every one is a refusal
            _write({"broke": type(error).__name__})
            return
        _write(answer)


def _unwrap(wrapped: Wrapped) -> bytes:
    """Let the other side, which holds the private key, unwrap a content key."""
    _write({"unwrap": wire.write_wrapped(wrapped)})
    answer = wire.read_frame(_read)
    if answer is None:
        raise SystemExit(0)
    return wire.read_bytes(answer["key"])


def _read(count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = os.read(0, count - len(parts))
        if not part:
            return b""
        parts += part
    return bytes(parts)


def _write(answer: Mapping[str, Any]) -> None:
    raw = memoryview(wire.frame(answer))
    while raw:
        raw = raw[os.write(1, raw) :]


if __name__ == "__main__":
    serve(JOBS, int(sys.argv[1]))
