"""Disks that fill, run out of inodes, turn read-only and hang: small ext4 images on loop devices, for root on Linux."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

BLOCK = 4096
"""Bytes."""


@cache
def why_not() -> str:
    """Why no disk can be made here; empty where one can."""
    if os.geteuid() != 0:
        return "disks that fail are mounted: only root can"
    probe = subprocess.run(["losetup", "--find"], capture_output=True, text=True)
    return "" if probe.returncode == 0 else f"disks that fail need a loop device: {probe.stderr.strip()}"


class Disk:
    """A small disk mounted at *path*. An async context manager."""

    def __init__(self, path: Path, *, megabytes: int = 64, inodes: int = 2000) -> None:
        self.path = path
        self._image = path.with_name(f"{path.name}.image")
        self._megabytes, self._inodes = megabytes, inodes
        self._frozen = False

    async def __aenter__(self) -> Disk:
        self.path.mkdir(exist_ok=True)
        with self._image.open("wb") as image:
            image.truncate(self._megabytes * 2**20)
        await _run("mkfs.ext4", "-q", "-m", "0", "-N", str(self._inodes), str(self._image))
        await self._mount()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.thaw()
        # Lazily: a process that has been killed may take a moment to let go of it.
        await _run("umount", "--lazy", str(self.path))

    async def _mount(self) -> None:
        await _run("mount", "-o", "loop,errors=remount-ro", str(self._image), str(self.path))

    @property
    def room(self) -> int:
        """Bytes free."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    @asynccontextmanager
    async def full(self) -> AsyncIterator[None]:
        """All of it is taken, to the last block."""
        filler, taken, piece = self.path / "filler", 0, self.room
        with filler.open("wb") as file:
            while piece >= BLOCK:
                try:
                    os.posix_fallocate(file.fileno(), taken, piece)
                    taken += piece
                except OSError:
                    piece //= 2
        try:
            yield
        finally:
            filler.unlink()

    @asynccontextmanager
    async def without_inodes(self) -> AsyncIterator[None]:
        """No file can be made any more, though there is room."""
        folder = self.path / "inodes"
        folder.mkdir()
        with contextlib.suppress(OSError):
            for number in range(10 * self._inodes):
                (folder / str(number)).touch()
        try:
            yield
        finally:
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()

    @asynccontextmanager
    async def hanging(self) -> AsyncIterator[None]:
        """Whoever writes to it waits, as for a share whose server is gone."""
        await self.freeze()
        try:
            yield
        finally:
            await self.thaw()

    async def freeze(self) -> None:
        await _run("fsfreeze", "--freeze", str(self.path))
        self._frozen = True

    async def thaw(self) -> None:
        if self._frozen:
            await _run("fsfreeze", "--unfreeze", str(self.path))
            self._frozen = False

    async def turn_read_only(self) -> None:
        """As a kernel does with a disk that fails beneath a process that writes to it."""
        await _run("mount", "-o", "remount,abort", str(self.path))
        with contextlib.suppress(OSError):
            (self.path / "last").touch()  # the first write that fails

    async def mend(self) -> None:
        """Takes it out and mounts it anew, which nobody may be using."""
        await _run("umount", str(self.path))
        await _run("fsck.ext4", "-p", "-f", str(self._image), fine=(0, 1))
        await self._mount()


async def _run(*command: str, fine: tuple[int, ...] = (0,)) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(60):
        said, _ = await process.communicate()
    assert process.returncode in fine, f"{' '.join(command)}: {said.decode()}"
