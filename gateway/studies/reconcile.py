"""What a PACS lists of a study, and what of what is held that shows to be gone or replaced (docs/withdrawn.md).

Only a complete list removes anything.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace

from gateway.pacs import PacsError
from gateway.pacs.scu import InstanceList, InstanceRef
from gateway.runtime import Clock, span, step
from gateway.studies.compare import Differences, differences
from gateway.studies.flight import Flight
from gateway.studies.keys import new_revision
from gateway.studies.listed import compared
from gateway.studies.pacs import Pacs

log = logging.getLogger(__name__)

ASKED_ONE_BY_ONE = 5
"""Instances of a list that may be cut which the PACS is asked for one by one."""


class Reconciliation:
    """One study's list, compared with what is held of it."""

    def __init__(self, flight: Flight, pacs: Pacs, *, decides: bool, clock: Clock) -> None:
        """*decides* says whether the PACS's list can say that something which is held is gone."""
        self._flight = flight
        self._pacs = pacs
        self._decides = decides
        self._clock = clock

    async def ask(self) -> InstanceList:
        """What the PACS lists; what it shows to be gone or replaced is dropped. Raises no PacsError: a list that cannot
        be had, or is cut, is not complete."""
        flight = self._flight

        def found(instances: Sequence[InstanceRef]) -> None:
            flight.expect(instances)
            flight.fingerprints.update((i.sop_instance_uid, i.fingerprint) for i in instances if i.fingerprint)

        if self._pacs.habits.cuts_at is not None:
            self._pacs.client.cuts_at = self._pacs.habits.cuts_at
        try:
            with step(log, "listing the study in PACS %s", self._pacs.name), span("list"):
                listing = await self._pacs.finder.list_instances(
                    flight.study_instance_uid, found, urgency=flight.urgency, counted=flight.expected_count
                )
        except PacsError as e:
            listing = InstanceList((), complete=False, reason=str(e))
        finally:
            flight.series.end()
        series = flight.record.series if flight.record is not None else None
        listing = compared(listing, self._pacs.name, instances=flight.expected_count, series=series)
        if listing.complete and not await self._compare():
            reason = f"PACS {self._pacs.name} leaves out of its list what it has"
            listing = replace(listing, complete=False, reason=reason, short=True)
        self._pacs.habits.listed(listing)
        if not listing.complete:
            log.warning("no list of the instances of study %s: %s", flight.study_instance_uid, listing.reason)
        else:
            flight.listed.set()
        return listing

    async def _compare(self) -> bool:
        """Drops what a complete list shows to be gone or replaced; False, and nothing is dropped, where the list is
        cut after all."""
        flight = self._flight
        held = flight.held
        if held is None or not self._decides:
            return True
        # Two PACS describe one instance in two ways.
        comparable = flight.fingerprints if held.pacs == self._pacs.name else {}
        found = differences(
            {uid: held.instances[uid] for uid in flight.stored if uid in held.instances},
            flight.expected or {},
            comparable,
            flight.came,
            now=self._clock.now(),
        )
        if found.withdrawn and flight.expected_count is None and not await self._are_gone(found.withdrawn):
            return False
        flight.drop(found, new_revision(self._clock))
        if found.any:
            log.warning(
                "study %s in PACS %s is not what it was: %d instances are gone, %d were replaced, %d are shown again",
                flight.study_instance_uid, self._pacs.name, len(found.withdrawn), len(found.replaced),
                len(found.readmitted),
            )  # fmt: skip
        return True

    async def _are_gone(self, sop_instance_uids: Collection[str]) -> bool:
        """Whether the PACS, asked for some of them one by one, has none: where it gives no count, a list that was cut
        looks like a complete one."""
        held = self._flight.held
        assert held is not None
        for uid in sorted(sop_instance_uids)[:ASKED_ONE_BY_ONE]:
            series = held.instances[uid].series_in_pacs
            try:
                if await self._pacs.finder.holds(self._flight.study_instance_uid, series, uid):
                    return False
            except PacsError as e:
                log.warning("whether study %s has less than it had cannot be told: %s", held.study_instance_uid, e)
                return False
        return True

    def drop_what_did_not_come(self) -> None:
        """Where a PACS lists nothing, all that it counts has come anew, and more is held, the rest is gone."""
        flight = self._flight
        came = len(flight.came)
        if self._decides and flight.held is not None and came == flight.expected_count and came < len(flight.stored):
            flight.drop(Differences(withdrawn=frozenset(flight.stored.keys() - flight.came)), "")
