"""What goes into the audit trail: who was given what, from where, with what outcome. Identifiers only, no names."""

from __future__ import annotations

from collections.abc import Callable

from gateway.app.kinds import about
from gateway.audit import AuditFile, AuditTrail
from gateway.avara import Answered, Refused
from gateway.config import Config
from gateway.journal import CLEAN, Job
from gateway.objects import Opened
from gateway.runtime import SYSTEM_CLOCK, Clock

_ACCESS = {
    "study.access_requested": "study_access",
    "secondary_capture.access_requested": "upload_access",
    "report.delivered": "report_received",
}


def audit_file(config: Config, clock: Clock = SYSTEM_CLOCK) -> AuditFile | None:
    """The trail of a ``state_dir``; None where it is turned off."""
    kept = config.audit
    if not kept.enabled:
        return None
    folder = config.state_dir.absolute() / "audit"
    return AuditFile(folder, keep_for=kept.keep, max_size=kept.max_size, clock=clock)


def webhooks(trail: AuditTrail) -> Callable[[Answered | Refused], None]:
    """Notes what Avara asked and was given, and who was turned away."""

    def note(what: Answered | Refused) -> None:
        if isinstance(what, Refused):
            trail.count("webhook_refused", what.remote, remote=what.remote, webhook=what.webhook_id, why=what.reason)
            return
        data = what.event.data
        trail.note(
            _ACCESS.get(what.event.type, what.event.type),
            study=getattr(data, "study_instance_uid", None),
            avara_study=getattr(data, "study_id", None),
            report=getattr(data, "report_id", None),
            event=what.event.id,
            webhook=what.webhook_id,
            remote=what.remote,
            status=what.status,
            outcome=what.outcome,
        )

    return note


def opened(trail: AuditTrail) -> Callable[[Opened], None]:
    """Notes each URL that is opened, and each that is none."""

    def note(what: Opened) -> None:
        if what.status == 403:
            trail.count("url_refused", what.remote, remote=what.remote, method=what.method)
            return
        trail.note(
            "uploaded" if what.method == "PUT" else "opened",
            method=what.method,
            key=what.key,
            remote=what.remote,
            status=what.status,
            bytes=what.size,
        )

    return note


def ended_jobs(trail: AuditTrail) -> Callable[[Job], None]:
    """Notes what was delivered, and what was not."""

    def note(job: Job) -> None:
        if job.kind != CLEAN:
            outcome = {"job": job.id, "kind": job.kind, "to": job.lane, "outcome": job.state.value}
            trail.note("job", **{**about(job), **outcome, "why": job.last_error})

    return note


def rejections(trail: AuditTrail) -> Callable[[str, str, str, str], None]:
    """Notes who asked for an association and did not get it."""

    def note(calling: str, host: str, called: str, why: str) -> None:
        trail.count("association_rejected", f"{calling} {host}", calling=calling, remote=host, called=called, why=why)

    return note


def acts(trail: AuditTrail) -> Callable[[str, str, int, str], None]:
    """Notes what somebody did on the page."""

    def note(who: str, did: str, job: int, study: str) -> None:
        trail.note("operator", by=f"{who}, on the page", did=did, jobs=[job], study=study)

    return note
