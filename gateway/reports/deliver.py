"""Does the jobs that bring a version of a report to one place each: a PACS, an HL7 receiver, a folder; and alerts.

Each place has its own job, so that one that is down keeps no other from its report.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeVar

from gateway.alerts.channels import Alert, AlertKind
from gateway.journal import Job, JobState, Journal, Transaction, jobs
from gateway.journal import reports as table
from gateway.journal.reports import ReportVersion
from gateway.journal.worker import CannotBeDone, Done, Ended, TryLater
from gateway.objects import ObjectNotFound, ObjectStore, StoreError
from gateway.outbox import Outbox, OutboxObject
from gateway.pacs.errors import PacsError
from gateway.pacs.scu.client import StudyRecord
from gateway.pacs.scu.lookup import find_record
from gateway.pacs.scu.retrieve import Finder
from gateway.reports.dicom.documents import DicomObject, basic_text_sr, encapsulated_pdf
from gateway.reports.folder.write import FolderUnavailable, check_folder, write_report
from gateway.reports.hl7 import message as hl7
from gateway.reports.hl7 import mllp
from gateway.reports.report import Report
from gateway.runtime.errors import GatewayError

log = logging.getLogger(__name__)

T = TypeVar("T")

DICOM = "application/dicom"

FOLDER_WITHIN = 120.0
"""Seconds that a folder has to take a report; a share that hangs would never say so."""


class Delivery:
    """What every delivery has in common: the report and its study, and how its job ends."""

    def __init__(self, *, journal: Journal, objects: ObjectStore, pacs: Sequence[Finder], keep_for: float) -> None:
        """*pacs* are asked in this order for the study; *keep_for* is seconds."""
        self._journal = journal
        self._objects = objects
        self._pacs = pacs
        self._keep_for = keep_for

    async def report(self, job: Job) -> Report:
        """The version of the report that *job* is to deliver. Raises TryLater, CannotBeDone."""
        payload, pdf = job.payload, None
        if payload["key"] is not None:
            try:
                pdf = await self._objects.get(payload["key"])
            except ObjectNotFound as e:
                raise CannotBeDone("its PDF is gone from the store: have Avara deliver the report again") from e
            except StoreError as e:
                raise TryLater(str(e)) from e
        return Report(
            payload["report"], payload["study_id"], payload["study"], payload["version"], payload["critical"],
            payload["text"], pdf, payload["received"],
        )  # fmt: skip

    async def study(self, job: Job) -> StudyRecord:
        """What the PACS says of the report's study. Raises TryLater, also where none has it: it may be on its way."""
        uid = job.payload["study"]
        try:
            record = await find_record(self._pacs, uid)
        except PacsError as e:
            raise TryLater(f"whose study it is cannot be asked: {e}") from e
        if record is None:
            raise TryLater(f"study {uid} is in no PACS: is it the right one, and does the PACS show it to us?")
        return record

    def end(self, c: Transaction, job: Job, said: str) -> None:
        """The job is done: what it held of the patient goes."""
        kept = {name: job.payload[name] for name in ("report", "study_id", "study", "version", "target")}
        jobs.end(c, job.id, JobState.DONE, said, kept)
        if job.payload["key"] is not None:
            jobs.clean(c, job.payload["key"], after=self._keep_for)


class PacsDelivery:
    """The handler of ``report.pacs``: makes the DICOM objects and gives them to the outbox."""

    def __init__(
        self, delivery: Delivery, *, journal: Journal, objects: ObjectStore, outbox: Outbox, text: bool
    ) -> None:
        """*text* says whether the text goes in as a Basic Text SR, too; it does where there is no PDF."""
        self._delivery = delivery
        self._journal = journal
        self._objects = objects
        self._outbox = outbox
        self._text = text

    async def __call__(self, job: Job) -> Ended:
        """Makes the objects of one version for one PACS. Raises TryLater, CannotBeDone."""
        report, study = await self._delivery.report(job), await self._delivery.study(job)
        versions = await self._journal.run(lambda c: table.versions(c, report.report_id))
        # What was filed to another study by mistake is no version before this one there.
        earlier = [
            v for v in versions
            if v.version < report.version and v.study_instance_uid == report.study_instance_uid
        ]  # fmt: skip
        made = await asyncio.to_thread(self._make, report, study, earlier)
        target, outgoing = job.payload["target"], []
        for document in made:
            sha256 = hashlib.sha256(document.content).hexdigest()
            key = self._outbox.key(target, document.sop_instance_uid, sha256)
            try:
                await self._objects.put(key, document.content, content_type=DICOM)
            except StoreError as e:
                raise TryLater(str(e)) from e
            outgoing.append(
                OutboxObject(
                    report.study_instance_uid, document.sop_class_uid, document.sop_instance_uid,
                    document.transfer_syntax_uid, len(document.content), sha256,
                )
            )  # fmt: skip

        def hand_over(c: Transaction) -> None:
            for added in outgoing:
                self._outbox.add(
                    c,
                    target,
                    added,
                    said="made of the report",
                    source={"report": report.report_id, "study_id": report.study_id, "received": report.received},
                )
            self._delivery.end(c, job, f"{len(outgoing)} objects made, to be stored in {target}")

        await self._journal.run(hand_over)
        return None

    def _make(self, report: Report, study: StudyRecord, earlier: Sequence[ReportVersion]) -> list[DicomObject]:
        made = []
        if report.pdf is not None:
            before = [_report_of(v) for v in earlier if v.has_pdf]
            made.append(encapsulated_pdf(report, study, before[-1].stored_document if before else None))
        if self._has_text(pdf=report.pdf is not None, text=bool(report.plain_text)):
            before = [_report_of(v) for v in earlier if self._has_text(pdf=v.has_pdf, text=v.has_text)]
            made.append(basic_text_sr(report, study, before[-1].stored_text if before else None))
        return made

    def _has_text(self, *, pdf: bool, text: bool) -> bool:
        return text and (self._text or not pdf)


