"""Whose an instance is, where what it says of itself does not tell.

An instance goes to the flight of the study that its data set names. Where the header cannot be read, or names another
study, series or instance than the PACS's database does (which was corrected, while the file was not), the association
tells: the retrieve that it answers, the SOP Instance UID of the command set, and what the PACS listed. Bytes are not
altered here (:mod:`gateway.studies.correct` does, where it is told to), and nothing is guessed where it could be
another patient's: a data set that names another study is taken for one of a flight's only where that flight's list has
it, or it came in the answer to that flight's own request.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping

from gateway.dicom import is_usable
from gateway.pacs import IncomingInstance
from gateway.studies.flight import Flight
from gateway.studies.index import Instance

log = logging.getLogger(__name__)

HOLDS_FOR = 10.0
"""Seconds that an instance which only a list can place waits for one; its association waits with it."""

LOOKS_EVERY = 0.1
"""Seconds."""


class Attribution:
    """Finds the flight of an instance by the association that it came on, and by what was listed."""

    def __init__(self, flights: Mapping[str, Flight]) -> None:
        """*flights* are those that take instances now, by Study Instance UID."""
        self._flights = flights

    async def find(
        self, incoming: IncomingInstance, study_instance_uid: str, read: Instance
    ) -> tuple[Flight, Instance] | None:
        """The flight that *incoming* belongs to, and what it is there; None where no flight is known to want it.

        *study_instance_uid* and *read* are what its header says, with empty UIDs where it says nothing.
        """
        # A command set is the PACS's word, as its list is; a file may even have the UID of another listed instance.
        # What stands before a data set that comes by HTTP is of the file.
        said = [incoming.sop_instance_uid, read.sop_instance_uid]
        names = [uid for uid in dict.fromkeys(reversed(said) if incoming.by == "WADO-RS" else said) if is_usable(uid)]
        if not names:
            return None
        flight, name = await self._listed(incoming, study_instance_uid, names)
        if flight is None:
            name = read.sop_instance_uid if read.sop_instance_uid in names else names[0]
            candidates = self._candidates(incoming, study_instance_uid)
            told = bool(incoming.answers) or study_instance_uid in ("", *(f.study_instance_uid for f in candidates))
            if len(candidates) != 1 or not told:
                return None
            flight = candidates[0]
        return flight, as_listed(flight, name, study_instance_uid, read)

    def is_anothers(self, flight: Flight, sop_instance_uid: str) -> bool:
        """Whether an instance whose file names the study of *flight* is listed in another one, and not there: studies
        are split and joined in a PACS's database."""
        return sop_instance_uid not in (flight.expected or ()) and any(
            sop_instance_uid in (other.expected or ()) for other in self._flights.values() if other is not flight
        )

    def _candidates(self, incoming: IncomingInstance, study_instance_uid: str) -> list[Flight]:
        own = self._flights.get(study_instance_uid) or self._flights.get(incoming.answers)
        if own is not None:
            return [own]
        return [flight for flight in self._flights.values() if incoming.calling_ae_title in flight.senders]

    def wanted_by(self, answers: str, calling_ae_title: str) -> Flight | None:
        """The one flight that what comes so can be for; None where there is none, or more than one."""
        if answers in self._flights:
            return self._flights[answers]
        of_sender = [flight for flight in self._flights.values() if calling_ae_title in flight.senders]
        return of_sender[0] if len(of_sender) == 1 else None

    async def series_of(self, flight: Flight, sop_instance_uid: str) -> str | None:
        """The Series Instance UID that the PACS lists an instance with; None where it does not. Waits for its list, as
        far as the flight is young."""
        until = flight.began + HOLDS_FOR
        while sop_instance_uid not in (flight.expected or ()):
            if flight.listed.is_set() or flight.series.ended or time.monotonic() >= until:
                return None
            await asyncio.sleep(LOOKS_EVERY)
        return (flight.expected or {}).get(sop_instance_uid)

    async def _listed(
        self, incoming: IncomingInstance, study_instance_uid: str, names: list[str]
    ) -> tuple[Flight | None, str]:
        """The flight whose list has one of *names*, and that one, empty where none has; waits for lists that are still
        being made."""
        loop = asyncio.get_running_loop()
        until = loop.time() + HOLDS_FOR
        while True:
            candidates = self._candidates(incoming, study_instance_uid)
            answered = self._flights.get(incoming.answers)
            of_sender = [f for f in self._flights.values() if incoming.calling_ae_title in f.senders]
            for name in names:
                for flight in (*([answered] if answered else ()), *candidates, *of_sender):
                    if name in (flight.expected or ()):
                        return flight, name
            if all(flight.series.ended or not flight.senders for flight in candidates) or loop.time() >= until:
                return None, ""
            await asyncio.sleep(LOOKS_EVERY)


def as_listed(flight: Flight, sop_instance_uid: str, study_instance_uid: str, read: Instance) -> Instance:
    """What is kept of an instance that the flight counts as *sop_instance_uid*."""
    expected = flight.expected or {}
    notes = []
    if not (study_instance_uid and read.sop_instance_uid):
        notes.append("its header cannot be read")
    elif not read.series_instance_uid:
        notes.append("it has no Series Instance UID")
    described, own_uid = not notes, ""
    if study_instance_uid not in ("", flight.study_instance_uid):
        notes.append(f"the file has another Study Instance UID: {study_instance_uid}")
    if read.sop_instance_uid not in ("", sop_instance_uid):
        notes.append(f"the file has another SOP Instance UID: {read.sop_instance_uid}")
        own_uid = read.sop_instance_uid
    if notes:
        flight.noted += 1
        log.log(
            logging.WARNING if flight.noted == 1 else logging.DEBUG,  # a PACS that does so does it with all of a study
            "instance %s of study %s is taken in as the PACS lists it: %s",
            sop_instance_uid, flight.study_instance_uid, "; ".join(notes),
        )  # fmt: skip
    return read._replace(
        sop_instance_uid=sop_instance_uid,
        series_instance_uid=read.series_instance_uid or expected.get(sop_instance_uid, ""),
        note="; ".join(notes),
        described=described,
        own_uid=own_uid,
    )
