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


async def bring_first(flight: Flight, ask: Ask, habits: Habits) -> None:
    """Asks for what is read first, as soon as it is listed, where the PACS has begun with something else.

    That it begins with what is read first is most often so, and then nothing is asked for twice.
    """
    if not habits.sends_instances:
        return
    await flight.listed.wait()
    first = opening([ref for ref in flight.listed_as.values() if ref.series_instance_uid], OPENED_AT_ONCE)
    if not flight.stored:
        await flight.begun.wait()
    if len(flight.listed_as) - len(flight.taken) < WORTH_IT:
        return
    if first and flight.asked_for.is_set() and not _comes(flight, first[0].sop_instance_uid):
        log.info("the PACS begins study %s elsewhere: its first instances are asked for", flight.study_instance_uid)
        lacking = [ref.sop_instance_uid for ref in first if not _comes(flight, ref.sop_instance_uid)]
        await _ask(flight, ask, first[0].series_instance_uid, lacking)


async def _ask(flight: Flight, ask: Ask, series: str, sop_instance_uids: Sequence[str]) -> None:
    flight.asked_beside.update(sop_instance_uids)
    try:
        await ask(series, sop_instance_uids)
    finally:
        flight.asked_beside.difference_update(sop_instance_uids)


def _comes(flight: Flight, sop_instance_uid: str) -> bool:
    """Whether it has come, or is being asked for by itself."""
    return any(sop_instance_uid in of for of in (flight.taken, flight.stored, flight.asked_beside))


async def bring_overtaken(flight: Flight, ask: Ask, habits: Habits) -> None:
    """Asks for what is overtaken, until it is cancelled."""
    at_once, series, in_vain = FIRST_FEW, "", 0
    while habits.sends_instances:
        await asyncio.sleep(LOOKS_EVERY)
        uid = flight.waits.overtaken(time.monotonic())
        if uid is None:
            continue
        flight.waits.leave(uid)
        ref = flight.listed_as.get(uid)
        if ref is None or _comes(flight, uid):
            continue
        at_once = min(2 * at_once, MOST) if ref.series_instance_uid == series else FIRST_FEW
        series = ref.series_instance_uid
        lacking = [one for one in in_series(flight.listed_as.values(), ref) if not _comes(flight, one)]
        log.info("an instance of study %s is waited for: it is asked for by itself", flight.study_instance_uid)
        asked = lacking[:at_once]
        await _ask(flight, ask, series, asked)
        in_vain = 0 if any(one in flight.taken or one in flight.stored for one in asked) else in_vain + 1
        if in_vain >= IN_VAIN:
            habits.sends_no_instances(asked)
