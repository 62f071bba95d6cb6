"""Which hosts and addresses a report may be fetched from.

A URL from outside makes the gateway, which stands inside the hospital, send a request. So it goes to listed hosts only,
and to public addresses only.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

_NAME = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""A host name whose last label begins with a letter: 127.1 and 0x7f000001 are addresses in disguise."""

_NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in ("100.64.0.0/10", "192.88.99.0/24", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)
"""CGNAT (RFC 6598) and 6to4 relays (RFC 7526); in IPv6's public range special purposes, documentation and 6to4."""

_IPV6_PUBLIC = ipaddress.ip_network("2000::/3")
"""All that is assigned (RFC 4291 §2.4). IPv4-mapped, NAT64, unique local and link-local addresses lie outside."""


@dataclass(frozen=True, slots=True)
class AllowedHost:
    """An entry of ``reports.allowed_hosts``."""

    name: str
    """Without the star: a leading dot stands for any name below."""
    port: int | None

    def matches(self, host: str, port: int, default_port: int) -> bool:
        """Whether it lets a URL pass; *default_port* is that of the URL's scheme."""
        if port != (default_port if self.port is None else self.port):
            return False
        return host.endswith(self.name) if self.name.startswith(".") else host == self.name


def allowed_host(entry: str) -> AllowedHost:
    """An exact name or address, or ``*.suffix``; ``:port`` may follow. Raises ValueError for what is no host."""
    text = entry.strip().lower()
    bracketed = re.fullmatch(r"\[([0-9a-f:.]+)\](?::(\d{1,5}))?", text)
    name, port = (bracketed[1], bracketed[2]) if bracketed else (text, None)
    if not bracketed and text.count(":") == 1:
        name, port = text.split(":")
    if name.startswith("*."):
        name = name[1:]
    suffix = name.startswith(".")
    wrong = not is_host(name[1:]) or "." not in name[1:] or address_of(name[1:]) if suffix else not is_host(name)
    if wrong or (port is not None and not (port.isdecimal() and 0 < int(port) < 65536)):
        raise ValueError(f"{entry!r} is no host: write reports.example.com, or *.example.com for any host below it")
    return AllowedHost(name, None if port is None else int(port))


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether *address* is one of the Internet's, and no way to one inside (RFC 6890 and what came since)."""
    if isinstance(address, ipaddress.IPv6Address) and address not in _IPV6_PUBLIC:
        return False
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_unspecified:
        return False
    return not any(address in network for network in _NOT_PUBLIC)


def is_host(text: str) -> bool:
    """Whether it is a host name or an address."""
    return _NAME.fullmatch(text) is not None or address_of(text) is not None


def address_of(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that it is; None for a name."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
