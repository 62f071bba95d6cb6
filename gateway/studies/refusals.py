"""What the gateway itself did not take in, and why.

It is told in answers, by ``fetch`` and by ``check``, and once a study in the log.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from gateway.runtime import Clock

MOST_OF_A_STUDY = 10_000
"""Instances whose refusal is remembered of a study."""

MOST_NAMED = 5
"""Missing instances that a line names."""

MOST_SENDERS = 32
"""Senders whose latest refusal is remembered."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What was refused of one sender since the start."""

    ae_title: str
    times: int
    last: float
    """Unix seconds."""
    sop_instance_uid: str
    """The latest; empty where it cannot be told."""
    reason: str


class Refusals:
    """Remembers the latest refusal of each sender."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._by_sender: OrderedDict[str, Refusal] = OrderedDict()

    def note(self, ae_title: str, sop_instance_uid: str, reason: str) -> None:
        """An instance of *ae_title* was refused."""
        before = self._by_sender.pop(ae_title, None)
        times = before.times + 1 if before is not None else 1
        self._by_sender[ae_title] = Refusal(ae_title, times, self._clock.now(), sop_instance_uid, reason)
        while len(self._by_sender) > MOST_SENDERS:
            self._by_sender.popitem(last=False)

    def latest(self) -> list[Refusal]:
        """One a sender, the latest first."""
        return [*reversed(self._by_sender.values())]


def names_of(missing: Collection[str]) -> str:
    """Some of the instances that are *missing*, to be put behind the reason; empty where it is not known which."""
    if not missing:
        return ""
    some = sorted(missing)[:MOST_NAMED]
    return f" (missing: {', '.join(some)}{', …' if len(missing) > len(some) else ''})"


def summary(refusals: Mapping[str, str]) -> str:
    """What was refused of a study (SOP Instance UID → why) in a line; empty where nothing was."""
    by_reason: dict[str, list[str]] = {}
    for uid, reason in refusals.items():
        by_reason.setdefault(reason, []).append(uid or "one without a UID")
    parts = []
    for reason, uids in by_reason.items():
        others = f" and {len(uids) - 1} more" if len(uids) > 1 else ""
        parts.append(f"the gateway refused {uids[0]}{others}: {reason}")
    return "; ".join(parts)
