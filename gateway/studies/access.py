"""Answers ``study.access_requested``: URLs of every instance, in time (docs/contract.md: Answers).

A cached study that was compared with the PACS a moment ago is answered at once. Else the fetch is joined, or
begun. Once the PACS has listed every instance, and a moment in which a small study simply ends has passed, the answer
leaves: presigned URLs for what is stored, deferred ones for what is on its way. Where there is no list, the end of the
fetch is awaited, for as long as the answer can wait.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from gateway.avara import Delivery, Event, Manifest, MediaUrl, StudyAccess, StudyAccessRequested
from gateway.journal import Journal, JournalError
from gateway.objects import Presigner, StoreError
from gateway.studies import keys, media
from gateway.studies.cache import StudyCache
from gateway.studies.deferred import DeferredUrls
from gateway.studies.fetch import Fetcher
from gateway.studies.flight import Flight
from gateway.studies.index import StudyIndex, reading_order
from gateway.studies.listed import awaited
from gateway.studies.manifest import build_manifest
from gateway.studies.outcome import (
    Complete,
    Disputed,
    NotFound,
    NotSent,
    NotStored,
    Outcome,
    Partial,
    Unconfirmed,
    Unreachable,
)
from gateway.studies.said import in_words

log = logging.getLogger(__name__)

TO_BUILD = 0.15
"""Part of the time for an answer that is kept for making it, whatever the study's size."""

TO_BUILD_EACH = 100e-6
"""Seconds that are kept besides for each instance: four times what it takes on a machine that has nothing else to do,
since this one is busy with the fetch. No more than half of the time, though."""

LOOKS_EVERY = 0.1
"""Seconds after which it is seen how many instances there are, and so when the answer has to be begun."""

REVALIDATION_PATIENCE = 2.0
"""Seconds that a complete cached study waits for the PACS to say whether it grew; then it is answered as it
is, and the comparison goes on behind."""

