"""Fetches studies before anybody asks for them, below all that somebody waits for.

What is to be fetched stands in the journal (:mod:`gateway.journal.prefetches`). Nothing begins at a PACS while a
radiologist's study comes from it; what has begun gives way at once, keeps what came, and goes on later.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from gateway.journal import Cause, Journal, JournalError, Prefetch, PrefetchState, StudyState, Task, Transaction
from gateway.journal import prefetches as table
from gateway.objects import StoreError
from gateway.pacs import Urgency
from gateway.prefetch.place import HOUR, Place
from gateway.prefetch.search import Priors
from gateway.runtime import GatewayError, bind, progress, wait_for
from gateway.studies import Complete, Fetcher, Flight, NotFound, Outcome, Partial, StudyCache

log = logging.getLogger(__name__)

LOOKS_EVERY = 1.0
"""Seconds between two looks at the queue."""

GIVES_WAY_WITHIN = 0.1
"""Seconds after which it is seen that somebody waits for something, while anything is under way."""

PAUSES = (60.0, 300.0, 1800.0, 7200.0)
"""Seconds before what failed is tried again; after that it is given up."""

PUSHED_AGAIN_IN = 60.0
"""Seconds after which a study that was pushed, and is not known to be whole, is compared with the PACS again."""

NO_ROOM_FOR = 600.0
"""Seconds for which nothing is begun once the cache had no room."""

KEPT_FOR = 14 * 86400.0
"""Seconds for which it is remembered what was done; what is seen again after that counts as new."""

PURGES_EVERY = HOUR

DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent."""

    max_bytes: int
    """In 24 hours."""
    in_cache: int
    """Bytes that studies which nobody has opened may take in the cache."""


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
        self._cache = cache
        self._budget = budget
        self._priors = priors
        self._noted = noted
        self._allows = allows
        self._running: dict[asyncio.Task[None], Prefetch] = {}
        self._wake = asyncio.Event()
        self._full_until = self._purge_at = float("-inf")
        self._lost: set[tuple[str, Task]] = set()  # whose end the journal could not take
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
        elif isinstance(outcome, Complete | Partial) and name and self._priors.most:
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
        for uid, task in list(self._lost):
            again = partial(table.later, study_instance_uid=uid, task=task, after=PAUSES[0], counts=True)
            await self._journal.run(partial(again, reason="how it ended was not recorded"))
            self._lost.discard((uid, task))
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

    def _give_way(self, flight: Flight) -> None:
        may = flight.for_nobody and not flight.refused.is_set()
        if may and any(self._comes_from(other, flight) for other in self._fetcher.flights()):
            flight.give_way("somebody waits for another study")

    @staticmethod
    def _comes_from(other: Flight, flight: Flight) -> bool:
        """Whether somebody waits for *other*, which comes from where *flight* does."""
        return other.urgency() is Urgency.INTERACTIVE and bool(other.sources & flight.sources)

    async def _held_up(self, place: Place) -> str:
        """Why nothing is to be begun at a PACS now but what an operator asks for; empty where it may."""
        if not place.windows.open_at(self._clock.now()):
            return "outside its windows"
        if place.trouble():
            return "it does not answer"
        if self._clock.monotonic() < self._full_until:
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
        task = asyncio.create_task(self._do(taken, place), name=f"prefetch {taken.study_instance_uid}")
        self._running[task] = taken

        def over(task: asyncio.Task[None]) -> None:
            del self._running[task]
            self._wake.set()
            if not task.cancelled() and (e := task.exception()) is not None:
                log.error("prefetch of study %s failed", taken.study_instance_uid, exc_info=e)

        task.add_done_callback(over)

    async def _do(self, taken: Prefetch, place: Place) -> None:
        bind(study=taken.study_instance_uid)
        try:
            if taken.task is Task.PRIORS:
                await self._look_for_priors(taken, place)
            else:
                await self._fetch(taken, place)
        except JournalError as e:
            self._not_recorded(taken, e)
        except GatewayError as e:
            try:
                await self._try_again(taken, str(e))
            except JournalError as failure:
                self._not_recorded(taken, failure)

    def _not_recorded(self, taken: Prefetch, e: JournalError) -> None:
        log.warning("how the prefetch of study %s ended is not recorded yet: %s", taken.study_instance_uid, e)
        self._lost.add((taken.study_instance_uid, taken.task))

    async def _look_for_priors(self, taken: Prefetch, place: Place) -> None:
        found = await self._priors.find(taken.study_instance_uid, place)
        await self._journal.run(lambda c: self._priors_found(c, taken, found))

    @staticmethod
    def _priors_found(c: Transaction, taken: Prefetch, found: Sequence[tuple[str, str, int | None]]) -> None:
        for uid, pacs, instances in found:
            table.want(
                c, uid, Task.STUDY, pacs=pacs, cause=Cause.PRIOR, rule=f"prior of {taken.study_instance_uid}"[:64],
                instances=instances,
            )  # fmt: skip
        table.end(c, taken.study_instance_uid, Task.PRIORS, PrefetchState.DONE, f"{len(found)} priors")

    async def _fetch(self, taken: Prefetch, place: Place) -> None:
        uid = taken.study_instance_uid
        held = await self._journal.cached_study(uid)
        ready = held is not None and held.state is StudyState.READY
        if held is not None and ready and held.instances == taken.instances and taken.cause is not Cause.OPERATOR:
            await self._over(taken, PrefetchState.DONE, "it was here already")
            return
        if not await self._allows(uid):
            await self._over(taken, PrefetchState.GIVEN_UP, "the access policy forbids it")
            return
        await self._make_room()
        operator = taken.cause is Cause.OPERATOR
        flight = self._fetcher.prefetch(uid, may_ask=lambda name: operator or self._may_ask(name))
        place.spent.studies += 1
        while (outcome := await flight.ended(GIVES_WAY_WITHIN)) is None:
            self._give_way(flight)
        size = sum(flight.stored[sop].size for sop in flight.came if sop in flight.stored)
        place.spent.size += size
        await self._conclude(taken, flight, outcome, size)

    def _may_ask(self, name: str) -> bool:
        place = self._places.get(name)
        return place is not None and place.windows.open_at(self._clock.now())

    async def _conclude(self, taken: Prefetch, flight: Flight, outcome: Outcome, size: int) -> None:
        uid = taken.study_instance_uid
        if not flight.gave_way and flight.asked_for.is_set():
            await self._over(taken, PrefetchState.OVERTAKEN, "somebody opened it first", size=size)
        elif isinstance(outcome, Complete):
            await self._done(taken, outcome, size)
        else:
            await self._journal.run(partial(table.came, study_instance_uid=uid, size=size))
            if flight.gave_way:
                later = partial(table.later, study_instance_uid=uid, task=taken.task, after=0.0, counts=False)
                await self._journal.run(partial(later, reason="gave way to what somebody waits for"))
            elif flight.refusal:
                self._full_until = self._clock.monotonic() + NO_ROOM_FOR
                await self._try_again(taken, flight.refusal)
            else:
                await self._try_again(taken, _why(outcome))

    async def _done(self, taken: Prefetch, outcome: Complete, size: int) -> None:
        uid, by = taken.study_instance_uid, f"by rule {taken.rule}" if taken.rule else f"by {taken.cause.value}"
        text = f"prefetched {by}" if size else f"prefetch {by}: it was here already"

        def note(c: Transaction) -> None:
            table.end(c, uid, Task.STUDY, PrefetchState.DONE, text, size=size)
            if taken.cause is not Cause.PRIOR and self._priors.most:
                table.want(c, uid, Task.PRIORS, pacs=taken.pacs, cause=Cause.PRIOR)

        await self._journal.run(note)
        if size:
            self._noted(uid, f"{text}: {len(outcome.index.instances)} instances, {size / 1e6:.1f} MB", False)

    async def _over(self, taken: Prefetch, state: PrefetchState, reason: str, *, size: int = 0) -> None:
        uid, task = taken.study_instance_uid, taken.task
        await self._journal.run(lambda c: table.end(c, uid, task, state, reason, size=size))

    async def _try_again(self, taken: Prefetch, reason: str) -> None:
        uid, task = taken.study_instance_uid, taken.task
        if taken.attempts > len(PAUSES):
            await self._over(taken, PrefetchState.GIVEN_UP, reason)
            self._noted(uid, f"prefetch is given up: {reason}", True)
            return
        pause = PAUSES[taken.attempts - 1]
        log.info("prefetch of study %s is tried again in %.0f s: %s", uid, pause, reason)
        await self._journal.run(lambda c: table.later(c, uid, task, reason, after=pause, counts=True))

    async def _make_room(self) -> None:
        """Lets go of what was prefetched longest ago and nobody has opened, where all of that takes more than its
        share. Raises StoreError, JournalError."""
        unopened = [s for s in await self._journal.cached_studies() if not s.opened]
        over = sum(study.size for study in unopened) - self._budget.in_cache
        for study in unopened:
            if over <= 0:
                return
            if await self._cache.drop(study.study_instance_uid):
                over -= study.size
                log.info("study %s made room: it was prefetched and not opened", study.study_instance_uid)


def _why(outcome: Outcome) -> str:
    match outcome:
        case NotFound():
            return "no PACS has it"
        case Complete():
            return "it is complete"
        case _:
            return outcome.reason
