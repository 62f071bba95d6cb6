"""Asks Avara's API what ``report.delivered`` does not say: who signed a report and when, of which study it is, whether
it adds to another one, and whom Avara takes its patient to be."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.avara import ApiError, AvaraApi, Report, User
from gateway.reports.identity import Snapshot
from gateway.reports.report import Signer, Signing


@dataclass(frozen=True, slots=True)
class ReportFacts:
    """What Avara told of a report."""

    signing: Signing
    study_instance_uid: str | None = None
    addendum: bool | None = None
    """None where it did not say."""
    adds_to: str | None = None
    """The report that it adds to, where there is one that is none itself."""
    snapshot: Snapshot | None = None

    def to_json(self) -> dict[str, Any]:
        """As a job keeps it."""
        return dataclasses.asdict(self)


def lacking(reason: str) -> ReportFacts:
    """What is told of a report where nothing could be asked, for *reason*."""
    return ReportFacts(Signing(lacks=reason))


class Inquiry:
    """Asks about one report at a time."""

    def __init__(self, api: AvaraApi, *, organization: str | None) -> None:
        """*organization* is whom the radiologists work for; None: the facility that Avara names."""
        self._api = api
        self._organization = organization

    async def ask(self, study_id: str, report_id: str, *, last: bool) -> ReportFacts:
        """What Avara tells of a report; the *last* time, what can be had of it. Raises ApiError."""
        answer = await self._api.reports(study_id)
        report = next((r for r in answer.reports if r.report_id == report_id), None)
        if report is None:
            return ReportFacts(Signing(lacks="Avara's API does not list this report"), answer.study_instance_uid)
        signer, lacks = await self._signer(report, last=last)
        if report.signed_at is None:
            lacks = lacks or "Avara's API does not say when it was signed"
        patient = report.snapshot_metadata
        return ReportFacts(
            Signing(
                report.signed_at.timestamp() if report.signed_at is not None else None,
                signer,
                self._organization or patient.facility_name,
                lacks,
            ),
            answer.study_instance_uid,
            report.is_addendum,
            _original(report, answer.reports) if report.is_addendum else None,
            Snapshot(patient.patient_name, patient.mrn, patient.date_of_birth),
        )

    async def _signer(self, report: Report, *, last: bool) -> tuple[Signer | None, str]:
        """Who signed it, and what is not known of that."""
        if not report.user_id:
            return None, "Avara's API does not say who signed it"
        try:
            user = await self._api.user(report.user_id)
        except ApiError as e:
            if e.transient and not last:
                raise
            return None, f"who signed it is not told: {e}"
        signer = _signer_of(user)
        return (signer, "") if signer.family or signer.given else (None, "Avara's API does not name who signed it")


def _signer_of(user: User) -> Signer:
    suffix = " ".join(part.strip() for part in (user.suffix1, user.suffix2) if part.strip())
    return Signer(user.last_name.strip(), user.first_name.strip(), user.middle_name.strip(), suffix, user.npi_number)


def _original(report: Report, reports: list[Report]) -> str | None:
    """The first report that is no addendum."""
    originals = [r for r in reports if not r.is_addendum and r.report_id != report.report_id]
    first = min(originals, key=lambda r: r.signed_at.timestamp() if r.signed_at else float("inf"), default=None)
    return first.report_id if first is not None else None


def snapshot_of(kept: Mapping[str, Any] | None) -> Snapshot | None:
    """What a job keeps of a snapshot."""
    return Snapshot(**kept) if kept else None
