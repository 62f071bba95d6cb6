"""Which series of a study is retrieved next: one that somebody waits for, else in the order of the PACS's list."""

from __future__ import annotations

import asyncio


class SeriesQueue:
    """Series of one study that are listed and not yet asked for; it grows while the PACS still lists."""

    def __init__(self) -> None:
        self._waiting: list[str] = []
        self._seen: set[str] = set()
        self._preferred: list[str] = []
        self._ended = False
        self._changed = asyncio.Event()

    def add(self, series_instance_uid: str) -> None:
        """Puts a series in, once however often it is listed."""
        if series_instance_uid not in self._seen and not self._ended:
            self._seen.add(series_instance_uid)
            self._waiting.append(series_instance_uid)
            self._tell()

    def prefer(self, series_instance_uid: str) -> None:
        """Somebody waits for this one: it goes first, unless it is under way already."""
        if series_instance_uid in self._waiting and series_instance_uid not in self._preferred:
            self._preferred.append(series_instance_uid)
            self._tell()

    @property
    def ended(self) -> bool:
        """Whether no more will be listed."""
        return self._ended

    def end(self) -> None:
        """No more will be listed."""
        self._ended = True
        self._tell()

    def give_up(self) -> None:
        """What waits is not to be asked for."""
        self._waiting.clear()
        self._preferred.clear()
        self.end()

    async def take(self, *, preferred_only: bool = False) -> str | None:
        """The series to ask for next, taken out; waits for one. None once there are none left and no more will come."""
        while True:
            open_ = self._preferred or ([] if preferred_only else self._waiting)
            if open_:
                chosen = open_[0]
                self._waiting.remove(chosen)
                if chosen in self._preferred:
                    self._preferred.remove(chosen)
                self._tell()
                return chosen
            if self._ended and not self._waiting:
                return None
            await self._changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
