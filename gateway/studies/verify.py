"""Compares what is stored of studies whose URLs work with what their PACS sends now, a few instances at a time.

This is what notices that an instance was replaced under its own UID by one that the PACS lists in the same words: other
pixels, or attributes that no list has. It costs a retrieve, so it is done a few instances a study and comparison, other
ones each time; where the PACS tells more of its instances than its lists do (WADO-RS metadata), all are compared by
that. What differs is believed once the PACS has said it twice; then all of the study comes anew.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from gateway.journal import Journal, JournalError
from gateway.objects import ObjectNotFound, StoreError
from gateway.pacs import PacsError, PacsUnreachable
from gateway.runtime import progress
from gateway.studies.cache import StudyCache
from gateway.studies.correct import was_corrected
from gateway.studies.fetch import Fetcher
from gateway.studies.index import Instance, StudyIndex
from gateway.studies.outcome import Complete
from gateway.studies.pacs import Pacs
from gateway.studies.samples import Sample, Samples

log = logging.getLogger(__name__)

ROUND = 10.0
"""Seconds between two looks for what is due."""

RETRY = 300.0
"""Seconds after which a comparison that could not be made is tried again."""

ENDS_WITHIN = 60.0
"""Seconds that the fetch of a study which was found replaced is waited for, before the next one is looked at."""

MOST_IN_A_ROW = 2
"""Times in a row that one study was found replaced and came anew, after which another time means that the PACS does not
send an instance twice with the same bytes."""

SUSPECTS = 3
"""Instances, of those that the PACS describes otherwise than before, which are compared by their bytes: where all of
these are what they were, its words have changed and not what they are of."""

LARGEST = 256 * 1024 * 1024
"""Bytes of an instance that is retrieved to be compared; a larger one costs the PACS more than it is worth."""


class Verdict(Enum):
    """What a comparison showed."""

    SAME = auto()
    REPLACED = auto()
    UNKNOWN = auto()
    """It could not be made: the instance did not come, came in another transfer syntax, or was fetched meanwhile."""


@dataclass(slots=True)
class _Seen:
    """What is remembered of a study."""

    at: float
    """Unix seconds; when its instances were last compared, or fetched."""
    turn: int = 0
    """Comparisons so far; says whose turn it is."""
    in_a_row: int = 0
    """The last ones of them that found it replaced, and after which it came anew."""
    described: bool = False
    """Whether the PACS was asked what it tells of the instances beyond its lists, since they came."""


class Verification:
    """Looks after the bytes of studies whose URLs work."""

    def __init__(
        self,
        cache: StudyCache,
        fetcher: Fetcher,
        samples: Samples,
        journal: Journal,
        pacs: Sequence[Pacs],
        *,
        every: float,
        instances: int,
        noted: Callable[[str, str], None],
    ) -> None:
        """*every* is seconds between two comparisons of a study, each of so many *instances*, none for 0. *noted* is
        told of a study that was found replaced."""
        self._cache = cache
        self._fetcher = fetcher
        self._samples = samples
        self._journal = journal
        self._clock = journal.clock
        self._pacs = {one.name: one for one in pacs if one.complete}
        self._every = every
        self._instances = instances
        self._noted = noted
        self._seen: dict[str, _Seen] = {}

    async def run(self) -> None:
        """Does so until it is cancelled."""
        while True:
            progress()
            try:
                await self.round()
            except (StoreError, JournalError) as e:
                log.warning("what is stored is not compared with what the PACS sends now: %s", e)
            await self._clock.sleep(ROUND)

    async def round(self) -> None:
        """Compares what is due. Raises StoreError, JournalError."""
        if self._fetcher.merges:
            return
        now = self._clock.now()
        studies = await self._journal.cached_studies()
        watched = [s.study_instance_uid for s in studies if s.urls_valid_until > now]
        for uid in self._seen.keys() - set(watched):
            del self._seen[uid]
        away = set[str]()
        for uid in watched:
            progress()
            seen = self._seen.get(uid)
            if seen is not None and seen.described and not self._is_due(seen):
                continue
            index = await self._cache.index(uid)
            if index is None or not index.complete or self._fetcher.flight(uid) is not None:
                continue
            seen = self._seen.setdefault(uid, _Seen(index.fetched))
            pacs = self._pacs.get(index.pacs)
            if pacs is None or pacs.name in away:
                continue
            try:
                await self._verify(index, pacs, seen)
            except PacsError as e:
                if isinstance(e, PacsUnreachable):
                    away.add(pacs.name)
                seen.turn += 1
                seen.at = self._clock.now() - self._every + RETRY
                log.info("study %s cannot be compared with what PACS %s sends now: %s", uid, pacs.name, e)

    def _is_due(self, seen: _Seen) -> bool:
        return not 0 <= self._clock.now() - seen.at < self._every

    async def _verify(self, index: StudyIndex, pacs: Pacs, seen: _Seen) -> None:
        uid, due = index.study_instance_uid, self._is_due(seen)
        suspect = await self._described_otherwise(index, pacs, compare=due)
        seen.described = True
        if suspect is not None:
            await self._bring_anew(uid, suspect, pacs, seen)
            return
        if not due:
            return
        for instance in self._chosen(index, seen.turn) if pacs.habits.sends_the_same else ():
            progress()
            verdict = await self._verdict(uid, instance, pacs)
            if verdict is Verdict.REPLACED:
                await self._bring_anew(uid, instance, pacs, seen)
                return
            if verdict is Verdict.SAME:
                seen.in_a_row = 0
        seen.turn += 1
        seen.at = self._clock.now()

    async def _described_otherwise(self, index: StudyIndex, pacs: Pacs, *, compare: bool) -> Instance | None:
        """An instance that was replaced, as the PACS tells it beyond its list; None where none was. What it tells of
        those that it told nothing of before is kept. Raises PacsUnreachable, StoreError."""
        held = {i.sop_instance_uid: i for i in index.shown}
        if pacs.details is None or not (compare or any(not i.detail for i in held.values())):
            return None
        uid, series = index.study_instance_uid, sorted({i.series_in_pacs for i in held.values()})
        try:
            told = await pacs.details(uid, series)
            others = [i for u, i in held.items() if i.detail and told.get(u, i.detail) != i.detail] if compare else []
            if others:
                progress()
                again = await pacs.details(uid, series)
                others = [i for i in others if again.get(i.sop_instance_uid) == told[i.sop_instance_uid]]
        except PacsUnreachable:
            raise
        except PacsError as e:
            log.info("PACS %s tells no more of study %s than its lists do: %s", pacs.name, uid, e)
            return None
        if self._fetcher.flight(uid) is not None:
            return None
        if others and not await self._are_the_same(uid, others[:SUSPECTS], pacs):
            return others[0]
        new = {u: d for u, d in told.items() if u in held and not held[u].detail}
        new |= {i.sop_instance_uid: told[i.sop_instance_uid] for i in others}
        if new:
            await self._fetcher.note_details(index, new)
        return None

    async def _are_the_same(self, study_instance_uid: str, suspects: Sequence[Instance], pacs: Pacs) -> bool:
        """Whether all are what their PACS sends. Raises PacsError, StoreError."""
        for instance in suspects:
            progress()
            if not pacs.habits.sends_the_same or not _is_comparable(instance):
                return False
            if await self._verdict(study_instance_uid, instance, pacs) is not Verdict.SAME:
                return False
        return True

    def _chosen(self, index: StudyIndex, turn: int) -> list[Instance]:
        """Those whose turn it is: all in the end, in an order that has nothing to do with how they are read."""
        found = sorted(
            (i for i in index.shown if _is_comparable(i)),
            key=lambda i: hashlib.blake2b(i.sop_instance_uid.encode(), digest_size=8).digest(),
        )
        count = min(self._instances, len(found))
        return [found[(turn * self._instances + n) % len(found)] for n in range(count)]

    async def _verdict(self, study_instance_uid: str, instance: Instance, pacs: Pacs) -> Verdict:
        """Whether the instance is what its PACS sends. Raises PacsError, StoreError."""
        sent = await self._samples.sent(pacs, study_instance_uid, instance)
        if sent is None or self._fetcher.flight(study_instance_uid) is not None:
            return Verdict.UNKNOWN
        try:
            stored = await self._samples.stored(study_instance_uid, instance)
        except ObjectNotFound:
            return Verdict.UNKNOWN  # withdrawn meanwhile
        if not _differ(stored, sent):
            return Verdict.UNKNOWN if stored is None or stored != sent else Verdict.SAME
        again = await self._samples.sent(pacs, study_instance_uid, instance)
        if again is None or again.transfer_syntax_uid != sent.transfer_syntax_uid:
            return Verdict.UNKNOWN
        if again != sent:
            self._believe_no_more(pacs)
            return Verdict.UNKNOWN
        return Verdict.UNKNOWN if self._fetcher.flight(study_instance_uid) is not None else Verdict.REPLACED

    async def _bring_anew(self, uid: str, instance: Instance, pacs: Pacs, seen: _Seen) -> None:
        if seen.in_a_row >= MOST_IN_A_ROW:
            self._believe_no_more(pacs)
            return
        seen.described = False
        log.warning(
            "PACS %s has another instance %s of study %s than it had: it was replaced under its own UID, and the study "
            "is fetched anew",
            pacs.name, instance.sop_instance_uid, uid,
        )  # fmt: skip
        self._noted(uid, f"instance {instance.sop_instance_uid} was replaced under its own UID: fetched anew")
        # The same one is looked at once more soon, since the fetch may not bring it.
        seen.at = self._clock.now() - self._every + RETRY
        flight = await self._fetcher.refetch(uid)
        outcome = await flight.ended(ENDS_WITHIN)
        if outcome is None or isinstance(outcome, Complete):
            seen.in_a_row += 1

    def _believe_no_more(self, pacs: Pacs) -> None:
        log.warning(
            "PACS %s sends an instance with other bytes each time: whether one was replaced under its own UID cannot "
            "be told by them",
            pacs.name,
        )
        pacs.habits.sends_others_each_time()


def _differ(stored: Sample | None, sent: Sample) -> bool:
    """Whether they can be compared, and are not the same."""
    return stored is not None and stored.transfer_syntax_uid == sent.transfer_syntax_uid and stored != sent


def _is_comparable(instance: Instance) -> bool:
    """Whether what is kept of it are the bytes that its PACS sent, and not too many to be fetched for this."""
    return not was_corrected(instance) and max(instance.size, instance.original_size) <= LARGEST
