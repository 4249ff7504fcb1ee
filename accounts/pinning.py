"""What a refresh found about a provider: believed at once, or waiting for an administrator. Pure.

A provider's metadata and key set say who may vouch for people, and come from an address that somebody else may get
hold of. The pinning policy decides what of it is believed without being asked for (threats.md R13, R33).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Policy = Literal["approve", "signed", "follow"]

AT_ONCE = frozenset({"scopes_supported", "id_token_signing_alg_values_supported"})
"""Said for people to read: nothing is decided by them."""

ONLY_STRICTER = frozenset({"authorization_response_iss_parameter_supported"})
"""What makes a check stricter is believed at once, what takes a check away waits."""


@dataclass(frozen=True, slots=True)
class Key:
    """A certificate or a JSON Web Key. `id` is of its material alone, whatever it is called."""

    id: str
    material: Any = field(compare=False)


@dataclass(frozen=True, slots=True)
class Trust:
    """What is believed about a provider: the keys that sign for it, and its addresses and the like by name."""

    keys: tuple[Key, ...]
    facts: Mapping[str, Any]

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(key.id for key in self.keys)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`believed` from now on; `waiting`: what it would be after an administrator's yes, None when nothing waits."""

    believed: Trust
    waiting: Trust | None


def judge(
    stored: Trust, found: Trust, *, policy: Policy, found_elsewhere: tuple[Key, ...] | None = None
) -> Verdict:
    """Split what was found into what the policy believes and what has to wait.

    found.keys are those at the address that is believed; found_elsewhere those at the address that `found` names
    instead, where it names another. A key that is gone is dropped as long as one remains; there is never none.
    """
    if policy == "signed":
        return Verdict(found, None)
    facts = dict(stored.facts)
    waits: dict[str, Any] = {}
    for name in dict.fromkeys((*stored.facts, *found.facts)):
        before, after = stored.facts.get(name), found.facts.get(name)
        if not _same(before, after):
            target = waits if _waits(name, after, policy) else facts
            target[name] = after
    keys = found.keys
    if policy == "approve":
        keys = tuple(key for key in found.keys if key.id in stored.ids)
    believed = Trust(keys or stored.keys, _said(facts))
    wanted = found.keys if found_elsewhere is None else found_elsewhere
    if not waits and {key.id for key in wanted} <= believed.ids:
        return Verdict(believed, None)
    return Verdict(believed, Trust(wanted, _said({**facts, **waits})))


def _same(before: Any, after: Any) -> bool:
    """A list says the same in any order."""
    if isinstance(before, list) and isinstance(after, list):
        return sorted(map(str, before)) == sorted(map(str, after))
    return bool(before == after)


def _waits(name: str, after: Any, policy: Policy) -> bool:
    if name in AT_ONCE:
        return False
    if name in ONLY_STRICTER:
        return after is not True
    return policy == "approve" or name.endswith(("_url", "_uri", "_endpoint"))


def _said(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value not in (None, "")}


def difference(believed: Trust, waiting: Trust) -> dict[str, Any]:
    """What an administrator is asked to believe, before and after, as JSON: exactly this is shown and applied."""
    content: dict[str, Any] = {"facts": {}}
    if believed.ids != waiting.ids:
        content["keys"] = {
            "before": [key.material for key in believed.keys],
            "after": [key.material for key in waiting.keys],
        }
    for name in sorted({*believed.facts, *waiting.facts}):
        before, after = believed.facts.get(name), waiting.facts.get(name)
        if before != after:
            content["facts"][name] = {"before": before, "after": after}
    return content


def digest(provider_id: object, content: Mapping[str, Any]) -> str:
    """SHA-256 (hex) over the canonical JSON of what is proposed, and for whom."""
    document = {"v": 1, "provider": str(provider_id), "content": content}
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


_MEMBERS: Mapping[str, tuple[str, ...]] = {
    "RSA": ("e", "kty", "n"),
    "EC": ("crv", "kty", "x", "y"),
    "OKP": ("crv", "kty", "x"),
}


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """RFC 7638: SHA-256 over the required members, base64url without padding; the same whatever the kid."""
    members = {name: str(jwk.get(name, "")) for name in _MEMBERS.get(str(jwk.get("kty")), ("kty",))}
    text = json.dumps(members, sort_keys=True, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def jwk_keys(keys: Iterable[Mapping[str, Any]]) -> tuple[Key, ...]:
    """The keys of a JWK set. The same key by another name is the same key: its holder is."""
    return tuple(Key(thumbprint(key), dict(key)) for key in keys)
