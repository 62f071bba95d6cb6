"""Retrieves one study from one PACS: list, retrieve, compare, ask again, then by the next method.

The list of expected instances is asked for while the first arrive. It is compared with what is in the store, since
status words and counters prove nothing (field notes 1 and 2), and what is missing is asked for again, by instance, then
by the PACS's other methods.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway.pacs import (
    Claim,
    Lane,
    OperationFailed,
    PacsError,
    PacsUnreachable,
    UnknownMoveDestination,
    UnreachableMoveDestination,
)
from gateway.pacs.scu import NEARLINE, InstanceList, Retriever, Selection
from gateway.runtime import Clock, span, step
from gateway.studies.flight import Flight
from gateway.studies.intake import Intake
from gateway.studies.overtaken import Beside
from gateway.studies.pacs import Pacs
from gateway.studies.reconcile import Reconciliation

log = logging.getLogger(__name__)

TRIES_FOR_MISSING = 2
"""Times that a PACS is asked again, by instance, for what it listed and did not send."""

UIDS_A_REQUEST = 200
"""SOP Instance UIDs in one IMAGE-level request; some PACS limit the length of a list in an identifier."""

MOST_IN_VAIN = 16
"""Requests in a row that bring nothing, after which a PACS that refuses what it lists is not asked any more. To find
the one instance that stops a retrieve among a thousand takes ten."""

LOOKS_EVERY = 0.1
"""Seconds after which it is seen whether something still comes."""

NEARLINE_WITHIN = 1800.0
"""Seconds that a PACS has to bring a study that it calls near-line, until the first instance comes."""

NEARLINE_AGAIN_IN = 30.0
"""Seconds after which it is asked for such a study again, where it did not wait for it itself."""

TOTAL_LIMIT = 4 * 3600.0
"""Seconds that one retrieve may take, however steadily it delivers."""


class StudyRetrieval:
    """One study on its way from one PACS."""

    def __init__(self, flight: Flight, pacs: Pacs, intake: Intake, *, decides: bool, clock: Clock) -> None:
        """*decides* says whether the PACS's list can say that something which is held is gone."""
        self._flight = flight
        self._reconciliation = Reconciliation(flight, pacs, decides=decides, clock=clock)
        self._study = Selection(flight.study_instance_uid)
        self._pacs = pacs
        self._intake = intake
        self._in_vain = 0
        self._again = False
        """Whether what is asked for now was asked for before."""
        self._unreached: UnreachableMoveDestination | None = None
        """Of the latest C-MOVE that found no way to us."""
        self._began = time.monotonic()

    async def run(self) -> tuple[InstanceList, PacsError | None]:
        """Brings what can be brought; what the PACS lists, and the last failure."""
        beside = Beside(self._flight, self._ask_for, self._pacs.habits)
        tasks = [asyncio.create_task(bring()) for bring in (beside.bring_first, beside.bring_overtaken)]
        for task in tasks:
            task.add_done_callback(_tell_of_failure)
        try:
            return await self._bring_all()
        finally:
            await end_tasks(tasks)

    async def _ask_for(self, series: str, uids: Sequence[str]) -> PacsError | None:
        first = self._pacs.retrievers[0]
        return await self._retrieve(
            first, replace(self._study, series_instance_uid=series, sop_instance_uids=tuple(uids))
        )

    async def _bring_all(self) -> tuple[InstanceList, PacsError | None]:
        flight, pacs = self._flight, self._pacs
        first, *others = pacs.retrievers
        failure: PacsError | None = None
        listed = asyncio.create_task(self._reconciliation.ask())
        self._again = not flight.stored
        try:
            if self._again:
                failure = await (self._by_series() if pacs.parallel_series else self._retrieve(first, self._study))
                while self._is_being_brought() and (_may_pass(failure) or _was_refused(failure)):
                    if await self._comes_by_itself():
                        break
                    failure = await self._retrieve_again(first, self._study)
            listing = await listed
        finally:
            await end_tasks([listed])
        await self._settle(first, failure)
        by_count = flight.expected_count is not None and flight.expected_count == len(flight.stored)
        not_at_once = flight.held is not None or pacs.parallel_series
        known = listing.complete or listing.partly or by_count
        if not known and not_at_once and _may_pass(failure) and self._reached:
            # It cannot be asked what is new, or what there is: the whole study.
            failure = await self._retrieve(first, self._study)
            await self._settle(first, failure, anew=True)
            self._reconciliation.drop_what_did_not_come()
        again = [first] * TRIES_FOR_MISSING
        # Where the first method brought nothing at all, another one that there is comes before asking it for parts.
        for retriever in (*others, *again) if others and not flight.grew else (*again, *others):
            if flight.refusal or not (flight.missing or self._seems_to_lack(listing, failure)):
                break
            may_send = self._reached and (_may_pass(failure) or _was_refused(failure))
            if retriever is first and not (flight.missing and may_send):
                continue
            self._in_vain = 0
            if flight.missing:
                failure = await self._missing(retriever)
            else:
                failure = await self._retrieve_again(retriever, self._study)
                await self._settle(retriever, failure)
            self._again = True
        return listing, failure if self._reached else self._unreached

    @property
    def _reached(self) -> bool:
        """Whether the PACS finds a way to us, as far as is known: else nothing that is asked of it by C-MOVE comes."""
        return self._unreached is None or self._flight.has_begun_to_come

    def _seems_to_lack(self, listing: InstanceList, failure: PacsError | None) -> bool:
        """Whether there are signs, without a complete list, that the study is not whole."""
        expected = self._flight.expected_count
        if listing.complete:
            return False
        return failure is not None if expected is None else expected != len(self._flight.stored)

    async def _by_series(self) -> PacsError | None:
        """Retrieves series by series as the PACS lists them, several at once where it is to.

        One that somebody waits for does not wait for those under way, where the PACS lets us ask for one more.
        """
        at_once = self._pacs.parallel_series
        wanted_only = [False] * at_once + [True] * (self._pacs.client.peer.max_associations > at_once)
        workers = [asyncio.create_task(self._work_off(wanted_only=only)) for only in wanted_only]
        try:
            return _most_hopeful(await asyncio.gather(*workers))
        finally:
            await end_tasks(workers)

    async def _work_off(self, *, wanted_only: bool) -> PacsError | None:
        flight, failures = self._flight, []
        while (series := await flight.series.take(preferred_only=wanted_only)) is not None:
            one = replace(self._study, series_instance_uid=series)
            failure = await self._retrieve(self._pacs.retrievers[0], one, brief=wanted_only)
            failures.append(failure)
            # What is left will be missing, and is then asked for as what is missing is.
            if flight.refusal or isinstance(failure, PacsUnreachable) or not _may_pass(failure):
                flight.series.give_up()
        return _most_hopeful(failures)

    async def _retrieve(self, retriever: Retriever, selection: Selection, *, brief: bool = False) -> PacsError | None:
        """One request; the failure, where the PACS says or shows that it went wrong.

        *brief* asks for it although other studies might want the turn: somebody waits for just this.
        """
        flight, series = self._flight, selection.series_instance_uid
        flight.last_arrival = time.monotonic()
        flight.asks_again(series, selection.sop_instance_uids)
        listed = flight.sop_classes.values() if series is None else [flight.sop_classes.get(series, set())]
        work = retriever.retrieve(
            replace(selection, sop_class_uids=tuple(sorted(set().union(*listed)))),
            turn=Claim(
                Lane.RETRIEVE,
                flight.study_instance_uid,
                flight.urgency,
                brief=brief or bool(selection.sop_instance_uids),
            ),
            deliver=self._intake,
            last_arrival=lambda: time.monotonic() if self._is_being_brought() else flight.last_arrival,
            total_limit=TOTAL_LIMIT,
        )
        try:
            with (
                step(log, "%s of %s", retriever.method, f"series {series}" if series else "the study"),
                span("retrieve"),
            ):
                await self._while_it_helps(work)
        except PacsError as e:
            log.warning("%s of study %s: %s", retriever.method, flight.study_instance_uid, e)
            if isinstance(e, UnreachableMoveDestination):
                self._unreached = e
            return e
        return None

    async def _retrieve_again(self, retriever: Retriever, selection: Selection) -> PacsError | None:
        """The same, for what an earlier request may not have brought."""
        if self._again:
            again = self._flight.asked_again
            again[retriever.method] = again.get(retriever.method, 0) + 1
        return await self._retrieve(retriever, selection)

    def _is_being_brought(self) -> bool:
        """Whether the PACS may still be about to bring a near-line study, from a tape or another archive."""
        flight = self._flight
        near = flight.record is not None and flight.record.availability == NEARLINE
        waits = not flight.has_begun_to_come and flight.refusal is None
        return near and waits and time.monotonic() - self._began < NEARLINE_WITHIN

    async def _comes_by_itself(self) -> bool:
        """Waits a while for a near-line study; whether something of it came without being asked for again."""
        for _ in range(round(NEARLINE_AGAIN_IN / LOOKS_EVERY)):
            if not self._is_being_brought():
                break
            await asyncio.sleep(LOOKS_EVERY)
        return self._flight.has_begun_to_come

    async def _while_it_helps(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs *work*; gives it up, and the association with it, once there is no room for what it brings, and once it
        brings only what is here already: a PACS that is asked for a study from both ends goes on past the middle."""
        flight = self._flight
        task = asyncio.create_task(work)
        ends = [asyncio.create_task(event.wait()) for event in (flight.refused, flight.in_vain)]
        try:
            await asyncio.wait([task, *ends], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                await task
            elif flight.in_vain.is_set():
                log.debug("all of study %s is here: what would come once more is given up", flight.study_instance_uid)
        finally:
            await end_tasks([task, *ends])

    async def _missing(self, retriever: Retriever) -> PacsError | None:
        """Asks for what is missing, whole series where a whole series is."""
        expected = self._flight.expected or {}
        by_series: dict[str, list[str]] = {}
        for uid in self._flight.missing:
            by_series.setdefault(expected[uid], []).append(uid)
        work = []
        for series, uids in by_series.items():
            if series and len(uids) == _count(expected, series):
                work.append(self._bring(retriever, series, uids, whole=True))
                continue
            for at in range(0, len(uids), UIDS_A_REQUEST):
                work.append(self._bring(retriever, series, uids[at : at + UIDS_A_REQUEST]))
        # At once, as far as the PACS's max_associations let them.
        return _most_hopeful(await asyncio.gather(*work))

    async def _bring(
        self, retriever: Retriever, series: str, uids: Sequence[str], *, whole: bool = False
    ) -> PacsError | None:
        """Asks for instances of a series, or for the *whole* of it. Where that was refused, for the halves of what is
        still missing, and so on until each was tried alone: one that the PACS cannot send costs only itself (stock
        Orthanc ends a C-MOVE with C000 at the first that fails)."""
        flight = self._flight
        selection = replace(self._study, series_instance_uid=series, sop_instance_uids=() if whole else tuple(uids))
        failure = await self._retrieve_again(retriever, selection)
        await self._settle(retriever, failure)
        left = [uid for uid in uids if uid not in flight.stored]
        self._in_vain = 0 if len(left) < len(uids) else self._in_vain + 1
        done = not left or len(uids) == 1 or flight.refusal or self._in_vain > MOST_IN_VAIN
        if done or not _was_refused(failure):
            return failure
        middle = (len(left) + 1) // 2
        self._again, failures = True, []
        for half in (left[:middle], left[middle:]):
            if half and self._in_vain <= MOST_IN_VAIN:
                failures.append(await self._bring(retriever, series, half))
        return _most_hopeful(failures) or failure

    async def _settle(self, retriever: Retriever, failure: PacsError | None, *, anew: bool = False) -> None:
        """Waits until what came is stored; and for what may still come, where the PACS says that it sent all and
        something is missing (some answer a C-MOVE before they send); *anew* where what is held was asked for, too."""
        flight, habits, ended = self._flight, self._pacs.habits, time.monotonic()
        taken = set(flight.taken)
        await self._intake.settle(flight)
        while retriever.comes_apart and failure is None and not flight.refusal and self._lacks(anew):
            if time.monotonic() - max(ended, flight.last_arrival) >= habits.settle:
                break
            await asyncio.sleep(min(LOOKS_EVERY, habits.settle))
            await self._intake.settle(flight)
        late = flight.last_arrival - ended
        if late > LOOKS_EVERY:
            habits.came_late(late, flight.taken - taken)

    def _lacks(self, anew: bool) -> bool:
        """Whether something may still come: it is listed or counted, or nothing says how much there is."""
        flight = self._flight
        if anew and flight.expected_count is not None and not flight.missing:
            return len(flight.came) < flight.expected_count
        unknown = not flight.listed.is_set() and flight.expected_count is None
        return unknown or bool(flight.missing) or len(flight.stored) < (flight.expected_count or 0)


def _tell_of_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (e := task.exception()) is not None:
        log.error("what is waited for is not asked for by itself any more", exc_info=e)


def _may_pass(failure: PacsError | None) -> bool:
    """Whether asking once more makes sense."""
    return failure is None or failure.transient


def _was_refused(failure: PacsError | None) -> bool:
    """Whether the PACS tried, and failed at something: what else was asked for with it may be had without it."""
    return isinstance(failure, OperationFailed) and not isinstance(failure, UnknownMoveDestination)


def _most_hopeful(failures: Sequence[PacsError | None]) -> PacsError | None:
    """The failure that stands for all: one that may pass, where there is one."""
    return max((f for f in failures if f is not None), key=_may_pass, default=None)


def _count(expected: Mapping[str, str], series_instance_uid: str) -> int:
    return sum(series == series_instance_uid for series in expected.values())


async def end_tasks(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Ends tasks whose result nobody wants any more, and waits until they have let go of what they held."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
