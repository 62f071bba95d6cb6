"""What can go wrong with a PACS, split by what the caller can do about it.

The text of an error is for the operator: it names the PACS, what happened and the likely fix.
It is never shown outside the hospital.
"""

from __future__ import annotations

from gateway.runtime import GatewayError


class PacsError(GatewayError):
    """Base of everything that a PACS, or the way to it, did to us.

    ``transient`` says whether the same request may succeed later without anybody changing anything.
    """

    transient = True


class PacsUnreachable(PacsError):
    """No association came about: connection refused or timed out, rejected as transient, or lost."""

    unanswered = True


class HungUp(PacsUnreachable):
    """The PACS took our request, and ended the association instead of answering."""


class UnreachableMoveDestination(PacsUnreachable):
    """The PACS took a C-MOVE and was silent, and opened no association to our Storage SCP meanwhile: as long as nobody
    changes anything between the two, the next one ends likewise (field note 7)."""


class AssociationRejected(PacsError):
    """The PACS answered A-ASSOCIATE-RJ (PS3.8 §9.3.4); permanent rejections are ours to configure."""

    unanswered = True

    def __init__(self, message: str, *, transient: bool) -> None:
        super().__init__(message)
        self.transient = transient


class WrongCertificate(PacsError):
    """Who answers in TLS is somebody else than the PACS, by its certificate; nothing was said to it."""

    transient = False
    unanswered = True


class NoContextAccepted(PacsError):
    """The PACS accepts none of the presentation contexts: permanent (field note 15)."""

    transient = False


class OperationFailed(PacsError):
    """A DIMSE response of status failure (PS3.7 Annex C). Its Error Comment, *said*, is no part of the text: PACS write
    patients' names into it."""

    def __init__(self, message: str, *, status: int, transient: bool, remark: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.transient = transient
        self.remark = remark


class UnknownMoveDestination(OperationFailed):
    """C-MOVE status A801: our AE title is not registered in the PACS (field note 7)."""


class ProtocolViolation(PacsError):
    """What came from the other side is not DICOM as PS3.7 and PS3.8 have it."""


class RequestRefused(PacsError):
    """An HTTP status of a DICOMweb service that is no success (PS3.18 §8.5)."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status
        # 501 and 505 say that it cannot do such a thing at all (RFC 9110 §15.6).
        self.transient = (status >= 500 or status in (408, 429)) and status not in (501, 505)
