"""What has to get into a PACS, surely and once: objects that wait in the store, each under a durable job."""

from gateway.outbox.outbox import Outbox, OutboxObject, StoredObject

__all__ = ["Outbox", "OutboxObject", "StoredObject"]
