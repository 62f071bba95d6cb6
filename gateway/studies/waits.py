"""Which instances of a study somebody waits for while others come past them."""

from __future__ import annotations

from collections.abc import Iterable

OVERTAKEN_BY = 4
"""Instances that nobody waits for and that came since: the PACS is sending something else."""

OVERTAKEN_AFTER = 0.5
"""Seconds: what comes in order comes sooner, or the whole study is slow and nothing would be gained."""

REMEMBERED = 1000
"""Instances that are waited for at once, at most: browsers open a few at a time."""


class Waits:
    """The open waits of one study."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[float, int]] = {}
        self._passed = 0

    def begin(self, sop_instance_uid: str, now: float) -> None:
        """Somebody waits for it from *now* on (seconds)."""
        if len(self._since) < REMEMBERED:
            self._since.setdefault(sop_instance_uid, (now, self._passed))

    def came(self, sop_instance_uid: str) -> None:
        """It is there."""
        if self._since.pop(sop_instance_uid, None) is None:
            self._passed += 1

    def overtaken(self, now: float) -> str | None:
        """The one that somebody has waited for longest in vain; else those who ask later would always be before it."""
        for uid, (since, passed) in self._since.items():
            if now - since >= OVERTAKEN_AFTER and self._passed - passed >= OVERTAKEN_BY:
                return uid
        return None

    def first_of(self, sop_instance_uids: Iterable[str]) -> str | None:
        """The first of these that somebody waits for, however short."""
        return next((uid for uid in sop_instance_uids if uid in self._since), None)

    def leave(self, sop_instance_uid: str) -> None:
        """It was asked for: it is not told again."""
        self._since.pop(sop_instance_uid, None)
