"""A PACS as studies are fetched from it: how it is asked, how it brings them, and how it stands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field

from gateway.pacs import Breaker
from gateway.pacs.scu import Finder, PacsClient, Retriever
from gateway.studies.habits import Habits


@dataclass(frozen=True, slots=True)
class Pacs:
    """A PACS that studies are fetched from."""

    name: str
    client: PacsClient
    sending_ae_titles: frozenset[str]
    """Calling AE titles under which it sends to us."""
    finder: Finder
    retrievers: tuple[Retriever, ...]
    """The first brings the study; the others, in order, what it left missing."""
    habits: Habits = field(default_factory=lambda: Habits(5.0))
    complete: bool = True
    """Whether it has its studies whole; else they are merged with what others have of them."""
    parallel_series: int = 0
    """Series that are asked for at once, each by a request of its own; 0: the study, by one request."""
    stored_through: Breaker | None = None
    """Of the service that it is stored in through, where that may be another than those above."""
    where: str = ""
    """Where it is, for people: title, host and port, or the address of its DICOMweb service."""
    details: Callable[[str, Collection[str]], Awaitable[Mapping[str, str]]] | None = None
    """Where it tells more of its instances than its lists do: (Study Instance UID, Series Instance UIDs) → by SOP
    Instance UID, a few letters that stand for it. Dear, so never while somebody waits. Raises PacsError."""
    has_dimse: bool = True
    """Whether anything is asked of its DICOM port; a PACS that is reached by HTTP alone has none."""
    stow: Callable[[], Awaitable[str]] | None = None
    """Where it is stored in by STOW-RS: how it is seen that it takes that, storing nothing. Raises PacsError."""

    @property
    def silent_for(self) -> float:
        """Seconds since when it does not answer; 0 while it does."""
        return max(breaker.silent_for for breaker in self._breakers)

    @property
    def trouble(self) -> str:
        """For the operator: that it does not answer; empty while it does."""
        return next((breaker.trouble for breaker in self._breakers if breaker.trouble), "")

    @property
    def _breakers(self) -> list[Breaker]:
        asked = [self.finder.breaker, self.client.breaker]
        return asked if self.stored_through is None else [*asked, self.stored_through]
