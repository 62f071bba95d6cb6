"""Lists of identifiers in files that others keep: read again whenever they change, so that nobody restarts anything."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from gateway.access.rules import folded
from gateway.runtime import Clock

log = logging.getLogger(__name__)

LOOKS_EVERY = 1.0
"""Seconds between two looks at a file."""

LARGEST = 16_000_000
"""Bytes of a file; a million identifiers or so."""


class DenyList:
    """Identifiers: those of the configuration, and those of a file, one a line; what follows a ``#`` is a remark."""

    def __init__(self, inline: Iterable[str], file: Path | None, clock: Clock) -> None:
        """Raises OSError where the file cannot be read now."""
        self._inline = frozenset(map(folded, inline))
        self._file = file
        self._clock = clock
        self._looked = float("-inf")
        self._seen: tuple[int, int, int] | None = None
        self._values = self._inline
        self.trouble = ""
        """Why the file cannot be used as it is now, for the operator; what it was before still counts."""
        if file is not None:
            self._read(file)

    @property
    def values(self) -> frozenset[str] | None:
        """What is on it now, as :func:`folded` has it; None where there is no list."""
        if self._file is not None and self._clock.monotonic() - self._looked > LOOKS_EVERY:
            self._look(self._file)
        return self._values if self._inline or self._file is not None else None

    def _look(self, file: Path) -> None:
        try:
            self._read(file)
        except OSError as e:
            # What is denied stays denied: a list that cannot be read is no reason to give anything out.
            if not self.trouble:
                log.error("%s cannot be read (%s): what it was before still counts", file, e.strerror or e)
            self.trouble = f"{file} cannot be read ({e.strerror or e}); what it was before still counts"
            return
        if self.trouble:
            log.warning("%s can be read again", file)
        self.trouble = ""

    def _read(self, file: Path) -> None:
        self._looked = self._clock.monotonic()
        found = file.stat()
        now = (found.st_mtime_ns, found.st_size, found.st_ino)
        if now == self._seen:
            return
        if found.st_size > LARGEST:
            raise OSError(f"it has more than {LARGEST} bytes")
        if not found.st_size and len(self._values) > len(self._inline):
            raise OSError("it is empty, and was not: write a line with # where that is meant")
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise OSError("it is not text in UTF-8") from None
        listed = frozenset(entry for line in lines if (entry := folded(line.partition("#")[0])))
        if self._seen is not None:
            log.info("%s has changed: %d identifiers are denied", file, len(listed))
        self._values, self._seen = self._inline | listed, now
