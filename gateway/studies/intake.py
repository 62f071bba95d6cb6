"""What arrives at our Storage SCP, brought into the store while the rest still arrives.

An instance is acknowledged to the PACS once it is in a bounded buffer; the PUTs run beside. That is
safe, since nobody was told that the study is there: the index comes last, the PACS keeps its copy, and
what did not reach the store is asked for again. When the buffer is full, the next instance waits, and
with it its association: back-pressure, and bounded memory whatever the study's size.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from gateway.objects import ObjectStore
from gateway.pacs import IncomingInstance, Sender, Status
from gateway.studies.admission import Admission, Admitted
from gateway.studies.cache import StudyCache
from gateway.studies.flight import Flight
from gateway.studies.puts import Puts
from gateway.studies.refusals import Refusals


class Intake:
    """The handler behind our Storage SCP (an ``InstanceHandler``): attributes and stores instances."""

    def __init__(
        self,
        store: ObjectStore,
        cache: StudyCache,
        refusals: Refusals,
        *,
        open_for_push: Callable[[str, str], Flight | None],
        pacs_at: Callable[[str, str], Collection[str]],
        make_viewable: bool = False,
        correct_uids: Collection[str] = (),
    ) -> None:
        """*open_for_push* is asked for a study that no flight expects from this sender: (Study Instance UID, calling
        AE title) → the flight to take it, or None, which refuses it. *pacs_at* names the PACS that an AE title at an
        address may be. *make_viewable* says whether what browsers do not decode is stored so that they do.
        *correct_uids* names the PACS whose instances get the UIDs that it lists, where the file has others."""
        self._flights: dict[str, Flight] = {}
        closer_look = asyncio.Semaphore(1)
        self._admission = Admission(
            self._flights,
            cache,
            refusals,
            open_for_push=open_for_push,
            pacs_at=pacs_at,
            correct_uids=correct_uids,
            closer_look=closer_look,
        )
        self._puts = Puts(store, cache, viewable=make_viewable, closer_look=closer_look)

    def expect(self, flight: Flight) -> None:
        """From now on the instances of this study are taken in."""
        self._flights[flight.study_instance_uid] = flight

    async def settle(self, flight: Flight) -> None:
        """Waits until all that was taken in for *flight* is in the store, or was given up."""
        while flight.puts:
            await asyncio.wait(flight.puts.values())

    def expect_no_more(self, flight: Flight) -> None:
        """What still comes of this study is refused."""
        if self._flights.get(flight.study_instance_uid) is flight:
            del self._flights[flight.study_instance_uid]
            self._admission.ended(flight)

    def lost(self, sender: Sender, sop_instance_uid: str, reason: str) -> None:
        """Tells of an instance that is refused: with its study where that is known, else by itself (an
        ``OnRefused``)."""
        self._admission.lost(sender, sop_instance_uid, reason)

    async def __call__(self, incoming: IncomingInstance) -> int:
        """Takes one instance in; returns the C-STORE status to answer with."""
        body = incoming.body
        try:
            admitted = await self._admission.judge(incoming)
            if isinstance(admitted, Admitted):
                await self._puts.take_room(admitted)
        except BaseException:
            body.close()
            raise
        if isinstance(admitted, int):
            body.close()
            return admitted
        flight = admitted.flight
        if self._flights.get(flight.study_instance_uid) is not flight or admitted.instance.revision != flight.revision:
            self._puts.leave_room(admitted)  # the fetch ended, or began anew, while this one waited
            return Status.OUT_OF_RESOURCES
        self._puts.start(admitted)
        return Status.SUCCESS
