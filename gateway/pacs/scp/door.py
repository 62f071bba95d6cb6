"""Our DICOM port: who connects is counted before anything else is done for it, TLS included.

A connection costs hundreds of kilobytes once its TLS begins, and nothing but a descriptor before.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from functools import partial

from gateway.pacs.scp.places import Caller, unassociated_to_go
from gateway.pacs.upper import Link
from gateway.runtime import AcceptLoop
from gateway.web import household

log = logging.getLogger(__name__)

TLS_ENDS_WITHIN = 2.0
"""Seconds that the other side has to say that it ends TLS, too."""

STRANGERS_A_SECOND = 50.0
"""Connections from addresses of no PACS; what comes beyond that is closed before anything is made for it."""

TELL_EVERY = 60.0
"""Seconds between two lines about connections that came to nothing."""


class Door:
    """Takes connections, and keeps those that have not associated to a number."""

    def __init__(
        self,
        new_link: Callable[[], Link],
        *,
        enter: Callable[[Caller], None],
        knows: Callable[[str], bool],
        tls: ssl.SSLContext | None,
        handshake: float,
        most: int,
    ) -> None:
        """*enter* takes over a caller whose connection stands. *knows* says whether a PACS sends from an address.
        *handshake* is the seconds that TLS may take to begin, *most* how many may stand that have not associated."""
        self._new_link = new_link
        self._enter = enter
        self._knows = knows
        self._tls, self._handshake = tls, handshake
        self._most = most
        self._accepting = AcceptLoop(self._accepted, self._out_of_descriptors)
        self._waiting: dict[Caller, asyncio.Task[object] | None] = {}
        """Those that have not associated, the earliest first; with a task while the connection is made ready."""
        self._strangers_left, self._strangers_as_of = STRANGERS_A_SECOND, 0.0
        self._turned_away = 0
        self._told = float("-inf")

    @property
    def port(self) -> int | None:
        """The port that is listened on."""
        return self._accepting.port

    async def open(self, host: str, port: int) -> None:
        """Takes connections from now on. Raises OSError."""
        await self._accepting.start(host, port)

    def close(self) -> None:
        """Takes no more, and ends those that are not ready yet."""
        self._accepting.stop()
        for opening in list(self._waiting.values()):
            if opening is not None:
                opening.cancel()

    def left(self, caller: Caller) -> None:
        """It has associated, or is gone."""
        self._waiting.pop(caller, None)

    def tell_turned_away(self, caller: Caller, why: str) -> None:
        """Says in the log that a connection came to nothing; of many, how many there were."""
        self._turned_away += 1
        now = asyncio.get_running_loop().time()
        if now - self._told >= TELL_EVERY:
            log.warning(
                "%d DICOM connections came to nothing, the last from %s: %s", self._turned_away, caller.host, why
            )
            self._turned_away, self._told = 0, now

    def _accepted(self, accepted: socket.socket, host: str) -> None:
        known, home = self._knows(host), household(host)
        if not known and not self._takes_a_stranger():
            accepted.close()
            return
        goes = unassociated_to_go(self._waiting, home, known=known, most=self._most)
        if goes is not None:
            self._send_away(goes, "it asked for no association while others came")
        loop = asyncio.get_running_loop()
        caller = Caller(self._new_link(), host, home, known, since=loop.time())
        opening = loop.create_task(self._open(caller, accepted))
        self._waiting[caller] = opening
        opening.add_done_callback(partial(self._opened, caller, accepted))

    def _takes_a_stranger(self) -> bool:
        now = asyncio.get_running_loop().time()
        earned = (now - self._strangers_as_of) * STRANGERS_A_SECOND
        self._strangers_left, self._strangers_as_of = min(self._strangers_left + earned, STRANGERS_A_SECOND), now
        if self._strangers_left < 1:
            return False
        self._strangers_left -= 1
        return True

    async def _open(self, caller: Caller, accepted: socket.socket) -> None:
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: caller.link, accepted, ssl=self._tls,
            ssl_handshake_timeout=self._handshake if self._tls else None,
            ssl_shutdown_timeout=TLS_ENDS_WITHIN if self._tls else None,
        )  # fmt: skip

    def _opened(self, caller: Caller, accepted: socket.socket, opening: asyncio.Task[object]) -> None:
        if opening.cancelled() or (failure := opening.exception()) is not None:
            accepted.close()
            self.left(caller)
            if not opening.cancelled():
                self.tell_turned_away(caller, f"TLS did not begin ({failure or type(failure).__name__})")
        elif caller in self._waiting:
            self._waiting[caller] = None
            self._enter(caller)
        else:
            caller.link.close(linger=0)

    def _send_away(self, caller: Caller, why: str) -> None:
        opening = self._waiting.pop(caller)
        self.tell_turned_away(caller, why)
        if opening is not None:
            opening.cancel()
        caller.link.close(linger=0)

    def _out_of_descriptors(self, e: OSError) -> None:
        log.error("a DICOM connection cannot be taken: %s", e.strerror)
        if self._waiting:
            self._send_away(next(iter(self._waiting)), "no descriptor is left")
