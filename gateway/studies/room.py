"""What several studies share in the intake: bytes of its buffer, and turns at the store."""

from __future__ import annotations

import asyncio
from collections import Counter, deque


class Room:
    """An amount, taken and given back. Who finds too little left waits: the study that holds least goes first, and of
    one study who came first. So a small study is never behind all that a large one has brought."""

    def __init__(self, size: int, *, for_one: int) -> None:
        """*for_one* is what one study may hold of it; the rest is there for another one at once."""
        self._size = size
        self._for_one = for_one
        self._taken: Counter[str] = Counter()
        self._total = 0
        self._waiting: dict[str, deque[tuple[int, asyncio.Future[None]]]] = {}

    def _fits(self, size: int, owner: str) -> bool:
        # One always fits, however large, or it would wait for ever.
        return not self._total or (self._total + size <= self._size and self._holds_within(size, owner))

    def _holds_within(self, size: int, owner: str) -> bool:
        held = self._taken[owner]
        return not held or held + size <= self._for_one

    async def take(self, size: int, owner: str) -> None:
        """Waits until there is room for *size* more of *owner*'s, and takes it."""
        if not self._waiting and self._fits(size, owner):
            self._hold(size, owner)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append((size, turn))
        self._give()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._give()  # it may have been what others waited behind
            else:  # it came at the same moment
                self.give_back(size, owner)
            raise

    def give_back(self, size: int, owner: str) -> None:
        """Gives back what was taken."""
        self._hold(-size, owner)
        if not self._taken[owner]:
            del self._taken[owner]
        if self._waiting:
            self._give()

    def _hold(self, size: int, owner: str) -> None:
        self._taken[owner] += size
        self._total += size

    def _give(self) -> None:
        while self._total < self._size and (owner := self._next()) is not None:
            size, turn = self._waiting[owner][0]
            if not self._fits(size, owner):
                return  # nobody overtakes it, or a large instance would never come in
            waiting = self._waiting.pop(owner)
            waiting.popleft()
            if waiting:  # behind the others that hold as little
                self._waiting[owner] = waiting
            self._hold(size, owner)
            turn.set_result(None)

    def _next(self) -> str | None:
        """Whose turn it is."""
        for owner, waiting in list(self._waiting.items()):
            while waiting and waiting[0][1].done():  # it waits no more
                waiting.popleft()
            if not waiting:
                del self._waiting[owner]
        # Who has its whole share waits for itself, and is in nobody's way.
        ready = [owner for owner, waiting in self._waiting.items() if self._holds_within(waiting[0][0], owner)]
        return min(ready, key=lambda owner: self._taken[owner], default=None)
