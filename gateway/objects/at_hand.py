"""Objects that were put a moment ago: most are asked for at once, by the job that follows the one that put them.

What is at hand is what the store has acknowledged, under keys whose objects never change. The store is asked for all
else: after a restart, after a while, and where too much came at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.objects.client import IN_ONE_PIECE, ObjectStore

KEPT_FOR = 10.0
"""Seconds."""

MOST = 16 * 1024 * 1024
"""Bytes of all that is at hand."""


class AtHand:
    """An object store, and in memory what was put into it through this."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._held: dict[str, tuple[bytes, Callable[[], None]]] = {}
        self._size = 0

    async def put(self, key: str, content: bytes, *, content_type: str) -> None:
        """Writes a small object, whole or not at all. Raises StoreError."""
        await self._store.put(key, content, content_type=content_type)
        self.drop(key)
        if len(content) <= IN_ONE_PIECE and self._size + len(content) <= MOST:
            timer = asyncio.get_running_loop().call_later(KEPT_FOR, self.drop, key)
            self._held[key] = content, timer.cancel
            self._size += len(content)

    async def get(self, key: str) -> bytes:
        """A small object's bytes. Raises ObjectNotFound, StoreError."""
        held = self.held(key)
        return held if held is not None else await self._store.get(key)

    def held(self, key: str) -> bytes | None:
        """A small object's bytes, if they are at hand."""
        held = self._held.get(key)
        return held[0] if held is not None else None

    def drop(self, key: str) -> None:
        """It is not needed any more."""
        held = self._held.pop(key, None)
        if held is not None:
            content, stop = held
            stop()
            self._size -= len(content)
