"""Who asks: the client's address, also behind a reverse proxy (RFC 7239 §5.2 has the way to read the list).

A proxy adds whom it speaks for at the end of ``X-Forwarded-For``. What stands further left was written by somebody
whom nobody vouches for, so the list is read from its end, and only as far as trusted proxies wrote it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_MOST = 20
"""Addresses that are read of the list; a chain of proxies has two or three."""


class Clients:
    """Tells clients apart."""

    def __init__(self, trusted_proxies: Sequence[IPNetwork] = ()) -> None:
        self._trusted = tuple(trusted_proxies)

    def is_proxy(self, address: str) -> bool:
        """Whether *address* is a proxy's that speaks for others."""
        parsed = _parsed(address)
        return parsed is not None and self._is_trusted(parsed)

    def address(self, peer: str, forwarded: Sequence[str]) -> str:
        """The client's address; *peer* is who is connected, *forwarded* the ``X-Forwarded-For`` headers."""
        client = peer
        entries = ",".join(forwarded).split(",")[-_MOST:]
        while entries and self.is_proxy(client):
            entry = _parsed(entries.pop())
            if entry is None:
                break
            client = str(entry)
        return client

    def _is_trusted(self, address: IPAddress) -> bool:
        return any(address in network for network in self._trusted)


def household(address: str) -> str:
    """What is counted as one client: an IPv6 subscriber has 2^64 addresses to choose from (RFC 6177)."""
    parsed = _parsed(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((parsed, 64), strict=False))
    return address


def _parsed(address: str) -> IPAddress | None:
    address = address.strip()
    if address.startswith("["):  # [2001:db8::1]:4711
        address = address[1:].partition("]")[0]
    elif address.count(":") == 1:
        address = address.partition(":")[0]
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    return (parsed.ipv4_mapped or parsed) if isinstance(parsed, ipaddress.IPv6Address) else parsed
