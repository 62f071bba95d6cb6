"""Every kind of job there is, and what it works with: for those who look at jobs of all kinds."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.alerts import SEND, SendAlert
from gateway.captures import CHECK, CheckUpload
from gateway.journal import CLEAN, CleanObject, Job, Payload, UnreadablePayload
from gateway.outbox import StoreObject
from gateway.reports import FETCH, FOLDER, HL7, PACS, DeliverReport, FetchReport

PAYLOADS: Mapping[str, type[Payload]] = {
    CHECK: CheckUpload,
    "capture.store": StoreObject,
    FETCH: FetchReport,
    PACS: DeliverReport,
    "report.store": StoreObject,
    HL7: DeliverReport,
    FOLDER: DeliverReport,
    SEND: SendAlert,
    CLEAN: CleanObject,
}


def about(job: Job) -> Mapping[str, str]:
    """What a job is about, for an operator: identifiers by what they are, never patient data."""
    try:
        return job.read(PAYLOADS.get(job.kind, Payload)).about
    except UnreadablePayload:
        return {}


def object_of(job: Job) -> str | None:
    """The key of the object that the job works with; None where it has none (any more)."""
    try:
        return next(iter(job.read(PAYLOADS.get(job.kind, Payload)).keys), None)
    except UnreadablePayload:
        return None
