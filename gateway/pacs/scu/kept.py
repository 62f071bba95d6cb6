"""Associations that are kept for a moment after their use, since the next object often follows at once.

With an association goes the turn at the PACS that it holds. Both are given back when the moment is over, and at once
where anybody waits for a turn: what is kept keeps nobody from anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from gateway.pacs import Claim, Lanes, PacsUnreachable
from gateway.pacs.upper import Association, Context
from gateway.runtime import bound

KEEP_FOR = 0.5
"""Seconds: longer than from one job of a series to the next, shorter than any PACS lets an association be idle."""


class LostWhileKept(PacsUnreachable):
    """An association that was kept turned out to be gone: a new one may do."""


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    contexts: tuple[Context, ...]
    association: Association
    turn: AsyncExitStack


class KeptAssociations:
    """Those at one PACS."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._idle: dict[_Kept, asyncio.TimerHandle] = {}
        self._ending: set[asyncio.Task[None]] = set()
        lanes.on_waiting = self.give_back

    @asynccontextmanager
    async def use(
        self, contexts: Sequence[Context], claim: Claim, open_new: Callable[[], Awaitable[Association]]
    ) -> AsyncIterator[Association]:
        """An association of these *contexts*: one that was kept, or a new one once there is a turn. Raises PacsError,
        LostWhileKept where it was one that was kept and the PACS had ended it."""
        kept = self._take(tuple(contexts))
        again = kept is not None
        if kept is None:
            async with AsyncExitStack() as turn:
                await turn.enter_async_context(self._lanes.turn(claim))
                kept = _Kept(tuple(contexts), await open_new(), turn.pop_all())
        try:
            with bound(association=kept.association.number):
                yield kept.association
        except BaseException as e:
            gone = not kept.association.usable
            kept.association.abort("given up")
            await kept.turn.aclose()
            if again and gone and isinstance(e, PacsUnreachable):
                raise LostWhileKept(str(e)) from e
            raise
        if self._lanes.crowded or not kept.association.usable:
            await _end(kept)
        else:
            self._idle[kept] = asyncio.get_running_loop().call_later(KEEP_FOR, self._give_back, kept)

    def give_back(self) -> None:
        """Ends what is not in use: its turn is wanted."""
        for kept in list(self._idle):
            self._give_back(kept)

    async def close(self) -> None:
        """Ends what is not in use, and waits for that."""
        self.give_back()
        await asyncio.gather(*self._ending)

    def _take(self, contexts: tuple[Context, ...]) -> _Kept | None:
        for kept in [kept for kept in self._idle if kept.contexts == contexts]:
            if kept.association.usable:
                self._idle.pop(kept).cancel()
                return kept
            self._give_back(kept)
        return None

    def _give_back(self, kept: _Kept) -> None:
        self._idle.pop(kept).cancel()
        ending = asyncio.create_task(_end(kept), name="release of an association that was kept")
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


async def _end(kept: _Kept) -> None:
    try:
        await kept.association.release()
    finally:
        await kept.turn.aclose()
