"""A study that comes anew beside what is held of it, and the old copy's end.

What the PACS has corrected is somebody else's, or says something else: it is given no longer, and whoever has its URLs
has them for a while at most.
"""

from __future__ import annotations

import asyncio
import logging

from gateway.runtime import Clock
from gateway.studies import keys
from gateway.studies.cache import StudyCache
from gateway.studies.flight import Flight
from gateway.studies.intake import Intake
from gateway.studies.pacs import Pacs
from gateway.studies.retrieval import end_tasks
from gateway.studies.statement import in_words

log = logging.getLogger(__name__)

OLD_COPY_STAYS = 40.0
"""Seconds for which what was corrected is still there for those who have its URLs, where it takes so long to fetch what
is right."""


class OldCopies:
    """Ends what a flight replaces, in time."""

    def __init__(self, cache: StudyCache, intake: Intake, clock: Clock) -> None:
        self._cache = cache
        self._intake = intake
        self._clock = clock

    async def begin_anew(self, flight: Flight, pacs: Pacs, names: tuple[str, ...]) -> None:
        """Has all come once more. Where the PACS has corrected whose it is (*names*), what was here is given no
        longer; whoever has its URLs has them for :data:`OLD_COPY_STAYS` at most."""
        uid, held = flight.study_instance_uid, flight.held
        await self._intake.settle(flight)  # what was pushed meanwhile may be of before or of after
        flight.old_copy.update(key for i in flight.stored.values() for key in i.object_keys(uid))
        if names and held is not None:
            flight.old_copy |= held.object_keys()
            log.warning(
                "PACS %s has corrected study %s (%s): it is fetched anew, and what was here is not given any more",
                pacs.name, uid, in_words(names),
            )  # fmt: skip
            await self._cache.superseded(held)
            flight.old_copy_ends = asyncio.create_task(self._end_in_time(flight))
        flight.begin_anew(keys.new_revision(self._clock), names)

    async def _end_in_time(self, flight: Flight) -> None:
        await self._clock.sleep(OLD_COPY_STAYS)
        await self._cache.remove_surely(flight.study_instance_uid, flight.old_copy)

    async def end(self, flight: Flight) -> None:
        """What was corrected goes with the flight, whatever came of it."""
        if flight.old_copy_ends is not None:
            await end_tasks([flight.old_copy_ends])
            if flight.old_copy:
                await self._cache.remove_surely(flight.study_instance_uid, flight.old_copy)
