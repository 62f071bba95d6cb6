"""Removes uploads from the inbox once they were dealt with, and never one that came to the same URL meanwhile.

An upload URL stays open after its upload: a browser that is unsure sends again, and what it sends may be something
else. The store acknowledges that, perhaps between our look and our removal. So a removal names the ETag of what it
means, and the store compares (RFC 9110 §13.1.1). MinIO, for one, does not: there nothing is removed while its URL is
open.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.captures.jobs import etag_of
from gateway.journal import Journal, Transaction, slots
from gateway.objects import ObjectStore


class UploadRemover:
    """Removes what was dealt with from the inbox."""

    def __init__(self, store: ObjectStore, journal: Journal) -> None:
        self._store = store
        self._journal = journal

    async def remove(self, uploads: Sequence[tuple[str, str]]) -> None:
        """Removes *uploads*, each by its slot's id and the subject of its job. What cannot be removed yet is found
        again by a later listing. Raises StoreError, JournalError."""
        compares = await self._store.compares_before_deleting()
        if not compares:
            open_now = await self._journal.run(_open)
            uploads = [upload for upload in uploads if upload[0] not in open_now]
        for slot_id, subject in uploads:
            await self._remove(f"{slots.INBOX}{slot_id}", etag_of(subject), compares=compares)

    async def _remove(self, key: str, etag: str, *, compares: bool) -> None:
        if compares:
            await self._store.delete_unchanged(key, etag)
            return
        # Its URL has ended, so that this is about one that took longer than the grace to come: it is looked at first.
        lies_there = await self._store.head(key)
        if lies_there is not None and lies_there.etag.strip('"') == etag:
            await self._store.delete([key])


def _open(c: Transaction) -> set[str]:
    return {slot.id for slot in slots.open_slots(c)}
