"""Whether a busy week fits: what studies brought in the busiest week of late, and how much room there is for it."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.journal import EventKind, Transaction, events

DAY = 86400.0

LOOKED_BACK = 28
"""Days; events are kept a little longer by default."""

ASSUMED_STUDIES = 700
"""Studies of a week where none are known: 100 a day."""

ASSUMED_SIZE = 150e6
"""Bytes of a study where none are known: a CT of 300 slices."""


@dataclass(frozen=True, slots=True)
class BusyWeek:
    """What a busy week brings."""

    studies: int
    assumed: bool
    """Whether that is assumed, since nothing is known yet."""


def busiest_week(c: Transaction) -> BusyWeek:
    """The busiest seven days of the last four weeks, by the studies that were fetched."""
    counts = [
        events.count(c, EventKind.FETCH, since=c.now - (day + 7) * DAY, until=c.now - day * DAY)
        for day in range(LOOKED_BACK - 6)
    ]
    most = max(counts)
    return BusyWeek(most or ASSUMED_STUDIES, not most)


def told(week: BusyWeek, *, cached: int, cached_studies: int, capacity: int) -> tuple[bool | None, str]:
    """Whether it fits (None: it does not, which harms nobody but costs time), and what to say of it. *cached* bytes of
    *cached_studies* are there, of *capacity* bytes that may be."""
    size = cached / cached_studies if cached_studies else ASSUMED_SIZE
    need = week.studies * size
    of = f"{week.studies} studies of {size / 1e6:.0f} MB"
    basis = "assumed, since none was fetched yet" if week.assumed else "as in the busiest of the last four weeks"
    text = f"a week brings {need / 1e9:.1f} GB ({of}, {basis}), and the cache may hold {capacity / 1e9:.1f} GB"
    if need <= capacity:
        return True, text
    return None, (
        f"{text}: what is opened again after {max(capacity, 0) / need * 7:.1f} days comes from the PACS anew; for "
        "more, a larger disk for the store, and cache.max_size"
    )
