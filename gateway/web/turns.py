"""Whose turn it is: requests that take long are bounded, in all and for each client, and the slow give way.

A turn is timed only while its client is waited for, since a store that stalls is no fault of the browser's. Who
moves fewer bytes than the least rate for long is ended. Where all turns are taken and somebody waits, the slowest
gives up its turn; a browser on a good line is never the slowest for long.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from gateway.web.clients import household

PATIENCE = 5.0
"""Seconds that somebody waits for a turn."""

GIVES_WAY_AFTER = 1.0
"""Seconds that a turn's client has to have been waited for before it can be told to give way."""

GIVES_WAY_BELOW = 64 * 1024
"""Bytes a second; who is faster keeps its turn whoever waits."""

_LOOK_EVERY = 1.0  # seconds


class Busy(Exception):
    """There is no turn to be had now."""


class TooSlow(Exception):
    """The client moved too few bytes, or left."""


class Turn:
    """One request under way."""

    def __init__(self, client: str, limit: asyncio.Timeout) -> None:
        self.client = client
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._moved = 0
        self._waited = 0.0
        self._since: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.ended = False
        """Whether it was told to end."""

    @contextmanager
    def client_moves(self, size: int = 0) -> Iterator[None]:
        """Around a wait for the client, which takes *size* bytes, or says with :meth:`moved` how many it gave."""
        self._since = self._loop.time()
        try:
            yield
        finally:
            self._waited += self._loop.time() - self._since
            self._since = None
        self._moved += size

    def moved(self, size: int) -> None:
        """The client gave so many bytes."""
        self._moved += size

    @property
    def waited(self) -> float:
        """Seconds for which the client was waited for."""
        return self._waited + (self._loop.time() - self._since if self._since is not None else 0.0)

    @property
    def moved_bytes(self) -> int:
        """Bytes that the client gave or took."""
        return self._moved

    @property
    def rate(self) -> float:
        """Bytes for each second in which the client was waited for."""
        waited = self.waited
        return self._moved / waited if waited else float("inf")

    def watch(self, lost: Callable[[], bool]) -> None:
        """Ends the request once it is *lost*. A timer and no task: every image of every study is a turn."""
        if lost():
            self.end()
        else:
            self._timer = self._loop.call_later(_LOOK_EVERY, self.watch, lost)

    def over(self) -> None:
        """The request has ended."""
        if self._timer is not None:
            self._timer.cancel()

    def end(self) -> None:
        """Makes the request end with :class:`TooSlow`."""
        if not self.ended:
            self.ended = True
            self._limit.reschedule(self._loop.time())


class _Waiter:
    """Somebody who waits for a turn."""

    def __init__(self, client: str) -> None:
        self.client = client
        self.displaced = False


class Turns:
    """A bounded number of turns of one kind."""

    def __init__(self, limit: int, *, share: int, least_rate: float, grace: float) -> None:
        """*limit* in all, *share* for one client. A client is waited for *grace* seconds, and one more for every
        *least_rate* bytes that it moved."""
        self.limit = limit
        self._share = share
        self._least_rate = least_rate
        self._grace = grace
        self._taken: set[Turn] = set()
        self._by_client: Counter[str] = Counter()
        self._queue: dict[_Waiter, None] = {}
        """Those who wait for a turn, the first of them first."""
        self._freed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._taken)

    @asynccontextmanager
    async def take(self, client: str, *, gone: Callable[[], bool] = lambda: False) -> AsyncIterator[Turn]:
        """A turn for *client*, until the block ends; *gone* tells whether it left meanwhile.

        Raises Busy where there is none to be had, TooSlow out of the block where the turn was taken back.
        """
        client = household(client)
        await self._room(client)
        limit = asyncio.timeout(None)
        turn = Turn(client, limit)
        self._taken.add(turn)
        self._by_client[client] += 1
        try:
            async with limit:
                turn.watch(lambda: gone() or turn.waited > self._grace + turn.moved_bytes / self._least_rate)
                yield turn
        except TimeoutError:
            if turn.ended:
                raise TooSlow("its client is too slow, or left") from None
            raise
        finally:
            turn.over()
            self._taken.discard(turn)
            self._by_client[client] -= 1
            if not self._by_client[client]:
                del self._by_client[client]
            self._freed.set()

    async def _room(self, client: str) -> None:
        if self._has_room(client):
            return
        waiter = self._queue_up(client)
        try:
            async with asyncio.timeout(PATIENCE):
                while not self._has_room(client):
                    if waiter.displaced:
                        raise Busy("all turns are taken, and others wait for them")
                    self._slowest_gives_way(client if self._by_client[client] >= self._share else None)
                    self._freed.clear()
                    try:
                        async with asyncio.timeout(_LOOK_EVERY / 4):
                            await self._freed.wait()
                    except TimeoutError:
                        continue
        except TimeoutError:
            raise Busy("all turns are taken") from None
        finally:
            self._queue.pop(waiter, None)

    def _queue_up(self, client: str) -> _Waiter:
        """Half as many may wait as have a turn; past that, who came first is told that there is none, since a crowd
        would else hold connections that others need for as long as it waits."""
        waiter = _Waiter(client)
        self._queue[waiter] = None
        of_client = [w for w in self._queue if w.client == client]
        crowd = of_client if len(of_client) > max(self._share // 2, 1) else list(self._queue)
        if crowd is of_client or len(crowd) > max(self.limit // 2, 1):
            crowd[0].displaced = True
            del self._queue[crowd[0]]
            self._freed.set()
        return waiter

    def _has_room(self, client: str) -> bool:
        return len(self._taken) < self.limit and self._by_client[client] < self._share

    def _slowest_gives_way(self, client: str | None) -> None:
        """Of *client*'s turns, or of all."""
        slow = [
            turn
            for turn in self._taken
            if (client is None or turn.client == client)
            and not turn.ended
            and turn.waited >= GIVES_WAY_AFTER
            and turn.rate < GIVES_WAY_BELOW
        ]
        if slow:
            min(slow, key=lambda turn: turn.rate).end()
