"""Whose turn it is at a PACS: what is asked of it at once is bounded, and no kind of work waits for another kind.

A PACS takes few associations (field note 8). So all that is asked of one shares ``max_associations`` turns, in three
lanes: queries, retrieves, and what is stored in it. One turn is kept for each lane that has none, so that C-MOVEs that
say nothing for a minute hold up neither a query nor a capture. With two turns two lanes can be served at once and the
third waits for one of them; with one turn everything waits for it, queries first.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum, IntEnum


class Lane(Enum):
    """A kind of work."""

    QUERY = "queries"
    RETRIEVE = "retrieves"
    STORE = "stores"


class Urgency(IntEnum):
    """Who waits for it; the lower goes first."""

    INTERACTIVE = 0
    """A radiologist."""
    REVALIDATION = 1
    """Somebody who has the study as it was: is it still so?"""
    BACKGROUND = 2
    """Nobody yet: what is pushed or prefetched, and what leaves the outbox."""


Urgent = Callable[[], Urgency]


def interactive() -> Urgency:
    """The urgency of what a radiologist waits for."""
    return Urgency.INTERACTIVE


def background() -> Urgency:
    """The urgency of what nobody waits for."""
    return Urgency.BACKGROUND


@dataclass(frozen=True, slots=True)
class Claim:
    """One piece of work that wants a turn."""

    lane: Lane
    owner: str = ""
    """Whose it is, a study: those that hold fewer turns go first."""
    urgency: Urgent = interactive
    """Asked for whenever a turn is given away, since somebody may open a study that was being prefetched."""
    brief: bool = True
    """Whether it soon gives the turn back. What may last (a study, a series) takes a second turn for the same owner
    only where another owner could still have one."""


ECHO = Claim(Lane.QUERY)
STORING = Claim(Lane.STORE, urgency=background)


class Lanes:
    """The turns at one PACS."""

    def __init__(self, turns: int, lanes: Collection[Lane] = tuple(Lane)) -> None:
        """*lanes* are the kinds of work that there are at this place."""
        self._turns = turns
        self._lanes = lanes
        self._held: Counter[Lane] = Counter()
        self._retrieving: list[Claim] = []
        self._of: Counter[tuple[Lane, str]] = Counter()
        self._waiting: dict[asyncio.Future[None], tuple[int, Claim, object]] = {}
        self._numbers = itertools.count()
        self.on_waiting: Callable[[], None] = lambda: None
        """Called when somebody has to wait for a turn: whoever holds one without need gives it back."""

    @property
    def crowded(self) -> bool:
        """Whether somebody waits for a turn."""
        return bool(self._waiting)

    @asynccontextmanager
    async def turn(self, claim: Claim, waits: object = None) -> AsyncIterator[None]:
        """Waits for a turn and holds it; *waits* is who :meth:`heir` names."""
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[mine] = (next(self._numbers), claim, waits)
        self._give()
        if not mine.done():
            self.on_waiting()
        try:
            await mine
        except asyncio.CancelledError:
            if mine.cancelled():
                del self._waiting[mine]
            else:  # it came at the same moment
                self._back(claim)
            raise
        try:
            yield
        finally:
            self._back(claim)

    def heir(self, claim: Claim) -> object:
        """Who waits for the turn of this *claim*, and gets it when it is given back now."""
        self._leave(claim)
        mine = self._next()
        self._enter(claim)
        return None if mine is None else self._waiting[mine][2]

    def _back(self, claim: Claim) -> None:
        self._leave(claim)
        self._give()

    def _enter(self, claim: Claim) -> None:
        if claim.lane is Lane.RETRIEVE:
            self._retrieving.append(claim)
        self._held[claim.lane] += 1
        self._of[claim.lane, claim.owner] += 1

    def _leave(self, claim: Claim) -> None:
        if claim.lane is Lane.RETRIEVE:
            self._retrieving.remove(claim)
        self._held[claim.lane] -= 1
        self._of[claim.lane, claim.owner] -= 1
        if not self._of[claim.lane, claim.owner]:
            del self._of[claim.lane, claim.owner]

    def _give(self) -> None:
        """Gives turns to those that wait, as far as there are any."""
        while (mine := self._next()) is not None:
            _, claim, _ = self._waiting.pop(mine)
            self._enter(claim)
            mine.set_result(None)

    def _next(self) -> asyncio.Future[None] | None:
        fitting = [mine for mine, (_, claim, _) in self._waiting.items() if not mine.cancelled() and self._fits(claim)]
        return min(fitting, key=lambda mine: self._rank(*self._waiting[mine][:2]), default=None)

    def _rank(self, number: int, claim: Claim) -> tuple[bool, Urgency, int, int]:
        return claim.lane is not Lane.QUERY, claim.urgency(), self._of[claim.lane, claim.owner], number

    def _fits(self, claim: Claim) -> bool:
        left = self._turns - sum(self._held.values()) - 1
        if left < 0 or self._is_spared(claim):
            return False
        if not self._held[claim.lane]:
            return True
        kept = sum(not self._held[lane] for lane in self._lanes if lane is not claim.lane)
        for_others = not claim.brief and (claim.lane, claim.owner) in self._of
        return left >= kept + for_others

    def _is_spared(self, claim: Claim) -> bool:
        """Whether nothing more is retrieved for nobody now: what somebody waits for would come more slowly."""
        ahead_of_time = claim.lane is Lane.RETRIEVE and claim.urgency() is Urgency.BACKGROUND
        return ahead_of_time and any(one.urgency() is not Urgency.BACKGROUND for one in self._retrieving)
