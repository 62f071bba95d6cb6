"""The parts of a gateway that the use cases which bring objects into a PACS share, besides their own settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.config import Config
from gateway.journal import Journal
from gateway.objects import ObjectStore
from gateway.outbox import OnStored, Outbox
from gateway.pacs.scu import Finder, PacsClient
from gateway.runtime import Spools


@dataclass(frozen=True, slots=True)
class SharedParts:
    """What captures and reports are both built from."""

    config: Config
    journal: Journal
    store: ObjectStore
    clients: Mapping[str, PacsClient]
    """By the operator's name for each PACS, as its finder: for C-STORE."""
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
            targets=self.clients,
            storage_commitment=storage_commitment,
            keep_for=keep_for,
            retry_for=retry_for,
            spools=self.spools,
            on_stored=self.on_stored,
        )
