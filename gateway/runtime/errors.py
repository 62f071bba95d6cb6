"""The root of every error that this gateway tells an operator of.

The tree, by the room that raises:

    GatewayError
    ├── PacsError         gateway/pacs/errors.py      what a PACS, or the way to it, did to us
    ├── StoreError        gateway/objects/errors.py   the object store
    ├── JournalError      gateway/journal/            the database
    ├── ReportError       gateway/reports/errors.py   where a report comes from or goes to
    ├── AlertError        gateway/alerts/errors.py    a way in which people are told
    ├── LoopEnded         gateway/runtime/            a loop that the gateway cannot do without
    └── AlreadyRunning, Misconfigured   gateway/app/errors.py   what keeps it from starting
"""

from __future__ import annotations


class GatewayError(Exception):
    """Something went wrong that an operator may have to mend.

    Its text is for the operator: it names what happened and the likely fix, and holds no patient data, no secret and
    no presigned URL. It is never shown outside the hospital.
    """

    remark = ""
    """What the other side said of it in its own words, which may name a patient: for whoever asks for it (``jobs
    show``), never for a log or a list."""

    transient = False
    """Whether the same attempt may succeed later without anybody changing anything."""

    unanswered = False
    """Whether it could not be reached, or did not answer; nor would it if it were asked for anything else."""


def remark_of(e: BaseException | None) -> str:
    """The other side's own words in an error, or in what led to it; may name a patient."""
    while e is not None:
        if isinstance(e, GatewayError) and e.remark:
            return e.remark
        e = e.__cause__
    return ""
