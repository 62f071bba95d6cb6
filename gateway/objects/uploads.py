"""How much may be uploaded by one URL, and whether the disk has room for it."""

from __future__ import annotations

from collections.abc import Callable

from gateway.runtime import SYSTEM_CLOCK, Clock

UPLOADS = 3
"""Through one URL: it is for one object, which a browser that is unsure sends again."""

_MOST_REMEMBERED = 10_000
"""URLs; they end after `captures.upload_expiry`."""


class UploadQuota:
    """Counts uploads by key, as long as a URL for it may live."""

    def __init__(self, *, keep_for: float, free: Callable[[], int] | None = None, clock: Clock = SYSTEM_CLOCK) -> None:
        """*keep_for* is seconds; *free* tells the bytes that may be written, where that is known."""
        self._keep_for = keep_for
        self._free = free
        self._clock = clock
        self._taken: dict[str, tuple[int, float]] = {}
        """Uploads and when the first of them began, in monotonic seconds; the oldest first."""
        self._writing = 0

    def has_room(self, size: int) -> bool:
        """Whether the disk has room for *size* bytes beside what is being uploaded."""
        return self._free is None or self._free() >= size + self._writing

    def take(self, key: str, size: int) -> bool:
        """Counts an upload that begins; False where *key* had as many as it gets."""
        now = self._clock.monotonic()
        for old in list(self._taken):
            if self._taken[old][1] + self._keep_for > now and len(self._taken) <= _MOST_REMEMBERED:
                break
            del self._taken[old]
        count, since = self._taken.get(key, (0, now))
        if count >= UPLOADS:
            return False
        self._taken[key] = count + 1, since
        self._writing += size
        return True

    def end(self, key: str, size: int, *, stored: bool) -> None:
        """It has ended; one that was not *stored* does not count."""
        self._writing -= size
        if not stored and key in self._taken:
            count, since = self._taken[key]
            self._taken[key] = max(count - 1, 0), since