PREPARED = 64
"""Studies whose answers are kept ready, but for the signatures."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """An answer but for its signatures: what depends on the index alone."""

    index: StudyIndex
    keys: tuple[str, ...]
    media_keys: tuple[str, ...]
    media: tuple[tuple[str, str], ...]
    """MIME type and file name, in the order of ``media_keys``."""
    manifest: Manifest | None


def prepare(index: StudyIndex) -> Prepared:
    """What of an answer depends on the index alone."""
    uid, instances = index.study_instance_uid, index.shown
    unpacked = [(i, i.media) for i in instances if i.media is not None]
    return Prepared(
        index,
        tuple(keys.instance(uid, i.sop_instance_uid, i.revision) for i in instances),
        tuple(keys.media(uid, i.sop_instance_uid, m.extension, i.revision) for i, m in unpacked),
        tuple((m.mime_type, media.file_name(i, m)) for i, m in unpacked),
        build_manifest(uid, instances),
    )


class StudyAccessHandler:
    """The handler of ``study.access_requested``."""

    def __init__(
        self,
        *,
        fetcher: Fetcher,
        cache: StudyCache,
        journal: Journal,
        presigner: Presigner,
        deferred: DeferredUrls,
        revalidate_after: float,
        url_expiry: int,
        patience: float,
    ) -> None:
        """*revalidate_after* and *url_expiry* are seconds; *patience* those that a study whose instances are all listed
        has to be fetched whole before it is answered with deferred URLs: infinite where they are not wanted."""
        self._fetcher = fetcher
        self._cache = cache
        self._journal = journal
        self._clock = journal.clock
        self._presigner = presigner
        self._deferred = deferred
        self._revalidate_after = revalidate_after
        self._url_expiry = url_expiry
        self._patience = patience
        self._validated: dict[str, float] = {}
        self._prepared: OrderedDict[str, Prepared] = OrderedDict()

    async def __call__(self, event: Event, delivery: Delivery) -> StudyAccess:
        """The answer to one event."""
        assert isinstance(event, StudyAccessRequested)
        uid = event.data.study_instance_uid
        async with self._cache.pinned(uid):
            # Before the answer leaves: a report may name this study by Avara's id alone, and the URLs
            # must outlive an eviction that begins now.
            validity = self._clock.now() + self._url_expiry
            await self._note(event, validity)
            answer = await self._answer(uid, delivery)
            if answer.urls:
                await self._note(event, validity)
            return answer

    async def _note(self, event: StudyAccessRequested, urls_valid_until: float) -> None:
        data = event.data
        try:
            await self._journal.access(data.study_id, data.study_instance_uid, urls_valid_until=urls_valid_until)
        except JournalError as e:
            # The radiologist reads all the same; what is at stake is a URL that an eviction may end early.
            log.error("event %s is not noted: %s", event.id, e)

    async def _answer(self, uid: str, delivery: Delivery) -> StudyAccess:
        now = self._clock.monotonic()
        held = None
        if self._fetcher.flight(uid) is None:
            try:
                held = await self._cache.index(uid)
            except StoreError as e:
                log.warning("the index of study %s cannot be read: %s", uid, e)
                return StudyAccess(authorized=True, error="the gateway's store is not available now; ask again later")
            fresh = now - self._validated.get(uid, -1e9) < self._revalidate_after and not self._fetcher.in_doubt(uid)
            if held is not None and held.complete and fresh:
                return self._with_urls(held, cached=True)
        flight = self._fetcher.fetch(uid)
        if held is not None and held.complete:
            outcome = await self._ended(flight, delivery.deadline, at_most=REVALIDATION_PATIENCE)
            if outcome is None and not flight.outgrown:
                return self._with_urls(held, cached=True)
        if flight.pushed or (held is not None and not held.pacs):
            # Whether a PACS lists it already is not waited for long.
            outcome = await self._ended(flight, delivery.deadline, at_most=REVALIDATION_PATIENCE)
            if outcome is None and flight.pushed:
                return self._so_far(flight)
        outcome = await self._ended(flight, delivery.deadline)
        if outcome is None:
            return self._so_far(flight)
        return self._of(outcome, flight)

    async def _ended(self, flight: Flight, deadline: float, *, at_most: float = math.inf) -> Outcome | None:
        """How the flight ended; None where it did not within *at_most* seconds, nor soon after every instance was
        listed, nor in time to make an answer by *deadline* (event-loop seconds)."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        until = began + at_most
        listed = False
        while flight.outcome is None:
            if flight.listed.is_set() and not listed:
                listed = True
                until = min(until, loop.time() + self._patience)
            count = max(len(flight.stored) + len(flight.missing), flight.expected_count or 0)
            whole = deadline - began
            to_build = min(TO_BUILD * whole + TO_BUILD_EACH * count, whole / 2)
            left = min(deadline - to_build, until) - loop.time()
            if left <= 0:
                break
            wait = min(left, LOOKS_EVERY)
            await (flight.ended(wait) if listed else flight.listed_or_ended(wait))
        return flight.outcome

    def _of(self, outcome: Outcome, flight: Flight) -> StudyAccess:
        held = flight.still_held
        if flight.corrected and not isinstance(outcome, Complete | Partial | NotFound):
            return StudyAccess(
                authorized=True,
                error=f"the hospital's PACS has corrected this study ({in_words(flight.corrected)}): what was here "
                "before is not shown any more, and the corrected images cannot be had now; ask again later",
            )
        match outcome:
            case Complete(index):
                self._note_validated(flight.study_instance_uid)
                return self._with_urls(index, cached=index is held)
            case Partial(index, missing, _, refused):
                total = max(len(flight.expected or ()), flight.expected_count or 0)
                lacking = len(missing) or total - len(index.instances)
                said = f"{lacking} of {total} instances" if lacking > 0 else "some instances"
                if flight.silent and not missing:
                    silent = ", ".join(flight.silent)
                    error = f"some instances may be missing: PACS {silent} cannot be asked now; ask again later"
                    return self._with_urls(index, error)
                why = f": {refused}" if refused else ""
                return self._with_urls(index, f"{said} could not be retrieved from the PACS{why}; ask again later")
            case Unconfirmed(index, cause):
                return self._with_urls(index, _as_sent(len(index.instances), cause))
            case NotFound():
                return StudyAccess(authorized=False, error="the study is not in any PACS of this hospital")
            case Unreachable(_, answered):
                if held is not None:
                    incomplete = (
                        None if held.complete else "the study may lack instances: the PACS cannot be reached now"
                    )
                    return self._with_urls(held, incomplete)
                what = "does not take the gateway's query" if answered else "cannot be reached"
                return StudyAccess(authorized=True, error=f"the hospital's PACS {what} now; ask again later")
            case NotSent(_, refused, empty):
                if held is not None:
                    return self._with_urls(held, "the hospital's PACS did not send what is new; ask again later")
                error = "the hospital's PACS has the study and sends no instance of it; ask again later"
                if refused:
                    error = f"no instance of the study could be taken in: {refused}"
                elif empty:
                    error = "the study has no instances in the hospital's PACS"
                return StudyAccess(authorized=True, error=error)
            case Disputed(_):
                return StudyAccess(
                    authorized=True,
                    error="the hospital's PACS has this study under several patients: it is not shown until that "
                    "is put right there",
                )
            case NotStored(_):
                if held is not None:
                    return self._with_urls(held, "the gateway cannot store new instances now; ask again later")
                return StudyAccess(authorized=True, error="the gateway cannot store the study now; ask again later")

    def _so_far(self, flight: Flight) -> StudyAccess:
        """What can be said of a study whose fetch goes on: deferred URLs for what is on its way."""
        unlisted = set(flight.unlisted)
        stored = [i for i in flight.stored.values() if i.sop_instance_uid not in unlisted]
        if flight.pushed:
            coming = [uid for uid in flight.acknowledged if uid not in flight.stored]
        else:
            coming = [uid for uid in flight.missing if uid not in flight.rejected]
        # One list, so that what is looked at first is among the first that a viewer asks for, stored or not.
        known = reading_order([*stored, *(awaited(uid, flight.listed_as.get(uid)) for uid in coming)])
        index = StudyIndex(flight.study_instance_uid, {i.sop_instance_uid: i for i in known}, complete=False, pacs="")
        count, error = len(known), None
        if flight.pushed:
            error = _as_sent(count)
        elif flight.expected is None or count < (flight.expected_count or 0):
            of = f" of {flight.expected_count}" if flight.expected_count else ""
            error = f"{count}{of} instances can be given so far, the study is being fetched: ask again for the others"
        elif flight.missing and flight.held is not None and not flight.held.complete:
            error = (
                f"{len(flight.missing)} of {count} instances could not be retrieved from the PACS the last time; they "
                "are asked for again now"
            )
        return self._signed(prepare(index), error, on_their_way=frozenset(coming))

    def _note_validated(self, uid: str) -> None:
        if len(self._validated) > 10_000:
            oldest = self._clock.monotonic() - self._revalidate_after
            self._validated = {u: t for u, t in self._validated.items() if t > oldest}
        self._validated[uid] = self._clock.monotonic()

    def _with_urls(self, index: StudyIndex, error: str | None = None, *, cached: bool = False) -> StudyAccess:
        uid = index.study_instance_uid
        if index.instances and not index.shown:
            error = "the hospital has withdrawn every instance of this study (rejection notes): none is shown"
        prepared = self._prepared.get(uid)
        if prepared is None or prepared.index is not index:
            prepared = self._prepared[uid] = prepare(index)
        self._prepared.move_to_end(uid)
        while len(self._prepared) > PREPARED:
            self._prepared.popitem(last=False)
        return self._signed(prepared, error, cached=cached)

    def _presigned(self, of: Sequence[str]) -> list[str]:
        return self._presigner.get_urls(of, expires_in=self._url_expiry)

    def _urls(self, prepared: Prepared, on_their_way: Collection[str]) -> list[str]:
        shown = [instance.sop_instance_uid for instance in prepared.index.shown]
        stored = [key for key, uid in zip(prepared.keys, shown, strict=True) if uid not in on_their_way]
        coming = [uid for uid in shown if uid in on_their_way]
        presigned = iter(self._presigned(stored))
        deferred = iter(self._deferred.urls(prepared.index.study_instance_uid, coming, expires_in=self._url_expiry))
        return [next(deferred if uid in on_their_way else presigned) for uid in shown]

    def _signed(
        self,
        prepared: Prepared,
        error: str | None,
        on_their_way: Collection[str] = frozenset(),
        *,
        cached: bool = False,
    ) -> StudyAccess:
        """The answer; deferred URLs for what is *on_their_way*, among the others."""
        media_urls = self._presigned(prepared.media_keys)
        return StudyAccess(
            authorized=True,
            urls=self._urls(prepared, on_their_way) if on_their_way else self._presigned(prepared.keys),
            error=error,
            media_urls=[
                MediaUrl(mime_type=mime_type, url=url, file_name=name)
                for url, (mime_type, name) in zip(media_urls, prepared.media, strict=True)
            ]
            or None,
            manifest=prepared.manifest,
            deferred=len(on_their_way),
            cached=cached,
        )


def _as_sent(count: int, cause: NotFound | Unreachable | None = None) -> str:
    """What an answer rests on that no PACS has confirmed; *cause* is why, where it is known."""
    match cause:
        case NotFound():
            why = "no PACS of this hospital lists the study yet"
        case Unreachable():
            why = "the hospital's PACS cannot be asked now"
        case None:
            why = "the hospital's PACS has not answered yet"
    said = f"{count} instances were" if count != 1 else "1 instance was"
    return f"{said} sent to the gateway so far and can be given; {why}, so there may be more: ask again later"
