"""How the fetch of a study ended. Each end is a type of its own, since each has an answer of its own."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.studies.index import StudyIndex


@dataclass(frozen=True, slots=True)
class Complete:
    """Every instance that the PACS lists is in the store."""

    index: StudyIndex


@dataclass(frozen=True, slots=True)
class Partial:
    """Some instances are in the store, and it is not known that these are all (field note 2)."""

    index: StudyIndex
    missing: tuple[str, ...]
    """SOP Instance UIDs that the PACS lists and did not deliver; empty where it lists none."""
    reason: str
    """For the operator."""
    refused: str = ""
    """What of the missing ones the gateway itself refused, and why."""


@dataclass(frozen=True, slots=True)
class NotFound:
    """Every configured PACS answered, and none has the study."""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No PACS that could be asked has the study, and at least one could not be asked."""

    reason: str
    """For the operator."""
    answered: bool = False
    """Whether one answered, by refusing the question."""


@dataclass(frozen=True, slots=True)
class Unlisted:
    """A PACS lists the study, and not yet all that was sent of it."""

    pacs: str
    count: int
    """Instances that it does not list."""


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """A PACS sent instances unasked, and none has said yet that the study has them."""

    index: StudyIndex
    cause: NotFound | Unreachable | Unlisted
    """Why not: none lists it or them yet, or one that may cannot be asked."""

    @property
    def reason(self) -> str:
        """For the operator."""
        if isinstance(self.cause, Unlisted):
            return f"PACS {self.cause.pacs} does not list {self.cause.count} of them yet"
        return "no PACS lists it yet" if isinstance(self.cause, NotFound) else self.cause.reason


@dataclass(frozen=True, slots=True)
class NotSent:
    """A PACS answers and has the study, and none of its instances came, or was taken."""

    reason: str
    """For the operator."""
    refused: str = ""
    """What the gateway itself refused, and why; empty where nothing came."""
    empty: bool = False
    """Whether the PACS lists no instance, and sent none without a word of failure: there are none."""


@dataclass(frozen=True, slots=True)
class Disputed:
    """The PACS has the study under several patients: nothing of it can be given."""

    reason: str
    """For the operator."""


@dataclass(frozen=True, slots=True)
class NotStored:
    """The PACS has it and the store does not take it: no room, or the store cannot be reached."""

    reason: str
    """For the operator."""


Outcome = Complete | Partial | NotFound | Unreachable | Unconfirmed | NotSent | Disputed | NotStored
