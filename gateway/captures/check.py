"""Does ``capture.check`` jobs: from an upload that nobody has looked at to one that is to be stored, or held."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from weakref import WeakValueDictionary

from gateway.captures.envelope import Unacceptable
from gateway.captures.examine import Upload, check, examine
from gateway.captures.fitting import Fitting
from gateway.captures.jobs import CheckUpload, quarantine_key
from gateway.captures.removal import UploadRemover
from gateway.dicom import encode_data_set, file_header
from gateway.journal import (
    CannotBeDone,
    Ended,
    Job,
    JobState,
    Journal,
    Recorded,
    Slot,
    Transaction,
    TryLater,
    jobs,
    objects,
    slots,
)
from gateway.objects import (
    IN_ONE_PIECE,
    Fetched,
    ObjectNotFound,
    ObjectStore,
    ObjectTooLarge,
    StoreError,
    fetch_to_file,
    read_file,
)
from gateway.outbox import OtherObject, Outbox, OutboxObject, holds_another
from gateway.pacs.scu import Finder, Questions, Records, Target
from gateway.runtime import Spools, bind, in_thread

log = logging.getLogger(__name__)

CHECKS_AT_ONCE = 8
"""Uploads that are being checked at the same time: most of that is waiting for the store, the PACS and the disk."""

LARGE, LARGE_AT_ONCE = 8 * 1024 * 1024, 2
"""Bytes above which an upload is large, since its header may be; and as many large ones at the same time."""

HEARD_WITHIN = 2.0
"""Seconds in which a target may say whether it holds another object of the same UID."""

CONTENT_TYPE = "application/dicom"


@dataclass(frozen=True, slots=True)
class Policy:
    """What is taken, and what becomes of it."""

    targets: Sequence[str]
    """Names of the PACS that captures are stored in."""
    max_size: int
    """Bytes."""
    allowed_sop_classes: Sequence[str]
    coerce_patient: bool
    """Whether a capture of another patient takes the PACS's patient attributes; else it is held."""


