"""Writes a report into a folder that a RIS or an archive watches: the PDF, its text, and last a JSON sidecar.

The sidecar is the signal: what it names is there, whole and on disk. Every file is written under a name that begins
with a dot and renamed when it is whole, so a watcher never sees half of one, wherever we are killed.

The folder itself is never created: where a share is not mounted, its folder is missing, and a report that was written
beneath the mount point would be lost from sight. Hence name a folder within the share, not the mount point.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gateway.pacs.scu import StudyRecord
from gateway.reports.errors import ReportError
from gateway.reports.report import Report

UNFINISHED = ".avara-part"
"""Ends the names of files that are being written."""

STALE = 3600.0
"""Seconds after which another report's unfinished file has no writer any more."""

_PLAIN_ID = re.compile(r"[a-z0-9_]{1,64}")
"""Lower case only: on many a share rep_A and rep_a are one name."""


class FolderUnavailable(ReportError):
    """The folder cannot be written to as it is."""

    transient = True
    unanswered = True


@dataclass(frozen=True, slots=True)
class Written:
    """The names of a report's files; the last is its sidecar."""

    names: tuple[str, ...]


def write_report(directory: Path, report: Report, study: StudyRecord, *, mode: int = 0o640) -> Written:
    """Writes *report* into *directory* with *mode* for its files; a file that is there already stays as it is.

    To be called in a thread: a share can be slow. Raises FolderUnavailable.
    """
    stem = file_stem(report)
    contents: dict[str, bytes] = {}
    if report.pdf is not None:
        contents[f"{stem}.pdf"] = report.pdf
    if report.plain_text is not None:
        contents[f"{stem}.txt"] = report.plain_text.encode("utf-8", "replace")
    contents[f"{stem}.json"] = _sidecar(report, study, contents)
    with _explained(directory):
        # One handle for all: if the share goes away meanwhile, nothing is written beneath it.
        folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _remove_unfinished(folder, stem)
            for name, content in contents.items():
                if not _is_there(folder, name, content):
                    _write(folder, name, content, mode)
                    _sync(folder)
            _sync(folder)
        finally:
            os.close(folder)
    return Written(tuple(contents))


def check_folder(directory: Path) -> None:
    """Whether files can be written into *directory*. To be called in a thread. Raises FolderUnavailable."""
    with _explained(directory):
        folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            part = f".check.{secrets.token_hex(4)}{UNFINISHED}"
            os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=folder))
            os.unlink(part, dir_fd=folder)
        finally:
            os.close(folder)


def file_stem(report: Report) -> str:
    """What the names of a report's files begin with: Avara's id and the version, or a hash where an id has characters
    that a file name on some share cannot have."""
    name = report.report_id
    if not _PLAIN_ID.fullmatch(name):
        # The point keeps it apart from every plain id.
        name = "sha256." + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return f"{name}_v{int(report.version)}"


def _sidecar(report: Report, study: StudyRecord, contents: dict[str, bytes]) -> bytes:
    document = {
        "reportId": report.report_id,
        "version": report.version,
        "isCritical": report.is_critical,
        "isAddendum": report.ordinal > 1,
        **({"originalReportId": report.original} if report.original is not None else {}),
        "received": datetime.fromtimestamp(report.received, UTC).isoformat(timespec="seconds"),
        "studyId": report.study_id,
        "studyInstanceUid": report.study_instance_uid,
        "accessionNumber": study.accession_number,
        "patientId": study.patient_id,
        "issuerOfPatientId": study.issuer_of_patient_id,
        "documentSeriesInstanceUid": report.series_instance_uid,
        "documentSopInstanceUid": report.document_uid,
        "files": [
            {"name": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in contents.items()
        ],
    }
    return (json.dumps(document, indent=2) + "\n").encode()


def _remove_unfinished(folder: int, stem: str) -> None:
    """What a kill has left behind. A second writer of the same report loses its file by this, and tries again."""
    now = time.time()
    with os.scandir(folder) as entries:
        left = [e.name for e in entries if e.name.startswith(".") and e.name.endswith(UNFINISHED)]
    for name in left:
        try:
            if name.startswith(f".{stem}.") or now - os.stat(name, dir_fd=folder).st_mtime > STALE:
                os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            continue


def _is_there(folder: int, name: str, content: bytes) -> bool:
    """So that a retry is no second signal."""
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError:
        return False
    with os.fdopen(file, "rb") as f:
        found = os.fstat(file)
        return stat.S_ISREG(found.st_mode) and found.st_size == len(content) and f.read(len(content) + 1) == content


def _write(folder: int, name: str, content: bytes, mode: int) -> None:
    part = f".{name}.{secrets.token_hex(4)}{UNFINISHED}"
    file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode, dir_fd=folder)
    try:
        with os.fdopen(file, "wb") as f:
            os.fchmod(file, mode)  # whatever the umask
            f.write(content)
            f.flush()
            os.fsync(file)
        os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        _remove(folder, part)
        raise


def _remove(folder: int, part: str) -> None:
    try:
        os.unlink(part, dir_fd=folder)
    except OSError:
        return  # the next one removes it


def _sync(folder: int) -> None:
    try:
        os.fsync(folder)
    except OSError as e:
        if e.errno not in (errno.EINVAL, errno.ENOTSUP):  # some shares' folders have no fsync
            raise


@contextmanager
def _explained(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        match e.errno:
            case errno.ENOENT | errno.ENOTDIR:
                what = "is missing: mount the share that it is on, or create it, or correct reports.folders"
            case errno.ENOSPC | errno.EDQUOT:
                what = "is full: make room on its disk, or raise its quota"
            case errno.EROFS:
                what = "is read-only to the gateway: mount it otherwise, or name it in ReadWritePaths= of the service"
            case errno.EACCES | errno.EPERM:
                what = "may not be written to: give the gateway's user the right to create files in it"
            case _:
                what = f"fails ({e.strerror}): look at the disk or the share that it is on"
        raise FolderUnavailable(f"the folder {directory} {what}") from None
