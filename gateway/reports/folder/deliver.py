"""Does ``report.folder`` jobs: writes a report into a folder, on threads of the folder's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from gateway.journal import Ended, Job, Journal
from gateway.pacs.scu import StudyRecord
from gateway.reports.delivery import Delivery, no_such_place
from gateway.reports.folder.write import FolderUnavailable, check_folder, write_report
from gateway.reports.jobs import DeliverReport
from gateway.reports.report import Report
from gateway.runtime import DaemonThreads

T = TypeVar("T")

FOLDER_WITHIN = 120.0
"""Seconds that a folder has to take a report; a share that hangs would never say so."""

AT_ONCE = 2
"""Reports that are being written into one folder at the same time."""


class Folder:
    """A folder that the operator has configured, with threads of its own: where its share hangs, it is the only one
    that waits."""

    def __init__(self, name: str, path: Path) -> None:
        self.path = path
        self._threads = DaemonThreads(f"folder {name}", at_once=AT_ONCE)

    async def write(self, report: Report, study: StudyRecord) -> str:
        """Writes a report; what is to be told of it in the record. Raises ReportError."""
        written = await self._run(lambda: write_report(self.path, report, study))
        return f"written to {self.path}: {', '.join(written.names)}"

    async def check(self) -> None:
        """Whether files can be written into it. Raises ReportError."""
        await self._run(lambda: check_folder(self.path))

    async def _run(self, call: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(FOLDER_WITHIN):
                return await self._threads.run(call)
        except TimeoutError:
            raise FolderUnavailable(
                f"the folder {self.path} took no file within {FOLDER_WITHIN:g} s: does the share that it is on answer?"
            ) from None


class FolderDelivery:
    """The handler of ``report.folder``."""

    def __init__(self, delivery: Delivery, *, journal: Journal, folders: Mapping[str, Folder]) -> None:
        """*folders* by the operator's names for them."""
        self._delivery = delivery
        self._journal = journal
        self._folders = folders

    async def __call__(self, job: Job) -> Ended:
        """Writes one version into one folder. Raises TryLater, CannotBeDone, ReportError, UnreadablePayload."""
        payload = job.read(DeliverReport)
        folder = self._folders.get(payload.target)
        if folder is None:
            raise no_such_place("folder", payload)
        report, study = await self._delivery.report(payload), await self._delivery.study(payload)
        said = await folder.write(report, study)
        await self._journal.run(lambda c: self._delivery.end(c, job, payload, said))
        return None
