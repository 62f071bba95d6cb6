"""What is held of a study, compared with what the PACS lists of it now.

Only a complete list says that something is gone. What it has no longer was deleted, rejected or moved to another study;
what it describes otherwise was replaced under its own UID.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from gateway.studies.index import Instance, rejected

LISTED_WITHIN = 3600.0
"""Seconds that what a PACS took in, and we with it, may be absent from its lists: some register hours after they
acknowledge, most at once."""


@dataclass(frozen=True, slots=True)
class Differences:
    """SOP Instance UIDs of what is held and not as it should be."""

    withdrawn: frozenset[str] = frozenset()
    """Not listed any more."""
    replaced: frozenset[str] = frozenset()
    """Listed, and another one by now."""
    readmitted: frozenset[str] = frozenset()
    """Rejected by a note that is gone: to be shown, and not in the store."""

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return bool(self.withdrawn or self.replaced or self.readmitted)


def differences(
    held: Mapping[str, Instance],
    listed: Collection[str],
    fingerprints: Mapping[str, str],
    came: Collection[str],
    *,
    now: float,
) -> Differences:
    """How *held* differs from a complete list: *listed* are its SOP Instance UIDs, *fingerprints* what it says of them,
    empty where they cannot be compared. What *came* since is as it should be. *now* is unix seconds."""
    withdrawn = {
        uid
        for uid, i in held.items()
        if uid not in listed and uid not in came and not 0 <= now - i.unlisted_since < LISTED_WITHIN
    }
    replaced = {
        uid
        for uid, i in held.items()
        if uid in listed and uid not in came and i.fingerprint and fingerprints.get(uid, i.fingerprint) != i.fingerprint
    }
    left = {uid: i for uid, i in held.items() if uid not in withdrawn and uid not in replaced}
    readmitted = rejected(held) - rejected(left) if len(left) < len(held) else frozenset[str]()
    return Differences(frozenset(withdrawn), frozenset(replaced), frozenset(readmitted & left.keys()))
