"""Which studies are worth fetching before anybody asks: rules over what a PACS says of a study."""

from __future__ import annotations

import datetime
import fnmatch
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from gateway.pacs.scu import SeriesTraits, StudyTraits

EVERY_STUDY = "every study"
"""The name of the rule that there is where none is written."""

_DATE = re.compile(r"(\d{4})[.\-]?(\d{2})[.\-]?(\d{2})")
_TIME = re.compile(r"(\d{2})(?::?(\d{2})(?::?(\d{2})(?:\.\d*)?)?)?")


def moment(date: str, time: str) -> datetime.datetime | None:
    """The moment that a Study Date (DA) and Study Time (TM, PS3.5 §6.2) name, on the wall clock of whoever wrote them;
    None where they name none. What is missing of the time is taken to be the earliest."""
    found = _DATE.fullmatch(date.strip())
    if found is None:
        return None
    clock = _TIME.fullmatch(time.strip())
    year, month, day = map(int, found.groups())
    hours, minutes, seconds = (int(part or 0) for part in clock.groups()) if clock else (0, 0, 0)
    try:
        taken = datetime.datetime(year, month, day)  # noqa: DTZ001  (a wall clock's)
    except ValueError:
        return None
    if hours > 23 or minutes > 59 or seconds > 60:
        return taken
    return taken.replace(hour=hours, minute=minutes, second=min(seconds, 59))  # a leap second has no place in it


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule; what it leaves empty, everything fits."""

    name: str
    modalities: frozenset[str] = frozenset()
    stations: tuple[str, ...] = ()
    institutions: tuple[str, ...] = ()
    descriptions: tuple[str, ...] = ()
    max_age: float | None = None
    """Seconds."""
    fetch: bool = True

    @property
    def needs_series(self) -> bool:
        """Whether only the study's series tell whether it fits."""
        return bool(self.stations or self.institutions)

    def fits_study(self, study: StudyTraits, today: datetime.datetime) -> bool:
        """Whether all is so that the study itself tells; *today* is on the PACS's wall clock."""
        if self.modalities and self.modalities.isdisjoint(study.modalities):
            return False
        if self.descriptions and not _matches([study.description], self.descriptions):
            return False
        if self.max_age is None:
            return True
        taken = moment(study.study_date, study.study_time)
        return taken is not None and (today - taken).total_seconds() <= self.max_age

    def fits_series(self, series: SeriesTraits) -> bool:
        """Whether all is so that its series tell."""
        if self.stations and not _matches(series.stations, self.stations):
            return False
        return not self.institutions or _matches(series.institutions, self.institutions)


@dataclass(frozen=True, slots=True)
class Decision:
    """What the rules say of a study."""

    fetch: bool
    rule: str = ""
    """The one that decided; empty where none fits."""


def decide(
    rules: Sequence[Rule], study: StudyTraits, today: datetime.datetime, series: SeriesTraits | None = None
) -> Decision | None:
    """What the first rule that fits says; None where that depends on the study's *series*, which are not given."""
    if not rules:
        return Decision(True, EVERY_STUDY)
    for rule in rules:
        if not rule.fits_study(study, today):
            continue
        if rule.needs_series:
            if series is None:
                return None
            if not rule.fits_series(series):
                continue
        return Decision(rule.fetch, rule.name)
    return Decision(False)


def _matches(values: Collection[str], patterns: Iterable[str]) -> bool:
    """Whether one of *values* fits one of *patterns*; only ``*`` and ``?`` are more than themselves."""
    wanted = [pattern.lower().replace("[", "[[]") for pattern in patterns]
    return any(fnmatch.fnmatchcase(value.strip().lower(), pattern) for value in values for pattern in wanted)
