"""Associations that are kept for a moment after their use, since the next object often follows at once.

With an association goes the turn at the PACS that it holds. Both are given back when the moment is over, and at once
where anybody waits for a turn: what is kept keeps nobody from anything. Where the next one who waits wants just such an
association, it is handed over with the turn.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, asynccontextmanager
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
    claim: Claim
    """By which it has its turn."""
    turn: AsyncExitStack


@dataclass(slots=True, eq=False)
class _Wish:
    """Of one who waits for a turn."""

    contexts: tuple[Context, ...]
    handed: Association | None = None


class KeptAssociations:
    """Those at one PACS."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._idle: dict[_Kept, asyncio.TimerHandle] = {}
        self._ending: set[asyncio.Task[None]] = set()
        lanes.on_waiting = self.give_back

    @asynccontextmanager
    async def use(
        self,
        contexts: Sequence[Context],
        claim: Claim,
        open_new: Callable[[], Awaitable[Association]],
        attempt: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> AsyncIterator[Association]:
        """An association of these *contexts*: one that was kept, or a new one once there is a turn. Raises PacsError,
        LostWhileKept where it was one that was kept and the PACS had ended it.

        What is done with it is done inside of *attempt*, which begins with the turn: it may refuse by then what it
        would have let pass when the wait began."""
        with ExitStack() as trying:
            async with self._use(contexts, claim, open_new, lambda: trying.enter_context(attempt())) as association:
                yield association

    @asynccontextmanager
    async def _use(
        self,
        contexts: Sequence[Context],
        claim: Claim,
        open_new: Callable[[], Awaitable[Association]],
        attempt: Callable[[], None],
    ) -> AsyncIterator[Association]:
        kept, again = self._take(tuple(contexts)), True
        if kept is None:
            kept, again = await self._with_a_turn(_Wish(tuple(contexts)), claim, open_new, attempt)
            attempt = _nothing
        try:
            attempt()
            with bound(association=kept.association.number):
                yield kept.association
        except BaseException as e:
            gone = not kept.association.usable
            kept.association.abort("given up")
            await kept.turn.aclose()
            if again and gone and isinstance(e, PacsUnreachable):
                raise LostWhileKept(str(e)) from e
            raise
        if not kept.association.usable:
            await _end(kept)
        elif not self._lanes.crowded:
            self._idle[kept] = asyncio.get_running_loop().call_later(KEEP_FOR, self._give_back, kept)
        elif isinstance(heir := self._lanes.heir(kept.claim), _Wish) and heir.contexts == kept.contexts:
            heir.handed = kept.association
            await kept.turn.aclose()  # and the heir has the turn
        else:
            await _end(kept)

    async def _with_a_turn(
        self,
        wish: _Wish,
        claim: Claim,
        open_new: Callable[[], Awaitable[Association]],
        attempt: Callable[[], None],
    ) -> tuple[_Kept, bool]:
        """An association, and whether it was used before. Raises PacsError."""
        try:
            async with AsyncExitStack() as turn:
                await turn.enter_async_context(self._lanes.turn(claim, wish))
                attempt()
                handed = wish.handed if wish.handed is not None and wish.handed.usable else None
                return _Kept(wish.contexts, handed or await open_new(), claim, turn.pop_all()), handed is not None
        except BaseException:
            if wish.handed is not None:  # who was to have it has given up
                wish.handed.abort("given up")
            raise

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


def _nothing() -> None:
    """What is left to do before an association is used whose turn had to be waited for."""


async def _end(kept: _Kept) -> None:
    try:
        await kept.association.release()
    finally:
        await kept.turn.aclose()
