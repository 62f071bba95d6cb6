"""Whether an instance is taken in, and what it is: judged by its header, its association, and what was asked for."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from gateway.dicom import KEY_OBJECT_SELECTION, MalformedDataSet, file_header
from gateway.objects import StoreError
from gateway.pacs import IncomingInstance, Sender, Status
from gateway.pacs.scp import log_refused
from gateway.runtime import in_thread
from gateway.studies.attribution import Attribution, as_listed
from gateway.studies.cache import CacheFull, StudyCache
from gateway.studies.correct import corrected, differing, note_of
from gateway.studies.flight import Flight
from gateway.studies.header import read_header, read_header_tolerantly
from gateway.studies.index import Instance
from gateway.studies.leftovers import Leftovers
from gateway.studies.refusals import MOST_OF_A_STUDY, Refusals
from gateway.studies.rejection import TITLES, read_rejection

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Admitted:
    """An instance that is taken in: what it is, whose it is, and its bytes."""

    flight: Flight
    incoming: IncomingInstance
    prefix: bytes
    """Preamble and file meta, built from the association (PS3.10 §7.1); the data set follows as received."""
    instance: Instance


def _prefix(incoming: IncomingInstance, sop_instance_uid: str) -> bytes:
    return file_header(
        incoming.sop_class_uid,
        sop_instance_uid or incoming.sop_instance_uid,
        incoming.transfer_syntax_uid,
    )


class Admission:
    """Judges what arrives."""

    def __init__(
        self,
        flights: Mapping[str, Flight],
        cache: StudyCache,
        refusals: Refusals,
        *,
        open_for_push: Callable[[str, str], Flight | None],
        pacs_at: Callable[[str, str], Collection[str]],
        correct_uids: Collection[str],
        closer_look: asyncio.Semaphore,
    ) -> None:
        """*flights* are those that take instances now, by Study Instance UID. *closer_look* bounds what is read whole
        at once; the rest is as :class:`Intake` has it."""
        self._flights = flights
        self._cache = cache
        self._refusals = refusals
        self._open_for_push = open_for_push
        self._pacs_at = pacs_at
        self._correct_uids = frozenset(correct_uids)
        self._closer_look = closer_look
        self._attribution = Attribution(flights)
        self._leftovers = Leftovers()

    def ended(self, flight: Flight) -> None:
        """A flight takes no more: what still comes of one that was asked for in vain is known as that."""
        if flight.in_vain.is_set():
            self._leftovers.add(flight)

    def lost(self, sender: Sender, sop_instance_uid: str, reason: str) -> None:
        """As :meth:`Intake.lost`."""
        self._refusals.note(sender.calling_ae_title, sop_instance_uid, reason)
        flight = self._attribution.wanted_by(sender.answers, sender.calling_ae_title)
        if flight is None:
            log_refused(sender, sop_instance_uid, reason)
        elif len(flight.refusals) < MOST_OF_A_STUDY:
            flight.refusals[sop_instance_uid] = reason

    async def judge(self, incoming: IncomingInstance) -> Admitted | int:
        """Decides whether an instance is taken in; a status is the refusal to answer with."""
        try:
            study_instance_uid, instance = read_header(incoming)
        except MalformedDataSet:
            async with self._closer_look:
                study_instance_uid, instance = await in_thread(read_header_tolerantly, incoming)
        read, prefix = instance, _prefix(incoming, instance.sop_instance_uid)
        instance = instance.with_size(len(prefix) + incoming.body.size)
        flight = self._flights.get(study_instance_uid)
        # All in nearly every case: its study is awaited, and the command set names the instance that the data set is.
        if (
            flight is None
            or instance.sop_instance_uid != incoming.sop_instance_uid
            or not instance.series_instance_uid
            or self._attribution.is_anothers(flight, instance.sop_instance_uid)
        ):
            found = await self._attribution.find(incoming, study_instance_uid, instance)
            if found is not None:
                flight, instance = found
            elif flight is None and self._leftovers.has(incoming, self._is_of_its_pacs):
                return Status.SUCCESS
            elif flight is None and study_instance_uid and instance.sop_instance_uid:
                flight = self._open_for_push(study_instance_uid, incoming.calling_ae_title)
                if flight is not None:
                    instance = as_listed(flight, instance.sop_instance_uid, study_instance_uid, instance)
        if flight is not None and not self._is_of_its_pacs(flight, incoming):
            flight = self._open_for_push(flight.study_instance_uid, incoming.calling_ae_title)
        if flight is None:
            of_study = f"of study {study_instance_uid}" if study_instance_uid else "of a study that is not known"
            sender = Sender(
                incoming.calling_ae_title, incoming.called_ae_title, incoming.peer_host, answers=incoming.answers
            )
            uid = instance.sop_instance_uid or incoming.sop_instance_uid
            self.lost(sender, uid, f"it is {of_study}, and nobody asked for it")
            return Status.NOT_AUTHORIZED
        flight.last_arrival = time.monotonic()
        if flight.refusal is not None:
            return Status.OUT_OF_RESOURCES
        if instance.sop_instance_uid in flight.taken:
            flight.again()  # told once, when the flight ends
            log.debug("instance %s came once more and was not asked for again: not taken", instance.sop_instance_uid)
            return Status.SUCCESS
        flight.taken.add(instance.sop_instance_uid)
        flight.begun.set()
        try:
            if self._is_corrected(flight, incoming):
                came = incoming
                incoming, instance = await self._with_listed_uids(flight, incoming, study_instance_uid, read, instance)
                if incoming is not came:
                    prefix = _prefix(incoming, instance.sop_instance_uid)
                    instance = instance.with_size(len(prefix) + incoming.body.size)
            await self._cache.reserve(flight.study_instance_uid, instance.size, for_nobody=flight.for_nobody)
            if incoming.sop_class_uid == KEY_OBJECT_SELECTION:
                instance = await self._with_rejection(instance, incoming)
        except (CacheFull, StoreError) as e:
            flight.taken.discard(instance.sop_instance_uid)
            flight.refuse(str(e))
            return Status.OUT_OF_RESOURCES
        except BaseException:
            flight.taken.discard(instance.sop_instance_uid)
            raise
        if flight.revision:  # last of all, since the flight may have begun anew meanwhile
            instance = instance._replace(revision=flight.revision)
        return Admitted(flight, incoming, prefix, instance)

    async def _with_rejection(self, instance: Instance, incoming: IncomingInstance) -> Instance:
        async with self._closer_look:
            rejection = await in_thread(read_rejection, incoming)
        if rejection is None:
            return instance
        log.info(
            "rejection note %s (%s): %d instances are not shown",
            instance.sop_instance_uid, TITLES[rejection.code], len(rejection.sop_instance_uids),
        )  # fmt: skip
        return instance._replace(rejection=rejection.code, rejects=rejection.sop_instance_uids)

    def _is_corrected(self, flight: Flight, incoming: IncomingInstance) -> bool:
        """Whether it came from PACS whose UIDs are put in."""
        if not self._correct_uids:
            return False
        sources = flight.sources.intersection(self._pacs_at(incoming.calling_ae_title, incoming.peer_host))
        return bool(flight.sources) and (sources or flight.sources) <= self._correct_uids

    async def _with_listed_uids(
        self, flight: Flight, incoming: IncomingInstance, read_study: str, read: Instance, instance: Instance
    ) -> tuple[IncomingInstance, Instance]:
        """The instance with the UIDs that the PACS lists it with, where its file has others."""
        series = await self._attribution.series_of(flight, instance.sop_instance_uid)
        uids = differing(read, read_study, instance, flight.study_instance_uid, series or "")
        if not uids:
            return incoming, instance
        try:
            async with self._closer_look:
                incoming = await in_thread(corrected, incoming, uids)
        except MalformedDataSet as e:
            log.warning("instance %s keeps the UIDs that it came with: %s", instance.sop_instance_uid, e)
            note = f"the UIDs that the PACS lists cannot be put in: {e}"
            return incoming, instance._replace(note="; ".join(filter(None, (instance.note, note))))
        log.info("instance %s has the UIDs that the PACS lists put in", instance.sop_instance_uid)
        return incoming, instance._replace(
            series_instance_uid=series or instance.series_instance_uid,
            note=note_of(uids),
            described=True,
            own_uid="",
        )

    def _is_of_its_pacs(self, flight: Flight, incoming: IncomingInstance) -> bool:
        """Whether it came in answer to the flight's own request, or from the PACS that was asked for the study."""
        if incoming.answers == flight.study_instance_uid:
            return True
        return not flight.sources.isdisjoint(self._pacs_at(incoming.calling_ae_title, incoming.peer_host))
