"""Brings what somebody waits for while the PACS sends something else: by itself, with what is read after it.

A PACS that was asked for a study sends it in an order of its own. A reader who has jumped to its last slices is not to
wait for all the others, so these few are asked for at IMAGE level, on an association beside, where the PACS lets us
have one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from gateway.pacs import PacsError
from gateway.studies.flight import Flight
from gateway.studies.habits import Habits
from gateway.studies.listed import in_series

log = logging.getLogger(__name__)

LOOKS_EVERY = 0.1
"""Seconds after which it is seen whether somebody waits."""

FIRST_FEW, MOST = 8, 128
"""Instances that are asked for at once: few, so that the first comes soon, and twice as many each time that a reader
goes on in the same series."""

IN_VAIN = 3
"""Requests in a row that bring nothing, after which a PACS is not asked so any more."""

Ask = Callable[[str, Sequence[str]], Awaitable[PacsError | None]]
"""Asks the PACS for instances of a series; the failure, where it says or shows that it went wrong."""


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
        if ref is None or uid in flight.stored or uid in flight.taken:
            continue
        at_once = min(2 * at_once, MOST) if ref.series_instance_uid == series else FIRST_FEW
        series = ref.series_instance_uid
        lacking = [one for one in in_series(flight.listed_as.values(), ref) if one not in flight.taken]
        log.info("an instance of study %s is waited for: it is asked for by itself", flight.study_instance_uid)
        asked = lacking[:at_once]
        await ask(series, asked)
        in_vain = 0 if any(one in flight.taken or one in flight.stored for one in asked) else in_vain + 1
        if in_vain >= IN_VAIN:
            habits.sends_no_instances()
