"""Does ``capture.check`` jobs: from an upload that nobody has looked at to one that is to be stored, or held."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from gateway.captures import amend, identity
from gateway.captures.accept import OTHER_PATIENT
from gateway.captures.envelope import Unacceptable
from gateway.captures.examine import Upload, check, examine
from gateway.captures.jobs import CheckUpload, quarantine_key
from gateway.dicom import encode_data_set, file_header
from gateway.journal import CannotBeDone, Job, JobState, Journal, Slot, Transaction, TryLater, jobs, objects, slots
from gateway.objects import Fetched, ObjectNotFound, ObjectStore, ObjectTooLarge, StoreError, fetch_to_file, read_file
from gateway.outbox import OtherObject, Outbox, OutboxObject, holds_another
from gateway.pacs import PacsError
from gateway.pacs.scu import Finder, Questions, Records, StudyRecord, Target
from gateway.runtime import Spools, bind

log = logging.getLogger(__name__)

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
        added: Callable[[], None],
    ) -> None:
        """*pacs* are asked in this order for the study; *targets* are those of the policy, by name; *added* is called
        when a job was added."""
        self._store = store
        self._journal = journal
        self._records = Records(pacs)
        self._targets = targets
        self._held = Questions[bool]()
        self._outbox = outbox
        self._policy = policy
        self._spools = spools
        self._added = added

    async def __call__(self, job: Job) -> None:
        """Checks one upload. Raises TryLater, CannotBeDone, UnreadablePayload."""
        payload = job.read(CheckUpload)
        key = payload.key
        if key is None:
            raise CannotBeDone("it is not known any more where the upload lies: have it uploaded again")
        slot = await self._journal.run(lambda c: slots.get(c, payload.slot))
        if slot is None:
            raise CannotBeDone("the journal knows no slot for this upload: discard it, or have it uploaded again")
        bind(study=slot.study_instance_uid)
        try:
            upload = await fetch_to_file(self._store, key, self._spools, self._policy.max_size)
        except ObjectTooLarge:
            # Too large to be moved about: it stays where it is.
            raise CannotBeDone(f"it is larger than captures.max_size allows ({self._policy.max_size} bytes)") from None
        except ObjectNotFound as e:
            raise CannotBeDone("the upload is gone from the store: have it uploaded again") from e
        except StoreError as e:
            raise TryLater(str(e)) from e
        except OSError as e:
            raise TryLater(f"the upload cannot be written to state_dir/spool: {e.strerror or e}") from e
        with upload.file:
            try:
                await self._take(job, payload, slot, upload)
            except (Unacceptable, OtherObject) as e:
                await self._quarantine(job, payload, slot, upload, str(e))
            except StoreError as e:
                raise TryLater(str(e)) from e
            except OSError as e:
                raise TryLater(f"the upload cannot be worked on in state_dir/spool: {e.strerror or e}") from e
        await self._forget(key, job)

    async def _take(self, job: Job, payload: CheckUpload, slot: Slot, fetched: Fetched) -> None:
        upload = await asyncio.to_thread(
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
            await self._journal.run(lambda c: self._conflicts(c, upload.sop_instance_uid, fetched.sha256, holders))
            record = await self._record(slot.study_instance_uid)
            changed = self._amend(upload, record, accepted=bool(payload.accepted_by))
            size = await self._put(job, upload, fetched.sha256, changed=bool(changed))
            said = f"checked; {', '.join(changed)}" if changed else "checked"
            added = OutboxObject(
                upload.study_instance_uid, upload.series_instance_uid, upload.sop_class_uid, upload.sop_instance_uid,
                upload.transfer_syntax_uid, size, fetched.sha256,
            )  # fmt: skip
            await self._journal.run(lambda c: self._accept(c, job, payload, slot, added, unheard, said))
            self._added()
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

    async def _record(self, study_instance_uid: str) -> StudyRecord:
        """What the PACS says of the study. Raises TryLater, Unacceptable."""
        try:
            record = await self._records.find(study_instance_uid)
        except PacsError as e:
            raise TryLater(f"whose study it is cannot be asked: {e}") from e
        if record is None:
            raise Unacceptable("its study is in no PACS any more")
        return record

    def _amend(self, upload: Upload, record: StudyRecord, *, accepted: bool) -> list[str]:
        """Makes the object one of its study; what was changed, by keyword. *accepted*: an operator has decided that it
        is the study's patient's. Raises Unacceptable."""
        attributes = upload.attributes
        try:
            different = identity.differences(amend.patient_of(attributes), amend.patient_in(record))
            coerced = []
            if different:
                if not (self._policy.coerce_patient or accepted):
                    raise Unacceptable(f"{OTHER_PATIENT}: {', '.join(different)} differ")
                coerced = amend.coerce_patient(attributes, record)
            filled = amend.fill(attributes, record)
            changed = [*upload.mended, *(f"set {k} from the PACS" for k in (*coerced, *filled))]
            if changed:
                amend.sign(attributes, "; ".join(changed))
        except Unacceptable:
            raise
        except Exception as e:  # pydicom meets a stranger's values
            raise Unacceptable(f"its attributes cannot be read ({type(e).__name__})") from e
        return changed

    async def _put(self, job: Job, upload: Upload, sha256: str, *, changed: bool) -> int:
        """Writes the object for each target; its size in bytes. Raises StoreError, Unacceptable."""
        syntax = upload.transfer_syntax_uid
        rest_from, head = upload.data_offset, b""
        if changed:
            try:
                head = await asyncio.to_thread(encode_data_set, upload.attributes, syntax)
            except Exception as e:  # pydicom meets a stranger's values
                raise Unacceptable(f"its attributes cannot be written anew ({type(e).__name__})") from e
            rest_from = upload.size if upload.pixel_data is None else upload.data_offset + upload.pixel_data.offset
        start = file_header(upload.sop_class_uid, upload.sop_instance_uid, syntax) + head
        size = len(start) + upload.size - rest_from

        async def chunks() -> AsyncIterator[bytes]:
            yield start
            async for chunk in read_file(upload.file, rest_from, upload.size):
                yield chunk

        def reserve(c: Transaction) -> list[str]:
            return [self._outbox.reserve(c, job, t, upload.sop_instance_uid, sha256) for t in self._policy.targets]

        for key in await self._journal.run(reserve):
            await self._store.put_stream(key, size, chunks, content_type=CONTENT_TYPE)
        return size

    def _accept(
        self,
        c: Transaction,
        job: Job,
        payload: CheckUpload,
        slot: Slot,
        added: OutboxObject,
        unheard: Collection[str],
        said: str,
    ) -> None:
        """In one transaction: the slot is taken, storing is due, the check is done."""
        for target in self._policy.targets:
            self._outbox.add(c, target, added, said=said, source={"slot": slot.id}, unheard=target in unheard)
        slots.take(c, slot.id, added.sha256)
        done = dataclasses.replace(payload, key=None, sop_instance_uid=added.sop_instance_uid)
        jobs.end(c, job, JobState.DONE, said, done)

    async def _quarantine(self, job: Job, payload: CheckUpload, slot: Slot, upload: Fetched, reason: str) -> None:
        """Moves an upload out of the inbox, where another one may overwrite it, and leaves it to an operator."""
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

        def leave(c: Transaction) -> None:
            put = [k for k in objects.of(c, job.id) if k not in (key, payload.key)]
            jobs.end(c, job, JobState.QUARANTINED, reason, moved)
            for copy in put:  # made for the PACS, before it was known that none is to have it
                if objects.user_of(c, copy) is None:
                    jobs.clean(c, copy, after=0)

        await self._journal.run(leave)

    async def _forget(self, key: str, job: Job) -> None:
        now = await self._journal.run(lambda c: jobs.get(c, job.id))
        if now is None or now.read(CheckUpload).key == key:
            return
        try:
            await self._store.delete([key])
        except StoreError as e:  # the next look at the inbox removes it
            log.info("what was uploaded as %s is not removed yet: %s", key, e)
