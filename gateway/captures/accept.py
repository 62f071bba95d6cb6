"""What an operator decides about one capture: that it is the study's patient's, whatever it says itself."""

from __future__ import annotations

import dataclasses

from gateway.captures.jobs import CHECK, CheckUpload
from gateway.journal import Job, JobState, Transaction, Unfit, jobs

OTHER_PATIENT = "its patient is not the study's"
"""How the reason begins for which a capture is held that can be accepted."""


def can_be_accepted(job: Job) -> bool:
    """Whether it is a capture that waits since its patient is not the study's."""
    return job.kind == CHECK and job.state is JobState.QUARANTINED and job.last_error.startswith(OTHER_PATIENT)


def accept(c: Transaction, job_id: int, *, by: str) -> Job:
    """Lets one capture take the patient that the PACS has for its study, which is recorded in it (PS3.3 C.12.1), and go
    on at once; *by* names the operator. Raises Unfit."""
    job = jobs.get(c, job_id)
    if job is None:
        raise Unfit(f"there is no job {job_id}")
    if not can_be_accepted(job):
        raise Unfit(f"job {job_id} is no capture that waits since its patient is not the study's")
    payload = dataclasses.replace(job.read(CheckUpload), accepted_by=by)
    jobs.reschedule(c, job, f"an operator ({by}) has it take the PACS's patient", payload=payload)
    return job
