"""Studies that a PACS sends unasked (``dicom.accept_pushes``)."""

from __future__ import annotations

import asyncio
import time

from gateway.studies.conclusion import Conclusion
from gateway.studies.flight import Flight
from gateway.studies.intake import Intake
from gateway.studies.outcome import NotFound, NotStored, Outcome, Unconfirmed, Unreachable

LOOKS_EVERY = 0.1
"""Seconds after which it is seen whether a pushed study still comes in."""

PUSH_QUIET = 5.0
"""Seconds without a new instance after which a pushed study is taken to have been sent."""


async def wait_until_sent(flight: Flight) -> None:
    """A study that is being pushed is left to come by itself, unless somebody asks for it."""
    while not flight.asked_for.is_set() and not (flight.prefetched and not flight.taken):
        still_for = time.monotonic() - flight.last_arrival
        if still_for >= PUSH_QUIET and not flight.puts:
            return
        try:
            async with asyncio.timeout(max(PUSH_QUIET - still_for, 0.1)):
                await flight.asked_for.wait()
        except TimeoutError:
            continue


async def keep_unconfirmed(
    flight: Flight, cause: NotFound | Unreachable, intake: Intake, conclusion: Conclusion
) -> Outcome:
    """What was acknowledged is kept, to the last instance, though no PACS says yet what the study has."""
    while True:
        while flight.puts or (flight.coming_in and time.monotonic() - flight.last_arrival < PUSH_QUIET):
            await asyncio.sleep(LOOKS_EVERY)
            await intake.settle(flight)
        if not flight.stored:
            return NotStored(flight.refusal or flight.store_failure or "nothing of what was sent reached the store")
        index = await conclusion.write_index(flight, complete=False, pacs="")
        if not flight.puts and len(flight.stored) == len(index.instances):
            return Unconfirmed(index, cause)
