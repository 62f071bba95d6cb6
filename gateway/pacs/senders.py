"""Who may send to us: a PACS is known by its AE title *and* by where it calls from.

An AE title is no secret and proves nothing (PS3.15 leaves proof to TLS): any host on the network can say it. So each
PACS sends from the addresses that its configuration names, or from those that its host resolves to, and with TLS its
certificate has to name it, too.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import time
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from gateway.pacs.certificate_names import is_named
from gateway.runtime import SYSTEM_CLOCK, progress

log = logging.getLogger(__name__)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

LOOKED_UP_EVERY = 60.0
"""Seconds after which a host is looked up again."""

LOOKED_UP_AT_MOST_EVERY = 5.0
"""Seconds, where a rejected association gives a reason to look at once."""

LOOK_UP_WITHIN = 10.0
"""Seconds."""

REMEMBERED = 100
"""Rejected callers that are remembered for ``check``."""

_LOOPBACK = frozenset((IPv4Address("127.0.0.1"), IPv6Address("::1")))


@dataclass(frozen=True, slots=True)
class KnownSender:
    """A PACS that may send."""

    name: str
    """The operator's name for it."""
    ae_titles: frozenset[str]
    host: str
    networks: tuple[Network, ...] = ()
    """Where it sends from; none: what *host* resolves to."""
    certificate_names: frozenset[str] = frozenset()
    """Names of which its certificate has one, lower case."""


@dataclass(slots=True)
class RejectedCaller:
    """A caller that says an AE title that we know, and is not known to be its owner."""

    ae_title: str
    host: str
    reason: str
    times: int = 0
    last: float = 0.0
    """Unix seconds."""


class Senders:
    """Decides who may associate with us as which PACS, and remembers who was rejected."""

    def __init__(self, known: Sequence[KnownSender]) -> None:
        self._known = known
        self._resolved: dict[str, frozenset[Address]] = {}
        self._asked_at = float("-inf")
        self._look = asyncio.Event()
        self._rejected: OrderedDict[tuple[str, str], RejectedCaller] = OrderedDict()
        self.rejections = 0
        """Associations that were rejected since the start."""

    def names(self, ae_title: str, host: str) -> frozenset[str]:
        """The operator's names of the PACS that *ae_title* at address *host* may be; several can share a title."""
        address = _address(host)
        return frozenset(
            sender.name
            for sender in self._known
            if ae_title in sender.ae_titles and address is not None and self._may_be_at(sender, address)
        )

    def knows(self, host: str) -> bool:
        """Whether one of the PACS may call from there, under whatever title."""
        address = _address(host)
        return address is not None and any(self._may_be_at(sender, address) for sender in self._known)

    def allows(self, ae_title: str, host: str) -> bool:
        """Whether one of the PACS may call so from there; one that may not is remembered."""
        if self.names(ae_title, host):
            return True
        owners = [sender.name for sender in self._known if ae_title in sender.ae_titles]
        fix = (
            f"where that is PACS {' or '.join(owners)}, add {host} to its pacs[].sending_addresses"
            if owners
            else "no PACS has this AE title: where it is one of yours, add it to its pacs[].sending_ae_titles"
        )
        self._reject(ae_title, host, fix)
        if owners:
            self._look.set()  # its address may have changed
        return False

    def certified(self, ae_title: str, host: str, certificate_names: Collection[str]) -> bool:
        """Whether a certificate that names these is one of the PACS that *ae_title* at *host* may be."""
        possible = self.names(ae_title, host)
        if any(s.name in possible and is_named(certificate_names, s.certificate_names) for s in self._known):
            return True
        which = ", ".join(sorted(certificate_names)) or "nobody"
        fix = f"its certificate names {which}: where that is PACS {' or '.join(sorted(possible))}, add one of these to "
        self._reject(ae_title, host, fix + "its pacs[].certificate_names")
        return False

    def rejected(self) -> list[RejectedCaller]:
        """Who was rejected, the latest first."""
        return list(reversed(self._rejected.values()))

    def _reject(self, ae_title: str, host: str, reason: str) -> None:
        self.rejections += 1
        caller = self._rejected.setdefault((ae_title, host), RejectedCaller(ae_title, host, reason))
        caller.reason, caller.times, caller.last = reason, caller.times + 1, SYSTEM_CLOCK.now()
        self._rejected.move_to_end((ae_title, host))
        while len(self._rejected) > REMEMBERED:
            self._rejected.popitem(last=False)
        log.warning("AE %s at %s is not allowed to associate: %s", ae_title, host, reason)

    # -- addresses

    def _may_be_at(self, sender: KnownSender, address: Address) -> bool:
        if sender.networks:
            return any(address in network for network in sender.networks)
        allowed = self._resolved.get(sender.host, frozenset())
        if address in allowed:
            return True
        # One on this machine calls from whichever of its addresses the connection takes; of the loopback network
        # only from the two that are used without being asked for.
        here = any(_is_ours(one) for one in allowed)
        return here and (address in _LOOPBACK or (not address.is_loopback and _is_ours(address)))

    async def look_up(self) -> None:
        """Looks up where the PACS are; what cannot be found stays as it was."""
        self._asked_at = time.monotonic()
        hosts = {sender.host for sender in self._known if not sender.networks}
        await asyncio.gather(*(self._look_up(host) for host in hosts))

    async def _look_up(self, host: str) -> None:
        try:
            async with asyncio.timeout(LOOK_UP_WITHIN):
                found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError, TimeoutError) as e:
            log.warning("the address of %s cannot be found (%s): who calls from there is judged by the last", host, e)
            return
        self._resolved[host] = frozenset(a for one in found if (a := _address(str(one[4][0]))) is not None)

    async def keep_looking_up(self) -> None:
        """Looks up again as time passes, and soon after somebody was rejected; a loop."""
        while True:
            progress()
            left = self._asked_at + LOOKED_UP_EVERY - time.monotonic()
            try:
                async with asyncio.timeout(max(min(left, LOOKED_UP_EVERY), 0)):
                    await self._look.wait()
            except TimeoutError:
                pass
            await asyncio.sleep(max(self._asked_at + LOOKED_UP_AT_MOST_EVERY - time.monotonic(), 0))
            self._look.clear()
            await self.look_up()


@lru_cache(maxsize=1024)
def _address(host: str) -> Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _is_ours(address: Address) -> bool:
    """Whether it is an address of this machine: only these can be bound to."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def is_local(host: str, our_address: str) -> bool:
    """Whether a connection to *our_address* from *host* comes from this machine."""
    address = _address(host)
    return address is not None and (address.is_loopback or address == _address(our_address))
