"""Does ``capture.check`` jobs: from an upload that nobody has looked at to one that is to be stored, or held."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from gateway.captures import amend, identity
from gateway.captures import jobs as names
from gateway.captures.examine import Unacceptable, Upload, check, examine
from gateway.journal import Job, JobState, Journal, Transaction, jobs, slots
from gateway.journal.slots import Slot
from gateway.journal.worker import CannotBeDone, TryLater
from gateway.objects import ObjectNotFound, ObjectStore, StoreError
from gateway.pacs.client import PacsClient, StudyRecord
from gateway.pacs.errors import PacsError
from gateway.pacs.part10 import file_header

log = logging.getLogger(__name__)

CHUNK = 256 * 1024
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
        pacs: Sequence[PacsClient],
        policy: Policy,
        spool_dir: Path,
        added: Callable[[], None],
    ) -> None:
        """*pacs* are asked in this order for the study; *added* is called when a job was added."""
        self._store = store
        self._journal = journal
        self._pacs = pacs
        self._policy = policy
        self._spool_dir = spool_dir
        self._added = added

    async def __call__(self, job: Job) -> None:
        """Checks one upload. Raises TryLater, CannotBeDone."""
        key = job.payload["key"]
        slot = await self._journal.run(lambda c: slots.get(c, job.payload["slot"]))
        if slot is None:
            raise CannotBeDone("the journal knows no slot for this upload: discard it, or have it uploaded again")
        try:
            file, size, sha256 = await fetch_to_file(self._store, key, self._spool_dir, self._policy.max_size)
        except ObjectNotFound as e:
            raise CannotBeDone("the upload is gone from the store") from e
        except StoreError as e:
            raise TryLater(str(e)) from e
        except OSError as e:
            raise TryLater(f"the upload cannot be spooled to {self._spool_dir} ({e.strerror}): free space there") from e
        try:
            await self._take(job, slot, file, size, sha256)
        except Unacceptable as e:
            await self._hold(job, slot, file, size, sha256, str(e))
        except StoreError as e:
            raise TryLater(str(e)) from e
        finally:
            file.close()
        await self._forget(key, job)

    async def _take(self, job: Job, slot: Slot, file: FileIO, size: int, sha256: str) -> None:
        if size < 0:
            raise Unacceptable(f"it is larger than captures.max_size allows ({self._policy.max_size} bytes)")
        upload = await asyncio.to_thread(examine, file, size, spool_dir=self._spool_dir, max_size=self._policy.max_size)
        try:
            check(
                upload,
                study_instance_uid=slot.study_instance_uid,
                series_instance_uid=slot.series_instance_uid,
                sop_instance_uid=slot.sop_instance_uid,
                allowed_sop_classes=self._policy.allowed_sop_classes,
            )
            if slot.taken not in (None, sha256):
                raise Unacceptable("another object was uploaded to the same URL before, and is the one that is stored")
            record = await self._record(slot.study_instance_uid)
            changed = self._amend(upload, record)
            keys = await self._put(upload, sha256, changed=bool(changed))
            said = f"checked; {', '.join(changed)}" if changed else "checked"
            await self._journal.run(lambda c: self._accept(c, job, slot, upload, sha256, keys, said))
            self._added()
        finally:
            if upload.file is not file:
                upload.close()

    async def _record(self, study_instance_uid: str) -> StudyRecord:
        """What the PACS says of the study. Raises TryLater, Unacceptable."""
        failure: PacsError | None = None
        for client in self._pacs:
            try:
                record = await client.find_study(study_instance_uid)
            except PacsError as e:
                failure = e
                continue
            if record is not None:
                return record
        if failure is not None:
            raise TryLater(f"whose study it is cannot be asked: {failure}")
        raise Unacceptable("its study is in no PACS any more")

    def _amend(self, upload: Upload, record: StudyRecord) -> list[str]:
        """Makes the object one of its study; what was changed, by keyword. Raises Unacceptable."""
        attributes = upload.attributes
        try:
            different = identity.differences(amend.patient_of(attributes), amend.patient_in(record))
            coerced = []
            if different:
                if not self._policy.coerce_patient:
                    raise Unacceptable(f"its patient is not the study's: {', '.join(different)} differ")
                coerced = amend.coerce_patient(attributes, record)
            filled = amend.fill(attributes, record)
            changed = [f"set {k} from the PACS" for k in (*coerced, *filled)]
            if changed:
                amend.sign(attributes, "; ".join(changed))
        except Unacceptable:
            raise
        except Exception as e:  # pydicom meets a stranger's values
            raise Unacceptable(f"its attributes cannot be read ({type(e).__name__})") from e
        return changed

    async def _put(self, upload: Upload, sha256: str, *, changed: bool) -> dict[str, tuple[str, int]]:
        """Writes the object for each target; its key and size. Raises StoreError, Unacceptable."""
        syntax = upload.transfer_syntax_uid
        head_end = upload.pixel_data.offset if upload.pixel_data else upload.size - upload.data_offset
        rest_from, head = upload.data_offset, b""
        if changed:
            try:
                head = await asyncio.to_thread(amend.encoded, upload.attributes, syntax)
            except Exception as e:
                raise Unacceptable(f"its attributes cannot be written anew ({type(e).__name__})") from e
            rest_from += head_end
        start = file_header(upload.sop_class_uid, upload.sop_instance_uid, syntax) + head
        size = len(start) + upload.size - rest_from

        async def chunks() -> AsyncIterator[bytes]:
            yield start
            async for chunk in read_file(upload.file, rest_from, upload.size):
                yield chunk

        keys = {}
        for target in self._policy.targets:
            key = names.accepted_key(target, upload.sop_instance_uid, sha256)
            await self._store.put_stream(key, size, chunks, content_type=CONTENT_TYPE)
            keys[target] = (key, size)
        return keys

    def _accept(
        self,
        c: Transaction,
        job: Job,
        slot: Slot,
        upload: Upload,
        sha256: str,
        keys: Mapping[str, tuple[str, int]],
        said: str,
    ) -> None:
        """In one transaction: the slot is taken, storing is due, the check is done."""
        for target, (key, size) in keys.items():
            payload: dict[str, Any] = {
                "target": target, "key": key, "size": size, "sha256": sha256, "slot": slot.id,
                "study": upload.study_instance_uid, "sop_class": upload.sop_class_uid,
                "sop_instance": upload.sop_instance_uid, "transfer_syntax": upload.transfer_syntax_uid,
            }  # fmt: skip
            stored, new = jobs.add(
                c, names.STORE, names.store_subject(target, upload.sop_instance_uid), payload, said=said
            )
            if not new and stored.payload.get("sha256") != sha256:
                raise Unacceptable(
                    f"other bytes were uploaded before under its SOP Instance UID (job {stored.id}): if this one is "
                    "the right one, discard that job and retry this"
                )
        slots.take(c, slot.id, sha256)
        jobs.end(c, job.id, JobState.DONE, said, {**job.payload, "key": None, "sop_instance": upload.sop_instance_uid})

    async def _hold(self, job: Job, slot: Slot, file: FileIO, size: int, sha256: str, reason: str) -> None:
        """Moves an upload out of the inbox, where another one may overwrite it, and leaves it to an operator."""
        key = names.quarantine_key(slot.id, sha256)
        if job.payload["key"] != key and size >= 0:
            try:
                await self._store.put_stream(key, size, lambda: read_file(file, 0, size), content_type=CONTENT_TYPE)
            except StoreError as e:
                raise TryLater(str(e)) from e
        elif size < 0:
            key = job.payload["key"]  # too large to be moved about: it stays where it is
        log.warning("job %d (%s) is quarantined: %s", job.id, job.kind, reason)
        payload = {**job.payload, "key": key}
        await self._journal.run(lambda c: jobs.end(c, job.id, JobState.QUARANTINED, reason, payload))

    async def _forget(self, key: str, job: Job) -> None:
        now = await self._journal.run(lambda c: jobs.get(c, job.id))
        if now is None or now.payload.get("key") == key:
            return
        try:
            await self._store.delete([key])
        except StoreError as e:  # the next look at the inbox removes it
            log.info("what was uploaded as %s is not removed yet: %s", key, e)


async def fetch_to_file(
    store: ObjectStore, key: str, spool_dir: Path, max_size: int | None = None
) -> tuple[FileIO, int, str]:
    """An object as an unnamed file, its size (-1 where it is over *max_size*) and its SHA-256.

    Raises ObjectNotFound, StoreError, OSError.
    """
    digest, size = hashlib.sha256(), 0
    file: FileIO = tempfile.TemporaryFile(dir=spool_dir, buffering=0)  # noqa: SIM115
    try:
        async with store.read(key) as chunks:
            async for chunk in chunks:
                size += len(chunk)
                if max_size is not None and size > max_size:
                    return file, -1, hashlib.sha256(key.encode()).hexdigest()
                digest.update(chunk)
                await asyncio.to_thread(file.write, chunk)
    except BaseException:
        file.close()
        raise
    return file, size, digest.hexdigest()


async def read_file(file: FileIO, start: int, end: int) -> AsyncIterator[bytes]:
    """The bytes of a file from *start* to *end*, a piece at a time."""
    while start < end:
        chunk = await asyncio.to_thread(os.pread, file.fileno(), min(CHUNK, end - start), start)
        if not chunk:
            raise OSError("a spool file that is shorter than it was")
        start += len(chunk)
        yield chunk
