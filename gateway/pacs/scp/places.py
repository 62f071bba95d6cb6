"""Who has a place with us, and who makes room for whom: connections and associations are few, and anybody can hold one.

What counts is what somebody has brought. A place is given up for a newcomer by whoever has stored nothing, and of these
by the one that has been silent for longest; who is in the middle of sending, or stores, keeps it. So neither strangers
nor a PACS that forgets to release keep the one out that was asked for a study a moment ago.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from gateway.pacs.upper import Link

STRANGERS = 32
"""Connections from addresses of no PACS, in all, that have not associated: enough to be rejected with a reason."""

FROM_ONE_STRANGER = 8
"""The same from one address."""

FROM_ONE_PACS = 64
"""Connections from the address of a PACS that have not associated."""

QUIET = 2.0
"""Seconds without a byte after which an association may make room for another one."""

STALLED = 10.0
"""The same for one that is in the middle of a message."""

UNUSED = 60.0
"""Seconds after which one that has stored nothing may make room however it keeps itself busy."""


@dataclass(eq=False, slots=True)
class Caller:
    """Somebody who is connected to us."""

    link: Link
    host: str
    household: str
    """What is counted as one address."""
    known: bool
    """Whether it is an address that a PACS sends from."""
    since: float
    """Event-loop seconds of the connection."""
    title: str = ""
    """The calling AE title, once it is associated."""
    awaited: bool = False
    """Whether it is a PACS that was asked to send, and has not ended."""
    handling: bool = False
    """Whether it waits for us, and not we for it."""
    stored_at: float = 0.0
    """Event-loop seconds at which the last of its instances was taken; 0: none was."""


def unassociated_to_go(waiting: Collection[Caller], household: str, *, known: bool, most: int) -> Caller | None:
    """Of those that have not associated, in the order they came, whoever goes before one more from *household* is
    taken; None where there is room. One flood takes its own places, and strangers take none of a PACS."""
    same = [caller for caller in waiting if caller.household == household]
    if len(same) >= (FROM_ONE_PACS if known else FROM_ONE_STRANGER):
        return same[0]
    strangers = [caller for caller in waiting if not caller.known]
    if not known and len(strangers) >= STRANGERS:
        return strangers[0]
    if len(waiting) >= most:
        return (strangers or list(waiting))[0]
    return None


def associated_to_go(standing: Iterable[Caller], newcomer: Caller, *, most: int, now: float) -> Caller | None:
    """Of those that are associated, all *most* of them, whoever makes room for *newcomer*; None: nobody does."""
    households: dict[str, int] = {}
    standing = list(standing)
    for caller in standing:
        households[caller.household] = households.get(caller.household, 0) + 1

    def may_go(caller: Caller) -> bool:
        if caller.handling or caller.link.writing:
            return False
        silent_for = now - caller.link.last_received
        if silent_for >= (STALLED if caller.link.in_message else QUIET):
            return True
        if caller.stored_at:
            return False
        crowds = households[caller.household] > most // 2 and caller.household != newcomer.household
        return crowds or (newcomer.awaited and not caller.awaited) or now - caller.since >= UNUSED

    return min(
        filter(may_go, standing),
        key=lambda caller: (caller.awaited, caller.stored_at, caller.link.last_received),
        default=None,
    )
