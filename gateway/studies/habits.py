"""What was learnt of a PACS by asking it: used from then on, shown by ``check``, and learnt anew after a restart."""

from __future__ import annotations

LONGEST_SETTLE = 60.0
"""Seconds that are waited for late instances at most, however late one came."""


class Habits:
    """The habits of one PACS."""

    def __init__(self, settle: float) -> None:
        """*settle* is seconds: how long after its last word instances may still come."""
        self.settle = settle
        self.sends_instances = True
        """Whether it may be asked for instances by themselves while it sends their study."""
        self._seen: dict[str, str] = {}

    def came_late(self, seconds: float) -> None:
        """An instance came so long after the PACS said that it had sent all."""
        self.settle = max(self.settle, min(2 * seconds, LONGEST_SETTLE))
        self._seen["late"] = f"answers a C-MOVE before its instances have come; {self.settle:g} s are waited for them"

    def sends_no_instances(self) -> None:
        """It brought none that were asked for by themselves while it sent their study."""
        self.sends_instances = False
        self._seen["instances"] = "sends no instances by themselves (IMAGE level) while it sends their study"

    def lists_short(self) -> None:
        """It listed fewer instances than it counts."""
        self._seen["short"] = "lists fewer instances than it counts; what arrives is compared with its count"

    def lists_none(self) -> None:
        """It could not be made to list instances."""
        self._seen["none"] = "lists no instances (IMAGE level); what arrives is compared with its count"

    @property
    def told(self) -> str:
        """For the operator; empty where nothing is odd."""
        return "; ".join(self._seen.values())
