"""The lock on the embedded store's folder: two servers on the same files would ruin them.

It belongs to the store, not to the gateway: the server inherits its descriptor, and the kernel lets go of it when
the last holder is gone (flock(2)), however that came about. So a gateway that was killed leaves a lock for just as
long as its server lives on, and the next gateway waits for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
from pathlib import Path

from gateway.objects.errors import StoreUnavailable

log = logging.getLogger(__name__)

FREE_WITHIN = 30.0
"""Seconds; a server that was asked to stop has been seen to take 28."""

_LOOK_EVERY = 0.1  # seconds


class StoreLock:
    """Holds a folder for us and for the server that we start in it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    @property
    def descriptor(self) -> int:
        """What the server has to inherit."""
        assert self._descriptor is not None, "take it first"
        return self._descriptor

    async def take(self, within: float = FREE_WITHIN) -> None:
        """Waits until nobody else holds it. Raises StoreUnavailable after *within* seconds, OSError."""
        if self._descriptor is not None:
            return
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if not _locked(descriptor):
                holder = _written(descriptor)
                log.warning("the embedded store of an earlier gateway (%s) has not ended yet: waiting for it", holder)
                try:
                    async with asyncio.timeout(within):
                        while not _locked(descriptor):  # noqa: ASYNC110  (the kernel tells nobody)
                            await asyncio.sleep(_LOOK_EVERY)
                except TimeoutError:
                    raise StoreUnavailable(
                        f"the embedded store of an earlier gateway ({holder}) still uses {self._path.parent}: "
                        "end that process, then start the gateway again"
                    ) from None
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def held_by(self, pid: int) -> None:
        """Writes down which process to name when somebody has to wait."""
        with contextlib.suppress(OSError):  # a full disk; it is only for a message
            os.ftruncate(self.descriptor, 0)
            os.pwrite(self.descriptor, f"process {pid}".encode(), 0)

    def release(self) -> None:
        """Lets go of our share; the server's goes when it ends."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _written(descriptor: int) -> str:
    return os.pread(descriptor, 100, 0).decode("ascii", "replace") or "a process whose number is not known"
