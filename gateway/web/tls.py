"""HTTPS on our own listener, for a hospital that puts no proxy before it.

Certificates are renewed every few weeks, by something that does not know of the gateway: the files are read again when
they change. Whoever connects after that is shown the new one, and no connection is ended for it.
"""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from gateway.runtime import SYSTEM_CLOCK, Clock, in_thread, progress

log = logging.getLogger(__name__)

LOOKS_EVERY = 30.0
"""Seconds between two looks at the files."""


class ServerCertificate:
    """A certificate and its key, in files."""

    def __init__(self, certificate: Path, key: Path, *, clock: Clock = SYSTEM_CLOCK) -> None:
        """Raises OSError where they cannot be read, or do not belong together."""
        self._certificate, self._key = certificate, key
        self._clock = clock
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)  # TLS 1.2 at least
        self.context.set_alpn_protocols(["http/1.1"])
        self._seen = self._state()
        self.context.load_cert_chain(certificate, key)

    async def watch(self) -> None:
        """Reads them again whenever they change; a loop."""
        while True:
            progress()
            await in_thread(self.look)
            await self._clock.sleep(LOOKS_EVERY)

    def look(self) -> None:
        """Reads them again if they have changed. What cannot be used is told, and the one before stays."""
        try:
            now = self._state()
            if now == self._seen:
                return
            # A context that took half of a new pair would be of no use to anybody: it is tried on another one first.
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(self._certificate, self._key)
            self.context.load_cert_chain(self._certificate, self._key)
        except OSError as e:
            log.error(
                "the certificate %s or its key cannot be used (%s): the one before is still shown; put right what "
                "renews it",
                self._certificate, e.strerror or e,
            )  # fmt: skip
            return
        self._seen = now
        log.info("the certificate %s was renewed", self._certificate)

    def _state(self) -> tuple[tuple[int, int], ...]:
        stats = [path.stat() for path in (self._certificate, self._key)]
        return tuple((found.st_mtime_ns, found.st_size) for found in stats)
