"""The interface between our Storage SCP and whoever takes in what it receives.

The receiver knows DICOM, not studies: it hands every C-STORE to a handler and answers with the
status that the handler returns. The PACS sends its next instance only after that answer, so a
handler that waits is back-pressure on the association, and on nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol


class Body(Protocol):
    """A data set as it was received: in memory while it is small, in an unnamed spool file above that.

    Bytes are never altered. Whoever is handed a body closes it.
    """

    @property
    def size(self) -> int:
        """Bytes."""

    def head(self, limit: int) -> memoryview:
        """The first *limit* bytes, or fewer where there are no more; for reading attributes."""

    def read(self, offset: int, limit: int) -> bytes:
        """Up to *limit* bytes from *offset*. Cheap in memory; a spool file's bytes come from the disk,
        so call it with :func:`gateway.runtime.in_thread` for a spooled body."""

    @property
    def spooled(self) -> bool:
        """Whether the bytes lie in a file."""

    def close(self) -> None:
        """Gives memory or disk space back. Harmless when called again."""


@dataclass(frozen=True, slots=True)
class IncomingInstance:
    """One C-STORE request with its whole data set (PS3.7 §9.1.1)."""

    sop_class_uid: str
    """Affected SOP Class UID; checked to be usable."""
    sop_instance_uid: str
    """Affected SOP Instance UID; checked to be usable, or empty where it is not."""
    transfer_syntax_uid: str
    """As negotiated for the presentation context: how ``body`` is encoded."""
    calling_ae_title: str
    """Who sent it, as the association said."""
    called_ae_title: str
    peer_host: str
    """The address it came from."""
    body: Body
    move_originator_ae_title: str | None = None
    """Optional in the standard, so never what an instance is attributed by (field note 4)."""
    move_originator_message_id: int | None = None
    answers: str = ""
    """Study Instance UID of the request that it came in answer to, on one connection (C-GET, WADO-RS); empty where
    that cannot be told (C-MOVE)."""
    by: str = ""
    """The method of that request: ``C-GET``, ``WADO-RS``; empty as well where it came to our Storage SCP."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends instances to whom, on one association."""

    calling_ae_title: str
    called_ae_title: str
    host: str
    """The address that they come from."""
    answers: str = ""
    """As :attr:`IncomingInstance.answers`; so too ``by``."""
    by: str = ""


InstanceHandler = Callable[[IncomingInstance], Coroutine[Any, Any, int]]
"""Takes one instance in; returns the C-STORE status to answer with (PS3.4 Table B.2-1).

It owns ``instance.body`` from the call on and closes it sooner or later. An exception is answered
with 0x0110 (processing failure) and logged. An association that goes away lets its handler end: the instance
is whole, only its acknowledgement is lost. A cancelled handler means that the SCP stops.
"""


class Status:
    """C-STORE statuses that we answer with (PS3.7 Annex C, PS3.4 Table B.2-1)."""

    SUCCESS = 0x0000
    NOT_AUTHORIZED = 0x0124
    PROCESSING_FAILURE = 0x0110
    OUT_OF_RESOURCES = 0xA700
    CANNOT_UNDERSTAND = 0xC000


OnRefused = Callable[[Sender, str, str], None]
"""(sender, SOP Instance UID or nothing, why) of an instance that was refused before a handler could see it."""

AllowsAssociation = Callable[[str, str], bool]
"""(calling AE title, peer host) → whether that AE may associate with us at all."""

IsCertified = Callable[[str, str, Collection[str]], bool]
"""(calling AE title, peer host, names in its certificate) → whether the certificate is that AE's."""
