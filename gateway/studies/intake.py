"""What arrives at our Storage SCP, brought into the store while the rest still arrives.

An instance is acknowledged to the PACS once it is in a bounded buffer; the PUTs run beside. That is
safe, since nobody was told that the study is there: the index comes last, the PACS keeps its copy, and
what did not reach the store is asked for again. When the buffer is full, the next instance waits, and
with it its association: back-pressure, and bounded memory whatever the study's size.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass

from gateway.dicom import (
    EXPLICIT_LITTLE_ENDIAN,
    KEY_OBJECT_SELECTION,
    MADE_VIEWABLE,
    MalformedDataSet,
    file_header,
    made_viewable,
)
from gateway.dicom import LIMIT as VIEWABLE_LIMIT
from gateway.objects import ObjectStore, StoreError, StoreFull
from gateway.pacs import Body, IncomingInstance, Sender, Status
from gateway.pacs.scp import log_refused
from gateway.runtime import bind, in_thread, span
from gateway.studies import keys, media
from gateway.studies.attribution import Attribution, as_listed
from gateway.studies.cache import CacheFull, StudyCache
from gateway.studies.correct import corrected, differing, told
from gateway.studies.flight import Flight
from gateway.studies.header import read_header, read_header_tolerantly
from gateway.studies.index import Instance
from gateway.studies.leftovers import Leftovers
from gateway.studies.refusals import MOST_OF_A_STUDY, Refusals
from gateway.studies.rejection import TITLES, read_rejection
from gateway.studies.room import Room

log = logging.getLogger(__name__)

BUFFER = 64 * 1024 * 1024
"""Bytes of instances that are acknowledged and not yet in the store, or as many spooled ones as it has chunks."""

CONCURRENT_PUTS = 16
"""Measured: past this the store gets no faster (docs/performance.md)."""

CHUNK = 1024 * 1024
"""Bytes; the pieces in which a spooled instance goes to the store."""

PUT_AGAIN_AFTER = (0.25, 1.0, 3.0)
"""Seconds after which an instance is put again that the store did not take; it is held meanwhile, so the PACS is not
asked for it once more."""

PUT_WITHIN = 10.0
"""Seconds from its first attempt after which it is not put again."""

DICOM = "application/dicom"


@dataclass(frozen=True, slots=True)
class _Admitted:
    """An instance that is taken in: what it is, whose it is, and its bytes."""

    flight: Flight
    incoming: IncomingInstance
    prefix: bytes
    """Preamble and file meta, built from the association (PS3.10 §7.1); the data set follows as received."""
    instance: Instance


def _held_by(body: Body) -> int:
    """Bytes of the buffer that it takes: a spooled one has a file, a descriptor and a chunk at a time in memory."""
    return CHUNK if body.spooled else body.size


def _prefix(incoming: IncomingInstance, sop_instance_uid: str) -> bytes:
    return file_header(
        incoming.sop_class_uid,
        sop_instance_uid or incoming.sop_instance_uid,
        incoming.transfer_syntax_uid,
    )


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
        self._refusals = refusals
        self._make_viewable = make_viewable
        self._correct_uids = frozenset(correct_uids)
        self._store = store
        self._cache = cache
        self._open_for_push = open_for_push
        self._pacs_at = pacs_at
        self._flights: dict[str, Flight] = {}
        self._attribution = Attribution(self._flights)
        self._leftovers = Leftovers()
        self._closer_look = asyncio.Semaphore(1)
        self._room = Room(BUFFER, for_one=BUFFER * 3 // 4)
        self._putting = Room(CONCURRENT_PUTS, for_one=CONCURRENT_PUTS)
        self._store_took = float("-inf")
        """Monotonic seconds; when an instance of any study was in the store."""

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
            if flight.in_vain.is_set():
                self._leftovers.add(flight)

    def lost(self, sender: Sender, sop_instance_uid: str, reason: str) -> None:
        """Tells of an instance that is refused: with its study where that is known, else by itself (an
        ``OnRefused``)."""
        self._refusals.note(sender.calling_ae_title, sop_instance_uid, reason)
        flight = self._attribution.wanted_by(sender.answers, sender.calling_ae_title)
        if flight is None:
            log_refused(sender, sop_instance_uid, reason)
        elif len(flight.refusals) < MOST_OF_A_STUDY:
            flight.refusals[sop_instance_uid] = reason

    async def __call__(self, incoming: IncomingInstance) -> int:
        """Takes one instance in; returns the C-STORE status to answer with."""
        body = incoming.body
        try:
            admitted = await self._admit(incoming)
            if isinstance(admitted, _Admitted):
                await self._take_room(admitted)
        except BaseException:
            body.close()
            raise
        if isinstance(admitted, int):
            body.close()
            return admitted
        flight = admitted.flight
        if self._flights.get(flight.study_instance_uid) is not flight or admitted.instance.revision != flight.revision:
            self._leave_room(admitted)  # the fetch ended, or began anew, while this one waited
            return Status.OUT_OF_RESOURCES
        self._start_put(admitted)
        return Status.SUCCESS

    async def _admit(self, incoming: IncomingInstance) -> _Admitted | int:
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
        return _Admitted(flight, incoming, prefix, instance)

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
            note=told(uids),
            described=True,
            own_uid="",
        )

    def _is_of_its_pacs(self, flight: Flight, incoming: IncomingInstance) -> bool:
        """Whether it came in answer to the flight's own request, or from the PACS that was asked for the study."""
        if incoming.answers == flight.study_instance_uid:
            return True
        return not flight.sources.isdisjoint(self._pacs_at(incoming.calling_ae_title, incoming.peer_host))

    def _start_put(self, admitted: _Admitted) -> None:
        puts = admitted.flight.puts
        uid = admitted.instance.sop_instance_uid
        # An instance that was asked for again, at times with other bytes (field note 12): the last one wins, so the
        # second PUT of a key begins when the first has ended.
        put = asyncio.create_task(self._put(admitted, after=puts.get(uid)))
        puts[uid] = put
        put.add_done_callback(lambda _: puts.pop(uid) if puts.get(uid) is put else None)

    async def _put(self, admitted: _Admitted, *, after: asyncio.Task[None] | None) -> None:
        """Brings one instance into the store. A failure leaves it missing, and it is asked for again; where the store
        took nothing else meanwhile either, it is away, and the fetch ends."""
        flight, instance = admitted.flight, admitted.instance
        study = flight.study_instance_uid
        bind(**flight.log_ids, study=study)
        began = time.monotonic()
        try:
            if after is not None:
                await asyncio.wait([after])
            with span("put"):
                instance = await self._stored(admitted)
        except StoreError as e:
            log.warning("instance %s of study %s did not reach the store: %s", instance.sop_instance_uid, study, e)
            flight.store_failure = str(e)
            flight.taken.discard(instance.sop_instance_uid)
            if isinstance(e, StoreFull) or (e.transient and self._store_took < began):
                flight.refuse(str(e))
        except Exception:
            log.exception("instance %s of study %s is not stored", instance.sop_instance_uid, study)
            flight.store_failure = "an error of the gateway itself: see its log"
            flight.taken.discard(instance.sop_instance_uid)
        else:
            flight.last_arrival = self._store_took = time.monotonic()
            flight.arrived(instance, admitted.incoming.by)
            took = (time.monotonic() - began) * 1e3
            log.debug(
                "instance %s, %d bytes, is in the store: took %.0f ms", instance.sop_instance_uid, instance.size, took
            )
        finally:
            self._leave_room(admitted)

    async def _stored(self, admitted: _Admitted) -> Instance:
        """The instance as it is in the store now; it is put again for a while, unless the study ends meanwhile. Raises
        StoreError."""
        flight, began = admitted.flight, time.monotonic()
        for pause in PUT_AGAIN_AFTER:
            try:
                return await self._put_in_turn(admitted)
            except StoreFull:
                raise
            except StoreError as e:
                if not e.transient or flight.refused.is_set() or time.monotonic() - began > PUT_WITHIN:
                    raise
            with suppress(TimeoutError):
                await asyncio.wait_for(flight.refused.wait(), pause)
        return await self._put_in_turn(admitted)

    async def _put_in_turn(self, admitted: _Admitted) -> Instance:
        study = admitted.flight.study_instance_uid
        await self._putting.take(1, study)
        try:
            return await self._put_once(admitted)
        finally:
            self._putting.give_back(1, study)

    async def _put_once(self, admitted: _Admitted) -> Instance:
        instance, study = admitted.instance, admitted.flight.study_instance_uid
        unpacked = await media.unpack(admitted.incoming)
        if unpacked is not None:
            key = keys.media(study, instance.sop_instance_uid, unpacked.media.extension, instance.revision)
            content_type = unpacked.media.mime_type
            await self._store.put_stream(key, unpacked.media.size, unpacked.chunks, content_type=content_type)
            instance = instance.with_media(unpacked.media)
        if self._make_viewable and admitted.incoming.transfer_syntax_uid in MADE_VIEWABLE:
            made = await self._made_viewable(admitted)
            if made is not None:
                return await self._put_both(admitted, instance, made)
        await self._put_instance(keys.instance(study, instance.sop_instance_uid, instance.revision), admitted)
        return instance

    async def _take_room(self, admitted: _Admitted) -> None:
        flight, began = admitted.flight, time.monotonic()
        try:
            await self._room.take(_held_by(admitted.incoming.body), flight.study_instance_uid)
        except BaseException:  # its association ended while it waited: it was not acknowledged, and may come again
            flight.taken.discard(admitted.instance.sop_instance_uid)
            raise
        flight.waited_for_store += time.monotonic() - began

    def _leave_room(self, admitted: _Admitted) -> None:
        size = _held_by(admitted.incoming.body)
        admitted.incoming.body.close()
        self._room.give_back(size, admitted.flight.study_instance_uid)

    async def _made_viewable(self, admitted: _Admitted) -> bytes | None:
        """The data set in explicit little endian; None where it stays as it came."""
        incoming, uid = admitted.incoming, admitted.instance.sop_instance_uid
        if incoming.body.size > VIEWABLE_LIMIT:
            log.warning("instance %s is not made viewable: %d bytes", uid, incoming.body.size)
            return None

        def made() -> bytes:
            return made_viewable(incoming.body.read(0, incoming.body.size), incoming.transfer_syntax_uid)

        try:
            async with self._closer_look:
                data = await in_thread(made)
            flight = admitted.flight
            await self._cache.reserve(flight.study_instance_uid, len(data), for_nobody=flight.for_nobody)
        except (MalformedDataSet, CacheFull) as e:
            log.warning("instance %s is not made viewable: %s", uid, e)
            return None
        return data

    async def _put_both(self, admitted: _Admitted, instance: Instance, made: bytes) -> Instance:
        """Stores what was made viewable in the place of the instance, and beside it what came."""
        study, incoming = admitted.flight.study_instance_uid, admitted.incoming
        await self._put_instance(keys.original(study, instance.sop_instance_uid, instance.revision), admitted)
        prefix = file_header(
            incoming.sop_class_uid,
            instance.sop_instance_uid,
            EXPLICIT_LITTLE_ENDIAN,
        )
        key = keys.instance(study, instance.sop_instance_uid, instance.revision)
        await self._store.put(key, [prefix, made], content_type=DICOM)
        return instance._replace(
            transfer_syntax_uid=EXPLICIT_LITTLE_ENDIAN,
            size=len(prefix) + len(made),
            viewable_from=incoming.transfer_syntax_uid,
            original_size=instance.size,
        )

    async def _put_instance(self, key: str, admitted: _Admitted) -> None:
        body = admitted.incoming.body
        if not body.spooled:
            await self._store.put(key, [admitted.prefix, body.head(body.size)], content_type=DICOM)
            return

        async def chunks() -> AsyncIterator[bytes]:
            yield admitted.prefix
            for offset in range(0, body.size, CHUNK):
                yield await in_thread(body.read, offset, CHUNK)

        await self._store.put_stream(key, admitted.instance.size, chunks, content_type=DICOM)
