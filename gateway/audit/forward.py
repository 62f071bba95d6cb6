"""Brings the trail to an audit repository, as DICOM audit messages, in order, and after an outage from where it was.

The trail itself is the queue: a number beside it says how far it was told. Nobody who notes something waits for this.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

from gateway.audit.messages import messages_of
from gateway.audit.reader import TrailReader
from gateway.audit.syslog import Line, NotSent, Syslog
from gateway.audit.xml import SUCCESS
from gateway.runtime import SYSTEM_CLOCK, Clock, in_thread, progress

log = logging.getLogger(__name__)

SENDS_EVERY = 1.0
"""Seconds."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds between two attempts while it does not take anything."""

SURE_AFTER = 10.0
"""Seconds for which the connection has to stand after something was sent for it to count as read: where the other side
ends it earlier, it may have died with that in its buffers, and is sent it again."""

CURSOR = "syslog.sent"
"""The file with the number of the last entry that was told for certain."""


class Forwarder:
    """Sends what is noted in the trail on."""

    def __init__(
        self, folder: Path, syslog: Syslog, *, source: str, site: str = "", clock: Clock = SYSTEM_CLOCK
    ) -> None:
        """*folder* is the trail's; *source* and *site* are the Audit Source ID and the Audit Enterprise Site ID."""
        self._folder = folder
        self._reader = TrailReader(folder)
        self._syslog = syslog
        self._source, self._site = source, site
        self._clock = clock
        self._sent: int | None = None
        self._recent: deque[tuple[float, int]] = deque()
        """Monotonic seconds at which something was sent, and the last entry before it, of what is not certain yet."""
        self._kept: int | None = None
        self.trouble = ""
        """Why it is behind now; empty where it is not."""
        self.since: float | None = None
        """Unix seconds since when it is."""

    async def start(self) -> None:
        """What is noted from now on is sent, or, where it was sending before, what came after the last that was sent.
        Raises OSError."""
        self._sent = self._kept = await in_thread(self._load)

    async def run(self) -> None:
        """Sends, until it is cancelled."""
        pause = FIRST_PAUSE
        while True:
            progress()
            try:
                more = await self.forward()
            except (NotSent, OSError) as e:
                self._fails(str(e) if isinstance(e, NotSent) else f"the audit trail cannot be read: {e}")
                await self._clock.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            if self.trouble:
                log.info("%s takes audit messages again", self._syslog)
                self.trouble, self.since = "", None
            pause = FIRST_PAUSE
            if not more:
                await self._clock.sleep(SENDS_EVERY)

    async def stop(self) -> None:
        """Sends what was noted last, and ends the connection."""
        try:
            if self._sent is not None and not self.trouble:
                await self.forward()
                await self._syslog.close()
                self._recent.clear()
        except (NotSent, OSError) as e:
            log.info("the last audit messages go out with the next start: %s", e)
        finally:
            await self._syslog.close()
            with suppress(OSError):
                await self._keep_certain()

    async def forward(self) -> bool:
        """Sends what was noted and not sent yet, up to a bound; whether there is more. Raises NotSent, OSError."""
        if self._sent is None:
            await self.start()
            assert self._sent is not None
        if await self._syslog.ended():
            self._go_back()
        await self._keep_certain()
        found = await in_thread(self._reader.after, self._sent)
        if not found.entries:
            return False
        entries = found.entries
        if found.missing:
            log.error("%d entries of the audit trail were removed before %s took them", found.missing, self._syslog)
            entries = [_lost(found.missing, entries[0]["at"]), *entries]
        lines = [
            Line(message.at, message.xml(self._source, self._site), message.outcome != SUCCESS)
            for message in messages_of(entries)
        ]
        self._recent.append((self._clock.monotonic(), self._sent))
        if lines:
            try:
                await self._syslog.send(lines)
            except NotSent:
                self._go_back()
                raise
        self._sent = found.upto
        return True

    def _go_back(self) -> None:
        """What was sent a moment ago may not have been read."""
        if self._recent:
            self._sent = self._recent[0][1]
            self._recent.clear()

    async def _keep_certain(self) -> None:
        before = self._clock.monotonic() - SURE_AFTER
        while self._recent and self._recent[0][0] < before:
            self._recent.popleft()
        certain = self._recent[0][1] if self._recent else self._sent
        if certain is not None and certain != self._kept:
            await in_thread(self._keep, certain)
            self._kept = certain

    def _fails(self, why: str) -> None:
        if not self.trouble:
            self.since = self._clock.now()
            log.error("audit messages wait in the trail: %s", why)
        self.trouble = why

    def _load(self) -> int:
        last = self._reader.last()
        try:
            sent = int((self._folder / CURSOR).read_text())
        except FileNotFoundError:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            self._keep(last)
            return last
        except ValueError:
            log.error("%s is no number: audit messages are sent from now on", self._folder / CURSOR)
            return last
        if sent > last:
            log.error("the audit trail ends before entry %d, which was sent: was it made anew? It is sent on", sent)
        return min(sent, last)

    def _keep(self, number: int) -> None:
        new = self._folder / f"{CURSOR}.new"
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(str(number))
            file.flush()
            os.fdatasync(file.fileno())
        new.replace(self._folder / CURSOR)


def _lost(count: int, at: str) -> dict[str, Any]:
    return {"what": "lost", "at": at, "times": count, "text": "entries were removed before they could be sent"}
