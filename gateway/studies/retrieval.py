"""Retrieves one study from one PACS: list, retrieve, compare, ask again, then by the next method.

The list of expected instances is asked for while the first arrive. It is compared with what is in the store, since
status words and counters prove nothing (field notes 1 and 2), and what is missing is asked for again, by instance, then
by the PACS's other methods.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.pacs import Breaker, Claim, Lane, OperationFailed, PacsError, PacsUnreachable, UnknownMoveDestination
from gateway.pacs.scu import Finder, InstanceList, InstanceRef, PacsClient, Retriever, Selection
from gateway.runtime import Clock, step
from gateway.studies.compare import Differences, differences
from gateway.studies.flight import Flight
from gateway.studies.habits import Habits
from gateway.studies.intake import Intake
from gateway.studies.keys import new_revision
from gateway.studies.overtaken import bring_overtaken

log = logging.getLogger(__name__)

TRIES_FOR_MISSING = 2
"""Times that a PACS is asked again, by instance, for what it listed and did not send."""

ASKED_ONE_BY_ONE = 5
"""Instances of a list that may be cut which the PACS is asked for one by one."""

UIDS_A_REQUEST = 200
"""SOP Instance UIDs in one IMAGE-level request; some PACS limit the length of a list in an identifier."""

MOST_IN_VAIN = 16
"""Requests in a row that bring nothing, after which a PACS that refuses what it lists is not asked any more. To find
the one instance that stops a retrieve among a thousand takes ten."""

LOOKS_EVERY = 0.1
"""Seconds after which it is seen whether something still comes."""

TOTAL_LIMIT = 4 * 3600.0
"""Seconds that one retrieve may take, however steadily it delivers."""


@dataclass(frozen=True, slots=True)
class Pacs:
    """A PACS that studies are fetched from."""

    name: str
    client: PacsClient
    sending_ae_titles: frozenset[str]
    """Calling AE titles under which it sends to us."""
    finder: Finder
    retrievers: tuple[Retriever, ...]
    """The first brings the study; the others, in order, what it left missing."""
    habits: Habits = field(default_factory=lambda: Habits(5.0))
    complete: bool = True
    """Whether it has its studies whole; else they are merged with what others have of them."""
    parallel_series: int = 0
    """Series that are asked for at once, each by a request of its own; 0: the study, by one request."""
    stored_through: Breaker | None = None
    """Of the service that it is stored in through, where that may be another than those above."""

    @property
    def silent_for(self) -> float:
        """Seconds since when it does not answer; 0 while it does."""
        return max(breaker.silent_for for breaker in self._breakers)

    @property
    def trouble(self) -> str:
        """For the operator: that it does not answer; empty while it does."""
        return next((breaker.trouble for breaker in self._breakers if breaker.trouble), "")

    @property
    def _breakers(self) -> list[Breaker]:
        asked = [self.finder.breaker, self.client.breaker]
        return asked if self.stored_through is None else [*asked, self.stored_through]


class StudyRetrieval:
    """One study on its way from one PACS."""

    def __init__(self, flight: Flight, pacs: Pacs, intake: Intake, *, decides: bool, clock: Clock) -> None:
        """*decides* says whether the PACS's list can say that something which is held is gone."""
        self._flight = flight
        self._decides = decides
        self._clock = clock
        self._study = Selection(flight.study_instance_uid)
        self._pacs = pacs
        self._intake = intake
        self._in_vain = 0

    async def run(self) -> tuple[InstanceList, PacsError | None]:
        """Brings what can be brought; what the PACS lists, and the last failure."""
        beside = asyncio.create_task(bring_overtaken(self._flight, self._ask_for, self._pacs.habits))
        beside.add_done_callback(_tell_of_failure)
        try:
            return await self._bring_all()
        finally:
            await end_tasks([beside])

    async def _ask_for(self, series: str, uids: Sequence[str]) -> PacsError | None:
        first = self._pacs.retrievers[0]
        return await self._retrieve(
            first, replace(self._study, series_instance_uid=series, sop_instance_uids=tuple(uids))
        )

    async def _bring_all(self) -> tuple[InstanceList, PacsError | None]:
        flight, pacs = self._flight, self._pacs
        first, *others = pacs.retrievers
        failure: PacsError | None = None
        listed = asyncio.create_task(self._list())
        try:
            if not flight.stored:
                failure = await (self._by_series() if pacs.parallel_series else self._retrieve(first, self._study))
            listing = await listed
        finally:
            await end_tasks([listed])
        await self._settle(first, failure)
        by_count = flight.expected_count is not None and flight.expected_count == len(flight.stored)
        not_at_once = flight.held is not None or pacs.parallel_series
        if not (listing.complete or listing.partly or by_count) and not_at_once and _may_pass(failure):
            # It cannot be asked what is new, or what there is: the whole study.
            failure = await self._retrieve(first, self._study)
            await self._settle(first, failure)
            self._drop_what_did_not_come()
        again = [first] * TRIES_FOR_MISSING
        # Where the first method brought nothing at all, another one that there is comes before asking it for parts.
        for retriever in (*others, *again) if others and not flight.grew else (*again, *others):
            if flight.refusal or not (flight.missing or self._seems_to_lack(listing, failure)):
                break
            if retriever is first and not (flight.missing and (_may_pass(failure) or _was_refused(failure))):
                continue
            self._in_vain = 0
            if flight.missing:
                failure = await self._missing(retriever)
            else:
                failure = await self._retrieve(retriever, self._study)
                await self._settle(retriever, failure)
        return listing, failure

    def _seems_to_lack(self, listing: InstanceList, failure: PacsError | None) -> bool:
        """Whether there are signs, without a complete list, that the study is not whole."""
        expected = self._flight.expected_count
        if listing.complete:
            return False
        return failure is not None if expected is None else expected != len(self._flight.stored)

    async def _list(self) -> InstanceList:
        flight = self._flight

        def found(instances: Sequence[InstanceRef]) -> None:
            flight.expect(instances)
            flight.fingerprints.update((i.sop_instance_uid, i.fingerprint) for i in instances if i.fingerprint)

        if self._pacs.habits.cuts_at is not None:
            self._pacs.client.cuts_at = self._pacs.habits.cuts_at
        try:
            with step(log, "listing the study in PACS %s", self._pacs.name):
                listing = await self._pacs.finder.list_instances(
                    flight.study_instance_uid, found, urgency=flight.urgency, counted=flight.expected_count
                )
        except PacsError as e:
            listing = InstanceList((), complete=False, reason=str(e))
        finally:
            flight.series.end()
        count = flight.expected_count or 0
        if listing.complete and len(listing.instances) < count:
            reason = f"PACS {self._pacs.name} lists {len(listing.instances)} of the {count} instances that it counts"
            listing = replace(listing, complete=False, reason=reason, short=True)
        if listing.complete and not await self._compare():
            reason = f"PACS {self._pacs.name} leaves out of its list what it has"
            listing = replace(listing, complete=False, reason=reason, short=True)
        habits = self._pacs.habits
        if listing.cut_at is not None:
            habits.cuts(listing.cut_at)
        if listing.short:
            habits.lists_short()
        elif not listing.instances and listing.reason:
            habits.lists_none()
        elif listing.complete:
            habits.lists()
        if not listing.complete:
            log.warning("no list of the instances of study %s: %s", flight.study_instance_uid, listing.reason)
        else:
            flight.listed.set()
        return listing

    async def _compare(self) -> bool:
        """Drops what a complete list shows to be gone or replaced; False, and nothing is dropped, where the list is
        cut after all."""
        flight = self._flight
        held = flight.held
        if held is None or not self._decides:
            return True
        # Two PACS describe one instance in two ways.
        comparable = flight.fingerprints if held.pacs == self._pacs.name else {}
        found = differences(
            {uid: held.instances[uid] for uid in flight.stored if uid in held.instances},
            flight.expected or {},
            comparable,
            flight.came,
            now=self._clock.now(),
        )
        if found.withdrawn and flight.expected_count is None and not await self._are_gone(found.withdrawn):
            return False
        flight.drop(found, new_revision(self._clock))
        if found.any:
            log.warning(
                "study %s in PACS %s is not what it was: %d instances are gone, %d were replaced, %d are shown again",
                flight.study_instance_uid, self._pacs.name, len(found.withdrawn), len(found.replaced),
                len(found.readmitted),
            )  # fmt: skip
        return True

    async def _are_gone(self, sop_instance_uids: Collection[str]) -> bool:
        """Whether the PACS, asked for some of them one by one, has none: where it gives no count, a list that was cut
        looks like a complete one."""
        held = self._flight.held
        assert held is not None
        for uid in sorted(sop_instance_uids)[:ASKED_ONE_BY_ONE]:
            series = held.instances[uid].series_instance_uid
            try:
                if await self._pacs.finder.holds(self._flight.study_instance_uid, series, uid):
                    return False
            except PacsError as e:
                log.warning("whether study %s has less than it had cannot be told: %s", held.study_instance_uid, e)
                return False
        return True

    def _drop_what_did_not_come(self) -> None:
        """Where a PACS lists nothing, all that it counts has come anew, and more is held, the rest is gone."""
        flight = self._flight
        came = len(flight.came)
        if self._decides and flight.held is not None and came == flight.expected_count and came < len(flight.stored):
            flight.drop(Differences(withdrawn=frozenset(flight.stored.keys() - flight.came)), "")

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
            last_arrival=lambda: flight.last_arrival,
            total_limit=TOTAL_LIMIT,
        )
        try:
            with step(log, "%s of %s", retriever.method, f"series {series}" if series else "the study"):
                await self._until_refused(work)
        except PacsError as e:
            log.warning("%s of study %s: %s", retriever.method, flight.study_instance_uid, e)
            return e
        return None

    async def _until_refused(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs *work*; gives it up, and the association with it, once there is no room for what it brings."""
        task = asyncio.create_task(work)
        refused = asyncio.create_task(self._flight.refused.wait())
        try:
            await asyncio.wait([task, refused], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                await task
        finally:
            await end_tasks([task, refused])

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
        failure = await self._retrieve(retriever, selection)
        await self._settle(retriever, failure)
        left = [uid for uid in uids if uid not in flight.stored]
        self._in_vain = 0 if len(left) < len(uids) else self._in_vain + 1
        done = not left or len(uids) == 1 or flight.refusal or self._in_vain > MOST_IN_VAIN
        if done or not _was_refused(failure):
            return failure
        middle = (len(left) + 1) // 2
        failures = []
        for half in (left[:middle], left[middle:]):
            if half and self._in_vain <= MOST_IN_VAIN:
                failures.append(await self._bring(retriever, series, half))
        return _most_hopeful(failures) or failure

    async def _settle(self, retriever: Retriever, failure: PacsError | None) -> None:
        """Waits until what came is stored; and for what may still come, where the PACS says that it sent all and
        something is missing (some answer a C-MOVE before they send)."""
        flight, habits, ended = self._flight, self._pacs.habits, time.monotonic()
        await self._intake.settle(flight)
        while retriever.comes_apart and failure is None and not flight.refusal and self._lacks():
            if time.monotonic() - max(ended, flight.last_arrival) >= habits.settle:
                break
            await asyncio.sleep(min(LOOKS_EVERY, habits.settle))
            await self._intake.settle(flight)
        late = flight.last_arrival - ended
        if late > LOOKS_EVERY:
            habits.came_late(late)

    def _lacks(self) -> bool:
        """Whether something may still come: it is listed or counted, or nothing says how much there is."""
        flight = self._flight
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
