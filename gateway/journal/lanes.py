"""Whose turn it is: the jobs of one kind for one place are a lane, and no lane waits for another.

Each lane has so many turns at once, and all of them together share a bound; but a lane in which nothing runs always
has its first turn, so that places that say nothing cannot use up the turns of those that work. A place that did not
answer :data:`AFTER` times in a row is paused: one attempt now and then, after pauses that grow, and once one of them is
answered everything that waits for the place goes on at once.

What waits in a paused lane uses up no attempts. The time for which a job is tried (``retry_for``) goes on, so that
people are told of what did not get to where it belongs, however many wait before it.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from gateway.runtime import Clock

AFTER = 3
"""Attempts in a row that a place did not answer, after which it is asked less often."""

FIRST_PAUSE, LONGEST_PAUSE = 5.0, 60.0
"""Seconds between the attempts at a paused place; twice as long each time."""

Key = tuple[str, str]
"""A lane: kind of job, and the operator's name for the place that it is for."""


class Outcome(enum.Enum):
    """What an attempt told of its place."""

    ANSWERED = "answered"
    SILENT = "silent"
    NOTHING = "nothing"
    """It failed for another reason, before or beside it."""


class Change(enum.Enum):
    """What an attempt has changed for its lane."""

    NONE = "none"
    PAUSED = "paused"
    """It is asked less often, or still."""
    REOPENED = "reopened"


@dataclass(frozen=True, slots=True)
class LaneState:
    """How a lane is, for those who look after the gateway."""

    kind: str
    lane: str
    running: int
    failures: int
    """Attempts in a row that were not answered."""
    paused: bool
    since: float
    """Unix seconds of the first of these failures."""
    next_in: float
    """Seconds until the next attempt, where it is paused."""
    reason: str
    """Of the latest failure, for the operator."""


@dataclass(slots=True)
class _Lane:
    running: int = 0
    failures: int = 0
    since: float = 0.0
    next_try: float = 0.0
    reason: str = ""
    served: int = 0
    """When it last got a turn, as a number that grows: who waited for longest goes first."""


@dataclass(frozen=True, slots=True)
class Turns:
    """The turns that are free at one moment."""

    at_once: Mapping[str, int]
    """By kind: of a lane that nothing is known of."""
    free: Mapping[Key, int]
    """In the lanes that are known."""
    idle: Collection[Key]
    """Known lanes in which nothing runs."""
    served: Mapping[Key, int]
    left: int
    """Of all lanes together."""

    def of(self, key: Key) -> int:
        """How many more of a lane may run."""
        return self.free.get(key, self.at_once[key[0]])

    def share(self, due: Collection[Key]) -> dict[Key, int]:
        """How many jobs of each of the lanes *due* may begin; one by one in turn, who waited for longest first."""
        order = [key for key in sorted(due, key=lambda key: self.served.get(key, 0)) if self.of(key) > 0]
        shares = {key: 1 if key in self.idle or key not in self.free else 0 for key in order}
        left = self.left - sum(shares.values())
        while left > 0:
            open_ones = [key for key in order if shares[key] < self.of(key)][:left]
            if not open_ones:
                break
            for key in open_ones:
                shares[key] += 1
            left -= len(open_ones)
        return {key: share for key, share in shares.items() if share}


class Lanes:
    """The lanes of one worker."""

    def __init__(self, *, total: int, clock: Clock) -> None:
        """*total* is how many jobs run at once in all lanes together, save the first of each."""
        self._total = total
        self._clock = clock
        self._at_once: dict[str, int] = {}
        self._lanes: dict[Key, _Lane] = {}
        self._served = 0

    def register(self, kind: str, at_once: int) -> None:
        """Lanes of a kind have so many turns each."""
        self._at_once[kind] = at_once

    def turns(self) -> Turns:
        """The turns that are free now."""
        return Turns(
            self._at_once,
            {key: self._free(key, lane) for key, lane in self._lanes.items()},
            {key for key, lane in self._lanes.items() if not lane.running},
            {key: lane.served for key, lane in self._lanes.items()},
            self._total - sum(lane.running for lane in self._lanes.values()),
        )

    def opens_in(self, key: Key) -> float:
        """Seconds until a lane may be tried again; 0 where it is not paused."""
        lane = self._lanes.get(key)
        return max(lane.next_try - self._clock.monotonic(), 0.0) if lane is not None and _paused(lane) else 0.0

    def _free(self, key: Key, lane: _Lane) -> int:
        if _paused(lane):
            return 1 if not lane.running and lane.next_try <= self._clock.monotonic() else 0
        return self._at_once[key[0]] - lane.running

    def goes_on(self, key: Key) -> bool:
        """Whether a job that ends in a lane may hand its turn to the next one there: unless the place is silent, or
        jobs of other lanes may be waiting for a turn."""
        return not _paused(self._lanes[key]) and self._total > sum(lane.running for lane in self._lanes.values())

    def began(self, key: Key) -> None:
        """A job of a lane runs."""
        lane = self._lanes.setdefault(key, _Lane())
        self._served += 1
        lane.running, lane.served = lane.running + 1, self._served

    def ended(self, key: Key) -> None:
        """A job of a lane runs no more."""
        self._lanes[key].running -= 1

    def learn(self, key: Key, outcome: Outcome, reason: str = "") -> Change:
        """An attempt in a lane has told something of its place."""
        lane = self._lanes.setdefault(key, _Lane())
        was_paused = _paused(lane)
        if outcome is Outcome.ANSWERED:
            lane.failures, lane.reason = 0, ""
            return Change.REOPENED if was_paused else Change.NONE
        if outcome is Outcome.SILENT:
            if not lane.failures:
                lane.since = self._clock.now()
            lane.failures, lane.reason = lane.failures + 1, reason
        if not _paused(lane):
            return Change.NONE
        lane.next_try = self._clock.monotonic() + min(
            FIRST_PAUSE * 2.0 ** min(lane.failures - AFTER, 10), LONGEST_PAUSE
        )
        return Change.PAUSED

    def state(self, key: Key) -> LaneState:
        """How one lane is."""
        lane = self._lanes.get(key, _Lane())
        return LaneState(*key, lane.running, lane.failures, _paused(lane), lane.since, self.opens_in(key), lane.reason)

    def states(self) -> list[LaneState]:
        """How each lane is that has had a job since the start."""
        return [self.state(key) for key in sorted(self._lanes)]


def _paused(lane: _Lane) -> bool:
    return lane.failures >= AFTER
