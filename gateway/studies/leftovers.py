"""What a PACS goes on sending of studies that are whole already.

A retrieve that is given up, since all of its study came by others, is not always given up by the PACS, too: many send
on to the end. What comes so is stored, and is answered as that; it is neither pushed nor a stranger's.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from gateway.pacs import IncomingInstance
from gateway.studies.flight import Flight

MOST = 32
"""Studies that are remembered; the one that was silent for longest is forgotten first."""

SILENT_FOR = 120.0
"""Seconds without one of its instances after which a study is forgotten."""


class Leftovers:
    """Remembers studies of which some may still come."""

    def __init__(self) -> None:
        self._flights = OrderedDict[str, tuple[Flight, float]]()

    def add(self, flight: Flight) -> None:
        """A retrieve of it was given up, and it is whole."""
        self._keep(flight)
        while len(self._flights) > MOST:
            self._flights.popitem(last=False)

    def has(self, incoming: IncomingInstance, of_its_pacs: Callable[[Flight, IncomingInstance], bool]) -> bool:
        """Whether *incoming* is one of them; *of_its_pacs* says whether it comes from where a flight's come from."""
        self._forget()
        for flight, _ in self._flights.values():
            if incoming.sop_instance_uid in flight.stored and of_its_pacs(flight, incoming):
                self._keep(flight)
                return True
        return False

    def _keep(self, flight: Flight) -> None:
        uid = flight.study_instance_uid
        self._flights[uid] = flight, time.monotonic()
        self._flights.move_to_end(uid)

    def _forget(self) -> None:
        before = time.monotonic() - SILENT_FOR
        while self._flights and next(iter(self._flights.values()))[1] < before:
            self._flights.popitem(last=False)
