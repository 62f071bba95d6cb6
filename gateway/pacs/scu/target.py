"""A PACS as objects are stored in it, whichever way it takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gateway.pacs.scu.client import PacsClient
from gateway.pacs.scu.store import OutgoingInstance, Stored, Transcode, store


class Target(Protocol):
    """Where objects are stored. Its text names the PACS for messages."""

    @property
    def name(self) -> str:
        """The operator's name for the PACS."""

    @property
    def committer(self) -> PacsClient | None:
        """Who is asked for storage commitment; None where there is none in this way."""

    async def holds(self, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str) -> bool:
        """Whether the PACS lists an instance. Raises PacsError."""

    async def store(self, study_instance_uid: str, instance: OutgoingInstance, transcode: Transcode) -> Stored:
        """Stores *instance*; what is stored with a warning is stored. Raises PacsError, CannotTranscode, OSError."""


@dataclass(frozen=True, slots=True)
class CStoreTarget:
    """By C-STORE."""

    committer: PacsClient

    @property
    def name(self) -> str:
        """As :class:`Target` has it."""
        return self.committer.peer.name

    def __str__(self) -> str:
        return str(self.committer.peer)

    async def holds(self, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str) -> bool:
        """As :class:`Target` has it, by C-FIND."""
        return await self.committer.holds(study_instance_uid, series_instance_uid, sop_instance_uid)

    async def store(self, study_instance_uid: str, instance: OutgoingInstance, transcode: Transcode) -> Stored:
        """As :class:`Target` has it."""
        return await store(self.committer, instance, transcode)
