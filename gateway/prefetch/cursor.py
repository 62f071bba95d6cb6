"""How far a PACS was asked for new studies: a cursor on the wall clock by which it dates them.

C-FIND matches a range of dates and a range of times each by itself (PS3.4 C.2.2.2.5): "since yesterday 23:00" is not
one query but two. The cursor follows what was seen, and so the PACS's clock and not ours.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable
from dataclasses import dataclass

OVERLAP = datetime.timedelta(hours=2)
"""Before the cursor that is asked for again each time: a study is dated by when it began, and the PACS has it later."""

AHEAD = datetime.timedelta(hours=2)
"""By how much a clock of the hospital may be ahead of ours."""

_FORMAT = "%Y%m%d%H%M%S"


@dataclass(frozen=True, slots=True)
class Span:
    """What one query asks for: a range of Study Date (DA) and, on a single day, of Study Time (TM)."""

    date: str
    time: str = ""

    def covers(self, moment: datetime.datetime) -> bool:
        """Whether a study of that moment matches."""
        first, _, last = self.date.partition("-")
        if not first <= moment.strftime("%Y%m%d") <= (last or first):
            return False
        begins, _, ends = self.time.partition("-")
        return not self.time or begins <= moment.strftime("%H%M%S") <= ends

    def halves(self) -> tuple[Span, Span] | None:
        """The same in two, for a PACS that does not answer so much at once; None for several days, and for less than
        two minutes."""
        if "-" in self.date:
            return None
        begins, ends = (_seconds(part) for part in (self.time or "000000-235959").split("-"))
        if ends - begins < 120:
            return None
        middle = (begins + ends) // 2
        return (
            Span(self.date, f"{_clock(begins)}-{_clock(middle)}"),
            Span(self.date, f"{_clock(middle + 1)}-{_clock(ends)}"),
        )


def spans(since: datetime.datetime, now: datetime.datetime) -> list[Span]:
    """The queries for what is dated between *since* and *now*, and up to :data:`AHEAD` after that. Only the first asks
    for a time, so that a study without one is found on every other day."""
    days = []
    day, last = since.date(), (max(now, since) + AHEAD).date()
    while day <= last:
        days.append(day.strftime("%Y%m%d"))
        day += datetime.timedelta(days=1)
    begins = since.strftime("%H%M%S")
    return [Span(days[0], f"{begins}-235959" if begins != "000000" else ""), *map(Span, days[1:])]


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far one PACS was asked."""

    latest: datetime.datetime
    """The latest that a study was dated, as far as that can be."""

    def since(self, now: datetime.datetime, look_back: datetime.timedelta) -> datetime.datetime:
        """From where on it is to be asked *now*: never further back than *look_back*."""
        # A clock that was ahead, or a study with a wrong year, must not make all that follows look old.
        return max(min(self.latest, now) - OVERLAP, now - look_back)

    def after(self, seen: Iterable[datetime.datetime], now: datetime.datetime) -> Cursor:
        """Where it stands once studies of these moments were *seen*."""
        return Cursor(max([self.latest, *(one for one in seen if one <= now)]))

    def dump(self) -> str:
        """In the form in which it is kept."""
        return json.dumps({"latest": self.latest.strftime(_FORMAT)})

    @classmethod
    def load(cls, kept: str | None, default: datetime.datetime) -> Cursor:
        """What :meth:`dump` gave; *default* where there is none, or none that can be read."""
        try:
            return cls(datetime.datetime.strptime(json.loads(kept or "{}")["latest"], _FORMAT))  # noqa: DTZ007
        except (ValueError, TypeError, KeyError):
            return cls(default)


def _seconds(clock: str) -> int:
    return int(clock[:2]) * 3600 + int(clock[2:4]) * 60 + int(clock[4:6])


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02}{seconds % 3600 // 60:02}{seconds % 60:02}"
