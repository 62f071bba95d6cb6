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

from gateway.access import Purpose, Refused
from gateway.avara import Event, StudyAccess, StudyAccessRequested, WebhookDelivery
from gateway.journal import Journal, JournalError
from gateway.objects import Presigner, StoreError
from gateway.studies.answers import StudyAnswers
from gateway.studies.cache import StudyCache
from gateway.studies.deferred import DeferredUrls
from gateway.studies.fetch import Fetcher
from gateway.studies.flight import Flight
from gateway.studies.outcome import (
    Complete,
    Outcome,
)
from gateway.studies.permission import CANNOT_TELL, StudyPermission

log = logging.getLogger(__name__)

TO_BUILD = 0.15
"""Part of the time for an answer that is kept for making it, whatever the study's size."""

TO_BUILD_EACH = 100e-6
"""Seconds that are kept besides for each instance: four times what it takes on a machine that has nothing else to do,
since this one is busy with the fetch. No more than half of the time, though."""

LOOKS_EVERY = 0.1
"""Seconds after which it is seen how many instances there are, and so when the answer has to be begun."""

A_GLANCE = 0.1
"""Part of the patience for a listed study after which it is seen how quickly it comes, and each time again."""

HOPELESS = 4.0
"""Times as long as is left of that patience: what would take longer, by how quickly it came so far, is not waited for.
That is told from a few instances, of which the first take longest."""

REVALIDATION_PATIENCE = 2.0
"""Seconds that a complete cached study waits for the PACS to say whether it grew; then it is answered as it
is, and the comparison goes on behind."""

FOR_THE_INDEX = 0.6
"""Share of the time for an answer in which the store may say what it has of the study."""

