"""Where an encoded data set lies that is read piece by piece."""

from __future__ import annotations

import contextlib
from typing import Protocol

from gateway.dicom.elements import MalformedDataSet, inflated
from gateway.dicom.syntaxes import DEFLATED

MAX_INFLATED = 64 * 1024 * 1024
"""Bytes of a deflated data set that are looked at."""


class Source(Protocol):
    """Where an encoded data set lies."""

    @property
    def size(self) -> int:
        """Bytes."""

    def read(self, offset: int, limit: int) -> bytes:
        """Up to *limit* bytes from *offset*."""


class _Inflated:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read(self, offset: int, limit: int) -> bytes:
        return self._data[offset : offset + limit]


def plain(source: Source, transfer_syntax_uid: str) -> Source:
    """*source*, or the start of what it inflates to, where its syntax is a deflated one."""
    if transfer_syntax_uid in DEFLATED:
        with contextlib.suppress(MalformedDataSet):  # it may not be deflated at all (pydicom#1086)
            return _Inflated(inflated(source.read(0, MAX_INFLATED), MAX_INFLATED))
    return source
