"""What was learnt of a PACS by asking it: kept over restarts, used from then on, and shown by ``check``."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial

from gateway.journal import Journal, JournalError, marks
from gateway.pacs.scu import InstanceList
from gateway.runtime import SYSTEM_CLOCK, Clock

log = logging.getLogger(__name__)

LONGEST_SETTLE = 60.0
"""Seconds that are waited for late instances at most, however late one came."""

KEPT_FOR = 30 * 86400.0
"""Seconds for which a habit counts that was not seen again: a PACS is mended, or replaced, some day."""

A_DAY = 86400.0
"""Seconds for one that leaves something unnoticed while it is believed."""

DOUBTFUL_FOR = 3600.0
"""Seconds for one that is costly to believe in vain, and quickly seen again."""

LATE, CUT, SHORT, NONE, WHOLE, SINGLE, VARIES = "late", "cut", "short", "none", "whole", "single", "varies"
TIMELESS = "timeless"

_TOLD: Mapping[str, Callable[[float], str]] = {
    LATE: lambda s: f"answers a C-MOVE before its instances have come; {s:g} s are waited for them",
    CUT: lambda n: f"lists {n:g} instances to a query at most; the others are asked for by Instance Number",
    SHORT: lambda _: "lists fewer instances than it counts; what arrives is compared with its count",
    WHOLE: lambda _: "sends no instances by themselves (IMAGE level) while it sends their study",
    SINGLE: lambda _: "answers no query for several studies at once; each is asked for by itself",
    VARIES: lambda _: "sends an instance with other bytes each time; one that was replaced is not known by them",
    TIMELESS: lambda _: (
        "takes a Study Time that is asked for for the whole day; it is asked for new studies less often"
    ),
    NONE: lambda _: "lists no instances (IMAGE level); what arrives is compared with its count",
}


@dataclass(frozen=True, slots=True)
class _Seen:
    value: float
    at: float
    """Unix seconds; when it was last seen."""


class Habits:
    """The habits of one PACS."""

    def __init__(self, settle: float, *, pacs: str = "", clock: Clock = SYSTEM_CLOCK) -> None:
        """*settle* is seconds: how long after its last word instances may still come. *pacs* says which it is: another
        one under its name has habits of its own."""
        self._settle = settle
        self._pacs = pacs
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self.on_learnt: Callable[[], None] = lambda: None
        """Called when something was learnt that is to be kept."""

    def _value(self, habit: str) -> float | None:
        seen = self._seen.get(habit)
        kept_for = {WHOLE: DOUBTFUL_FOR, TIMELESS: DOUBTFUL_FOR, VARIES: A_DAY}.get(habit, KEPT_FOR)
        return seen.value if seen is not None and self._clock.now() - seen.at < kept_for else None

    def _learn(self, habit: str, value: float = 0.0) -> None:
        self._seen[habit] = _Seen(value, self._clock.now())
        self.on_learnt()

    @property
    def settle(self) -> float:
        """Seconds of silence after its last word that are waited for what still comes."""
        return max(self._settle, self._value(LATE) or 0.0)

    @property
    def cuts_at(self) -> int | None:
        """Answers to a query at most; None where it is not known to have a limit."""
        value = self._value(CUT)
        return None if value is None else int(value)

    @property
    def sends_instances(self) -> bool:
        """Whether it may be asked for instances by themselves while it sends their study."""
        return self._value(WHOLE) is None

    @property
    def takes_uid_lists(self) -> bool:
        """Whether it may be asked for several studies at once."""
        return self._value(SINGLE) is None

    def takes_no_uid_lists(self) -> None:
        """It did not answer when it was asked for several studies at once, and did for each."""
        self._learn(SINGLE)

    @property
    def sends_the_same(self) -> bool:
        """Whether an instance that it sends twice is thought to be the same one, byte for byte."""
        return self._value(VARIES) is None

    def sends_others_each_time(self) -> None:
        """It sent one instance with other bytes each time."""
        self._learn(VARIES)

    def came_late(self, seconds: float, sop_instance_uids: Collection[str] = ()) -> None:
        """Instances came until so long after the PACS said that it had sent all."""
        self._learn(LATE, max(self.settle, min(2 * seconds, LONGEST_SETTLE)))

    def sends_no_instances(self, sop_instance_uids: Collection[str] = ()) -> None:
        """It brought none of those that were asked for by themselves while it sent their study."""
        self._learn(WHOLE)

    def listed(self, listing: InstanceList) -> None:
        """What its list of a study's instances tells of it: that it was cut, is shorter than its count, or is none."""
        if listing.cut_at is not None:
            self._learn(CUT, listing.cut_at)
        if listing.short:
            self._learn(SHORT)
        elif not listing.instances and listing.reason:
            self._learn(NONE)
        elif listing.complete and self._seen.pop(NONE, None) is not None:
            self.on_learnt()

    @property
    def ignores_time(self) -> bool:
        """Whether it answers with the whole day where a Study Time is asked for."""
        return self._value(TIMELESS) is not None

    def ignores_the_time(self) -> None:
        """It answered with studies of another time of the day than was asked for."""
        self._learn(TIMELESS)

    @property
    def told(self) -> str:
        """For the operator; empty where nothing is odd."""
        values = {habit: self._value(habit) for habit in _TOLD}
        return "; ".join(_TOLD[habit](value) for habit, value in values.items() if value is not None)

    def dump(self) -> str:
        """In the form in which it is kept."""
        seen = {habit: [seen.value, seen.at] for habit, seen in self._seen.items()}
        return json.dumps({"pacs": self._pacs, "seen": seen})

    def restore(self, kept: str) -> None:
        """Takes up what :meth:`dump` gave, where it is of this PACS; what cannot be read is learnt anew."""
        try:
            document = json.loads(kept)
            if document["pacs"] != self._pacs:
                return
            seen = {
                habit: _Seen(float(value), float(at))
                for habit, (value, at) in document["seen"].items()
                if habit in _TOLD
            }
        except (ValueError, TypeError, KeyError, AttributeError):
            log.warning("what was learnt about PACS %s cannot be read, and is learnt again", self._pacs)
            return
        self._seen = seen | self._seen


class KeptHabits:
    """Keeps the habits of every PACS in the journal."""

    def __init__(self, journal: Journal, habits: Mapping[str, Habits]) -> None:
        """*habits* are those of each PACS by its name."""
        self._journal = journal
        self._habits = habits
        self._learnt = asyncio.Event()
        for one in habits.values():
            one.on_learnt = self._learnt.set

    async def load(self) -> None:
        """Takes up what was learnt before. Raises JournalError."""
        for name, habits in self._habits.items():
            kept = await self._journal.run(partial(marks.get, name=_mark(name)))
            if kept is not None:
                habits.restore(kept)

    async def run(self) -> None:
        """Writes what is learnt. Raises JournalError."""
        while True:
            await self._learnt.wait()
            await self._save()

    async def close(self) -> None:
        """Writes what was learnt last."""
        try:
            if self._learnt.is_set():
                await self._save()
        except JournalError as e:
            log.warning("what was learnt about the PACS is not kept: %s", e)

    async def _save(self) -> None:
        self._learnt.clear()
        try:
            for name, habits in self._habits.items():
                await self._journal.run(partial(marks.put, name=_mark(name), value=habits.dump()))
        except JournalError:
            self._learnt.set()
            raise


def _mark(pacs: str) -> str:
    return f"habits of PACS {pacs}"
