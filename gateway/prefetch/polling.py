"""Asks a PACS what is new, in growing steps while nothing is, and cheaply: from where it was seen last, not all of it.

The cursor lies in the journal. A study that a PACS dates before it, because it was registered late or by a clock that
is behind, is found by the look at all of ``prefetch.look_back`` that is taken now and then.
"""

from __future__ import annotations

import datetime
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.journal import Cause, Journal, JournalError, Task, Transaction, marks
from gateway.journal import prefetches as table
from gateway.pacs import PacsError
from gateway.pacs.scu import StudyQuery, StudyTraits
from gateway.prefetch.cursor import Cursor, Span, spans
from gateway.prefetch.place import Place
from gateway.prefetch.rules import moment
from gateway.prefetch.search import NOT_TO_BE_HAD, Chooser, WallClock
from gateway.runtime import Seldom, progress

log = logging.getLogger(__name__)

WHOLE_EVERY = 3600.0
"""Seconds between two looks at all of ``prefetch.look_back``."""

SETTLES_IN = 60.0
"""Seconds for which a new study is left alone: it may still be on its way into the PACS."""

CLOSED_LOOKS_EVERY = 30.0
"""Seconds after which it is seen whether a window has opened."""

PARTED_AT_MOST = 6
"""Times that a range is parted in two, where a PACS has more in it than is taken at once."""

REMEMBERED = 20_000
"""Studies that no rule wants, and that are not judged again unless they grow."""


@dataclass(frozen=True, slots=True)
class Steps:
    """How often it is asked. All are seconds."""

    every: float
    at_least_every: float
    look_back: float


class Poller:
    """Looks for new studies in one PACS."""

    def __init__(
        self,
        place: Place,
        *,
        journal: Journal,
        chooser: Chooser,
        wall: WallClock,
        steps: Steps,
        added: Callable[[], None],
        noted: Callable[[str, str, bool], None],
    ) -> None:
        """*added* is told that there is something to prefetch; *noted* of what is not to be had, in words."""
        self._place = place
        self._journal = journal
        self._clock = journal.clock
        self._chooser = chooser
        self._wall = wall
        self._steps = steps
        self._added = added
        self._noted = noted
        self._unwanted: OrderedDict[str, int | None] = OrderedDict()
        self._whole_at = float("-inf")
        self._too_much = Seldom(log, journal.clock)

    async def run(self) -> None:
        """Does so until it is cancelled."""
        pause = self._steps.every
        while True:
            progress()
            if not self._place.windows.open_at(self._clock.now()):
                await self._clock.sleep(CLOSED_LOOKS_EVERY)
                continue
            try:
                new = await self.look()
            except (PacsError, JournalError) as e:
                log.info("PACS %s is not asked for new studies now: %s", self._place.name, e)
                new = 0
            pause = self._steps.every if new else min(pause * 2, max(self._steps.at_least_every, self._steps.every))
            if self._place.habits.ignores_time:  # each look is as dear as one at the whole day
                pause = max(pause, self._steps.at_least_every)
            await self._clock.sleep(pause)

    async def look(self) -> int:
        """Asks once; how many studies are to be fetched that were not before. Raises PacsError, JournalError."""
        now, look_back = self._wall.now(), datetime.timedelta(seconds=self._steps.look_back)
        kept = await self._journal.run(lambda c: marks.get(c, self._mark))
        cursor = Cursor.load(kept, now - look_back)
        since = cursor.since(now, look_back)
        if whole := self._clock.monotonic() >= self._whole_at:
            # By days alone: what has no time is found, too.
            since = (now - look_back).replace(hour=0, minute=0, second=0)
        studies: dict[str, StudyTraits] = {}
        for span in spans(since, now):
            studies.update((one.study_instance_uid, one) for one in await self._ask(span))
        wanted = await self._wanted(list(studies.values()))
        dated = [when for one in studies.values() if (when := moment(one.study_date, one.study_time)) is not None]
        after = cursor.after(dated, now)

        def note(c: Transaction) -> int:
            if after != cursor or kept is None:
                marks.put(c, self._mark, after.dump())
            return sum(
                table.want(
                    c, one.study_instance_uid, Task.STUDY, pacs=self._place.name, cause=Cause.POLL, rule=rule,
                    instances=one.instances, after=SETTLES_IN,
                )
                for one, rule in wanted
            )  # fmt: skip

        new = await self._journal.run(note)
        if whole:
            self._whole_at = self._clock.monotonic() + WHOLE_EVERY
        if new:
            log.info("PACS %s has %d new studies that are to be prefetched", self._place.name, new)
            self._added()
        return new

    @property
    def _mark(self) -> str:
        return f"prefetch of {self._place.name}"[:64]

    async def _ask(self, span: Span, parted: int = 0) -> list[StudyTraits]:
        """What matches a span; a range in which there is too much, in parts. Raises PacsError."""
        self._place.spent.queries["polling"] += 1
        found = await self._place.search.studies(StudyQuery(study_date=span.date, study_time=span.time))
        progress()
        studies = [one for one in found.studies if self._is_within(one, span)]
        if span.time and len(studies) < len(found.studies):
            self._place.habits.ignores_the_time()
        parts = span.halves() if found.more and parted < PARTED_AT_MOST else None
        if parts is None or self._place.habits.ignores_time:
            if found.more:
                self._too_much.warning(
                    "PACS %s has more than %d studies of %s: the others are not prefetched",
                    self._place.name, len(found.studies), span.date,
                )  # fmt: skip
            return studies
        return [one for part in parts for one in await self._ask(part, parted + 1)]

    @staticmethod
    def _is_within(study: StudyTraits, span: Span) -> bool:
        """Whether a study is of the span, or may be: some PACS take a key for a suggestion."""
        when = moment(study.study_date, study.study_time)
        if when is None:
            return True
        return span.covers(when) if study.study_time.strip() else Span(span.date).covers(when)

    async def _wanted(self, studies: Sequence[StudyTraits]) -> list[tuple[StudyTraits, str]]:
        """Those that a rule wants, each with its name. Raises PacsError, JournalError."""
        uids = [one.study_instance_uid for one in studies]
        known = await self._journal.run(lambda c: {uid: table.get(c, uid) for uid in uids})
        found = []
        for study in studies:
            uid = study.study_instance_uid
            row = known[uid]
            if row is not None:
                found.append((study, row.rule))  # where it grew, it comes again
                continue
            if uid in self._unwanted and self._unwanted[uid] == study.instances:
                continue
            decision = await self._chooser.decide(study, self._place)
            if decision.fetch and study.availability in NOT_TO_BE_HAD:
                self._noted(uid, f"not prefetched: PACS {self._place.name} has it off-line", False)
            elif decision.fetch:
                found.append((study, decision.rule))
                continue
            self._unwanted[uid] = study.instances
            while len(self._unwanted) > REMEMBERED:
                self._unwanted.popitem(last=False)
        return found
