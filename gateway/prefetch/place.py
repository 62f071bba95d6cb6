"""A PACS as prefetch sees it: what may be asked of it now, and what was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.config import Windows
from gateway.pacs.scu import StudySearch
from gateway.studies import Habits

HOUR = 3600.0


@dataclass(slots=True)
class Spent:
    """What prefetch has asked of one PACS since the start."""

    queries: Counter[str] = field(default_factory=Counter)
    """C-FIND or QIDO-RS, by what for."""
    studies: int = 0
    """That it was asked to send."""
    size: int = 0
    """Bytes that it sent."""


@dataclass(frozen=True, slots=True)
class Place:
    """A PACS that is prefetched from."""

    name: str
    search: StudySearch
    habits: Habits
    windows: Windows
    studies_per_hour: int
    trouble: Callable[[], str] = lambda: ""
    """That it does not answer; empty while it does."""
    spent: Spent = field(default_factory=Spent)
