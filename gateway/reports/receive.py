"""Acknowledges ``report.delivered``: once the event is in the journal, and whatever else goes wrong (contract)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

from gateway.alerts import raise_alert
from gateway.avara import Event, Refusal, ReportAcknowledged, ReportDelivered, WebhookDelivery
from gateway.journal import Journal, JournalError, StudyReport, Transaction, jobs, remember_study, study_reports
from gateway.reports import alerts
from gateway.reports import jobs as names
from gateway.reports.report import worded

log = logging.getLogger(__name__)


class ReportHandler:
    """The handler of ``report.delivered``."""

    def __init__(
        self, *, journal: Journal, channels: Collection[str], added: Callable[[], None], enabled: bool
    ) -> None:
        """*channels* are the names of what alerts are sent by; *added* is called when a job was added."""
        self._journal = journal
        self._channels = channels
        self._added = added
        self._enabled = enabled
        self.critical = 0
        """Critical reports that were acknowledged since the start."""

    async def __call__(self, event: Event, delivery: WebhookDelivery) -> ReportAcknowledged:
        """Acknowledges one event. Raises Refusal where it cannot be kept: Avara then delivers it again."""
        assert isinstance(event, ReportDelivered)
        if not self._enabled:
            # Never acknowledged: what is acknowledged has to be kept.
            raise Refusal(501, "this hospital's gateway takes no reports")
        try:
            new = await self._journal.run(lambda c: self._keep(c, event, delivery.webhook_id, c.now))
        except JournalError as e:
            log.error("report %s is not acknowledged: %s", event.data.report_id, e)
            raise Refusal(503, "the report cannot be kept now; deliver it again") from e
        if new:
            self._added()
            if event.data.is_critical:
                self.critical += 1
        return ReportAcknowledged()

    def _keep(self, c: Transaction, event: ReportDelivered, webhook_id: str, now: float) -> bool:
        data = event.data
        if data.study_instance_uid:
            remember_study(c, data.study_id, data.study_instance_uid, now)
        payload = names.FetchReport(
            data.report_id, data.study_id, data.study_instance_uid, data.is_critical, now,
            text=worded(data.plain_text), url=data.presigned_url, patient_id=data.external_patient_id,
        )  # fmt: skip
        study_reports.know(c, StudyReport(data.report_id, data.study_id, data.study_instance_uid, now))
        _, new = jobs.add(c, names.FETCH, names.subject(data.report_id, webhook_id), payload, text="acknowledged")
        if new and data.is_critical:
            raise_alert(c, self._channels, alerts.critical(payload))
        return new
