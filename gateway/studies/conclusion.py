"""The end of a fetch: what nobody vouches for is removed, the index is written last, and how it ended is said.

What arrived and was stored is the truth, not what the PACS says of it (field notes 1 and 2).
"""

from __future__ import annotations

import logging
from dataclasses import replace

from gateway.pacs import PacsError, PacsUnreachable
from gateway.pacs.scu import InstanceList, InstanceRef
from gateway.runtime import Clock, span, step
from gateway.studies import refusals
from gateway.studies.cache import StudyCache
from gateway.studies.flight import Flight
from gateway.studies.index import StudyIndex, reading_order
from gateway.studies.outcome import (
    Complete,
    Disputed,
    NotFound,
    NotSent,
    NotStored,
    Outcome,
    Partial,
    Unconfirmed,
    Unlisted,
    Unreachable,
)
from gateway.studies.pacs import Pacs

log = logging.getLogger(__name__)

STRANGERS = 50
"""Instances that a PACS says that it does not have after which it is asked for no others that it did not list."""


class Conclusion:
    """Concludes flights. What it does to the cache may raise StoreError or JournalError."""

    def __init__(self, cache: StudyCache, clock: Clock) -> None:
        self._cache = cache
        self._clock = clock
        self.unlisted = 0
        """Instances that came as part of a study and were not in the PACS's list of it, since the start."""

    async def conclude(self, flight: Flight, pacs: Pacs, listing: InstanceList, failure: PacsError | None) -> Outcome:
        """How a flight ended, which *pacs* served with *listing*; *failure* is what ended its retrieval early."""
        refused = refusals.summary(flight.refusals)
        # Without a list, the PACS's own count of instances is the next best proof.
        whole = not flight.missing if listing.complete else flight.expected_count == len(flight.stored)
        if flight.still_held is not None and flight.anew and not whole:
            # The copy that is here is the better one.
            brought = {key for i in flight.stored.values() for key in i.object_keys(flight.study_instance_uid)}
            await self._cache.filled(flight.still_held, brought)
            return NotSent(str(failure or f"PACS {pacs.name} did not send all of the study anew"))
        if not flight.stored:
            await self._cache.discard(flight.study_instance_uid)
            if flight.refusal or flight.store_failure:
                return NotStored(flight.refusal or flight.store_failure or "")
            if isinstance(failure, PacsUnreachable):
                return Unreachable(str(failure))
            if refused:
                return NotSent("; ".join([refused, *([str(failure)] if failure else [])]), refused)
            empty = failure is None and not flight.expected and not flight.expected_count
            what = "has the study without any instance" if empty else "has the study and sent none of its instances"
            return NotSent(str(failure or f"PACS {pacs.name} {what}"), empty=empty)
        ahead = _sent_ahead(flight) if whole else 0
        index = await self.write_index(flight, complete=whole and not ahead, pacs=pacs.name)
        if ahead:
            return Unconfirmed(index, Unlisted(pacs.name, ahead))
        if whole:
            return Complete(index)
        reason = (
            flight.refusal
            or flight.store_failure
            or (failure and str(failure))
            or ("the PACS did not send all that it lists" if listing.complete else listing.reason)
        )
        return Partial(index, flight.missing, "; ".join([refused, reason] if refused else [reason]), refused)

    async def write_index(self, flight: Flight, *, complete: bool, pacs: str) -> StudyIndex:
        """Writes the index of what is stored, and removes what it replaces."""
        uid, held, now = flight.study_instance_uid, flight.held, self._clock.now()
        index = StudyIndex(
            uid,
            {i.sop_instance_uid: i for i in reading_order(flight.described(now=now))},
            complete,
            pacs,
            flight.statement,
            fetched=held.fetched if held is not None and not flight.anew else now,
            # What lists nothing has its count compared.
            compared=now if complete or held is None else held.compared,
        )
        gone = set(flight.old_copy)
        if held is not None or flight.rejected:
            gone |= held.object_keys() if held is not None else set()
            gone.update(
                key for sop in flight.came & flight.stored.keys() for key in flight.stored[sop].object_keys(uid)
            )
            gone -= index.object_keys()
        if index == held and not gone and not flight.outgrown:
            self._cache.remember(index)  # it is the moment of its comparison that is new
            return index
        with step(log, "writing the index, %d instances", len(index.instances)), span("index"):
            await self._cache.filled(index, gone)
        flight.old_copy.clear()
        return index

    async def look_into_unlisted(
        self, flight: Flight, pacs: Pacs, listing: InstanceList, *, keep: bool
    ) -> InstanceList:
        """Removes what came and is not in the PACS's *listing*: it may be anybody's. A study may grow meanwhile, and a
        list that is cut without a count looks whole, so the PACS is asked once more: where it cannot be, the list that
        is returned is not complete. *keep* leaves it all, where a PACS may send what it does not list yet."""
        uid = flight.study_instance_uid
        doubt = ""
        try:
            again = await pacs.finder.list_instances(uid, urgency=flight.urgency, counted=flight.expected_count)
            flight.expect(again.instances)
            await self._ask_one_by_one(flight, pacs)
        except PacsError as e:
            log.warning("study %s cannot be listed once more: %s", uid, e)
            doubt = f"PACS {pacs.name} cannot be asked whether it has what it sent and did not list"
        unlisted = flight.unlisted
        if keep or not unlisted:
            return listing
        for instance_uid in unlisted:
            instance = flight.stored.pop(instance_uid)
            flight.came.discard(instance_uid)
            if not doubt:
                self.unlisted += 1
                log.error(
                    "ALARM: instance %s came from PACS %s as part of study %s, and the PACS does not list it there: it "
                    "is removed. Where that PACS sends what it does not list, look into it; else somebody sent it in "
                    "its name",
                    instance_uid, pacs.name, uid,
                )  # fmt: skip
            await self._cache.remove(instance.object_keys(uid))
        return replace(listing, complete=False, reason=doubt) if doubt else listing

    async def _ask_one_by_one(self, flight: Flight, pacs: Pacs) -> None:
        """Raises PacsError."""
        strangers = 0
        for instance_uid in flight.unlisted:
            series = flight.stored[instance_uid].series_instance_uid
            if await pacs.finder.holds(flight.study_instance_uid, series, instance_uid):
                flight.expect([InstanceRef(series, instance_uid, "")])
            elif (strangers := strangers + 1) >= STRANGERS:
                break


