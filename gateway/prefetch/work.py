"""One entry of the list of what is to be prefetched: a study is fetched, or its priors are looked for, and how that
ended is recorded."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from gateway.journal import Cause, Journal, JournalError, Prefetch, PrefetchState, StudyState, Task, Transaction
from gateway.journal import prefetches as table
from gateway.pacs import Urgency
from gateway.prefetch.place import Place
from gateway.prefetch.search import Priors
from gateway.runtime import GatewayError, bind
from gateway.studies import Complete, Fetcher, Flight, NotFound, Outcome, StudyCache

log = logging.getLogger(__name__)

GIVES_WAY_WITHIN = 0.1
"""Seconds after which it is seen that somebody waits for something, while anything is under way."""

PAUSES = (60.0, 300.0, 1800.0, 7200.0)
"""Seconds before what failed is tried again; after that it is given up."""

NO_ROOM_FOR = 600.0
"""Seconds for which nothing is begun once the cache had no room."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent."""

    max_bytes: int
    """In 24 hours."""
    in_cache: int
    """Bytes that studies which nobody has opened may take in the cache."""


class PrefetchWork:
    """Does what an entry asks for."""

    def __init__(
        self,
        places: Mapping[str, Place],
        *,
        journal: Journal,
        fetcher: Fetcher,
        cache: StudyCache,
        budget: Budget,
        priors: Priors,
        noted: Callable[[str, str, bool], None],
        allows: Callable[[str], Awaitable[bool]],
    ) -> None:
        """As :class:`Prefetcher`; *places* are by their names."""
        self._places = places
        self._journal = journal
        self._clock = journal.clock
        self._fetcher = fetcher
        self._cache = cache
        self._budget = budget
        self._priors = priors
        self._noted = noted
        self._allows = allows
        self._full_until = float("-inf")
        self._lost: set[tuple[str, Task]] = set()  # whose end the journal could not take

    @property
    def finds_no_room(self) -> bool:
        """Whether the cache had no room a while ago."""
        return self._clock.monotonic() < self._full_until

    async def record_lost(self) -> None:
        """Puts back on the list what ended while the journal took nothing. Raises JournalError."""
        for uid, task in list(self._lost):
            again = partial(table.later, study_instance_uid=uid, task=task, after=PAUSES[0], counts=True)
            await self._journal.run(partial(again, reason="how it ended was not recorded"))
            self._lost.discard((uid, task))

    async def do(self, taken: Prefetch, place: Place) -> None:
        """Does so, and leaves nothing of it running."""
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

    def _give_way(self, flight: Flight) -> None:
        may = flight.for_nobody and not flight.refused.is_set()
        if may and any(self._comes_from(other, flight) for other in self._fetcher.flights()):
            flight.give_way("somebody waits for another study")

    @staticmethod
    def _comes_from(other: Flight, flight: Flight) -> bool:
        """Whether somebody waits for *other*, which comes from where *flight* does."""
        return other.urgency() is Urgency.INTERACTIVE and bool(other.sources & flight.sources)

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
