"""What has to get into a PACS, surely and once: objects that wait in the store, each under a durable job."""

from typing import TYPE_CHECKING

from gateway.runtime import on_demand

if TYPE_CHECKING:
    from gateway.outbox.clean import Cleaner
    from gateway.outbox.commitment import Commitments
    from gateway.outbox.jobs import StoreObject
    from gateway.outbox.outbox import OnStored, OtherObject, Outbox, OutboxObject, StoredObject, holds_another
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "Cleaner",
    "Commitments",
    "OnStored",
    "OtherObject",
    "Outbox",
    "OutboxObject",
    "StoreObject",
    "StoredObject",
    "holds_another",
]
