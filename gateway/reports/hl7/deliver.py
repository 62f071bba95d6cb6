"""Does ``report.hl7`` jobs: sends a report to an HL7 receiver."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.journal import Ended, Job, Journal
from gateway.pacs.scu import StudyRecord
from gateway.reports.delivery import Delivery, no_such_place
from gateway.reports.hl7 import message as hl7
from gateway.reports.hl7 import mllp
from gateway.reports.jobs import DeliverReport
from gateway.reports.report import Report


@dataclass(frozen=True, slots=True)
class Hl7Receiver:
    """An HL7 receiver that the operator has configured."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    profile: hl7.Profile
    timeouts: mllp.Timeouts

    async def deliver(self, report: Report, study: StudyRecord, before: Sequence[str]) -> str:
        """Sends a report, with the texts *before* that it adds to; what is to be told of it in the record. Raises
        ReportError."""
        identity = hl7.control_id(report)
        message = await asyncio.to_thread(
            hl7.build_oru,
            report,
            study,
            self.profile,
            message_control_id=identity,
            now=datetime.now().astimezone(),
            before=before,
        )
        taken = await mllp.send(message, self.host, self.port, tls=self.tls, timeouts=self.timeouts)
        noted = f"; its answer {taken.oddity}" if taken.oddity else ""
        return f"taken by {self.host}:{self.port} ({taken.code}) as message {identity}{noted}"

    async def check(self) -> None:
        """Whether it takes connections. Raises ReportError."""
        await mllp.reach(self.host, self.port, tls=self.tls, timeouts=self.timeouts)


class Hl7Delivery:
    """The handler of ``report.hl7``."""

    def __init__(self, delivery: Delivery, *, journal: Journal, receivers: Mapping[str, Hl7Receiver]) -> None:
        """*receivers* by the operator's names for them."""
        self._delivery = delivery
        self._journal = journal
        self._receivers = receivers

    async def __call__(self, job: Job) -> Ended:
        """Sends one version to one receiver. Raises TryLater, CannotBeDone, ReportError, UnreadablePayload."""
        payload = job.read(DeliverReport)
        receiver = self._receivers.get(payload.target)
        if receiver is None:
            raise no_such_place("HL7 receiver", payload)
        report, study = await self._delivery.report(payload), await self._delivery.study(payload)
        combined = receiver.profile.addendum is hl7.Addendum.COMBINED
        before = await self._delivery.texts_before(report) if combined and report.ordinal > 1 else ()
        said = await receiver.deliver(report, study, before)
        await self._journal.run(lambda c: self._delivery.end(c, job, payload, said))
        return None
