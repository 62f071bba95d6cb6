"""Threads, each kind of call on those of its own, so that none waits behind what another one hangs in.

- Calls to elsewhere that may hang, such as those to a network share or to the store, are on :class:`DaemonThreads` of
  that place.
- Calls that end, such as those to the local disk and those that compute, are on the gateway's own (:func:`in_thread`).
- asyncio's executor is left to what asyncio itself puts there: it looks up host names, and a name server that is silent
  holds up who looks up a name, and nobody else.

The threads of executors are joined when the process ends, so one call that hangs blocks the exit.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
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


_WORK = ThreadPoolExecutor(min(32, (os.cpu_count() or 1) + 4), thread_name_prefix="work")
"""As many as asyncio's own would have."""


async def in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """*call*'s result, from a thread. Whoever waits for it and is cancelled is so only once it has returned, so that
    what it works on, a file say, is not closed under it: for calls that end, such as those to a local disk."""
    begun = _WORK.submit(copy_context().run, functools.partial(call, *args, **kwargs))
    running = asyncio.wrap_future(begun)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        if not begun.cancel():  # else no thread has taken it yet, nor will one
            await asyncio.wait([running])
            if not running.cancelled():
                running.exception()  # nobody is told of it any more
        raise
