"""What is under way and what was of late: fetches with their progress, studies, jobs, in the words of the page."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from gateway.journal import EventKind, Job, JobState, Transaction, cached_studies, events, upload_slots
from gateway.pacs import Urgency
from gateway.studies import Flight


@dataclass(frozen=True, slots=True)
class Fetching:
    """A study on its way."""

    study: str
    pacs: str
    stored: int
    expected: int | None
    """None while the PACS has not said how many there are."""
    megabytes: float
    """That came with this fetch."""
    rate: float
    """MB a second since it began."""
    seconds: float
    asked_by: str
    waits_for: str

    @property
    def percent(self) -> int | None:
        """Of the instances; None where their number is not known."""
        return min(100 * self.stored // self.expected, 100) if self.expected else None


def fetching(flights: Sequence[Flight]) -> list[Fetching]:
    """What is being fetched, the longest under way first."""
    return [_fetching(flight) for flight in sorted(flights, key=lambda f: f.began)]


def _fetching(flight: Flight) -> Fetching:
    seconds = max(time.monotonic() - flight.began, 0.001)
    came = sum(flight.stored[uid].size for uid in flight.came if uid in flight.stored) / 1e6
    expected = len(flight.expected) if flight.expected and flight.listed.is_set() else flight.expected_count
    return Fetching(
        flight.study_instance_uid, flight.pacs, len(flight.stored), expected, came, came / seconds,
        seconds, _asked_by(flight), _waits_for(flight, expected),
    )  # fmt: skip


def _asked_by(flight: Flight) -> str:
    if flight.urgency() is Urgency.BACKGROUND:
        return "nobody yet: the PACS sends it"
    if event := flight.log_ids.get("event"):
        return f"Avara ({event})"
    return "an operator"


def _waits_for(flight: Flight, expected: int | None) -> str:
    if flight.store_failure:
        return f"the store: {flight.store_failure}"
    if not flight.pacs:
        return "a PACS to say that it has the study"
    silent = time.monotonic() - flight.last_arrival
    if not flight.listed.is_set():
        return f"{flight.pacs or 'the PACS'} to list its instances"
    if expected is not None and len(flight.stored) >= expected:
        return "the index to be written"
    if silent > 2:
        return f"{flight.pacs or 'the PACS'}, which has sent nothing for {silent:.0f} s"
    return "further instances"


@dataclass(frozen=True, slots=True)
class Happened:
    """Something that became of a study."""

    at: float
    study: str
    text: str
    trouble: bool
    source: str
    """``cold``: it was fetched from the PACS; ``warm``: it was answered out of the cache; else nothing."""
    megabytes: float | None
    """Of the study as it lies in the cache now; None where it does not."""


def of_late(c: Transaction, limit: int) -> list[Happened]:
    """What became of studies, the latest first."""
    found = events.latest(c, EventKind.FETCH, limit) + events.latest(c, EventKind.WEBHOOK, limit)
    named = [(event, _study(event.keys)) for event in sorted(found, key=lambda e: -e.at)]
    of_studies = [(event, study) for event, study in named if study][:limit]
    wanted = select(cached_studies.c.study_instance_uid, cached_studies.c.size).where(
        cached_studies.c.study_instance_uid.in_({study for _, study in of_studies})
    )
    sizes = {row.study_instance_uid: row.size / 1e6 for row in c.execute(wanted)}
    return [
        Happened(e.at, study, e.text, e.trouble, _source(e.kind, e.text), sizes.get(study)) for e, study in of_studies
    ]


def _source(kind: EventKind, text: str) -> str:
    if kind is EventKind.FETCH:
        return "cold"
    return "warm" if "from the cache" in text else ""


def _study(keys: Sequence[str]) -> str:
    return next((key.removeprefix("study:") for key in keys if key.startswith("study:")), "")


@dataclass(frozen=True, slots=True)
class JobLine:
    """A job, for the page."""

    id: int
    kind: str
    state: str
    waits: bool
    """Whether an operator has to decide."""
    created: float
    study: str
    about: tuple[tuple[str, str], ...]
    why: str


def job_lines(c: Transaction, jobs: Sequence[Job], about: Sequence[Mapping[str, str]]) -> list[JobLine]:
    """Jobs as the page shows them; *about* has the identifiers of each."""
    slots = {names["slot"] for names in about if "slot" in names}
    wanted = select(upload_slots.c.id, upload_slots.c.study_instance_uid).where(upload_slots.c.id.in_(slots))
    studies = {row.id: row.study_instance_uid for row in c.execute(wanted)} if slots else {}
    return [
        JobLine(
            job.id, job.kind, job.state.value, job.state is JobState.QUARANTINED, job.created,
            names.get("study") or studies.get(names.get("slot", ""), ""),
            tuple((name.replace("_", " "), value) for name, value in names.items() if name not in ("slot", "study")),
            job.last_error,
        )
        for job, names in zip(jobs, about, strict=True)
    ]  # fmt: skip
