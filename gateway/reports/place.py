"""Does ``report.hl7`` and ``report.folder`` jobs: a report goes to one place that is no PACS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from gateway.journal import Ended, Job, Recorded
from gateway.pacs.scu import StudyRecord
from gateway.reports.delivery import ReportDelivery, no_such_place
from gateway.reports.jobs import DeliverReport
from gateway.reports.report import Report


class Place(Protocol):
    """Where reports go, as the operator has configured it."""

    @property
    def combines(self) -> bool:
        """Whether it takes an addendum together with the texts that it adds to."""

    async def deliver(self, report: Report, study: StudyRecord, before: Sequence[str]) -> str:
        """Delivers a report, with the texts *before* that it adds to; what is to be told of it in the record. Raises
        ReportError."""


class PlaceDelivery:
    """The handler of one kind of place."""

    def __init__(self, delivery: ReportDelivery, *, kind: str, places: Mapping[str, Place]) -> None:
        """*kind* is what the operator calls such a place; *places* are by the operator's names for them."""
        self._delivery = delivery
        self._kind = kind
        self._places = places

    async def __call__(self, job: Job) -> Ended:
        """Delivers one version to one place. Raises TryLater, CannotBeDone, ReportError, UnreadablePayload."""
        payload = job.read(DeliverReport)
        place = self._places.get(payload.target)
        if place is None:
            raise no_such_place(self._kind, payload)
        report, study = await self._delivery.report(payload), await self._delivery.study(payload)
        before = await self._delivery.texts_before(report) if place.combines and report.ordinal > 1 else ()
        record = await place.deliver(report, study, before)
        return Recorded(lambda c: self._delivery.end(c, job, payload, record))
