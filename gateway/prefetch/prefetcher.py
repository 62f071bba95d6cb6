"""Fetches studies before anybody asks for them, below all that somebody waits for.

What is to be fetched stands in the journal (:mod:`gateway.journal.prefetches`). Nothing begins at a PACS while a
radiologist's study comes from it; what has begun gives way at once, keeps what came, and goes on later.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

from gateway.journal import Cause, Journal, JournalError, Prefetch, Task, Transaction
from gateway.journal import prefetches as table
from gateway.objects import StoreError
from gateway.pacs import Urgency
from gateway.prefetch.place import HOUR, Place
from gateway.prefetch.search import Priors
from gateway.prefetch.work import Budget, PrefetchWork
from gateway.runtime import progress, wait_for
from gateway.studies import Complete, Fetcher, Flight, Outcome, Partial, StudyCache

log = logging.getLogger(__name__)

LOOKS_EVERY = 1.0
"""Seconds between two looks at the queue."""

PUSHED_AGAIN_IN = 60.0
"""Seconds after which a study that was pushed, and is not known to be whole, is compared with the PACS again."""

KEPT_FOR = 14 * 86400.0
"""Seconds for which it is remembered what was done; what is seen again after that counts as new."""

PURGES_EVERY = HOUR

DAY = 86400.0


class Prefetcher:
    """Works off what is to be prefetched."""

    def __init__(
        self,
        places: Sequence[Place],
        *,
        journal: Journal,
        fetcher: Fetcher,
        cache: StudyCache,
        budget: Budget,
        priors: Priors,
        noted: Callable[[str, str, bool], None],
        allows: Callable[[str], Awaitable[bool]],
    ) -> None:
        """*noted* is told of what became of a study, in words, and whether that is trouble. *allows* says of a Study
        Instance UID whether anybody may see it at all: the hospital's policy."""
        self._places: Mapping[str, Place] = {place.name: place for place in places}
        self._journal = journal
        self._clock = journal.clock
        self._fetcher = fetcher
        self._budget = budget
        self._looks_for_priors = priors.most > 0
        self._work = PrefetchWork(
            self._places,
            journal=journal,
            fetcher=fetcher,
            cache=cache,
            budget=budget,
            priors=priors,
            noted=noted,
            allows=allows,
        )
        self._running: dict[asyncio.Task[None], Prefetch] = {}
        self._wake = asyncio.Event()
        self._purge_at = float("-inf")
        self._ended: deque[tuple[str, Task, str, Cause, float]] = deque(maxlen=1000)
        self.waits_for: dict[str, str] = {}
        """Why nothing is begun at a PACS now, by its name; empty where something may be."""

    def wake(self) -> None:
        """There is something new on the list."""
        self._wake.set()

    async def announce(
        self, study_instance_uid: str, *, pacs: str = "", cause: Cause = Cause.ORDER, after: float = 0.0
    ) -> bool:
        """A study will be wanted, in so many seconds: for whatever knows of it, such as an order or a schedule. Without
        *pacs* it is asked for at the first. False where it is known already. Raises JournalError."""
        name = pacs or next(iter(self._places))
        wanted = await self._journal.run(
            partial(table.want, study_instance_uid=study_instance_uid, task=Task.STUDY, pacs=name, cause=cause,
                    after=after)
        )  # fmt: skip
        self._wake.set()
        return wanted

    async def now(self, study_instance_uid: str) -> bool:
        """An operator wants a study, whatever windows and budgets say. Raises JournalError."""
        return await self.announce(study_instance_uid, cause=Cause.OPERATOR)

    async def counts(self) -> dict[str, int]:
        """Studies by where they stand; ``opened``: those that were warm for somebody. Raises JournalError."""
        return await self._journal.run(table.counts)

    def ended(self, flight: Flight, outcome: Outcome, seconds: float) -> None:
        """A fetch has ended, whoever began it: what was opened or pushed has priors, and what was pushed may not be
        whole yet."""
        if flight.prefetched:
            return
        pushed = not flight.asked_for.is_set()
        name = next((name for name in (flight.pacs, *sorted(flight.sources)) if name in self._places), "")
        if pushed and not isinstance(outcome, Complete):
            name = name or next(iter(self._places))
            self._ended.append((flight.study_instance_uid, Task.STUDY, name, Cause.PUSH, PUSHED_AGAIN_IN))
        elif isinstance(outcome, Complete | Partial) and name and self._looks_for_priors:
            cause = Cause.PUSH if pushed else Cause.PRIOR
            self._ended.append((flight.study_instance_uid, Task.PRIORS, name, cause, 0.0))
        self._wake.set()

    async def _note_ended(self) -> None:
        """Puts on the list what follows of fetches that have ended. Raises JournalError."""
        if not self._ended:
            return
        batch = list(self._ended)

        def note(c: Transaction) -> None:
            for uid, task, name, cause, after in batch:
                table.want(c, uid, task, pacs=name, cause=cause, after=after)

        await self._journal.run(note)
        for _ in batch:
            self._ended.popleft()

    async def run(self) -> None:
        """Does so until it is cancelled. Raises JournalError."""
        await self._journal.run(table.release)
        try:
            while True:
                progress()
                self._wake.clear()
                try:
                    await self.round()
                except (JournalError, StoreError) as e:
                    log.warning("prefetch waits: %s", e)
                await wait_for(self._wake, LOOKS_EVERY, self._clock)
        finally:
            running = list(self._running)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def round(self) -> None:
        """Begins what may begin. Raises JournalError, StoreError."""
        await self._note_ended()
        await self._work.record_lost()
        now = self._clock.monotonic()
        if now >= self._purge_at:
            self._purge_at = now + PURGES_EVERY
            await self._journal.run(lambda c: table.forget(c, c.now - KEPT_FOR))
        busy = {one.pacs for one in self._running.values()}
        for place in self._places.values():
            if place.name in busy:
                continue
            if self._interactive(place.name):
                self.waits_for[place.name] = "somebody waits for a study"
                continue
            self.waits_for[place.name] = why = await self._held_up(place)
            causes = (Cause.OPERATOR,) if why else tuple(Cause)
            if (taken := await self._journal.run(partial(table.take, pacs=place.name, causes=causes))) is not None:
                self._begin(taken, place)

    def _interactive(self, name: str) -> bool:
        """Whether somebody waits for a study that comes, or may come, from a PACS."""
        return any(
            flight.urgency() is Urgency.INTERACTIVE and (not flight.sources or name in flight.sources)
            for flight in self._fetcher.flights()
        )

    async def _held_up(self, place: Place) -> str:
        """Why nothing is to be begun at a PACS now but what an operator asks for; empty where it may."""
        if not place.windows.open_at(self._clock.now()):
            return "outside its windows"
        if place.trouble():
            return "it does not answer"
        if self._work.finds_no_room:
            return "the cache has no room for what nobody has opened"

        def spent(c: Transaction) -> tuple[int, int]:
            return table.size_since(c, c.now - DAY), table.started_since(c, place.name, c.now - HOUR)

        size, started = await self._journal.run(spent)
        if size >= self._budget.max_bytes:
            return "prefetch.max_bytes of the last 24 hours is used up"
        if started >= place.studies_per_hour:
            return "its studies_per_hour are used up"
        return ""

    def _begin(self, taken: Prefetch, place: Place) -> None:
        task = asyncio.create_task(self._work.do(taken, place), name=f"prefetch {taken.study_instance_uid}")
        self._running[task] = taken

        def over(task: asyncio.Task[None]) -> None:
            del self._running[task]
            self._wake.set()
            if not task.cancelled() and (e := task.exception()) is not None:
                log.error("prefetch of study %s failed", taken.study_instance_uid, exc_info=e)

        task.add_done_callback(over)
