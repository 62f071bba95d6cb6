"""Supervised tasks: whatever runs as long as the gateway does runs here, under a name, and does not die unseen.

A loop that ends is started again after a pause that grows, where that is safe; one that the gateway cannot do without
ends the process instead, so that the service manager starts it afresh. Until it runs again, ``/health`` and ``check``
say which it is, since when, and why.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace

from gateway.runtime.clock import SYSTEM_CLOCK, Clock
from gateway.runtime.errors import GatewayError

log = logging.getLogger(__name__)

FIRST_PAUSE = 1.0
"""Seconds before a loop that ended is started again; doubled each time that it ends soon after."""

LONGEST_PAUSE = 60.0
"""Seconds. A loop that has run for so long is well again: its next pause is the first one."""

Loop = Callable[[], Awaitable[None]]
"""What runs until it is cancelled. It is called again where it has ended, so it begins from whatever state it finds."""


class LoopEnded(GatewayError):
    """A loop has ended that the gateway cannot do without."""


@dataclass(frozen=True, slots=True)
class LoopState:
    """How a loop is, for those who look after the gateway."""

    name: str
    running: bool
    since: float
    """Unix seconds, since when it is as it is."""
    reason: str = ""
    """Why it is not running, in words for anybody; empty while it is."""
    detail: str = ""
    """What ended it, in words for the operator only: they may name hosts and paths."""
    restarts: int = 0
    """How often it ended by itself and was started again, since the start."""
    last_end: float = 0.0
    """Unix seconds at which it ended last; 0 where it never did."""


@dataclass(slots=True, eq=False)
class _Supervised:
    name: str
    run: Loop
    vital: bool
    once: bool
    stalls_after: float
    began: float
    """As :attr:`progress`, in the clock's monotonic seconds."""
    progress: float
    since: float
    task: asyncio.Task[None] | None = None
    stopping: bool = False
    paused: float = 0.0
    """Seconds of the last pause; 0 where it has not ended for a long time."""
    down: bool = False
    """It has ended and is not started again yet."""
    reason: str = ""
    detail: str = ""
    ended: int = 0
    restarts: int = 0
    last_end: float = 0.0


_current: ContextVar[tuple[_Supervised, Clock] | None] = ContextVar("loop", default=None)


def progress() -> None:
    """To be called by a loop in each of its rounds, so that one that hangs is told from one that works."""
    current = _current.get()
    if current is not None:
        supervised, clock = current
        supervised.progress = clock.monotonic()


