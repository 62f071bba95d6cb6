"""Lets a report go out: which version of it this is, what it adds to, and where it goes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence

from gateway.journal import Job, JobState, ReportVersion, StudyReport, Transaction, Unfit, jobs, study_reports
from gateway.journal import reports as table
from gateway.reports import jobs as names
from gateway.reports.jobs import DeliverReport, FetchReport
from gateway.reports.report import worded


def deliver(
    c: Transaction, destinations: Mapping[str, Sequence[str]], payload: FetchReport, study: str, *, pdf: bool
) -> str:
    """Adds the deliveries of a report to *destinations*, places by kind of job, unless they were added for the same
    content before; what was done."""
    told = payload.told or {}
    known = table.versions(c, payload.report)
    content = _content_of(payload, pdf=pdf)
    for version in known:
        if version.content == content:
            return f"the same as version {version.version}, which is delivered once"
    place = study_reports.settle(
        c,
        StudyReport(payload.report, payload.study_id, study, payload.received),
        addendum=told.get("addendum"),
        original=told.get("adds_to"),
    )
    version = ReportVersion(
        payload.report,
        len(known) + 1,
        content,
        study,
        pdf,
        worded(payload.text) is not None,
        payload.received,
    )
    table.add(c, version)
    places = []
    for kind, places_of_kind in destinations.items():
        for destination in places_of_kind:
            subject = names.subject(version.report_id, str(version.version), destination)
            added = DeliverReport(
                destination, version.report_id, payload.study_id, study, version.version, payload.critical,
                version.received, worded(payload.text), payload.key if pdf else None, place.ordinal, place.original,
                told.get("signing"),
            )  # fmt: skip
            jobs.add(c, kind, subject, added, text=f"version {version.version}")
            places.append(f"{kind.partition('.')[2]} {destination}")
    named = "the report" if place.ordinal == 1 else f"the report, which adds to {place.original or 'another one'},"
    return f"version {version.version} of {named} goes to {', '.join(places) or 'nowhere: none is configured'}"


def assign(c: Transaction, job_id: int, study_instance_uid: str, *, by: str = "") -> Job:
    """An operator says which study a report is of, and it goes on at once; *by* names them. Raises Unfit."""
    job = jobs.get(c, job_id)
    if job is None or job.kind != names.FETCH:
        raise Unfit(f"job {job_id} is no report that waits for its study")
    if job.state not in (JobState.WAITING, JobState.QUARANTINED):
        raise Unfit(f"job {job_id} is {job.state.value}: its study cannot be changed now")
    payload = dataclasses.replace(job.read(FetchReport), study=study_instance_uid, assigned=True)
    who = f"an operator ({by})" if by else "an operator"
    jobs.reschedule(c, job, f"{who} says that it is of study {study_instance_uid}", payload=payload)
    return job


def _content_of(payload: FetchReport, *, pdf: bool) -> str:
    parts = [payload.sha256 if pdf else None, payload.text or "", payload.critical]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
