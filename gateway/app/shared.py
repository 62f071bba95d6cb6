"""The parts of a gateway that the use cases which bring objects into a PACS share, besides their own settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.config import Config
from gateway.journal import Journal
from gateway.objects import ObjectStore
from gateway.outbox import OnStored, Outbox
from gateway.pacs.scu import Finder, Target
from gateway.runtime import Spools


@dataclass(frozen=True, slots=True)
class SharedParts:
    """What captures and reports are both built from."""

    config: Config
    journal: Journal
    store: ObjectStore
    targets: Mapping[str, Target]
    """Each PACS as it is stored in, by the operator's name for it; so too its finder."""
    finders: Mapping[str, Finder]
    spools: Spools
    on_stored: OnStored
    wake: Callable[[], None]
    """To be called when a job was added."""

    def outbox(self, name: str, *, storage_commitment: bool, keep_for: float, retry_for: float) -> Outbox:
        """The outbox of a use case."""
        return Outbox(
            name,
            objects=self.store,
            journal=self.journal,
            targets=self.targets,
            storage_commitment=storage_commitment,
            keep_for=keep_for,
            retry_for=retry_for,
            spools=self.spools,
            on_stored=self.on_stored,
        )
