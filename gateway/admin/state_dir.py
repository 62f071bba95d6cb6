"""Whether ``state_dir`` can be written to: what the gateway must keep lies there, and disks fill, fail and run out of
inodes."""

from __future__ import annotations

import asyncio
import errno
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from gateway.admin.health import Unhealthy
from gateway.runtime import Spools

LEAST_FREE = 64 * 1024 * 1024
"""Bytes below which the disk counts as full: the journal and a report or two still fit."""

LEAST_INODES = 500
"""Files that can still be made, below which the disk counts as out of inodes."""

WITHIN = 4.0
"""Seconds for a file of a byte; a disk that takes longer hangs."""


MENDS = {
    errno.EROFS: "its disk is read-only: after an error it is until it is repaired and mounted again (see dmesg)",
    errno.ENOSPC: "its disk is full, or out of inodes: free space there, remove small files (df -h, df -i)",
    errno.EDQUOT: "the quota of its user is used up: raise it, or free space there",
    errno.EACCES: "it is another user's: run the gateway as the user whose it is, or give it to the gateway's",
    errno.EPERM: "it is another user's, and open to others: give it to the user that the gateway runs as (chown -R)",
    errno.EIO: "its disk fails: replace it, and restore from a backup (see dmesg)",
}
"""What is wrong with a file system that fails so, and how to mend it; with no path, so that anybody may read it."""

_GONE = "it is gone: was its disk unmounted? mount it, and start the gateway again"


@dataclass(frozen=True, slots=True)
class Room:
    """What is left of a disk that can be written to."""

    free: int
    """Bytes."""

    def __str__(self) -> str:
        return f"can be written to, {self.free / 1e9:.1f} GB are free"


class StateDir:
    """Proves that what has to be kept can be."""

    def __init__(self, path: Path, spools: Spools) -> None:
        """*spools* are the files in it of what is on its way."""
        self._path = path
        self._spools = spools
        # A thread of its own: a disk that hangs keeps the others of the process free.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="state_dir")
        self._looking: asyncio.Future[Room] | None = None

    async def check(self) -> Room:
        """How much room there is. Raises Unhealthy, whose text names the mend."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().run_in_executor(self._thread, self._look)
            self._looking.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # told by who asks
        looking = self._looking
        await asyncio.wait([looking], timeout=WITHIN)
        if not looking.done():
            raise Unhealthy(f"state_dir: its disk has not answered for {WITHIN:g} s: does a share or a disk hang?")
        return looking.result()

    def _look(self) -> Room:
        try:
            disk = os.statvfs(self._path)
            self._write()
        except OSError as e:
            known = MENDS.get(e.errno or 0, _GONE if e.errno in (errno.ENOENT, errno.ESTALE) else None)
            raise Unhealthy(f"state_dir: {known or f'it cannot be written to ({e.strerror or e})'}") from e
        free = disk.f_bavail * disk.f_frsize
        if free < LEAST_FREE:
            raise Unhealthy(f"state_dir: its disk is full, {free / 1e6:.0f} MB are left: free space there")
        # Some file systems do not count inodes, and say that they have none.
        if disk.f_files and disk.f_favail < LEAST_INODES:
            raise Unhealthy(
                f"state_dir: its disk is out of inodes, {disk.f_favail} are left: remove small files there (df -i)"
            )
        refused = self._spools.trouble()
        if refused is not None:
            raise Unhealthy(f"state_dir: large instances are refused, or were a short while ago: {refused}")
        return Room(free)

    def _write(self) -> None:
        probe = self._path / "probe"
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
            probe.unlink(missing_ok=True)
