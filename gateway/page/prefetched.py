"""Prefetch, in a line of the first screen: what waits, for what, and of what use it was today.

Pure: what was observed goes in, what an operator reads comes out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PrefetchSeen:
    """Prefetch, as it was seen."""

    waiting: Mapping[str, tuple[int, int]]
    """By PACS: studies that could begin now, and those that are to wait for longer, since they are new or failed."""
    waits_for: Mapping[str, str]
    """By PACS: why nothing begins there now, in words; empty where something may."""
    running: int
    """Studies that are being prefetched."""
    warm_today: int
    """Studies that were opened today for the first time, and were here thanks to prefetch."""


def in_words(seen: PrefetchSeen) -> str:
    """What is said of it."""
    due = sum(now for now, _ in seen.waiting.values())
    later = sum(then for _, then in seen.waiting.values())
    parts = []
    if seen.running:
        parts.append(f"{_studies(seen.running)} {_verb(seen.running, 'comes', 'come')} now")
    if due or later or not seen.running:
        parts.append(f"{_studies(due + later)} {_verb(due + later, 'waits', 'wait')}")
    if later:
        parts.append(f"{later} of them not due yet, since new or to be tried again")
    held = [f"{name}, {why}" for name, why in sorted(seen.waits_for.items()) if why]
    if held:
        parts[-1] += f" (held up: {'; '.join(held)})"
    warm = seen.warm_today
    of_use = f"{_studies(warm)} opened today {_verb(warm, 'was', 'were')} warm thanks to it"
    now = ", ".join(parts)
    return f"{now[0].upper()}{now[1:]}. {of_use[0].upper()}{of_use[1:]}."


def _studies(number: int) -> str:
    return "one study" if number == 1 else f"{number or 'no'} studies"


def _verb(number: int, one: str, more: str) -> str:
    return one if number == 1 else more
