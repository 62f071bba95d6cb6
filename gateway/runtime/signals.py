"""How the process is asked to end: the first SIGTERM or Ctrl-C ends it cleanly, the second at once."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from types import FrameType, TracebackType

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Waits for signals while it is entered, which has to be in the main thread, within its event loop.

    From the first one on, the process has so many seconds to live: what hangs in a thread (a share that is gone, a
    server that is silent) cannot be ended from within, and must not keep it from its end.
    """

    def __init__(self, *, within: float) -> None:
        """*within* are the seconds from the signal to the end of the process, whatever hangs."""
        self._within = within
        self._event = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._starting: asyncio.Task[object] | None = None
        self._last: threading.Timer | None = None

    def __enter__(self) -> StopSignals:
        for number in SIGNALS:
            # Not the event loop's own handlers: those would wait for a loop that may be what hangs.
            signal.signal(number, self._signalled)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)

    @property
    def asked(self) -> bool:
        """Whether the process is to end."""
        return self._event.is_set()

    async def wait(self) -> None:
        """Waits until the process is to end."""
        await self._event.wait()

    def cancels(self, starting: asyncio.Task[object] | None) -> None:
        """The first signal cancels this task; None: it does not any more."""
        self._starting = starting

    def ask(self) -> None:
        """As the first signal does."""
        if self._event.is_set():
            return
        self._event.set()
        self.end_within(self._within, code=1)
        if self._starting is not None:
            self._starting.cancel()

    def end_within(self, seconds: float, *, code: int) -> None:
        """The process ends with *code* after so many seconds, unless it has by then; replaces what was said before."""
        if self._last is not None:
            self._last.cancel()
        self._last = threading.Timer(seconds, _end, (code,))
        self._last.daemon = True
        self._last.start()

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)  # the next one is the kernel's, which nothing here can hold up
        self._loop.call_soon_threadsafe(self.ask)


def _end(code: int) -> None:
    if code:
        log.critical("the gateway did not end in time: it ends now, whatever hangs")
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
