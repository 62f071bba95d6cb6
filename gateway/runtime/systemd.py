"""Tells systemd how the service is: sd_notify(3), over the datagram socket that it names in the environment.

Without that socket, as in a container or on a terminal, nothing is told.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Mapping

from gateway.runtime.supervise import progress

log = logging.getLogger(__name__)


class ServiceManager:
    """The service manager that started us, where it wants to be told."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self.watchdog_every = _watchdog(environment) if self._address else None
        """Seconds between two signs of life; None where none is wanted."""

    def ready(self) -> None:
        """The start is over."""
        self._tell("READY=1")

    def stopping(self) -> None:
        """The end has begun."""
        self._tell("STOPPING=1")

    def status(self, text: str) -> None:
        """What ``systemctl status`` shows."""
        self._tell("STATUS=" + " ".join(text.split()))

    async def watch(self, alive: Callable[[], bool], status: Callable[[], str]) -> None:
        """Gives signs of life, until it is cancelled or not *alive* any more; tells the *status* when it changes."""
        told, lived = "", True
        every = self.watchdog_every
        while True:
            progress()
            if (lives := alive()) != lived:
                lived = lives
                log.log(
                    logging.WARNING if lives else logging.CRITICAL,
                    "the gateway %s", "lives again" if lives else "hangs: the service manager gets no sign of life",
                )  # fmt: skip
            if lives and every is not None:
                self._tell("WATCHDOG=1")
            if (text := status()) != told:
                told = text
                self.status(text)
            await asyncio.sleep(every or 5.0)

    def _tell(self, what: str) -> None:
        if not self._address:
            return
        # An address with an @ lies in the abstract namespace (sd_notify(3)).
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto(what.encode(), address)
        except OSError as e:
            log.warning("the service manager cannot be sent %s: %s", what.partition("=")[0], e.strerror or e)


def _watchdog(environment: Mapping[str, str]) -> float | None:
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None  # another process is watched
    try:
        seconds = int(environment["WATCHDOG_USEC"]) / 1e6
    except (KeyError, ValueError):
        return None
    return seconds / 2 if seconds > 0 else None
