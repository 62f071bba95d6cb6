"""What somebody does on the page, or is shown by it, for the record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Act:
    """Something that somebody did."""

    by: str
    """The name that they logged in by, or that the proxy says; empty where nobody has said who it is."""
    did: str
    jobs: tuple[int, ...] = ()
    studies: tuple[str, ...] = ()
    """Study Instance UIDs."""
    remote: str = ""
    """The address that they came from."""
    searched: str = ""
    """A keyed hash of what they searched for, which may be a patient's."""


OnAct = Callable[[Act], None]


@dataclass(frozen=True, slots=True)
class Login:
    """An attempt to log in."""

    by: str
    """Empty where it failed: what is typed for a name may be a password."""
    remote: str
    failure: str = ""


OnLogin = Callable[[Login], None]
