"""What goes into the audit trail: who was given what, from where, with what outcome. Identifiers only, no names."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

from gateway.access import Purpose
from gateway.app.kinds import about
from gateway.audit import AuditTrail, Forwarder, Syslog
from gateway.avara import Answered, Refused
from gateway.config import Config, SyslogConfig
from gateway.journal import CLEAN, Job, Slot
from gateway.objects import ObjectInfo, Opened
from gateway.page import Act, Login
from gateway.runtime import SYSTEM_CLOCK, Clock
from gateway.studies import Flight, Outcome, in_words, rejected

_ACCESS = {
    "study.access_requested": "study_access",
    "secondary_capture.access_requested": "upload_access",
    "report.delivered": "report_received",
}


MOST_UIDS = 100
"""Instances that an entry names; of more it has the number."""

NOBODY = "whoever is on this machine"
"""Where the page asks for no name."""


def forwarder(config: Config, clock: Clock = SYSTEM_CLOCK) -> Forwarder | None:
    """What sends the trail to an audit repository; None where there is none. Raises OSError."""
    kept = config.audit.syslog
    if kept is None:
        return None
    folder = config.state_dir.absolute() / "audit"
    us = socket.gethostname()
    return Forwarder(folder, repository(kept, clock), source=kept.source_id or us, site=kept.site_id or "", clock=clock)


def repository(config: SyslogConfig, clock: Clock = SYSTEM_CLOCK) -> Syslog:
    """The audit repository. Raises OSError where a certificate cannot be read."""
    tls = None
    if config.protocol == "tls":
        tls = ssl.create_default_context(cafile=config.ca_file)  # TLS 1.2 at least
        if config.certificate_file is not None:
            tls.load_cert_chain(config.certificate_file, config.key_file)
    return Syslog(
        config.host,
        config.port,
        config.protocol,
        tls=tls,
        name=config.certificate_name or "",
        our_name=socket.gethostname(),
        clock=clock,
    )


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


def refusals(trail: AuditTrail) -> Callable[[str, str, Purpose], None]:
    """Notes which study the hospital's policy did not let out, by which rule. A viewer may ask for it hundreds of
    times: what repeats is counted."""

    def note(study: str, rule: str, purpose: Purpose) -> None:
        trail.count("access_refused", f"{study} {rule} {purpose}", study=study, rule=rule, purpose=purpose.value)

    return note


def uploads(trail: AuditTrail) -> Callable[[Slot, ObjectInfo], None]:
    """Notes what was sent through an upload URL and is not taken."""

    def note(slot: Slot, info: ObjectInfo) -> None:
        why = "as many as one URL takes were uploaded before"
        trail.note("upload_refused", study=slot.study_instance_uid, key=info.key, bytes=info.size, why=why)

    return note


def rejections(trail: AuditTrail) -> Callable[[str, str, str, str], None]:
    """Notes who asked for an association and did not get it."""

    def note(calling: str, host: str, called: str, why: str) -> None:
        trail.count("association_rejected", f"{calling} {host}", calling=calling, remote=host, called=called, why=why)

    return note


def acts(trail: AuditTrail) -> Callable[[Act], None]:
    """Notes what somebody did on the page, or was shown there."""

    def note(act: Act) -> None:
        by = f"{act.by or NOBODY}, on the page"
        of_job = {"jobs": list(act.jobs), "study": "".join(act.studies)}
        about = of_job if act.jobs else {"studies": list(act.studies), "searched": act.searched}
        trail.note("operator", by=by, did=act.did, remote=act.remote, **about)

    return note


def logins(trail: AuditTrail) -> Callable[[Login], None]:
    """Notes who logged in on the page, and from where somebody tried to."""

    def note(login: Login) -> None:
        if login.failure:
            trail.count("login_refused", login.remote, remote=login.remote)
        else:
            trail.note("login", by=login.by, remote=login.remote)

    return note


def fetches(trail: AuditTrail) -> Callable[[Flight, Outcome, float], None]:
    """Notes what the PACS has corrected, withdrawn or replaced of what had been here, once it is not given any more.
    The names of attributes, and never what they say."""

    def note(flight: Flight, outcome: Outcome, _: float) -> None:
        study, pacs = flight.study_instance_uid, flight.pacs
        if flight.gone:
            trail.note("study_dropped", study=study, why="no PACS has it any more")
        if flight.corrected:
            trail.note("study_corrected", study=study, pacs=pacs, attributes=in_words(flight.corrected))
        was, index = flight.differences, getattr(outcome, "index", None)
        hidden: frozenset[str] = frozenset()
        if flight.held is not None and index is not None:
            hidden = rejected(index.instances) - rejected(flight.held.instances)
        for what, uids in (
            ("instances_withdrawn", was.withdrawn),
            ("instances_replaced", was.replaced),
            ("instances_rejected", hidden),
            ("instances_shown_again", was.readmitted),
        ):
            if uids:
                trail.note(what, study=study, pacs=pacs, count=len(uids), instances=sorted(uids)[:MOST_UIDS])

    return note


def dropped(trail: AuditTrail) -> Callable[[str, str], None]:
    """Notes that a study left the cache although there was room, and why."""

    def note(study_instance_uid: str, why: str) -> None:
        trail.note("study_dropped", study=study_instance_uid, why=why)

    return note


def differing(trail: AuditTrail) -> Callable[[str, str], None]:
    """Notes that a study is not what its PACS sends any more, and why it is thought so."""

    def note(study_instance_uid: str, why: str) -> None:
        trail.note("study_differs", study=study_instance_uid, why=why)

    return note
