"""Raises an alert of whatever is wrong and stays so, ends it once that is over, and reminds people in between.

What is looked at are watches: each says what is wrong now, of one kind. One that cannot tell changes nothing: what was
raised stands, and nothing is raised. That something was well for a moment ends no alert, and that it was wrong for a
moment raises none.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass

from gateway.alerts.alert import Alert
from gateway.alerts.jobs import end_alert, raise_alert, remind
from gateway.journal import Journal, Transaction
from gateway.journal import alerts as table
from gateway.runtime import Clock, GatewayError, progress

log = logging.getLogger(__name__)

LOOKS_EVERY = 30.0
"""Seconds."""

CALM = 90.0
"""Seconds for which something has to be well before its alert ends."""

WITHIN = 60.0
"""Seconds that a watch has to tell."""

AlertKey = tuple[str, str]
"""Kind and subject of an alert."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Something that is looked at again and again."""

    kind: str
    """Of all its alerts."""
    look: Callable[[], Awaitable[Collection[Alert]]]
    """What is wrong now; each has a subject of its own. Raises GatewayError where that cannot be told."""
    after: float = 0.0
    """Seconds for which something has to be wrong before people are told."""


class StandingAlerts:
    """Looks at watches."""

    def __init__(
        self,
        watches: Sequence[Watch],
        *,
        journal: Journal,
        channels: Collection[str],
        added: Callable[[], None],
        clock: Clock,
    ) -> None:
        """*channels* by name; *added* is called when a job was added."""
        self._watches = watches
        self._journal = journal
        self._channels = channels
        self._added = added
        self._clock = clock
        self._wrong: dict[AlertKey, float] = {}
        """Since when each is wrong, in the clock's monotonic seconds."""
        self._well: dict[AlertKey, float] = {}
        """Since when each that was raised is well again."""

    async def watch(self) -> None:
        """Looks for ever. Raises JournalError."""
        while True:
            progress()
            await self.look()
            await self._clock.sleep(LOOKS_EVERY)

    async def look(self) -> None:
        """Raises, ends and reminds of what is due. Raises JournalError."""
        found = await asyncio.gather(*(self._ask(watch) for watch in self._watches))
        told = {w.kind: (w.after, alerts) for w, alerts in zip(self._watches, found, strict=True) if alerts is not None}
        if await self._journal.run(lambda c: self._compare(c, told)):
            self._added()

    async def _ask(self, watch: Watch) -> Collection[Alert] | None:
        """What is wrong; None where that cannot be told."""
        try:
            async with asyncio.timeout(WITHIN):
                return await watch.look()
        except (GatewayError, TimeoutError) as e:
            log.debug("%s cannot be told: %s", watch.kind, str(e) or "no answer in time")
        except Exception:  # one that fails does not blind the others
            log.exception("%s cannot be told", watch.kind)
        return None

    def _compare(self, c: Transaction, told: dict[str, tuple[float, Collection[Alert]]]) -> bool:
        changed = remind(c, self._channels) > 0
        now = self._clock.monotonic()
        for kind, (after, alerts) in told.items():
            wrong = {(kind, alert.subject): alert for alert in alerts}
            for subject in [s for s in self._wrong if s[0] == kind and s not in wrong]:
                del self._wrong[subject]
            for subject, alert in wrong.items():
                self._well.pop(subject, None)
                lasted = now - self._wrong.setdefault(subject, now)
                if lasted >= after:
                    at = self._clock.now() - lasted
                    one = dataclasses.replace(alert, kind=kind, at=at, lasts=True)
                    changed |= raise_alert(c, self._channels, one)
            standing = [r for r in table.standing(c, kind) if r.kind == kind and (kind, r.subject) not in wrong]
            for record in standing:
                if now - self._well.setdefault((kind, record.subject), now) >= CALM:
                    del self._well[kind, record.subject]
                    changed |= end_alert(c, self._channels, self._over(record))
        return changed

    def _over(self, record: table.AlertRecord) -> Alert:
        assert record.alert is not None, "these kinds are raised by versions that keep what they say"
        return dataclasses.replace(Alert.from_json(json.loads(record.alert)), at=self._clock.now())
