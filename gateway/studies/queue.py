"""Which series of a study is retrieved next: one that somebody waits for, else as they are read."""

from __future__ import annotations

import asyncio
import bisect
import math


class SeriesQueue:
    """Series of one study that are listed and not yet asked for; it grows while the PACS still lists."""

    def __init__(self) -> None:
        self._waiting: list[str] = []
        self._places: dict[str, tuple[bool, float]] = {}
        self._preferred: list[str] = []
        self._ended = False
        self._changed = asyncio.Event()

    def add(self, series_instance_uid: str, place: tuple[bool, float] = (False, math.inf)) -> None:
        """Puts a series in, once however often it is listed; those of a lower *place* go before it."""
        if series_instance_uid not in self._places and not self._ended:
            self._places[series_instance_uid] = place
            bisect.insort(self._waiting, series_instance_uid, key=self._places.__getitem__)
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