def _sent_ahead(flight: Flight) -> int:
    """Instances that were sent unasked and are not in the PACS's list, where that is complete: as long as there are
    any, more may be on their way. What is added to a whole study because we stored it in the PACS is not among them."""
    before = flight.held is not None and not flight.held.complete
    if not flight.listed.is_set() or not (flight.unlisted or before):
        return 0
    expected = flight.expected or {}
    return sum(uid not in expected for uid in flight.stored)


def log_outcome(flight: Flight, outcome: Outcome, seconds: float) -> None:
    """One line for the operator on how a flight ended, after *seconds*."""
    uid = flight.study_instance_uid
    if flight.noted > 1:
        log.warning(
            "study %s: %d times an instance was taken in as the PACS lists it; the first is above", uid, flight.noted
        )
    if flight.came_again:
        log.info("study %s: %d times an instance came once more that was not asked for again", uid, flight.came_again)
    match outcome:
        case Complete(index):
            if flight.refusals:
                log.warning("study %s: %s", uid, refusals.summary(flight.refusals))
            log.info("study %s is complete: %d instances, %.1f s", uid, len(index.instances), seconds)
        case Partial(index, _, _) if flight.gave_way:
            log.info("study %s: %d instances, %.1f s, the others later: %s", uid, len(index.instances), seconds,
                     flight.refusal)  # fmt: skip
        case Partial(index, missing, reason):
            log.warning(
                "study %s is partial: %d instances, %d missing, %.1f s: %s%s",
                uid, len(index.instances), len(missing), seconds, reason, refusals.names_of(missing),
            )  # fmt: skip
        case Unconfirmed(index, _):
            log.warning(
                "study %s is given as it was sent, %d instances, %.1f s: %s",
                uid, len(index.instances), seconds, outcome.reason,
            )  # fmt: skip
        case NotFound():
            log.info("study %s is in no PACS, %.1f s", uid, seconds)
        case Unreachable(reason) | NotSent(reason) | Disputed(reason) | NotStored(reason):
            log.warning("study %s could not be fetched, %.1f s: %s", uid, seconds, reason)