NOTED_WITHIN = 0.1
"""Share of the time for an answer in which the journal may note it, each of two times: a disk that hangs keeps nobody
from reading."""


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
        permission: StudyPermission,
    ) -> None:
        """*revalidate_after* and *url_expiry* are seconds; *patience* those that a study whose instances are all listed
        has to be fetched whole before it is answered with deferred URLs: infinite where they are not wanted."""
        self._fetcher = fetcher
        self._cache = cache
        self._journal = journal
        self._clock = journal.clock
        self._answers = StudyAnswers(presigner, deferred, url_expiry)
        self._revalidate_after = revalidate_after
        self._url_expiry = url_expiry
        self._patience = patience
        self._permission = permission
        self._validated: dict[str, float] = {}

    async def __call__(self, event: Event, delivery: WebhookDelivery) -> StudyAccess:
        """The answer to one event."""
        assert isinstance(event, StudyAccessRequested)
        uid = event.data.study_instance_uid
        async with self._cache.pinned(uid):
            # Before the answer leaves: a report may name this study by Avara's id alone, and the URLs
            # must outlive an eviction that begins now. The disk is waited for beside what else has to be done.
            validity = self._clock.now() + self._url_expiry
            within = (delivery.deadline - asyncio.get_running_loop().time()) * NOTED_WITHIN
            noted = asyncio.create_task(self._note(event, validity, within))
            try:
                answer = await self._permitted(event, delivery)
            finally:
                await noted
            if answer.urls and not answer.cached:  # the ledger may not have known the study before
                await self._note(event, validity, within)
            return answer

    async def _note(self, event: StudyAccessRequested, urls_valid_until: float, within: float) -> None:
        data = event.data
        try:
            async with asyncio.timeout(within):
                await self._journal.access(data.study_id, data.study_instance_uid, urls_valid_until=urls_valid_until)
        except (JournalError, TimeoutError) as e:
            # The radiologist reads all the same; what is at stake is a URL that an eviction may end early.
            log.error("event %s is not noted: %s", event.id, str(e) or "the journal's disk does not answer in time")

    async def _permitted(self, event: StudyAccessRequested, delivery: WebhookDelivery) -> StudyAccess:
        """The answer, where the hospital's policy lets it be given."""
        uid = event.data.study_instance_uid
        if not self._permission.needed:
            return await self._answer(uid, delivery)
        try:
            await self._permission.ask(uid, Purpose.OPEN, event=event.id, deadline=delivery.deadline)
            answer = await self._answer(uid, delivery)
            if answer.urls:
                # It may be another patient's by now, or from another PACS, than what was known of it before.
                await self._permission.ask(uid, Purpose.OPEN, event=event.id, deadline=delivery.deadline)
            return answer
        except Refused as e:
            return StudyAccess(authorized=str(e) == CANNOT_TELL, error=str(e), rule=e.rule)

    async def _answer(self, uid: str, delivery: WebhookDelivery) -> StudyAccess:
        now = self._clock.monotonic()
        held = None
        if self._fetcher.flight(uid) is None:
            loop = asyncio.get_running_loop()
            try:
                # A store that says nothing leaves time for an answer.
                async with asyncio.timeout_at(loop.time() + (delivery.deadline - loop.time()) * FOR_THE_INDEX):
                    held = await self._cache.index(uid)
            except (StoreError, TimeoutError) as e:
                log.warning("the index of study %s cannot be read: %s", uid, e or "the store does not answer in time")
                return StudyAccess(authorized=True, error="the gateway's store is not available now; ask again later")
            validated = now - self._validated.get(uid, -1e9) < self._revalidate_after
            fresh = validated and not self._fetcher.absences.in_doubt(uid)
            if held is not None and held.complete and fresh:
                return self._answers.of_index(held, cached=True)
        flight = self._fetcher.fetch(uid)
        if held is not None and held.complete:
            outcome = await self._ended(flight, delivery.deadline, at_most=REVALIDATION_PATIENCE)
            if outcome is None and not flight.outgrown:
                return self._answers.of_index(held, cached=True)
        if flight.pushed or (held is not None and not held.pacs):
            # Whether a PACS lists it already is not waited for long.
            outcome = await self._ended(flight, delivery.deadline, at_most=REVALIDATION_PATIENCE)
            if outcome is None and flight.pushed:
                return self._answers.so_far(flight)
        outcome = await self._ended(flight, delivery.deadline)
        if outcome is None:
            return self._answers.so_far(flight)
        if isinstance(outcome, Complete):
            self._note_validated(uid)
        return self._answers.of(outcome, flight)

    async def _ended(self, flight: Flight, deadline: float, *, at_most: float = math.inf) -> Outcome | None:
        """How the flight ended; None where it did not within *at_most* seconds, nor soon after every instance was
        listed, nor in time to make an answer by *deadline* (event-loop seconds)."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        until = began + at_most
        listed, stored_before = math.inf, 0
        while flight.outcome is None:
            if flight.listed.is_set() and listed == math.inf:
                listed, stored_before = loop.time(), len(flight.stored)
                until = min(until, listed + self._patience)
            elif listed < loop.time():
                took, came = loop.time() - listed, len(flight.stored) - stored_before
                if is_hopeless(len(flight.expected or ()) - len(flight.stored), came, took, self._patience - took):
                    break
            count = max(len(flight.stored), len(flight.expected or ()), flight.expected_count or 0)
            whole = deadline - began
            to_build = min(TO_BUILD * whole + TO_BUILD_EACH * count, whole / 2)
            left = min(deadline - to_build, until) - loop.time()
            if left <= 0:
                break
            if listed == math.inf:
                await flight.listed_or_ended(min(left, LOOKS_EVERY))
            else:
                await flight.ended(min(left, LOOKS_EVERY, self._patience * A_GLANCE))
        return flight.outcome

    def _note_validated(self, uid: str) -> None:
        if len(self._validated) > 10_000:
            oldest = self._clock.monotonic() - self._revalidate_after
            self._validated = {u: t for u, t in self._validated.items() if t > oldest}
        self._validated[uid] = self._clock.monotonic()


def is_hopeless(lacking: int, came: int, took: float, left: float) -> bool:
    """Whether *lacking* instances would take several times the *left* seconds, by how quickly others *came* in the
    seconds that it *took*; as if one more were just about to come."""
    return lacking * took / (came + 1) > HOPELESS * left
