"""Fetches a study from the PACS into the store: find, retrieve, reconcile, index last.

There is one fetch a study at a time, however many ask. :mod:`gateway.studies.locate` finds the PACS that has it,
:mod:`gateway.studies.retrieval` has the conversation with it, :mod:`gateway.studies.conclusion` says how it ended.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from gateway.journal import JournalError
from gateway.objects import StoreError
from gateway.pacs import IncomingInstance
from gateway.pacs.scu import StudyRecord
from gateway.runtime import SYSTEM_CLOCK, Clock, bind, span, step
from gateway.studies.absence import Absences
from gateway.studies.cache import StudyCache
from gateway.studies.conclusion import Conclusion, log_outcome
from gateway.studies.flight import Flight
from gateway.studies.index import StudyIndex
from gateway.studies.intake import Intake
from gateway.studies.locate import StudyLocator
from gateway.studies.old_copies import OldCopies
from gateway.studies.outcome import Complete, Disputed, NotFound, NotStored, Outcome, Partial, Unreachable
from gateway.studies.pacs import Pacs
from gateway.studies.pushes import keep_unconfirmed, wait_until_sent
from gateway.studies.retrieval import StudyRetrieval, end_tasks
from gateway.studies.statement import StudyStatement, corrected, in_words, statement_of

log = logging.getLogger(__name__)

ADOPTS_WITHIN = 60.0
"""Seconds that an instance to be adopted waits for a fetch of its study to end."""

OnEnded = Callable[[Flight, Outcome, float], None]


class Fetcher:
    """Brings studies into the cache, each at most once at a time."""

    def __init__(
        self,
        pacs: Sequence[Pacs],
        cache: StudyCache,
        intake: Intake,
        *,
        accept_pushes: bool = False,
        compare_every: float = 3600.0,
        clock: Clock = SYSTEM_CLOCK,
        on_ended: OnEnded = lambda *_: None,
    ) -> None:
        """*pacs* are asked at once; of those that have a study and answer, the first in this order serves it.
        *accept_pushes* says whether a PACS may send what it does not list yet. *compare_every* is seconds after which
        a study is compared instance by instance even where the PACS counts as many as before. *on_ended* is told of
        each flight, how it ended, and after how many seconds; it must not wait."""
        self._on_ended = on_ended
        self._pacs = pacs
        self._locator = StudyLocator(pacs)
        self._cache = cache
        self._intake = intake
        self._accept_pushes = accept_pushes
        self._compare_every = compare_every
        self._clock = clock
        self._conclusion = Conclusion(cache, clock)
        self._old_copies = OldCopies(cache, intake, clock)
        self.absences = Absences(cache, clock)
        self._flights: dict[str, Flight] = {}
        self._tasks: dict[asyncio.Task[None], Flight] = {}

    def flight(self, study_instance_uid: str) -> Flight | None:
        """The flight of a study that is being fetched now; None where there is none."""
        return self._flights.get(study_instance_uid)

    @property
    def unlisted(self) -> int:
        """Instances that came as part of a study and were not in the PACS's list of it, since the start."""
        return self._conclusion.unlisted

    @property
    def under_way(self) -> int:
        """How many studies are being fetched."""
        return len(self._flights)

    @property
    def merges(self) -> bool:
        """Whether studies are merged of what several PACS have."""
        return self._locator.merges

    def flights(self) -> list[Flight]:
        """The studies that are being fetched, the first begun first."""
        return list(self._flights.values())

    def fetch(self, study_instance_uid: str) -> Flight:
        """The flight of a study: the one under way, or a new one. It continues when nobody waits for it any more."""
        flight = self._flights.get(study_instance_uid)
        if flight is None:
            flight = self._begin(study_instance_uid)
        flight.asked_for.set()
        return flight

    def prefetch(self, study_instance_uid: str, *, may_ask: Callable[[str], bool]) -> Flight:
        """The flight of a study that is to be here before anybody asks: the one under way, or a new one, which goes
        behind all that somebody waits for. *may_ask* says whether a PACS, by its name, may be asked for it now."""
        flight = self._flights.get(study_instance_uid)
        if flight is None:
            flight = self._begin(study_instance_uid)
            flight.prefetched, flight.may_ask = True, may_ask
        return flight

    async def refetch(self, study_instance_uid: str) -> Flight:
        """The flight of a study that comes anew, once one under way has ended. What is held is given until it is
        here."""
        while (flight := self._flights.get(study_instance_uid)) is not None:
            await flight.ended()
        flight = self._begin(study_instance_uid)
        flight.anew = True
        flight.asked_for.set()
        return flight

    def pushed(self, study_instance_uid: str, calling_ae_title: str) -> Flight | None:
        """A flight for a study that a PACS of ours sends unasked; compared with the PACS once nothing more arrives."""
        if not any(calling_ae_title in pacs.sending_ae_titles for pacs in self._pacs):
            return None
        return self._flights.get(study_instance_uid) or self._begin(study_instance_uid)

    async def adopt(self, study_instance_uid: str, incoming: IncomingInstance) -> bool:
        """Adds an instance that a PACS now has, because we stored it there, to its study in the cache.

        False where it is not added: the study is not cached, or is being fetched for long. *incoming* is taken
        over. Raises StoreError.
        """
        held = None
        while (flight := self._flights.get(study_instance_uid)) is not None or held is None:
            if flight is not None and await flight.ended(ADOPTS_WITHIN) is None:
                break
            held = await self._cache.index(study_instance_uid)
            if held is None:
                break
        if held is None or flight is not None:
            incoming.body.close()
            return False
        return await self._adopt(held, incoming)

    async def _adopt(self, held: StudyIndex, incoming: IncomingInstance) -> bool:
        uid = held.study_instance_uid
        async with self._cache.pinned(uid):
            if await self._cache.index(uid) != held or uid in self._flights:  # it was evicted or asked for just before
                incoming.body.close()
                return False
            # A flight of its own, so that whoever asks for the study meanwhile waits for the new index.
            flight = self._flights[uid] = Flight(uid)
            flight.begin_from(held)
            index = held
            self._intake.expect(flight)
            try:
                try:
                    await self._intake(incoming)
                finally:
                    self._intake.expect_no_more(flight)
                    await self._intake.settle(flight)
                if flight.grew:
                    index = await self._conclusion.write_index(flight, complete=held.complete, pacs=held.pacs)
                return flight.grew
            finally:
                del self._flights[uid]
                flight.end(Complete(index) if index.complete else Partial(index, (), "it was so before"))

    async def note_details(self, held: StudyIndex, details: Mapping[str, str]) -> None:
        """Keeps with what is *held* what the PACS tells of it beyond its list, by SOP Instance UID; nothing where it is
        being fetched, or is not what is held any more. Raises StoreError."""
        uid = held.study_instance_uid
        if uid in self._flights or await self._cache.index(uid) != held or uid in self._flights:
            return
        # A flight of its own, so that whoever asks for the study meanwhile waits, and none writes another index.
        flight = self._flights[uid] = Flight(uid)
        flight.begin_from(held)
        try:
            async with self._cache.pinned(uid):
                now = await self._cache.index(uid)  # it may have been evicted just before
                if now == held:
                    instances = {u: i._replace(detail=details.get(u, i.detail)) for u, i in now.instances.items()}
                    await self._cache.filled(replace(now, instances=instances))
        finally:
            del self._flights[uid]
            flight.end(Complete(held) if held.complete else Partial(held, (), "it was so before"))

    async def stop(self) -> None:
        """Ends every flight: associations are aborted, what waits is answered."""
        await end_tasks(list(self._tasks))
        await self._locator.stop()

    def _begin(self, study_instance_uid: str) -> Flight:
        flight = self._flights[study_instance_uid] = Flight(study_instance_uid)
        self._intake.expect(flight)
        task = asyncio.create_task(self._run(flight), name=f"fetch {study_instance_uid}")
        self._tasks[task] = flight
        task.add_done_callback(lambda t: self._tasks.pop(t, None))
        return flight

    async def _run(self, flight: Flight) -> None:
        bind(study=flight.study_instance_uid)
        began = time.monotonic()
        outcome: Outcome = Unreachable("the gateway is shutting down")
        try:
            async with self._cache.pinned(flight.study_instance_uid):
                try:
                    outcome = await self._fetch(flight)
                    if flight.gave_way and flight.asked_for.is_set():
                        flight.go_on()
                        outcome = await self._fetch(flight)
                finally:
                    # Before anybody is told: a new flight may begin at once and must not share this one's puts.
                    self._intake.expect_no_more(flight)
                    await self._intake.settle(flight)
                    await self._old_copies.end(flight)
        except (StoreError, JournalError) as e:
            self._cache.unsettled(flight.study_instance_uid)
            outcome = NotStored(str(e))
        except Exception:
            if flight.revision:
                self._cache.unsettled(flight.study_instance_uid)
            log.exception("fetch of study %s failed", flight.study_instance_uid)
            outcome = NotStored("an error of the gateway itself; its log has the details")
        finally:
            del self._flights[flight.study_instance_uid]
            flight.end(outcome)
            took = time.monotonic() - began
            log_outcome(flight, outcome, took)
            self._on_ended(flight, outcome, took)

    async def _fetch(self, flight: Flight) -> Outcome:
        uid = flight.study_instance_uid
        held = await self._cache.index(uid)
        if held is not None and held.instances:
            flight.begin_from(held)
        await wait_until_sent(flight)
        with step(log, "finding the PACS that has the study"), span("find"):
            located = await self._locator.locate(flight)
        if isinstance(located, NotFound | Unreachable):
            if flight.pushed:
                return await keep_unconfirmed(flight, located, self._intake, self._conclusion)
            if flight.held is not None and isinstance(located, NotFound):
                await self.absences.note(flight)
            else:
                self.absences.forget(uid)
            return located
        self.absences.forget(uid)
        pacs, record = located
        if flight.for_nobody and not all(flight.may_ask(name) for name in flight.sources or (pacs.name,)):
            return Unreachable(f"PACS {pacs.name} is to be left alone now")
        if record.disputed:
            if flight.held is not None:
                await self._intake.settle(flight)
                await self._cache.discard(uid)
                flight.held = flight.still_held = None
            return Disputed(
                f"PACS {pacs.name} has study {uid} under several patient IDs: it is not shown until that is put right "
                "there"
            )
        flight.record = record
        flight.pacs = pacs.name
        if not self._locator.merges:  # an instance that several have is counted more than once
            flight.expected_count = record.instances
        now, decides = statement_of(record), self._locator.decides(flight, pacs)
        names = corrected(flight.statement, now) if flight.held is not None else ()
        if names and not decides:
            assert flight.held is not None
            return Unreachable(
                f"PACS {flight.held.pacs}, which the study came from, cannot be asked, and PACS {pacs.name} says "
                f"otherwise of its {in_words(names)}"
            )
        if names or flight.anew:
            await self._old_copies.begin_anew(flight, pacs, names)
        elif flight.held is not None and self._is_as_it_was(flight.held, flight, now):
            return Complete(flight.held)
        flight.statement = now or flight.statement
        if flight.held is None or flight.outgrown:
            await self._cache.filling(uid)
        flight.senders = pacs.sending_ae_titles
        flight.sources = flight.sources or frozenset((pacs.name,))
        listing, failure = await StudyRetrieval(flight, pacs, self._intake, decides=decides, clock=self._clock).run()
        if flight.unlisted:
            listing = await self._conclusion.look_into_unlisted(flight, pacs, listing, keep=self._accept_pushes)
        return await self._conclusion.conclude(flight, pacs, listing, failure)

    def differs(self, held: StudyIndex, record: StudyRecord | None) -> bool:
        """Whether a study that is *held* may not be what its PACS has now, as far as its *record* there tells; None
        where it has none."""
        if record is None or record.disputed or not held.complete:
            return record is None or record.disputed
        now = statement_of(record)
        same = record.instances in (None, len(held.instances)) and (now is None or held.statement in (None, now))
        return not same or not 0 <= self._clock.now() - held.compared < self._compare_every

    def _is_as_it_was(self, held: StudyIndex, flight: Flight, now: StudyStatement | None) -> bool:
        """Whether the PACS's one answer proves enough; notes what it shows to be different."""
        same = held.complete and not flight.grew and not flight.silent
        if self._locator.merges:
            before = held.statement
            same &= now is not None and before is not None and now.instances == before.instances is not None
        else:
            same &= flight.expected_count == len(held.instances)
        if now is not None and held.statement is not None:
            same &= (now.series, now.modalities) == (held.statement.series, held.statement.modalities)
            # What the access policy goes by is kept as the PACS says it now.
            same &= (now.institution, now.status) == (held.statement.institution, held.statement.status)
        flight.outgrown = not same
        return same and 0 <= self._clock.now() - held.compared < self._compare_every
