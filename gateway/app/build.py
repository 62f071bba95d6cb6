"""Wires a gateway out of the configuration. Nothing is started here: :mod:`gateway.app.run` does that."""

from __future__ import annotations

from gateway.app.gateway import Gateway
from gateway.app.stores import budget, embedded_store, store_of
from gateway.config import Config
from gateway.journal import Journal
from gateway.runtime import SYSTEM_CLOCK, Clock, Supervisor
from gateway.studies import StudyCache


def build(config: Config, clock: Clock = SYSTEM_CLOCK) -> Gateway:
    """A gateway that lives by *clock* and is to be started; for whoever holds the lock of its ``state_dir``, where the
    secrets that are kept over restarts are read, or made. Raises Misconfigured, StoreError, OSError."""
    directory = config.state_dir.absolute()
    embedded = embedded_store(config, directory)
    journal = Journal.at(f"sqlite:///{directory / 'journal.db'}", clock=clock)
    store = store_of(config, embedded)
    cache = StudyCache(store, journal, budget(config, directory, embedded))
    return Gateway(config, journal, store, cache, Supervisor(clock=clock), embedded)
