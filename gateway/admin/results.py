"""What ``check`` tells: one line after the other."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Result:
    """One thing that was checked."""

    name: str
    ok: bool | None
    """None: it could not be told, or is allowed and unwise."""
    text: str

    def to_dict(self) -> dict[str, Any]:
        """For the control socket, and for machines."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Begins:
    """Something that may take a while is being checked."""

    name: str

    def to_dict(self) -> dict[str, Any]:
        """For the control socket."""
        return {"begins": self.name}


CheckEvent = Result | Begins
