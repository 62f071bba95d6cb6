"""Which PACS has a study: all are asked at once, and none waits for one that is silent.

Where studies lie in several PACS (``pacs[].complete: false``), those that have some of it serve it together, as
:mod:`gateway.studies.merge` has it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from gateway.pacs import PacsError, PacsUnreachable
from gateway.pacs.scu import StudyRecord
from gateway.studies.flight import Flight
from gateway.studies.merge import Merged, name_of
from gateway.studies.outcome import NotFound, Unreachable
from gateway.studies.pacs import Pacs
from gateway.studies.retrieval import end_tasks

log = logging.getLogger(__name__)

EARLIER_ONE_MAY_TAKE = 0.2
"""Seconds that a PACS which has the study still waits for one before it in the list: about as long as two that are
well differ by."""

HELD_ONE_MAY_TAKE = 1.5
"""The same, where that one is the PACS that what is held came from: only it can say that it is so no longer."""

OTHER_PART_MAY_TAKE = 5.0
"""Seconds without an answer after which a PACS that may have a part of a study counts as silent, where another one has
some."""


class StudyLocator:
    """Finds the PACS that a study is fetched from."""

    def __init__(self, pacs: Sequence[Pacs]) -> None:
        """*pacs* are in the configured order."""
        self._pacs = pacs
        self.merges = not all(p.complete for p in pacs)
        """Whether a study may lie in several."""
        self._unanswered: dict[str, asyncio.Task[StudyRecord | None]] = {}

    async def locate(self, flight: Flight) -> tuple[Pacs, StudyRecord] | NotFound | Unreachable:
        """The PACS that serves the study, or all that have some of it as one, with what it says of it. Notes in
        *flight* who does not have it, and who was silent."""
        return await (self._locate_all(flight) if self.merges else self._locate_first(flight))

    async def stop(self) -> None:
        """Ends the queries that were left to their end."""
        await end_tasks(list(self._unanswered.values()))

    def decides(self, flight: Flight, pacs: Pacs) -> bool:
        """Whether *pacs* can say that what is held is not so any more: not where it only stands in for the one that
        it came from."""
        names = [p.name for p in self._pacs]
        held = flight.held
        if held is None or held.pacs not in names or held.pacs in flight.denied:
            return True
        return names.index(pacs.name) <= names.index(held.pacs)

    async def _locate_first(self, flight: Flight) -> tuple[Pacs, StudyRecord] | NotFound | Unreachable:
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
            merged = Merged(parts, flight.silent, flight)
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
