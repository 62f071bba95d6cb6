"""What the cache owes the PACS and the patients although nobody asks for a study.

URLs that were given out die with what they name: studies that have any are compared while these work. A study that no
PACS has any more goes, and so does what is older than data may be kept, and what the store did not delete before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from gateway.journal import CachedStudy, Journal, JournalError
from gateway.objects import StoreError
from gateway.runtime import progress
from gateway.studies.cache import StudyCache
from gateway.studies.fetch import Fetcher
from gateway.studies.watch import Watch

log = logging.getLogger(__name__)

ROUND = 10.0
"""Seconds between two rounds."""

ENDS_WITHIN = 60.0
"""Seconds that the fetch of a study which was found changed is waited for, before the next one is looked at."""

AT_ONCE = 4
"""Studies that were found changed and are fetched at once."""

LOOKS_FOR_OLD_EVERY = 3600.0

BETWEEN_INDEXES = 0.05
"""Seconds, so that reading many of them is in nobody's way."""


class Upkeep:
    """Looks after the cache."""

    def __init__(
        self,
        cache: StudyCache,
        fetcher: Fetcher,
        watch: Watch,
        journal: Journal,
        *,
        watch_every: float,
        max_age: float,
        noted: Callable[[str, str], None],
    ) -> None:
        """*watch_every* is seconds between two comparisons of a study whose URLs work, 0 for none; *max_age* those for
        which a study is kept. *noted* is told of a study that was dropped, and why."""
        self._cache = cache
        self._fetcher = fetcher
        self._watch = watch
        self._journal = journal
        self._clock = journal.clock
        self._watch_every = watch_every
        self._max_age = max_age
        self._noted = noted
        self._watched = self._looked_for_old = float("-inf")

    async def run(self) -> None:
        """Does so until it is cancelled."""
        while True:
            progress()
            try:
                await self.round()
            except (StoreError, JournalError) as e:
                log.warning("the upkeep of the cache waits: %s", e)
            await self._clock.sleep(ROUND)

    async def round(self) -> None:
        """All that is due. Raises StoreError, JournalError."""
        await self._cache.settle()
        for uid in self._fetcher.absences.due():
            await self._fetcher.fetch(uid).ended(ENDS_WITHIN)
        now = self._clock.monotonic()
        if self._watch_every and now - self._watched >= self._watch_every:
            self._watched = now
            await self._look()
        if now - self._looked_for_old >= LOOKS_FOR_OLD_EVERY:
            self._looked_for_old = now
            await self.drop_old()

    async def _look(self) -> None:
        """Compares the studies whose URLs work. Those that changed are fetched as they are found, :data:`AT_ONCE` at
        once, so that one which takes long holds up none that is as urgent."""
        studies = await self._journal.cached_studies()
        watched = [s.study_instance_uid for s in studies if s.urls_valid_until > self._clock.now()]
        turns, fetches = asyncio.Semaphore(AT_ONCE), list[asyncio.Task[None]]()

        async def fetch(uid: str) -> None:
            async with turns:
                progress()
                await self._fetcher.fetch(uid).ended(ENDS_WITHIN)

        def changed(uid: str) -> None:
            fetches.append(asyncio.create_task(fetch(uid), name=f"comparison of study {uid}"))

        try:
            await self._watch.look(watched, changed)
            await asyncio.gather(*fetches)
        finally:
            for task in fetches:
                task.cancel()

    async def drop_old(self) -> None:
        """Drops what is kept for too long; a study whose URLs work, once they have expired. Raises StoreError,
        JournalError."""
        for study in await self._journal.cached_studies():
            progress()
            if study.urls_valid_until > self._clock.now() or not await self._is_old(study):
                continue
            if await self._cache.drop(study.study_instance_uid):
                log.info("study %s is older than cache.max_age: dropped", study.study_instance_uid)
                self._noted(study.study_instance_uid, "dropped: older than cache.max_age")

    async def _is_old(self, study: CachedStudy) -> bool:
        before = self._clock.now() - self._max_age
        if study.last_used < before:
            return True
        uid = study.study_instance_uid
        fetched = self._cache.fetched(uid)
        if fetched is None:
            await self._clock.sleep(BETWEEN_INDEXES)
            index = await self._cache.index(uid)
            fetched = index.fetched if index is not None else None
        return fetched is not None and fetched < before
