"""Studies that are held and that no PACS has any more.

Twice said, some time between, it is believed: a PACS that is being restored says so, too.
"""

from __future__ import annotations

import logging

from gateway.runtime import Clock
from gateway.studies.cache import StudyCache
from gateway.studies.flight import Flight

log = logging.getLogger(__name__)

ABSENT_FOR = 20.0
"""Seconds between the first time that no PACS has a study which is held, and the second, at which it is removed."""


class Absences:
    """Notes for which held studies every PACS answered that it does not have them, and since when."""

    def __init__(self, cache: StudyCache, clock: Clock) -> None:
        self._cache = cache
        self._clock = clock
        self._since: dict[str, float] = {}

    async def note(self, flight: Flight) -> None:
        """No PACS has the study that is held; said for the second time, it is removed. Raises StoreError."""
        uid, now = flight.study_instance_uid, self._clock.monotonic()
        if now - self._since.setdefault(uid, now) < ABSENT_FOR:
            return
        await self._cache.discard(uid)
        del self._since[uid]
        flight.held = flight.still_held = None
        flight.gone = True
        log.warning("study %s is in no PACS any more: what was here of it is removed", uid)

    def forget(self, study_instance_uid: str) -> None:
        """A PACS has the study, or may have it."""
        self._since.pop(study_instance_uid, None)

    def due(self) -> list[str]:
        """Studies that are held and that no PACS had, to be asked for once more now."""
        now = self._clock.monotonic()
        return [uid for uid, since in self._since.items() if now - since >= ABSENT_FOR]

    def in_doubt(self, study_instance_uid: str) -> bool:
        """Whether no PACS had a study that is held, when it was last asked for."""
        return study_instance_uid in self._since
