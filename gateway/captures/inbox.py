"""Notices uploads: by listing the inbox, which works with every S3 server and after every restart.

Where the store can tell of new objects, or an upload came through the gateway's own face, that only makes it sooner.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence

from gateway.captures.jobs import CHECK, CheckUpload, check_subject
from gateway.captures.removal import UploadRemover
from gateway.journal import JobState, Journal, Transaction, jobs, slots
from gateway.objects import UPLOADS, ObjectInfo, ObjectStore, StoreError
from gateway.runtime import GatewayError, bound, progress

log = logging.getLogger(__name__)

LOOKS_EVERY = 1.0
"""Seconds between two listings while slots are open."""

ASKS_FOR_SLOTS_EVERY = 10.0
"""Seconds between two questions to the journal whether slots are open, while none seemed to be: a clock that was ahead
of the time for a moment, and was set right, had ended them all."""

LOOKS_ANYWAY_EVERY = 300.0
"""Seconds between two listings while none is: for what no slot explains."""

MOST_TOLD = 1000
"""Uploads that were one too many, and are told of once."""

_TooMany = tuple[slots.Slot, ObjectInfo, str]
"""With the subject that its job would have."""

TELLS_AGAIN_AFTER = 60.0
"""Seconds before a store that tells of new objects is asked to again, once it has ended that."""


class Inbox:
    """Watches the inbox and adds a job for every upload that it has not seen."""

    def __init__(
        self,
        store: ObjectStore,
        journal: Journal,
        *,
        added: Callable[[], None],
        refused: Callable[[slots.Slot, ObjectInfo], None] = lambda slot, info: None,
    ) -> None:
        """*added* is called when a job was added, *refused* of an upload that is one too many through its URL."""
        self._refused = refused
        self._too_many: OrderedDict[str, None] = OrderedDict()
        self._store = store
        self._journal = journal
        self._remover = UploadRemover(store, journal)
        self._added = added
        self._open = asyncio.Event()
        self._news = asyncio.Event()
        self._listed_at = -LOOKS_ANYWAY_EVERY
        self._told: dict[str, ObjectInfo] = {}

    def slot_opened(self) -> None:
        """An upload may come from now on."""
        self._open.set()

    def uploaded(self, info: ObjectInfo) -> None:
        """The store has an upload: it is taken at once, without a listing, which takes longer the more there are."""
        if info.key.startswith(slots.INBOX):
            if info.etag:
                self._told[info.key] = info
            self._news.set()

    async def watch(self) -> None:
        """Looks for uploads until it is cancelled; first for what came while nobody did."""
        while True:
            progress()
            self._open.clear()
            self._news.clear()
            open_slots = True
            try:
                told, self._told = list(self._told.values()), {}
                since_listed = self._journal.clock.monotonic() - self._listed_at
                if told and since_listed < LOOKS_EVERY:
                    await self._take(told)
                else:
                    open_slots = bool(await self._journal.run(slots.open_slots))
                    if open_slots or since_listed >= LOOKS_ANYWAY_EVERY:
                        await self.look()
            except GatewayError as e:
                log.warning("the inbox cannot be looked at: %s", e)
            event = self._news if open_slots else self._open
            try:
                async with asyncio.timeout(LOOKS_EVERY if open_slots else ASKS_FOR_SLOTS_EVERY):
                    await event.wait()
            except TimeoutError:
                continue

    async def listen(self) -> None:
        """Until it is cancelled: where the store tells of new objects, the next look is at once."""
        while True:
            try:
                async for _ in self._store.created(slots.INBOX):
                    self._news.set()
            except StoreError as e:
                log.debug("the store does not tell of new objects: %s", e)
            await asyncio.sleep(TELLS_AGAIN_AFTER)

    async def look(self) -> None:
        """Lists the inbox once. Raises StoreError, JournalError."""
        found = [info async for info in self._store.list(slots.INBOX)]
        self._listed_at = self._journal.clock.monotonic()
        if found:
            await self._take(found)

    async def _take(self, found: Sequence[ObjectInfo]) -> None:
        done, too_many = await self._journal.run(lambda c: self._note(c, found))
        for slot, info, subject in too_many:
            done.append((slot.id, subject))
            if subject not in self._too_many:  # what cannot be removed yet is found by each listing
                self._too_many[subject] = None
                log.warning(
                    "upload of %d bytes to study %s is not taken: %d others came through its URL before; it is removed",
                    info.size, slot.study_instance_uid, UPLOADS,
                )  # fmt: skip
                self._refused(slot, info)
        while len(self._too_many) > MOST_TOLD:
            self._too_many.popitem(last=False)
        if done:
            # What is left of uploads that were dealt with before: the same bytes sent again, or a crash.
            await self._remover.remove(done)

    def _note(self, c: Transaction, found: Sequence[ObjectInfo]) -> tuple[list[tuple[str, str]], list[_TooMany]]:
        """Adds a job for each upload that is new; slot and subject of those that have been dealt with, and what is one
        too many: a store of the hospital's own takes whatever is sent to a URL for as long as it works, and each other
        upload is kept for an operator."""
        done, too_many, any_new = list[tuple[str, str]](), list[_TooMany](), False
        # Whatever waits to be checked is found again by each listing: that costs a statement, not one for each.
        subjects = [check_subject(info.key.removeprefix(slots.INBOX), info.etag) for info in found]
        known = jobs.find_all(c, CHECK, subjects)
        for info, subject in zip(found, subjects, strict=True):
            slot_id = info.key.removeprefix(slots.INBOX)
            if (job := known.get(subject)) is not None:
                if job.state is not JobState.RUNNING and job.read(CheckUpload).key != info.key:
                    done.append((slot_id, subject))
                continue
            payload = CheckUpload(slot_id, info.key, info.size)
            slot = slots.get(c, slot_id)
            if slot is None:
                reason = "nobody was given this upload URL, as far as the journal knows: was it replaced?"
                jobs.add(c, CHECK, subject, payload, quarantined=reason)
                continue
            if jobs.count_beginning(c, CHECK, check_subject(slot_id, "")) >= UPLOADS:
                too_many.append((slot, info, subject))
                continue
            with bound(webhook=slot.webhook_id):  # which the upload's URL was given to
                _, new = jobs.add(c, CHECK, subject, payload, text=f"uploaded, {info.size} bytes")
            any_new |= new
        if any_new:
            self._added()
        return done, too_many
