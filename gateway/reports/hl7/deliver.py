"""An HL7 receiver, as a place that reports are delivered to."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.pacs.scu import StudyRecord
from gateway.reports.hl7 import message as hl7
from gateway.reports.hl7 import mllp
from gateway.reports.report import Report
from gateway.runtime import in_thread


@dataclass(frozen=True, slots=True)
class Hl7Receiver:
    """An HL7 receiver that the operator has configured (a ``Place``)."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    profile: hl7.Profile
    timeouts: mllp.Timeouts

    @property
    def combines(self) -> bool:
        """Whether an addendum is sent together with the texts that it adds to."""
        return self.profile.addendum is hl7.Addendum.COMBINED

    async def deliver(self, report: Report, study: StudyRecord, before: Sequence[str]) -> str:
        """Sends a report, with the texts *before* that it adds to; what is to be told of it in the record. Raises
        ReportError."""
        identity = hl7.control_id(report)
        message = await in_thread(
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
