"""Threads: for calls that may hang for ever, such as those to a network share, which harm nobody but who made the call;
and for calls that end, whose files stay open until then.

The threads of asyncio's executors are joined when the process ends, so one call that hangs blocks the exit; and who
shares an executor with it waits behind it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


class DaemonThreads:
    """So many threads at most, of one place's own; each is a daemon and dies with the process."""

    def __init__(self, name: str, *, at_once: int) -> None:
        self._name = name
        self._free = asyncio.Semaphore(at_once)

    async def run(self, call: Callable[[], T]) -> T:
        """What *call* returns or raises. Whoever ends the wait early leaves its thread behind, which counts among
        those at once until its call returns."""
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        result: asyncio.Future[T] = loop.create_future()

        def ended(value: T | None, error: BaseException | None) -> None:
            self._free.release()
            if result.done():  # nobody waits any more
                return
            if error is not None:
                result.set_exception(error)
            else:
                result.set_result(value)  # type: ignore[arg-type]  # a T: the call has returned

        def work() -> None:
            value, error = None, None
            try:
                value = call()
            except BaseException as e:
                error = e
            with suppress(RuntimeError):  # the loop is closed: the process ends
                loop.call_soon_threadsafe(ended, value, error)

        try:
            threading.Thread(target=work, name=self._name, daemon=True).start()
        except RuntimeError:  # no more threads on this machine
            self._free.release()
            raise
        return await result


async def in_thread(call: Callable[..., T], *args: object) -> T:
    """*call*'s result, from a thread. Whoever waits for it and is cancelled is so only once it has returned, so that
    what it works on, a file say, is not closed under it: for calls that end, such as those to a local disk."""
    running = asyncio.ensure_future(asyncio.to_thread(call, *args))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