class UploadChecker:
    """The handler of ``capture.check``."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        journal: Journal,
        pacs: Sequence[Finder],
        targets: Mapping[str, Target],
        outbox: Outbox,
        policy: Policy,
        spools: Spools,
    ) -> None:
        """*pacs* are asked in this order for the study; *targets* are those of the policy, by name."""
        self._store = store
        self._journal = journal
        self._remover = UploadRemover(store, journal)
        self._fitting = Fitting(Records(pacs), journal.clock, coerce_patient=policy.coerce_patient)
        self._targets = targets
        self._held = Questions[bool]()
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._outbox = outbox
        self._policy = policy
        self._spools = spools

    async def __call__(self, job: Job) -> Ended:
        """Checks one upload. Raises TryLater, CannotBeDone, UnreadablePayload."""
        payload = job.read(CheckUpload)
        key = payload.key
        if key is None:
            raise CannotBeDone("the record of where the upload lies is lost: have it uploaded again")
        async with self._large if payload.size > LARGE else contextlib.nullcontext():
            return await self._check(job, payload, key)

    async def _slot(self, slot_id: str) -> Slot:
        """Raises CannotBeDone."""
        slot = await self._journal.run(lambda c: slots.get(c, slot_id))
        if slot is None:
            raise CannotBeDone("the journal knows no slot for this upload: discard it, or have it uploaded again")
        bind(study=slot.study_instance_uid)
        return slot

    async def _check(self, job: Job, payload: CheckUpload, key: str) -> Ended:
        """Raises TryLater, CannotBeDone."""
        try:
            upload = await fetch_to_file(self._store, key, self._spools, self._policy.max_size)
        except ObjectTooLarge:
            # Too large to be moved about: it stays where it is.
            raise CannotBeDone(f"it is larger than captures.max_size allows ({self._policy.max_size} bytes)") from None
        except ObjectNotFound as e:
            if (await self._slot(payload.slot)).taken is not None:  # the same URL, and so the same key
                raise CannotBeDone("another object was uploaded to the same URL after it, and is stored") from e
            raise CannotBeDone("the upload is gone from the store: have it uploaded again") from e
        except StoreError as e:
            raise TryLater(str(e)) from e
        except OSError as e:
            raise TryLater(f"the upload cannot be written to state_dir/spool: {e.strerror or e}") from e
        # It is here before it waits, since another upload to its URL replaces it in the store. One upload of a slot is
        # checked after the other, so that the later one finds the slot taken and is held with its bytes: the journal
        # does what it is asked in turn, and the worker asks it to record how the former ended before this one goes on.
        turn = self._turns.setdefault(payload.slot, asyncio.Lock())
        with upload.file:
            async with turn:
                return await self._checked(job, payload, key, upload)

    async def _checked(self, job: Job, payload: CheckUpload, key: str, upload: Fetched) -> Ended:
        """Raises TryLater, CannotBeDone."""
        slot = await self._slot(payload.slot)
        try:
            record = await self._take(job, payload, slot, upload)
        except (Unacceptable, OtherObject) as e:
            record, moved = await self._quarantine(job, payload, slot, upload, str(e))
            return Recorded(record, partial(self._forget, key, job) if moved else None)
        except StoreError as e:
            raise TryLater(str(e)) from e
        except OSError as e:
            raise TryLater(f"the upload cannot be worked on in state_dir/spool: {e.strerror or e}") from e
        return Recorded(record, partial(self._forget, key, job))

    async def _take(
        self, job: Job, payload: CheckUpload, slot: Slot, fetched: Fetched
    ) -> Callable[[Transaction], None]:
        """Puts what is to be stored; what records it, and that the check is done. Raises Unacceptable, OtherObject,
        TryLater, StoreError, OSError."""
        upload = await in_thread(
            examine, fetched.file, fetched.size, spools=self._spools, max_size=self._policy.max_size
        )
        try:
            check(
                upload,
                study_instance_uid=slot.study_instance_uid,
                series_instance_uid=slot.series_instance_uid,
                sop_instance_uid=slot.sop_instance_uid,
                allowed_sop_classes=self._policy.allowed_sop_classes,
            )
            if slot.taken not in (None, fetched.sha256):
                raise Unacceptable("another object was uploaded to the same URL before, and is the one that is stored")
            # Before it is put beside the other one; it is looked at again where it is added.
            holders, unheard = await self._holders(upload)
            changed = await self._fitting.make_fit(upload, slot.study_instance_uid, accepted=bool(payload.accepted_by))
            size = await self._put(job, upload, fetched.sha256, holders, changed=bool(changed))
            text = f"checked; {', '.join(changed)}" if changed else "checked"
            added = OutboxObject(
                upload.study_instance_uid, upload.series_instance_uid, upload.sop_class_uid, upload.sop_instance_uid,
                upload.transfer_syntax_uid, size, fetched.sha256,
            )  # fmt: skip
            return partial(self._accept, job=job, payload=payload, slot=slot, added=added, unheard=unheard, text=text)
        finally:
            if upload.file is not fetched.file:
                upload.close()

    async def _holders(self, upload: Upload) -> tuple[set[str], set[str]]:
        """The targets that hold an instance of the upload's SOP Instance UID already, and those that do not say so in
        time: they are asked again before it is stored there, and hold up nobody else's."""
        study, series, instance = upload.study_instance_uid, upload.series_instance_uid, upload.sop_instance_uid
        answers = await self._held.ask(
            {target: partial(self._targets[target].holds, study, series, instance) for target in self._policy.targets},
            enough=lambda _: False,
            patience=0.0,
            at_most=HEARD_WITHIN,
        )
        unheard = {t for t in self._policy.targets if not isinstance(answers.get(t), bool)}
        return {t for t in self._policy.targets if answers.get(t) is True}, unheard

    def _conflicts(self, c: Transaction, sop_instance_uid: str, sha256: str, holders: Collection[str]) -> None:
        """Raises OtherObject, Unacceptable. The PACS was asked first: what we store there we know of before it does."""
        for target in self._policy.targets:
            if not self._outbox.check(c, target, sop_instance_uid, sha256) and target in holders:
                raise Unacceptable(holds_another(f"PACS {target}"))

    async def _put(self, job: Job, upload: Upload, sha256: str, holders: Collection[str], *, changed: bool) -> int:
        """Writes the object for each target; its size in bytes. Raises StoreError, Unacceptable, OtherObject."""
        syntax = upload.transfer_syntax_uid
        rest_from, head = upload.data_offset, b""
        if changed:
            try:
                head = await in_thread(encode_data_set, upload.attributes, syntax)
            except Exception as e:  # pydicom meets a stranger's values
                raise Unacceptable(f"its attributes cannot be written anew ({type(e).__name__})") from e
            rest_from = upload.size if upload.pixel_data is None else upload.data_offset + upload.pixel_data.offset
        start = file_header(upload.sop_class_uid, upload.sop_instance_uid, syntax) + head
        size = len(start) + upload.size - rest_from

        def reserve(c: Transaction) -> list[str]:
            self._conflicts(c, upload.sop_instance_uid, sha256, holders)
            return [self._outbox.reserve(c, job, t, upload.sop_instance_uid, sha256) for t in self._policy.targets]

        keys = await self._journal.run(reserve)
        if size <= IN_ONE_PIECE:
            content = start + b"".join([chunk async for chunk in read_file(upload.file, rest_from, upload.size)])
            for key in keys:
                await self._outbox.put(key, content)
            return size

        async def chunks() -> AsyncIterator[bytes]:
            yield start
            async for chunk in read_file(upload.file, rest_from, upload.size):
                yield chunk

        for key in keys:
            await self._store.put_stream(key, size, chunks, content_type=CONTENT_TYPE)
        return size

    def _accept(
        self,
        c: Transaction,
        *,
        job: Job,
        payload: CheckUpload,
        slot: Slot,
        added: OutboxObject,
        unheard: Collection[str],
        text: str,
    ) -> None:
        """In one transaction: the slot is taken, storing is due, the check is done. Raises TryLater."""
        now = slots.get(c, slot.id)
        if now is not None and now.taken not in (None, added.sha256):  # the journal failed, and did that one later
            raise TryLater("another object was uploaded to the same URL a moment ago, and is the one that is stored")
        try:
            for target in self._policy.targets:
                self._outbox.add(c, target, added, text=text, source={"slot": slot.id}, unheard=target in unheard)
        except OtherObject as e:  # it came a moment ago: the next attempt finds it before anything is put
            raise TryLater(str(e)) from e
        slots.take(c, slot.id, added.sha256)
        done = dataclasses.replace(payload, key=None, sop_instance_uid=added.sop_instance_uid)
        put = [key for key in objects.of(c, job.id) if key != payload.key]
        jobs.end(c, job, JobState.DONE, text, done)
        # For a target that has it already, or that an earlier attempt still had in its configuration.
        jobs.clean_unneeded(c, put, after=0.0)

    async def _quarantine(
        self, job: Job, payload: CheckUpload, slot: Slot, upload: Fetched, reason: str
    ) -> tuple[Callable[[Transaction], None], bool]:
        """Moves an upload out of the inbox, where another one may overwrite it: what leaves it to an operator, and
        whether it lay elsewhere before. Raises TryLater."""
        key = quarantine_key(slot.id, upload.sha256)
        if payload.key != key:
            await self._journal.run(lambda c: objects.use(c, job.id, [key]))
            try:
                await self._store.put_stream(
                    key, upload.size, lambda: read_file(upload.file, 0, upload.size), content_type=CONTENT_TYPE
                )
            except StoreError as e:
                raise TryLater(str(e)) from e
        log.warning("job %d (%s) is quarantined: %s", job.id, job.kind, reason)
        moved = dataclasses.replace(payload, key=key)

        # What was put for the PACS, before it was known that none is to have it, goes with this.
        return lambda c: jobs.end(c, job, JobState.QUARANTINED, reason, moved), payload.key != key

    async def _forget(self, key: str, job: Job) -> None:
        try:
            if key.startswith(slots.INBOX):
                await self._remover.remove([(key.removeprefix(slots.INBOX), job.subject)])
            else:
                await self._store.delete([key])
        except StoreError as e:  # the next look at the inbox removes it
            log.info("what was uploaded as %s is not removed yet: %s", key, e)
