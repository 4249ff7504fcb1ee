"""Where a request came from, as far as the operator's own proxies tell."""

from __future__ import annotations

import ipaddress

from django.conf import settings
from django.http import HttpRequest


def client_address(request: HttpRequest) -> str:
    """The client's network address, "" when it cannot be known.

    With DAYPASS_TRUSTED_PROXIES = n, the n-th entry from the right of X-Forwarded-For: what stands further left was
    written by the client. Fewer entries, or none: unknown, and never the proxy's own address, because some proxies
    take the header away when the client asks for it (`Connection: X-Forwarded-For`). With 0, the connection's own.
    """
    return address_of(
        request.META.get("HTTP_X_FORWARDED_FOR", ""), request.META.get("REMOTE_ADDR", "")
    )


def address_of(forwarded_for: str, peer: str) -> str:
    """As `client_address`, from the header X-Forwarded-For and the connection's own address."""
    trusted = settings.DAYPASS_TRUSTED_PROXIES
    if not trusted:
        return _clean(peer)
    chain = [part.strip() for part in forwarded_for.split(",")]
    return _clean(chain[-trusted]) if len(chain) >= trusted else ""


def _clean(text: str) -> str:
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(address)


def counted_address(request: HttpRequest) -> str:
    """The client's address as it is counted."""
    return counted(client_address(request))


def counted(found: str) -> str:
    """An address as it is counted: whoever has one IPv6 address has the whole /64 that it is in."""
    if ":" not in found:
        return found
    return str(ipaddress.ip_network((found, 64), strict=False).network_address) + "/64"
