"""A folder, as a place that reports are delivered to: written into on threads of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from gateway.pacs.scu import StudyRecord
from gateway.reports.folder.write import FolderUnavailable, check_folder, write_report
from gateway.reports.report import Report
from gateway.runtime import DaemonThreads

T = TypeVar("T")

FOLDER_WITHIN = 120.0
"""Seconds that a folder has to take a report; a share that hangs would never say so."""

CHECK_WITHIN = 20.0
"""Seconds for a look whether it takes files."""

AT_ONCE = 2
"""Reports that are being written into one folder at the same time."""


class Folder:
    """A folder that the operator has configured (a ``Place``), with threads of its own: where its share hangs, it is
    the only one that waits."""

    combines = False

    def __init__(self, name: str, path: Path) -> None:
        self.path = path
        self._threads = DaemonThreads(f"folder {name}", at_once=AT_ONCE)

    async def deliver(self, report: Report, study: StudyRecord, before: Sequence[str]) -> str:
        """Writes a report; what is to be told of it in the record. Raises ReportError."""
        written = await self._run(lambda: write_report(self.path, report, study), FOLDER_WITHIN)
        return f"written to {self.path}: {', '.join(written.names)}"

    async def check(self) -> None:
        """Whether files can be written into it. Raises ReportError."""
        await self._run(lambda: check_folder(self.path), CHECK_WITHIN)

    async def _run(self, call: Callable[[], T], within: float) -> T:
        try:
            async with asyncio.timeout(within):
                return await self._threads.run(call)
        except TimeoutError:
            raise FolderUnavailable(
                f"the folder {self.path} took no file within {within:g} s: the share that it is on hangs: see that its "
                "server answers, or unmount it (umount -f -l) and mount it again"
            ) from None