def _report_of(v: ReportVersion) -> Report:
    """A version as far as its UIDs go, which are derived from these."""
    return Report(v.report_id, "", v.study_instance_uid, v.version, False, None, None, v.received)


@dataclass(frozen=True, slots=True)
class Hl7Receiver:
    """An HL7 receiver that the operator has configured."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    profile: hl7.Profile
    timeouts: mllp.Timeouts

    async def deliver(self, report: Report, study: StudyRecord) -> str:
        """Sends a report; what is to be told of it in the record. Raises ReportError."""
        identity = hl7.control_id(report)
        message = await asyncio.to_thread(
            hl7.build_oru, report, study, self.profile, message_control_id=identity, now=datetime.now().astimezone()
        )
        taken = await mllp.send(message, self.host, self.port, tls=self.tls, timeouts=self.timeouts)
        return f"taken by {self.host}:{self.port} ({taken.code}) as message {identity}"

    async def check(self) -> None:
        """Whether it takes connections. Raises ReportError."""
        await mllp.reach(self.host, self.port, tls=self.tls, timeouts=self.timeouts)


class AlertChannel(Protocol):
    """A way in which an alert reaches people."""

    async def send(self, alert: Alert) -> None:
        """Sends one alert. Raises AlertError."""


class Folders:
    """The folders that the operator has configured, by name. A share that hangs keeps its threads, and no others."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self.paths = paths
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="folders")

    async def run(self, call: Callable[[Path], T], path: Path) -> T:
        """What *call* returns for a folder. Raises ReportError."""
        try:
            async with asyncio.timeout(FOLDER_WITHIN):
                return await asyncio.get_running_loop().run_in_executor(self._threads, call, path)
        except TimeoutError:
            raise FolderUnavailable(
                f"the folder {path} took no file within {FOLDER_WITHIN:g} s: does the share that it is on answer?"
            ) from None

    async def check(self, path: Path) -> None:
        """Whether files can be written into a folder. Raises ReportError."""
        await self.run(check_folder, path)


class FolderDelivery:
    """The handler of ``report.folder``."""

    def __init__(self, delivery: Delivery, *, journal: Journal, folders: Folders) -> None:
        self._delivery = delivery
        self._journal = journal
        self._folders = folders

    async def __call__(self, job: Job) -> Ended:
        """Writes one version into one folder. Raises TryLater, CannotBeDone."""
        folder = self._folders.paths.get(job.payload["target"])
        if folder is None:
            raise _gone("folder", job)
        report, study = await self._delivery.report(job), await self._delivery.study(job)
        with _told_apart():
            written = await self._folders.run(lambda path: write_report(path, report, study), folder)
        said = f"written to {folder}: {', '.join(written.names)}"
        await self._journal.run(lambda c: self._delivery.end(c, job, said))
        return None


class Hl7Delivery:
    """The handler of ``report.hl7``."""

    def __init__(self, delivery: Delivery, *, journal: Journal, receivers: Mapping[str, Hl7Receiver]) -> None:
        """*receivers* by the operator's names for them."""
        self._delivery = delivery
        self._journal = journal
        self._receivers = receivers

    async def __call__(self, job: Job) -> Ended:
        """Sends one version to one receiver. Raises TryLater, CannotBeDone."""
        receiver = self._receivers.get(job.payload["target"])
        if receiver is None:
            raise _gone("HL7 receiver", job)
        report, study = await self._delivery.report(job), await self._delivery.study(job)
        with _told_apart():
            said = await receiver.deliver(report, study)
        await self._journal.run(lambda c: self._delivery.end(c, job, said))
        return None


class AlertDelivery:
    """The handler of ``report.alert``."""

    def __init__(self, channels: Mapping[str, AlertChannel]) -> None:
        """*channels* by the names that jobs call them."""
        self._channels = channels

    async def __call__(self, job: Job) -> Ended:
        """Sends one alert on one channel. Raises TryLater, CannotBeDone."""
        channel = self._channels.get(job.payload["channel"])
        if channel is None:
            raise CannotBeDone(f"alerts are not sent by {job.payload['channel']} any more: discard this job")
        p = job.payload
        alert = Alert(
            AlertKind(p["alert"]), p["report"], p["study_id"] or "", p["study"] or "", p["received"] or job.created,
            p["digest"],
        )  # fmt: skip
        with _told_apart():
            await channel.send(alert)
        return Done(f"sent by {job.payload['channel']}")


@contextmanager
def _told_apart() -> Iterator[None]:
    """What an edge raises, as a worker understands it."""
    try:
        yield
    except GatewayError as e:
        raise (TryLater if e.transient else CannotBeDone)(str(e)) from e


def _gone(what: str, job: Job) -> CannotBeDone:
    return CannotBeDone(f"no {what} is named {job.payload['target']} any more: name one so, or discard this job")
