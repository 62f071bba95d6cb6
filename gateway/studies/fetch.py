"""Fetches a study from the PACS into the store: find, retrieve, reconcile, index last.

There is one fetch a study at a time, however many ask. What arrived and was stored is the truth, not what the PACS
says of it (field notes 1 and 2); :mod:`gateway.studies.retrieval` has the conversation with the PACS.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from gateway.journal import JournalError
from gateway.objects import StoreError
from gateway.pacs import IncomingInstance, PacsError, PacsUnreachable, ahead
from gateway.pacs.scu import InstanceList, InstanceRef, StudyRecord
from gateway.runtime import SYSTEM_CLOCK, Clock, bind, step
from gateway.studies import keys, refusals
from gateway.studies.cache import StudyCache
from gateway.studies.flight import Flight
from gateway.studies.index import StudyIndex, reading_order
from gateway.studies.intake import Intake
from gateway.studies.merge import Merged, name_of
from gateway.studies.outcome import (
    Complete,
    Disputed,
    NotFound,
    NotSent,
    NotStored,
    Outcome,
    Partial,
    Unconfirmed,
    Unreachable,
)
from gateway.studies.retrieval import Pacs, StudyRetrieval, end_tasks
from gateway.studies.said import Said, corrected, in_words, said

log = logging.getLogger(__name__)

EARLIER_ONE_MAY_TAKE = 0.2
"""Seconds that a PACS which has the study still waits for one before it in the list: about as long as two that are
well differ by."""

HELD_ONE_MAY_TAKE = 1.5
"""The same, where that one is the PACS that what is held came from: only it can say that it is so no longer."""

OTHER_PART_MAY_TAKE = 5.0
"""Seconds without an answer after which a PACS that may have a part of a study counts as silent, where another one has
some."""

OLD_COPY_STAYS = 40.0
"""Seconds for which what was corrected is still there for those who have its URLs, where it takes so long to fetch what
is right."""

ABSENT_FOR = 20.0
"""Seconds between the first time that no PACS has a study which is held, and the second, at which it is removed."""

ADOPTS_WITHIN = 60.0
"""Seconds that an instance to be adopted waits for a fetch of its study to end."""

LOOKS_EVERY = 0.1
"""Seconds after which it is seen whether a pushed study still comes in."""

PUSH_QUIET = 5.0
"""Seconds without a new instance after which a pushed study is taken to have been sent."""


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
        self._merges = not all(p.complete for p in pacs)
        self._cache = cache
        self._intake = intake
        self._accept_pushes = accept_pushes
        self._compare_every = compare_every
        self._clock = clock
        self.unlisted = 0
        """Instances that came as part of a study and were not in the PACS's list of it, since the start."""
        self._flights: dict[str, Flight] = {}
        self._tasks: dict[asyncio.Task[None], Flight] = {}
        self._absent: dict[str, float] = {}
        self._unanswered: dict[str, asyncio.Task[StudyRecord | None]] = {}

    def flight(self, study_instance_uid: str) -> Flight | None:
        """The flight of a study that is being fetched now; None where there is none."""
        return self._flights.get(study_instance_uid)

    @property
    def under_way(self) -> int:
        """How many studies are being fetched."""
        return len(self._flights)

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
        # A flight of its own, so that whoever asks for the study meanwhile waits for the new index.
        flight = self._flights[held.study_instance_uid] = Flight(held.study_instance_uid)
        flight.begin_from(held)
        index = held
        self._intake.expect(flight)
        try:
            async with self._cache.pinned(held.study_instance_uid):
                try:
                    await self._intake(incoming)
                finally:
                    self._intake.expect_no_more(flight)
                    await self._intake.settle(flight)
                if flight.grew:
                    index = await self._write_index(flight, complete=held.complete, pacs=held.pacs)
            return flight.grew
        finally:
            del self._flights[held.study_instance_uid]
            flight.end(Complete(index) if index.complete else Partial(index, (), "it was so before"))

    async def stop(self) -> None:
        """Ends every flight: associations are aborted, what waits is answered."""
        await end_tasks(list(self._tasks))
        await end_tasks(list(self._unanswered.values()))

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
                finally:
                    # Before anybody is told: a new flight may begin at once and must not share this one's puts.
                    self._intake.expect_no_more(flight)
                    await self._intake.settle(flight)
                    await self._end_old_copy(flight)
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
            _tell(flight, outcome, took)
            self._on_ended(flight, outcome, took)

    async def _fetch(self, flight: Flight) -> Outcome:
        uid = flight.study_instance_uid
        held = await self._cache.index(uid)
        if held is not None and held.instances:
            flight.begin_from(held)
        await self._let_push_end(flight)
        with step(log, "finding the PACS that has the study"):
            located = await (self._locate_all(flight) if self._merges else self._locate(flight))
        if isinstance(located, NotFound | Unreachable):
            if flight.pushed:
                return await self._keep_pushed(flight, located)
            if flight.held is not None and isinstance(located, NotFound):
                await self._is_absent(flight)
            else:
                self._absent.pop(uid, None)
            return located
        self._absent.pop(uid, None)
        pacs, record = located
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
        if not self._merges:  # an instance that several have is counted more than once
            flight.expected_count = record.instances
        now, decides = said(record), self._decides(flight, pacs)
        names = corrected(flight.said, now) if flight.held is not None else ()
        if names and not decides:
            assert flight.held is not None
            return Unreachable(
                f"PACS {flight.held.pacs}, which the study came from, cannot be asked, and PACS {pacs.name} says "
                f"otherwise of its {in_words(names)}"
            )
        if names or flight.anew:
            await self._begin_anew(flight, pacs, names)
        elif flight.held is not None and self._is_as_it_was(flight.held, flight, now):
            return Complete(flight.held)
        flight.said = now or flight.said
        if flight.held is None or flight.outgrown:
            await self._cache.filling(uid)
        flight.senders = pacs.sending_ae_titles
        flight.sources = flight.sources or frozenset((pacs.name,))
        listing, failure = await StudyRetrieval(flight, pacs, self._intake, decides=decides, clock=self._clock).run()
        if flight.unlisted and not self._accept_pushes:
            await self._remove_unlisted(flight, pacs)
        return await self._conclude(flight, pacs, listing, failure)

    async def _is_absent(self, flight: Flight) -> None:
        """No PACS has the study that is held. Twice said, some time between, it is believed: one that is being
        restored says so, too."""
        uid, now = flight.study_instance_uid, self._clock.monotonic()
        if now - self._absent.setdefault(uid, now) < ABSENT_FOR:
            return
        await self._cache.discard(uid)
        del self._absent[uid]
        flight.held = flight.still_held = None
        log.warning("study %s is in no PACS any more: what was here of it is removed", uid)

    def absent(self) -> list[str]:
        """Studies that are held and that no PACS had, to be asked for once more now."""
        now = self._clock.monotonic()
        return [uid for uid, since in self._absent.items() if now - since >= ABSENT_FOR]

    def in_doubt(self, study_instance_uid: str) -> bool:
        """Whether no PACS had a study that is held, when it was last asked for."""
        return study_instance_uid in self._absent

    async def has_changed(self, study_instance_uid: str) -> bool:
        """Whether a study that is held may not be what its PACS has now, as far as one question tells. Raises
        StoreError."""
        held = await self._cache.index(study_instance_uid)
        if self._merges:
            return held is not None  # which is what a fetch asks, too
        pacs = next((p for p in self._pacs if held is not None and p.name == held.pacs), None)
        if held is None or pacs is None or pacs.trouble or study_instance_uid in self._flights:
            return False
        try:
            record = await pacs.finder.find_study(study_instance_uid, urgency=ahead)
        except PacsError as e:
            log.debug("cannot compare study %s: %s", study_instance_uid, e)
            return False
        if record is None or record.disputed or not held.complete:
            return record is None or record.disputed
        now = said(record)
        same = record.instances in (None, len(held.instances)) and (now is None or held.said in (None, now))
        return not same or not 0 <= self._clock.now() - held.compared < self._compare_every

    def _decides(self, flight: Flight, pacs: Pacs) -> bool:
        """Whether *pacs* can say that what is held is not so any more: not where it only stands in for the one that
        it came from."""
        names = [p.name for p in self._pacs]
        held = flight.held
        if held is None or held.pacs not in names or held.pacs in flight.denied:
            return True
        return names.index(pacs.name) <= names.index(held.pacs)

    def _is_as_it_was(self, held: StudyIndex, flight: Flight, now: Said | None) -> bool:
        """Whether the PACS's one answer proves enough; notes what it shows to be different."""
        same = held.complete and not flight.grew and not flight.silent
        if self._merges:
            same &= now is not None and held.said is not None and now.instances == held.said.instances is not None
        else:
            same &= flight.expected_count == len(held.instances)
        if now is not None and held.said is not None:
            same &= (now.series, now.modalities) == (held.said.series, held.said.modalities)
        flight.outgrown = not same
        return same and 0 <= self._clock.now() - held.compared < self._compare_every

    async def _begin_anew(self, flight: Flight, pacs: Pacs, names: tuple[str, ...]) -> None:
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
            flight.old_copy_ends = asyncio.create_task(self._end_old_copy_in_time(flight))
        flight.begin_anew(keys.new_revision(self._clock), names)

    async def _end_old_copy_in_time(self, flight: Flight) -> None:
        await self._clock.sleep(OLD_COPY_STAYS)
        await self._cache.remove_surely(flight.study_instance_uid, flight.old_copy)

    async def _end_old_copy(self, flight: Flight) -> None:
        """What was corrected goes with the flight, whatever came of it."""
        if flight.old_copy_ends is not None:
            await end_tasks([flight.old_copy_ends])
            if flight.old_copy:
                await self._cache.remove_surely(flight.study_instance_uid, flight.old_copy)

    async def _let_push_end(self, flight: Flight) -> None:
        """A study that is being pushed is left to come by itself, unless somebody asks for it."""
        while not flight.asked_for.is_set():
            still_for = time.monotonic() - flight.last_arrival
            if still_for >= PUSH_QUIET and not flight.puts:
                return
            try:
                async with asyncio.timeout(max(PUSH_QUIET - still_for, 0.1)):
                    await flight.asked_for.wait()
            except TimeoutError:
                continue

    async def _keep_pushed(self, flight: Flight, cause: NotFound | Unreachable) -> Outcome:
        """What was acknowledged is kept, to the last instance, though no PACS says yet what the study has."""
        while True:
            while flight.puts or (flight.coming_in and time.monotonic() - flight.last_arrival < PUSH_QUIET):
                await asyncio.sleep(LOOKS_EVERY)
                await self._intake.settle(flight)
            if not flight.stored:
                return NotStored(flight.refusal or flight.store_failure or "nothing of what was sent reached the store")
            index = await self._write_index(flight, complete=False, pacs="")
            if not flight.puts and len(flight.stored) == len(index.instances):
                return Unconfirmed(index, cause)

    async def _locate(self, flight: Flight) -> tuple[Pacs, StudyRecord] | NotFound | Unreachable:
        """The PACS that serves the study: of those that have it and have answered, the first in the configured order.

        All are asked at once, so that one that is silent or down costs nothing where another one has the study.
        """
        uid = flight.study_instance_uid
        asked = {asyncio.create_task(pacs.finder.find_study(uid, urgency=flight.urgency)): pacs for pacs in self._pacs}
        waiting, failures = set(asked), list[PacsError]()
        found: tuple[Pacs, StudyRecord] | None = None
        patience = EARLIER_ONE_MAY_TAKE
        try:
            while waiting:
                done, waiting = await asyncio.wait(
                    waiting,
                    timeout=None if found is None else patience,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if not done:
                    break
                for task in (t for t in asked if t in done):
                    try:
                        record = task.result()
                    except PacsError as e:
                        failures.append(e)
                        log.warning("cannot ask for study %s: %s", uid, e)
                        continue
                    if record is None:
                        flight.denied.add(asked[task].name)
                    if record is not None and (found is None or self._precedes(asked[task], found[0])):
                        found = asked[task], record
                if found is not None:
                    waiting = {t for t in waiting if self._precedes(asked[t], found[0]) and not asked[t].trouble}
                    of_held = flight.held is not None and flight.held.pacs in {asked[t].name for t in waiting}
                    patience = HELD_ONE_MAY_TAKE if of_held else EARLIER_ONE_MAY_TAKE
            if found is not None:
                return found
            answered = any(not isinstance(e, PacsUnreachable) for e in failures)
            return Unreachable("; ".join(map(str, failures)), answered) if failures else NotFound()
        finally:
            await end_tasks([t for t, pacs in asked.items() if not t.done() and not self._let_end(pacs, t)])

    async def _locate_all(self, flight: Flight) -> tuple[Pacs, StudyRecord] | NotFound | Unreachable:
        """Every PACS that has some of the study, as one, for studies that lie in several."""
        uid = flight.study_instance_uid
        asked = {asyncio.create_task(p.finder.find_study(uid, urgency=flight.urgency)): p for p in self._pacs}
        try:
            waiting = set(asked)
            while waiting:
                done, waiting = await asyncio.wait(
                    waiting, timeout=OTHER_PART_MAY_TAKE, return_when=asyncio.FIRST_COMPLETED
                )
                found = [t for t in asked if t.done() and t.exception() is None and t.result() is not None]
                if found:
                    waiting = {t for t in waiting if done and not asked[t].trouble}
            parts, failures = list[tuple[Pacs, StudyRecord]](), dict[str, str]()
            for task, pacs in asked.items():
                if not task.done():
                    failures[pacs.name] = f"PACS {pacs.name} has not answered"
                elif isinstance(e := task.exception(), PacsError):
                    failures[pacs.name] = str(e)
                elif (record := task.result()) is not None:
                    parts.append((pacs, record))
                else:
                    flight.denied.add(pacs.name)
            for reason in failures.values():
                log.warning("cannot ask for study %s: %s", uid, reason)
            if not parts:
                return Unreachable("; ".join(failures.values())) if failures else NotFound()
            flight.silent = tuple(failures)
            flight.sources = frozenset(pacs.name for pacs, _ in parts)
            merged = Merged(parts, flight.silent)
            return merged.as_pacs(name_of(self._pacs)), merged.record
        finally:
            await end_tasks([t for t, pacs in asked.items() if not t.done() and not self._let_end(pacs, t)])

    def _precedes(self, one: Pacs, other: Pacs) -> bool:
        return self._pacs.index(one) < self._pacs.index(other)

    def _let_end(self, pacs: Pacs, task: asyncio.Task[StudyRecord | None]) -> bool:
        """Leaves a query whose answer is not needed any more to its end, one a PACS: whether it answers at all is to
        be known."""
        if pacs.name in self._unanswered:
            return False

        def ended(task: asyncio.Task[StudyRecord | None]) -> None:
            del self._unanswered[pacs.name]
            if not task.cancelled() and (e := task.exception()) is not None:
                log.warning("%s", e)

        self._unanswered[pacs.name] = task
        task.add_done_callback(ended)
        return True

    async def _remove_unlisted(self, flight: Flight, pacs: Pacs) -> None:
        """Removes what came and is not in the PACS's list: it may be anybody's. A study may grow meanwhile, though, so
        the list is asked for once more."""
        uid = flight.study_instance_uid
        try:
            again = await pacs.finder.list_instances(uid, urgency=flight.urgency, counted=flight.expected_count)
            flight.expect(again.instances)
            for instance_uid in flight.unlisted:
                # A list that is cut without a count looks whole.
                series = flight.stored[instance_uid].series_instance_uid
                if not await pacs.finder.holds(uid, series, instance_uid):
                    break
                flight.expect([InstanceRef(series, instance_uid, "")])
        except PacsError as e:
            log.warning("study %s cannot be listed once more: %s", uid, e)
        for instance_uid in flight.unlisted:
            instance = flight.stored.pop(instance_uid)
            flight.came.discard(instance_uid)
            self.unlisted += 1
            log.error(
                "ALARM: instance %s came from PACS %s as part of study %s, and the PACS does not list it there: it is "
                "removed. Where that PACS sends what it does not list, look into it; else somebody sent it in its name",
                instance_uid, pacs.name, uid,
            )  # fmt: skip
            await self._cache.remove(instance.object_keys(uid))

    async def _conclude(self, flight: Flight, pacs: Pacs, listing: InstanceList, failure: PacsError | None) -> Outcome:
        refused = refusals.summary(flight.refusals)
        # Without a list, the PACS's own count of instances is the next best proof.
        whole = not flight.missing if listing.complete else flight.expected_count == len(flight.stored)
        if flight.still_held is not None and flight.anew and not whole:
            # The copy that is here is the better one.
            brought = {key for i in flight.stored.values() for key in i.object_keys(flight.study_instance_uid)}
            await self._cache.filled(flight.still_held, brought)
            return NotSent(str(failure or f"PACS {pacs.name} did not send all of the study anew"))
        if not flight.stored:
            await self._cache.discard(flight.study_instance_uid)
            if flight.refusal or flight.store_failure:
                return NotStored(flight.refusal or flight.store_failure or "")
            if isinstance(failure, PacsUnreachable):
                return Unreachable(str(failure))
            if refused:
                return NotSent("; ".join([refused, *([str(failure)] if failure else [])]), refused)
            empty = failure is None and not flight.expected and not flight.expected_count
            what = "has the study without any instance" if empty else "has the study and sent none of its instances"
            return NotSent(str(failure or f"PACS {pacs.name} {what}"), empty=empty)
        index = await self._write_index(flight, complete=whole, pacs=pacs.name)
        if whole:
            return Complete(index)
        reason = (
            flight.refusal
            or flight.store_failure
            or (failure and str(failure))
            or ("the PACS did not send all that it lists" if listing.complete else listing.reason)
        )
        return Partial(index, flight.missing, "; ".join([refused, reason] if refused else [reason]), refused)

    async def _write_index(self, flight: Flight, *, complete: bool, pacs: str) -> StudyIndex:
        uid, held, now = flight.study_instance_uid, flight.held, self._clock.now()
        index = StudyIndex(
            uid,
            {i.sop_instance_uid: i for i in reading_order(flight.described(now=now))},
            complete,
            pacs,
            flight.said,
            fetched=held.fetched if held is not None and not flight.anew else now,
            # What lists nothing has its count compared.
            compared=now if complete or held is None else held.compared,
        )
        gone = set(flight.old_copy)
        if held is not None or flight.rejected:
            gone |= held.object_keys() if held is not None else set()
            gone.update(
                key for sop in flight.came & flight.stored.keys() for key in flight.stored[sop].object_keys(uid)
            )
            gone -= index.object_keys()
        if index == held and not gone and not flight.outgrown:
            self._cache.remember(index)  # it is the moment of its comparison that is new
            return index
        with step(log, "writing the index, %d instances", len(index.instances)):
            await self._cache.filled(index, gone)
        flight.old_copy.clear()
        return index


def _tell(flight: Flight, outcome: Outcome, seconds: float) -> None:
    uid = flight.study_instance_uid
    match outcome:
        case Complete(index):
            if flight.refusals:
                log.warning("study %s: %s", uid, refusals.summary(flight.refusals))
            log.info("study %s is complete: %d instances, %.1f s", uid, len(index.instances), seconds)
        case Partial(index, missing, reason):
            log.warning(
                "study %s is partial: %d instances, %d missing, %.1f s: %s",
                uid, len(index.instances), len(missing), seconds, reason,
            )  # fmt: skip
        case Unconfirmed(index, _):
            log.warning(
                "study %s is given as it was sent, %d instances, %.1f s: %s",
                uid, len(index.instances), seconds, outcome.reason,
            )  # fmt: skip
        case NotFound():
            log.info("study %s is in no PACS, %.1f s", uid, seconds)
        case Unreachable(reason) | NotSent(reason) | Disputed(reason) | NotStored(reason):
            log.warning("study %s could not be fetched, %.1f s: %s", uid, seconds, reason)
