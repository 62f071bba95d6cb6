"""Starting and stopping, as a list that can be read: what is started first stops last, each within its own bound."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from gateway.runtime.supervise import Loop, Supervisor

log = logging.getLogger(__name__)

CUT_OFF = 0.1
"""Seconds that a part has to give way once its time to stop is over."""


async def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Part:
    """Something that has to be started before the parts after it, and stopped after them."""

    name: str
    start: Callable[[], Awaitable[object]] = _nothing
    stop: Callable[[], Awaitable[object]] = _nothing
    """Bears that the part was not started, or not to the end."""
    within: float = 0.5
    """Seconds for stopping; what takes longer is cut off, so that one part that hangs does not keep the others from
    ending cleanly before the service manager's patience is over."""


def loop(loops: Supervisor, name: str, run: Loop, **how: Any) -> Part:
    """A supervised loop as a part; *how* is as for :meth:`Supervisor.add`."""

    async def start() -> None:
        loops.add(name, run, **how)

    return Part(f"loop: {name}", start, lambda: loops.remove(name), within=0.3)


def opened(name: str, context: AbstractAsyncContextManager[object], *, within: float = 0.5) -> Part:
    """An asynchronous context manager as a part."""
    return Part(name, context.__aenter__, lambda: context.__aexit__(None, None, None), within)


def longest_stop(parts: Sequence[Part]) -> float:
    """Seconds that stopping takes at most."""
    return sum(part.within + CUT_OFF for part in parts if part.stop is not _nothing)


@asynccontextmanager
async def running(parts: Sequence[Part]) -> AsyncIterator[None]:
    """Starts *parts* in their order, and stops them in the reverse one, also where starting fails or is cancelled."""
    begun: list[Part] = []
    try:
        for part in parts:
            begun.append(part)
            log.debug("starting: %s", part.name)
            await part.start()
        yield
    finally:
        for part in reversed(begun):
            await _stop(part)


async def _stop(part: Part) -> None:
    log.debug("stopping: %s", part.name)
    # A task, not a time-out around it: a part that does not even heed being cancelled is left behind.
    task = asyncio.ensure_future(part.stop())
    await asyncio.wait([task], timeout=part.within)
    if not task.done():
        log.warning("%s did not stop within %g s, and is left behind", part.name, part.within)
        task.cancel()
        await asyncio.wait([task], timeout=CUT_OFF)
    task.add_done_callback(lambda ended: _report(part, ended))


def _report(part: Part, ended: asyncio.Future[object]) -> None:
    if not ended.cancelled() and (error := ended.exception()) is not None:
        log.error("%s did not stop cleanly", part.name, exc_info=error)
