"""Takes connections from listening sockets, for who decides of each by itself.

asyncio's own server takes every connection that comes, begins its TLS before anybody can count it, and where no
descriptor is left writes a traceback for each.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

BACKLOG = 1024
"""Connections that the kernel keeps until they are taken."""

AT_ONCE = 64
"""Connections that are taken before others have their turn in the event loop."""

NO_DESCRIPTOR = 0.2
"""Seconds before the next attempt where there was no descriptor."""


class AcceptLoop:
    """Listens on one address, and hands on each connection as it comes."""

    def __init__(
        self, accepted: Callable[[socket.socket, str], None], out_of_descriptors: Callable[[OSError], None]
    ) -> None:
        """*accepted* takes over a socket that does not block, with the address of the other side.
        *out_of_descriptors* is told where a connection cannot be taken for now."""
        self._accepted = accepted
        self._out_of_descriptors = out_of_descriptors
        self._sockets: list[socket.socket] = []

    @property
    def port(self) -> int | None:
        """The port that is listened on; None before and after."""
        return int(self._sockets[0].getsockname()[1]) if self._sockets else None

    async def start(self, host: str, port: int) -> None:
        """Listens from now on. Raises OSError."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listening = socket.socket(family, kind, protocol)
            self._sockets.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.setblocking(False)
            try:
                listening.bind(address)
                listening.listen(BACKLOG)
            except OSError as e:
                self.stop()
                raise OSError(e.errno, f"cannot listen on {host}:{port}: {e.strerror}") from e
        for listening in self._sockets:
            loop.add_reader(listening, self._accept, listening)

    def stop(self) -> None:
        """Listens no more."""
        loop = asyncio.get_running_loop()
        for listening in self._sockets:
            loop.remove_reader(listening)
            listening.close()
        self._sockets.clear()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                accepted, peer = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as e:  # EMFILE, ENFILE, ENOBUFS, ENOMEM (accept(2))
                # The kernel would wake us again at once, and it could not be taken then either.
                loop = asyncio.get_running_loop()
                loop.remove_reader(listening)
                loop.call_later(NO_DESCRIPTOR, self._listen_again, listening)
                self._out_of_descriptors(e)
                return
            accepted.setblocking(False)
            self._accepted(accepted, str(peer[0]))

    def _listen_again(self, listening: socket.socket) -> None:
        if listening in self._sockets:
            asyncio.get_running_loop().add_reader(listening, self._accept, listening)
