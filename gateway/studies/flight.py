"""A flight: one study on its way from the PACS into the store, watched by whoever waits for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any

from gateway.pacs import Urgency
from gateway.pacs.scu import InstanceRef, StudyRecord
from gateway.runtime import begun_by
from gateway.studies.compare import Differences
from gateway.studies.index import Instance, StudyIndex, rejected
from gateway.studies.listed import series_place
from gateway.studies.outcome import Outcome
from gateway.studies.queue import SeriesQueue
from gateway.studies.statement import StudyStatement
from gateway.studies.waits import Waits

WANTED_AHEAD = 1000
"""Instances that are remembered as wanted though the PACS has not listed them yet."""

IN_VAIN = 3
"""Instances that come once more of a study that is whole, after which it is given up: some PACS send each twice."""


class Flight:
    """What is known of one study while it is being fetched.

    There is one flight a study at a time, however many ask for it (single flight). The fetch writes
    it, the intake adds to it, and answers read it; all on the event loop.
    """

    def __init__(self, study_instance_uid: str) -> None:
        self.study_instance_uid = study_instance_uid
        self.log_ids = begun_by()
        """Who asked for it first: what comes on associations of the PACS's own is told as theirs, too."""
        self.began = time.monotonic()
        """Monotonic seconds."""
        self.stored: dict[str, Instance] = {}
        """By SOP Instance UID: what is in the store, found there or put there."""
        self.expected: dict[str, str] | None = None
        """SOP Instance UID → Series Instance UID, as the PACS lists them; None while that is unknown."""
        self.listed_as: dict[str, InstanceRef] = {}
        """By SOP Instance UID: what the PACS says of each when it lists them."""
        self.listed = asyncio.Event()
        """Set once :attr:`expected` is known to be all that the PACS has of the study."""
        self.senders: frozenset[str] = frozenset()
        """Calling AE titles of the PACS that it is retrieved from; none before that is known."""
        self.sources: frozenset[str] = frozenset()
        """Names of the PACS that it is retrieved from; none before that is known."""
        self.silent: tuple[str, ...] = ()
        """Names of the PACS that may have a part of it and could not be asked, where it is merged of several."""
        self.came: set[str] = set()
        """SOP Instance UIDs that reached the store during this flight."""
        self.brought: dict[str, tuple[int, int]] = {}
        """By method, ``push`` for what came unasked: instances and bytes that reached the store during this flight,
        each as often as it came."""
        self.asked_again: dict[str, int] = {}
        """By method: requests for what an earlier one did not bring."""
        self.taken: set[str] = set()
        """SOP Instance UIDs that are not taken a second time unless they are asked for again."""
        self.begun = asyncio.Event()
        """Set once the first of :attr:`taken` has come."""
        self.came_again = 0
        """How often one of them came all the same."""
        self.in_vain = asyncio.Event()
        """Set once :data:`IN_VAIN` came although all that is listed is stored: what the PACS still sends was brought
        beside."""
        self.noted = 0
        """How often an instance came that is taken in as it is listed, since its file says otherwise, or nothing."""
        self.sop_classes: dict[str, set[str]] = {}
        """Series Instance UID → SOP Class UIDs in it, as far as the PACS lists them."""
        self.waits = Waits()
        """What somebody waits for."""
        self.asked_beside: set[str] = set()
        """SOP Instance UIDs that are being asked for by themselves while the study is on its way."""
        self.series = SeriesQueue()
        """What is still to be asked for, where the study is retrieved series by series."""
        self.expected_count: int | None = None
        """Number of Study Related Instances (0020,1208), where the PACS says it."""
        self.record: StudyRecord | None = None
        """What the PACS that serves it says of the study; None while none has answered."""
        self.statement: StudyStatement | None = None
        """The same, to be compared; that of :attr:`held` while none has answered."""
        self.pacs = ""
        """Name of the PACS that serves it."""
        self.denied: set[str] = set()
        """Names of the PACS that have answered and do not have the study."""
        self.fingerprints: dict[str, str] = {}
        """By SOP Instance UID: of what the PACS's list says of it, where it says something."""
        self.revision = ""
        """Where in the store what comes is put: a place of its own where it replaces something."""
        self.anew = False
        """Whether the whole study is to come once more although it is held."""
        self.gone = False
        """Whether what was held is removed, since no PACS has it any more."""
        self.corrected: tuple[str, ...] = ()
        """The attributes of patient and study that the PACS has changed since what was held had come."""
        self.old_copy: set[str] = set()
        """Objects of what was held that go when this flight has brought what is right."""
        self.old_copy_ends: asyncio.Task[None] | None = None
        """Ends them in time, where they are not to be seen any more."""
        self.differences = Differences()
        """What was held and was not as the PACS has it."""
        self.rejected: frozenset[str] = frozenset()
        """SOP Instance UIDs that are not to be shown, as far as is known by now."""
        self.still_held: StudyIndex | None = None
        """What may be given of :attr:`held` where this flight brings nothing."""
        self.first_arrival: float | None = None
        """Monotonic seconds; when the first instance was in the store; None before that."""
        self.waited_for_store = 0.0
        """Seconds for which instances of it waited, one after the other, since the store took none."""
        self.last_arrival = time.monotonic()
        """Monotonic seconds; when the latest instance came in."""
        self.held: StudyIndex | None = None
        """The index that was there before this flight."""
        self.outgrown = False
        """Whether the study is known not to be what :attr:`held` has."""
        self.puts: dict[str, asyncio.Task[None]] = {}
        """By SOP Instance UID: what was taken in and is not yet in the store."""
        self.asked_for = asyncio.Event()
        """Set once somebody waits for it; a study that is merely pushed to us is not."""
        self.prefetched = False
        """Whether it was begun to have the study before anybody asks."""
        self.may_ask: Callable[[str], bool] = lambda pacs: True
        """Whether a PACS, by its name, may be asked for instances while nobody waits for them."""
        self.grew = False
        """Whether an instance reached the store during this flight."""
        self.refused = asyncio.Event()
        """Set together with :attr:`refusal`."""
        self.refusal: str | None = None
        """Why no further instance can be kept, where that ends the fetch: no room."""
        self.gave_way = False
        """Whether that is because somebody waits for something else."""
        self.refusals: dict[str, str] = {}
        """SOP Instance UID → why the gateway itself did not take it, of what did not come later after all."""
        self.store_failure: str | None = None
        """The latest failure to bring an instance into the store."""
        self._outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._awaited: dict[str, asyncio.Future[Instance]] = {}
        self._wanted: set[str] = set()  # before they were listed
        self._came_in_vain = 0

    def begin_from(self, held: StudyIndex) -> None:
        """What was there before is what this flight adds to."""
        self.held = self.still_held = held
        self.statement = held.statement
        self.stored.update(held.instances)
        self.rejected = rejected(held.instances)
        if self.asked_for.is_set():
            self.taken.update(held.instances)

    def begin_anew(self, revision: str, corrected: tuple[str, ...] = ()) -> None:
        """All is to come once more, beside what is there; where that was *corrected*, it is not given any more."""
        self.stored.clear()
        self.taken.clear()
        self.came.clear()
        self.rejected = frozenset()
        self.revision, self.corrected = revision, corrected
        self.outgrown = True
        if corrected:
            self.held = self.still_held = None

    def drop(self, differences: Differences, revision: str) -> None:
        """What was held and is not as it should be is given no longer; what is still listed is fetched again, and
        put at *revision*."""
        if not differences.any:
            return
        self.differences = differences
        for uid in differences.withdrawn | differences.replaced | differences.readmitted:
            self.stored.pop(uid, None)
            self.taken.discard(uid)
        self.rejected = rejected(self.stored)
        self.outgrown, self.still_held = True, None
        if differences.replaced or differences.readmitted:
            self.revision = self.revision or revision

    def urgency(self) -> Urgency:
        """Who waits for it now."""
        if not self.asked_for.is_set():
            return Urgency.BACKGROUND
        as_it_was = self.held is not None and self.held.complete and not self.outgrown
        return Urgency.REVALIDATION if as_it_was else Urgency.INTERACTIVE

    @property
    def for_nobody(self) -> bool:
        """Whether it was begun to have the study before anybody asks, and nobody has asked since."""
        return self.prefetched and not self.asked_for.is_set()

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None while it is under way."""
        return self._outcome.result() if self._outcome.done() else None

    def end(self, outcome: Outcome) -> None:
        """Ends the flight; everybody who waits for it goes on."""
        if not self._outcome.done():
            self._outcome.set_result(outcome)

    async def ended(self, within: float | None = None) -> Outcome | None:
        """Waits up to *within* seconds for the end; None when it did not come. Never cancels the fetch."""
        await asyncio.wait([self._outcome], timeout=within)
        return self.outcome

    async def listed_or_ended(self, within: float) -> None:
        """Waits up to *within* seconds until every instance is listed, or the flight has ended."""
        listed = asyncio.ensure_future(self.listed.wait())
        either: list[asyncio.Future[Any]] = [self._outcome, listed]
        try:
            await asyncio.wait(either, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        finally:
            listed.cancel()

    async def instance(self, sop_instance_uid: str, within: float) -> Instance | None:
        """Waits for one instance; None where the fetch ends without it.

        Costs a future, however many instances arrive meanwhile. Raises TimeoutError after *within* seconds.
        """
        if sop_instance_uid not in self.stored and self.outcome is None:
            loop = asyncio.get_running_loop()
            arrival = self._awaited.setdefault(sop_instance_uid, loop.create_future())
            either: list[asyncio.Future[Any]] = [arrival, self._outcome]
            done, _ = await asyncio.wait(either, timeout=within, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                raise TimeoutError
        return self.stored.get(sop_instance_uid)

    def expect(self, listed: Iterable[InstanceRef]) -> None:
        """Adds to what the PACS is known to have."""
        if self.expected is None:
            self.expected = {}
        for ref in listed:
            uid, series = ref.sop_instance_uid, ref.series_instance_uid
            self.expected[uid] = series
            self.listed_as[uid] = ref
            classes = self.sop_classes.setdefault(series, set())
            if ref.sop_class_uid:
                classes.add(ref.sop_class_uid)
            if series:
                self.series.add(series, series_place(ref))
            if uid in self._wanted:
                self.series.prefer(series)

    def wanted(self, sop_instance_uid: str) -> None:
        """Somebody waits for this instance: its series goes first, where the study is retrieved series by series; where
        others come past it, it is asked for by itself."""
        if sop_instance_uid in self.stored:
            return
        self.waits.begin(sop_instance_uid, time.monotonic())
        series = (self.expected or {}).get(sop_instance_uid)
        if series is not None:
            self.series.prefer(series)
        elif len(self._wanted) < WANTED_AHEAD:
            self._wanted.add(sop_instance_uid)

    def arrived(self, instance: Instance, by: str = "") -> None:
        """An instance is in the store; *by* is the method that brought it, empty where it came to our Storage SCP."""
        method = by or ("C-MOVE" if self.sources else "push")
        number, size = self.brought.get(method, (0, 0))
        self.brought[method] = number + 1, size + instance.size
        self.stored[instance.sop_instance_uid] = instance
        self.came.add(instance.sop_instance_uid)
        if self.first_arrival is None:
            self.first_arrival = time.monotonic()
        self.refusals.pop(instance.sop_instance_uid, None)
        self.waits.came(instance.sop_instance_uid)
        self.grew = True
        if instance.rejection:
            self.rejected = rejected(self.stored)
        arrival = self._awaited.pop(instance.sop_instance_uid, None)
        if arrival is not None:
            arrival.set_result(instance)

    def again(self) -> None:
        """One of :attr:`taken` came once more."""
        self.came_again += 1
        if self.listed.is_set() and len(self.stored) >= len(self.expected or ()):
            self._came_in_vain += 1
            if self._came_in_vain >= IN_VAIN and not self.missing:
                self.in_vain.set()

    def asks_again(self, series_instance_uid: str | None = None, sop_instance_uids: Iterable[str] = ()) -> None:
        """The PACS is being asked for the study, a series or instances of it: what comes of it is taken, even where
        it came before."""
        self.in_vain.clear()
        self._came_in_vain = 0
        if sop_instance_uids:
            self.taken.difference_update(sop_instance_uids)
        elif series_instance_uid is None:
            self.taken.clear()
        else:
            expected = self.expected or {}
            self.taken = {uid for uid in self.taken if expected.get(uid) != series_instance_uid}

    @property
    def acknowledged(self) -> list[str]:
        """SOP Instance UIDs that were taken in during this flight and are in the store, or on their way there."""
        return [*self.came, *(uid for uid in self.puts if uid not in self.came)]

    @property
    def has_begun_to_come(self) -> bool:
        """Whether any instance was taken in during this flight: asked with each C-MOVE response, so it lists none."""
        return bool(self.came or self.puts)

    @property
    def coming_in(self) -> bool:
        """Whether an instance is taken and not in the store yet."""
        return any(uid not in self.stored for uid in self.taken)

    @property
    def pushed(self) -> bool:
        """Whether all that is known of the study is what was sent to us unasked."""
        held = self.held is not None and not self.held.pacs
        return not self.sources and bool(self.came or self.puts or held)

    @property
    def unlisted(self) -> list[str]:
        """SOP Instance UIDs that came during this flight and are not in the PACS's list, where that is complete."""
        expected = self.expected or {}
        return [uid for uid in self.came if uid not in expected] if self.listed.is_set() else []

    def refuse(self, reason: str) -> None:
        """There is no room: what comes from now on is refused, and the fetch ends."""
        self.refusal = reason
        self.refused.set()

    def give_way(self, reason: str) -> None:
        """Somebody waits for something else: what came stays, and the rest is left for later."""
        self.gave_way = True
        self.refuse(reason)

    def go_on(self) -> None:
        """It gave way, and now somebody waits for it."""
        self.gave_way = False
        self.refusal = None
        self.refused.clear()

    def described(self, *, now: float) -> Collection[Instance]:
        """What is stored, with what the PACS's list says of it; *now* is unix seconds."""
        return [self._described(i, now) for i in self.stored.values()]

    def _described(self, instance: Instance, now: float) -> Instance:
        uid = instance.sop_instance_uid
        fingerprint = self.fingerprints.get(uid, instance.fingerprint)
        since, series = 0.0, instance.listed_series
        if uid not in (self.expected or ()):
            since = instance.unlisted_since or (now if uid in self.came else 0.0)
        elif self.expected is not None:
            series = self.expected[uid] if self.expected[uid] != instance.series_instance_uid else ""
        if (fingerprint, since, series) == (instance.fingerprint, instance.unlisted_since, instance.listed_series):
            return instance
        return instance.with_listing(fingerprint, since, series)

    @property
    def missing(self) -> tuple[str, ...]:
        """SOP Instance UIDs that the PACS lists and the store does not have; empty where nothing is listed."""
        return tuple(uid for uid in self.expected or () if uid not in self.stored)
