"""Hours of the week in which something may be done, as people write them: ``19:00-06:30``, ``Sat,Sun 00:00-24:00``."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable
from dataclasses import dataclass

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_WINDOW = re.compile(r"(?:(?P<days>[A-Za-z,\- ]+?)\s+)?(?P<begins>\d{1,2}:\d{2})\s*-\s*(?P<ends>\d{1,2}:\d{2})")
_NO_WINDOW = "not a window: write it like 19:00-06:30, or Mon-Fri 19:00-06:30, or Sat,Sun 00:00-24:00"


@dataclass(frozen=True, slots=True)
class Window:
    """From one time of the day to another one, on the days on which it begins."""

    days: frozenset[int]
    """0 is Monday."""
    begins: int
    """Minutes after midnight; so too :attr:`ends`, which is on the next day where it is not later."""
    ends: int

    @classmethod
    def parse(cls, text: str) -> Window:
        """The window that *text* writes. Raises ValueError."""
        match = _WINDOW.fullmatch(text.strip())
        if match is None:
            raise ValueError(_NO_WINDOW)
        begins, ends = _minutes(match["begins"]), _minutes(match["ends"])
        if begins == ends or begins == 24 * 60:
            raise ValueError("a window that has no length: write 00:00-24:00 for a whole day")
        return cls(_days(match["days"]), begins, ends)

    def covers(self, moment: datetime.datetime) -> bool:
        """Whether *moment*, as the clock on the wall has it, is within."""
        minute, day = moment.hour * 60 + moment.minute, moment.weekday()
        if self.ends > self.begins:
            return day in self.days and self.begins <= minute < self.ends
        evening = day in self.days and minute >= self.begins
        return evening or ((day - 1) % 7 in self.days and minute < self.ends)


@dataclass(frozen=True, slots=True)
class Windows:
    """Several windows; none: any time.

    What counts is the clock on the wall. So on the night in which it is set back, what lies in the hour that comes
    twice is open twice, and on the one in which it is set ahead, an hour is open for nobody.
    """

    windows: tuple[Window, ...] = ()
    zone: datetime.tzinfo | None = None
    """Whose wall; None: this machine's."""

    @classmethod
    def parse(cls, texts: Iterable[str], zone: datetime.tzinfo | None = None) -> Windows:
        """The windows that *texts* write. Raises ValueError."""
        return cls(tuple(map(Window.parse, texts)), zone)

    def open_at(self, now: float) -> bool:
        """Whether *now* (unix seconds) is within one of them."""
        local = datetime.datetime.fromtimestamp(now, self.zone)
        return not self.windows or any(window.covers(local) for window in self.windows)


def window(text: str) -> str:
    """*text*, where it writes a window. Raises ValueError."""
    Window.parse(text)
    return text


def _minutes(text: str) -> int:
    hours, minutes = map(int, text.split(":"))
    if minutes > 59 or hours * 60 + minutes > 24 * 60:
        raise ValueError(_NO_WINDOW)
    return hours * 60 + minutes


def _days(text: str | None) -> frozenset[int]:
    if text is None:
        return frozenset(range(7))
    found: set[int] = set()
    for part in text.lower().replace(" ", "").split(","):
        first, _, last = part.partition("-")
        if first not in DAYS or (last or first) not in DAYS:
            raise ValueError(_NO_WINDOW)
        begins, ends = DAYS.index(first), DAYS.index(last or first)
        found.update(day % 7 for day in range(begins, ends + 1 + (7 if ends < begins else 0)))
    return frozenset(found)
