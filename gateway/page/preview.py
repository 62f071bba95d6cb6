"""What a held object is, for an operator: its header and a picture, made in a process of its own, since it may have
been written to break whatever reads it. No browser is given the object itself to show.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.objects import ObjectStore, ObjectTooLarge, fetch_to_file
from gateway.runtime import GatewayError, Limits, Spools, run_confined

_PREVIEWER = Path(__file__).with_name("previewer.py")

LIMITS = Limits(memory=3 * 1024**3, cpu=30, within=60.0)
"""Of memory, the libraries take a third before they have decoded anything."""

MAX_SIZE = 1024**3
"""Bytes of an object that is looked at."""

AT_ONCE = 2
"""Objects that are looked at at once."""


class NoPreview(GatewayError):
    """It cannot be shown; the text says why."""


@dataclass(frozen=True, slots=True)
class Element:
    """An element of an object's header."""

    tag: str
    name: str
    value: str


class Previews:
    """Shows objects of the store."""

    def __init__(self, store: ObjectStore, spools: Spools) -> None:
        self._store = store
        self._spools = spools
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def header(self, key: str) -> Sequence[Element]:
        """The header of a DICOM object. Raises NoPreview, StoreError, OSError."""
        return [Element(*element) for element in json.loads(await self._made(key, "header"))]

    async def pages(self, key: str) -> int:
        """How many frames, or pages of a PDF, it has. Raises NoPreview, StoreError, OSError."""
        return int(await self._made(key, "pages"))

    async def picture(self, key: str, page: int) -> bytes:
        """A frame, or a page of a PDF, as JPEG. Raises NoPreview, StoreError, OSError."""
        return await self._made(key, "picture", str(page))

    async def _made(self, key: str, *arguments: str) -> bytes:
        async with self._turns:
            try:
                fetched = await fetch_to_file(self._store, key, self._spools, MAX_SIZE)
            except ObjectTooLarge as e:
                raise NoPreview(f"it is too large to be shown: {e}") from e
            with fetched.file:
                os.lseek(fetched.file.fileno(), 0, os.SEEK_SET)
                try:
                    ended = await run_confined(_PREVIEWER, *arguments, limits=LIMITS, stdin=fetched.file.fileno())
                except TimeoutError as e:
                    raise NoPreview("it takes too long to be shown") from e
        if ended.returncode:
            raise NoPreview("it cannot be shown: it is no image, or none that can be read")
        return ended.printed
