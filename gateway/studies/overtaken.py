"""Brings what somebody waits for while the PACS sends something else: by itself, with what is read after it.

A PACS that was asked for a study sends it in an order of its own: Orthanc its last instance first. A reader who begins
with the first slice, or has jumped to the last ones, is not to wait for all the others, so these few are asked for at
IMAGE level, on an association beside, where the PACS lets us have one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from gateway.pacs import PacsError
from gateway.studies.flight import Flight
from gateway.studies.habits import Habits
from gateway.studies.listed import in_series, opening

log = logging.getLogger(__name__)

LOOKS_EVERY = 0.1
"""Seconds after which it is seen whether somebody waits."""

OPENED_AT_ONCE = 6
"""Instances that are asked for before anybody waits for them: as many as a browser has connections to a host."""

WORTH_IT = 50
"""Instances that have to be on their way still: a study of fewer ends too soon for its PACS to be asked twice."""

FIRST_FEW, MOST = 8, 128
"""Instances that are asked for at once: few, so that the first comes soon, and twice as many each time that a reader
goes on in the same series."""

IN_VAIN = 3
"""Requests in a row that bring nothing, after which a PACS is not asked so any more."""

Ask = Callable[[str, Sequence[str]], Awaitable[PacsError | None]]
"""Asks the PACS for instances of a series; the failure, where it says or shows that it went wrong."""


class Beside:
    """What is asked for beside one study on its way. Both of its methods are to run until they are cancelled."""

    def __init__(self, flight: Flight, ask: Ask, habits: Habits) -> None:
        self._flight = flight
        self._ask_for = ask
        self._habits = habits
        self._read_next: list[str] = []
        """SOP Instance UIDs of what is read after what was asked for last."""

    async def bring_first(self) -> None:
        """Asks for what is read first, as soon as it is listed, where the PACS has begun with something else.

        That it begins with what is read first is most often so, and then nothing is asked for twice.
        """
        flight = self._flight
        if not self._habits.sends_instances:
            return
        await flight.listed.wait()
        first = opening([ref for ref in flight.listed_as.values() if ref.series_instance_uid], 2 * OPENED_AT_ONCE)
        if not flight.stored:
            await flight.begun.wait()
        if len(flight.listed_as) - len(flight.taken) < WORTH_IT:
            return
        if first and flight.asked_for.is_set() and not self._comes(first[0].sop_instance_uid):
            log.info("the PACS begins study %s elsewhere: its first instances are asked for", flight.study_instance_uid)
            uids = [ref.sop_instance_uid for ref in first]
            lacking = [uid for uid in uids[:OPENED_AT_ONCE] if not self._comes(uid)]
            self._read_next = uids[OPENED_AT_ONCE:]
            await self._ask(first[0].series_instance_uid, lacking)

    async def bring_overtaken(self) -> None:
        """Asks for what is overtaken."""
        flight = self._flight
        at_once, series, in_vain = FIRST_FEW, "", 0
        while self._habits.sends_instances:
            await asyncio.sleep(LOOKS_EVERY)
            # Whoever reads on past what was asked for last does not have to be overtaken once more.
            uid = flight.waits.first_of(self._read_next) or flight.waits.overtaken(time.monotonic())
            if uid is None:
                continue
            flight.waits.leave(uid)
            ref = flight.listed_as.get(uid)
            if ref is None or self._comes(uid):
                continue
            at_once = min(2 * at_once, MOST) if ref.series_instance_uid == series else FIRST_FEW
            series = ref.series_instance_uid
            lacking = [one for one in in_series(flight.listed_as.values(), ref) if not self._comes(one)]
            log.info("an instance of study %s is waited for: it is asked for by itself", flight.study_instance_uid)
            asked, self._read_next = lacking[:at_once], lacking[at_once : at_once + OPENED_AT_ONCE]
            await self._ask(series, asked)
            in_vain = 0 if any(one in flight.taken or one in flight.stored for one in asked) else in_vain + 1
            if in_vain >= IN_VAIN:
                self._habits.sends_no_instances(asked)

    async def _ask(self, series: str, sop_instance_uids: Sequence[str]) -> None:
        beside = self._flight.asked_beside
        beside.update(sop_instance_uids)
        try:
            await self._ask_for(series, sop_instance_uids)
        finally:
            beside.difference_update(sop_instance_uids)

    def _comes(self, sop_instance_uid: str) -> bool:
        """Whether it has come, or is being asked for by itself."""
        flight = self._flight
        return any(sop_instance_uid in of for of in (flight.taken, flight.stored, flight.asked_beside))
