"""Takes a multipart body apart as it arrives (RFC 2046 §5.1, RFC 2387; PS3.18 §8.6.1.2).

Nothing but the last few bytes is held back, so a part may be of any size. The bytes of a part are passed on as they
are; its own header fields are skipped, since a DICOM file itself says what it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

MAX_HEADER = 16 * 1024
"""Bytes of the header fields of one part."""

MAX_PREAMBLE = 64 * 1024
"""Bytes before the first part, which have no meaning."""


class Mark(Enum):
    """What comes between the bytes of parts."""

    BEGIN = "a part begins"
    END = "a part has ended"


class MalformedMultipart(ValueError):
    """The bytes are no multipart body with this boundary."""


class MultipartReader:
    """Fed with a body's bytes as they come; gives each part as BEGIN, its bytes, END."""

    def __init__(self, boundary: str) -> None:
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        self._held = b"\r\n"  # the first delimiter may stand at the very beginning
        self._read = self._preamble
        self.finished = False
        """Whether the closing delimiter has come: without it the body was cut off."""

    def feed(self, data: bytes) -> Iterator[Mark | memoryview]:
        """What *data* completes. To be exhausted before the next call. Raises MalformedMultipart."""
        held = self._held + data
        at = 0
        while not self.finished:
            before, at_once = at, self._read
            events, at = at_once(held, at)
            yield from events
            if at == before and self._read == at_once:
                break
        self._held = b"" if self.finished else held[at:]

    # Each state takes what is held and from where, and says what that gives and up to where it is used.

    def _preamble(self, held: bytes, at: int) -> tuple[tuple[Mark | memoryview, ...], int]:
        found = held.find(self._delimiter, at)
        if found < 0:
            if len(held) - at > MAX_PREAMBLE:
                raise MalformedMultipart("its first part does not begin")
            return (), at
        self._read = self._after_delimiter
        return (), found + len(self._delimiter)

    def _after_delimiter(self, held: bytes, at: int) -> tuple[tuple[Mark | memoryview, ...], int]:
        if held[at : at + 2] == b"--":
            self.finished = True
            return (), at + 2
        end = held.find(b"\r\n", at)
        if end < 0:
            if len(held) - at > MAX_HEADER:
                raise MalformedMultipart("a delimiter that does not end its line")
            return (), at
        if held[at:end].strip(b" \t"):
            raise MalformedMultipart("a delimiter that is followed by something else")
        self._read = self._header
        return (), end  # the line's end is also the one before an empty line

    def _header(self, held: bytes, at: int) -> tuple[tuple[Mark | memoryview, ...], int]:
        end = held.find(b"\r\n\r\n", at)
        if end < 0:
            if len(held) - at > MAX_HEADER:
                raise MalformedMultipart("a part whose header fields do not end")
            return (), at
        if len(held) < end + 2 + len(self._delimiter):  # as much as follows any part's header fields
            return (), at
        self._read = self._content
        # A part without bytes may share its empty line with the delimiter.
        return (Mark.BEGIN,), end + 2 if held.startswith(self._delimiter, end + 2) else end + 4

    def _content(self, held: bytes, at: int) -> tuple[tuple[Mark | memoryview, ...], int]:
        found = held.find(self._delimiter, at)
        if found >= 0:
            self._read = self._after_delimiter
            content: tuple[Mark | memoryview, ...] = (memoryview(held)[at:found],) if found > at else ()
            return (*content, Mark.END), found + len(self._delimiter)
        end = max(at, len(held) - len(self._delimiter) + 1)
        return ((memoryview(held)[at:end],) if end > at else ()), end
