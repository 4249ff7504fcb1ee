"""Whether an address looks as if AWS, or anybody on the internet, could reach it. Pure; asks nobody."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

_PRIVATE_ENDINGS = (
    *(
        "localhost",
        "local",
        "localdomain",
        "internal",
        "intranet",
        "private",
        "corp",
        "home",
        "lan",
    ),
    "home.arpa",
)
"""Names that no public resolver answers: RFC 6761, RFC 6762, RFC 8375, and what ICANN keeps or never delegates."""


def looks_public(url: str) -> bool:
    """True for an https URL with a name of several labels that is none of a private network, or a public address."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
    except ValueError:
        return False
    if parts.scheme != "https" or not host:
        return False
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        pass
    endings = tuple(f".{ending}" for ending in _PRIVATE_ENDINGS)
    return "." in host and not host.endswith(endings)