class Supervisor:
    """Runs loops. To be started before the first of them and stopped after the last; an async context manager."""

    def __init__(self, *, clock: Clock = SYSTEM_CLOCK, first_pause: float = FIRST_PAUSE) -> None:
        self._clock = clock
        self._first_pause = first_pause
        self._loops: dict[str, _Supervised] = {}
        self._group = asyncio.TaskGroup()
        self._host: asyncio.Task[None] | None = None
        self._stopping = False
        self._failure: LoopEnded | None = None

    async def __aenter__(self) -> Supervisor:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """From now on loops can be added."""
        entered = asyncio.Event()
        self._host = asyncio.create_task(self._hold(entered), name="supervisor")
        await entered.wait()

    async def stop(self) -> None:
        """Ends every loop that still runs."""
        self._stopping = True
        if self._host is not None:
            self._host.cancel()
            await asyncio.wait([self._host])

    async def _hold(self, entered: asyncio.Event) -> None:
        # A task of its own, so that who starts and who stops the supervisor need not be the same.
        try:
            async with self._group:
                entered.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    self._stopping = True
        except* LoopEnded:
            pass  # kept in _failure

    def add(
        self, name: str, run: Loop, *, vital: bool = False, once: bool = False, stalls_after: float = float("inf")
    ) -> None:
        """Runs a loop from now on. The end of a *vital* one is the end of the process; that of one that runs *once* is
        well, unless by an error. *stalls_after* are seconds without :func:`progress` after which it counts as not
        running."""
        assert name not in self._loops, f"two loops are named {name}"
        now = self._clock.monotonic()
        supervised = _Supervised(name, run, vital, once, stalls_after, now, now, self._clock.now())
        self._loops[name] = supervised
        supervised.task = self._group.create_task(self._keep(supervised), name=name)

    async def remove(self, name: str) -> None:
        """Ends a loop; none of that name is well, too."""
        supervised = self._loops.pop(name, None)
        if supervised is not None and supervised.task is not None:
            supervised.stopping = True
            supervised.task.cancel()
            await asyncio.wait([supervised.task])

    async def failed(self) -> None:
        """Waits for the end of a loop that the gateway cannot do without. Raises LoopEnded; returns once stopped."""
        assert self._host is not None, "it was started"
        await asyncio.wait([self._host])
        if self._failure is not None:
            raise self._failure

    def states(self) -> list[LoopState]:
        """How each loop is, in the order in which they were added."""
        return [self._state(supervised) for supervised in self._loops.values()]

    @property
    def alive(self) -> bool:
        """Whether every loop runs, or is about to be started again: none hangs, and none has ended for good."""
        return not any(
            s.task is None or (s.task.done() and not s.once) or self._stalls(s) for s in self._loops.values()
        )

    def _stalls(self, supervised: _Supervised) -> bool:
        silent = self._clock.monotonic() - supervised.progress
        return not supervised.down and silent > supervised.stalls_after

    def _state(self, supervised: _Supervised) -> LoopState:
        return replace(self._present(supervised), restarts=supervised.restarts, last_end=supervised.last_end)

    def _present(self, supervised: _Supervised) -> LoopState:
        name, now = supervised.name, self._clock.monotonic()
        if self._stalls(supervised):
            silent = now - supervised.progress
            reason = f"it has made no progress for {silent:.0f} s"
            return LoopState(name, False, self._clock.now() - silent, reason, reason)
        # One that ends again and again is down in between, too: it is up once it has run for as long as it paused.
        if supervised.down or (supervised.paused and now - supervised.began < supervised.paused):
            return LoopState(name, False, supervised.since, supervised.reason, supervised.detail)
        since = supervised.since if not supervised.ended else self._clock.now() - (now - supervised.began)
        return LoopState(name, True, since)

    async def _keep(self, supervised: _Supervised) -> None:
        _current.set((supervised, self._clock))
        while True:
            supervised.began = supervised.progress = self._clock.monotonic()
            supervised.down = False
            try:
                await supervised.run()
                error: BaseException | None = None
            except asyncio.CancelledError as e:
                if self._is_to_end(supervised):
                    raise
                error = e
            except Exception as e:
                error = e
            if error is None and supervised.once:
                return
            await self._ended(supervised, error)

    def _is_to_end(self, supervised: _Supervised) -> bool:
        if self._stopping or supervised.stopping:
            return True
        # Nobody here asked for it: a stray cancellation must not end what has to go on.
        task = asyncio.current_task()
        assert task is not None
        while task.cancelling():
            task.uncancel()
        return False

    async def _ended(self, supervised: _Supervised, error: BaseException | None) -> None:
        """Notes that a loop has ended, and pauses before it is started again. Raises LoopEnded where it is vital."""
        ran = self._clock.monotonic() - supervised.began
        if not supervised.paused or ran > LONGEST_PAUSE:
            supervised.since, supervised.ended, supervised.paused = self._clock.now(), 0, self._first_pause
        else:
            supervised.paused = min(supervised.paused * 2, LONGEST_PAUSE)
        supervised.ended += 1
        supervised.restarts += 1
        supervised.last_end = self._clock.now()
        supervised.down = True
        supervised.detail = _told(error)
        times = f" {supervised.ended} times" if supervised.ended > 1 else ""
        supervised.reason = f"it ended{times} and is started again: see the gateway's log"
        if supervised.vital:
            supervised.reason = "it ended, and the gateway with it"
            self._failure = LoopEnded(f"{supervised.name}: {supervised.detail}; the gateway ends, to be started afresh")
            log.critical("%s", self._failure, exc_info=_unexpected(error))
            self._stopping = True
            raise self._failure
        log.error(
            "%s: %s; it is started again in %.0f s", supervised.name, supervised.detail, supervised.paused,
            exc_info=_unexpected(error),
        )  # fmt: skip
        try:
            await self._clock.sleep(supervised.paused * random.uniform(0.5, 1.0))  # noqa: S311  (spreads, hides nothing)
        except asyncio.CancelledError:
            if self._is_to_end(supervised):
                raise


def _told(error: BaseException | None) -> str:
    match error:
        case None:
            return "it returned, which it never should"
        case GatewayError():
            return str(error)
        case asyncio.CancelledError():
            return "it was cancelled from within"
        case _:
            return f"an error of the gateway itself ({type(error).__name__})"


def _unexpected(error: BaseException | None) -> BaseException | None:
    """What is worth a traceback: an operator's errors say all in their text."""
    return None if isinstance(error, GatewayError | asyncio.CancelledError) else error
