"""A study that lies in several PACS, none of which has it whole (``pacs[].complete: false``), as if in one.

What is asked for is asked of each that has a part; the lists are united by SOP Instance UID, and of an instance that
several have, the copy of the first in the configured order counts. One that cannot be asked makes the list one that
proves nothing: what is there is given, and nothing is taken away.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from gateway.pacs import (
    Breaker,
    Claim,
    InstanceHandler,
    PacsError,
    UnreachableMoveDestination,
    Urgent,
    background,
    interactive,
)
from gateway.pacs.scu import InstanceList, InstanceRef, OnFound, Selection, StudiesFound, StudyRecord
from gateway.studies.flight import Flight
from gateway.studies.habits import Habits
from gateway.studies.listed import compared
from gateway.studies.pacs import Pacs
from gateway.studies.statement import statement_of

log = logging.getLogger(__name__)

LOOKS_EVERY = 0.1
"""Seconds after which it is seen whether something still comes."""


def name_of(pacs: Sequence[Pacs]) -> str:
    """What several PACS are called together."""
    return " + ".join(p.name for p in pacs)


class Merged:
    """One study, in every PACS that has some of it (a ``Finder``)."""

    service = "several PACS"

    def __init__(self, parts: Sequence[tuple[Pacs, StudyRecord]], silent: Sequence[str], flight: Flight) -> None:
        """*parts* are in the configured order; *silent* names the PACS that could not be asked."""
        self._parts = parts
        self._silent = silent
        self._flight = flight
        self._owners: dict[str, str] = {}
        self._to_be_listed = {pacs.name for pacs, _ in parts}
        self._series: dict[str, set[str]] = {pacs.name: set() for pacs, _ in parts}

    @property
    def breaker(self) -> Breaker:
        """That of the first: whether they answer is known before anything is merged."""
        return self._parts[0][0].finder.breaker

    @property
    def record(self) -> StudyRecord:
        """What the first says of the study, and all of them count."""
        records = [record for _, record in self._parts]
        counts = [r.instances for r in records if r.instances is not None]
        series = [r.series for r in records if r.series is not None]
        modalities = {m for r in records for m in r.modalities.split("\\")} - {""}
        return replace(
            records[0],
            instances=sum(counts) if len(counts) == len(records) else None,
            series=sum(series) if len(series) == len(records) else None,
            modalities="\\".join(sorted(modalities)),
            # Where they differ nobody knows, and a policy that wants to know forbids it.
            institution=records[0].institution if len({r.institution for r in records}) == 1 else "",
            status=records[0].status if len({r.status for r in records}) == 1 else "",
            disputed=any(r.disputed or _is_anothers(records[0], r) for r in records),
        )

    def as_pacs(self, name: str) -> Pacs:
        """All of them, as one to find in and retrieve from."""
        pacs = [p for p, _ in self._parts]
        methods = max(len(p.retrievers) for p in pacs)
        return Pacs(
            name,
            pacs[0].client,
            frozenset().union(*(p.sending_ae_titles for p in pacs)),
            finder=self,
            retrievers=tuple(_Retriever(self, pacs, n) for n in range(methods)),
            habits=_EachsHabits({p.name: p.habits for p in pacs}, self._owners),
        )

    async def find_study(self, study_instance_uid: str, *, urgency: Urgent = interactive) -> StudyRecord | None:
        """What they said when they were asked; they are not asked again."""
        return self.record if self.record.study_instance_uid == study_instance_uid else None

    async def find_studies(
        self, study_instance_uids: Sequence[str], *, urgency: Urgent = background, in_a_list: bool = True
    ) -> StudiesFound:
        """As :meth:`find_study`, of each."""
        return StudiesFound({uid: await self.find_study(uid) for uid in study_instance_uids})

    async def list_studies(self, study_date: str, limit: int) -> list[str]:
        """The one study."""
        return [self.record.study_instance_uid][:limit]

    async def studies_of(self, *, patient_id: str = "", accession_number: str = "") -> list[str]:
        """None: it is one study, not an archive."""
        return []

    async def list_instances(
        self,
        study_instance_uid: str,
        on_found: OnFound | None = None,
        *,
        urgency: Urgent = interactive,
        counted: int | None = None,
    ) -> InstanceList:
        """The union of their lists. Raises no PacsError: a list that one lacks is not complete."""
        found: dict[str, InstanceRef] = {}
        reasons, states = [f"PACS {name} cannot be asked now" for name in self._silent], []
        short = False
        for pacs, record in self._parts:
            reason = ""
            listing = InstanceList((), complete=False)
            if pacs.habits.cuts_at is not None:
                pacs.client.cuts_at = pacs.habits.cuts_at
            try:
                listing = await pacs.finder.list_instances(
                    study_instance_uid, urgency=urgency, counted=record.instances
                )
                listing = compared(listing, pacs.name, instances=record.instances, series=record.series)
                reason = "" if listing.complete else listing.reason
            except PacsError as e:
                reason = str(e)
            pacs.habits.listed(listing if listing.reason else replace(listing, reason=reason))
            short |= bool(reason)
            if reason:
                reasons.append(reason)
            states.append(f"{pacs.name}: {len(listing.instances)}{f' ({reason})' if reason else ''}")
            new = [ref for ref in listing.instances if ref.sop_instance_uid not in found]
            self._series[pacs.name].update(ref.series_instance_uid for ref in listing.instances)
            self._owners.update((ref.sop_instance_uid, pacs.name) for ref in new)
            self._to_be_listed.discard(pacs.name)
            found.update((ref.sop_instance_uid, ref) for ref in new)
            if new and on_found is not None:
                on_found(new)
        log.info(
            "study %s is merged of %s; %d instances in all%s",
            study_instance_uid, ", ".join(states), len(found),
            f"; not asked: {', '.join(self._silent)}" if self._silent else "",
        )  # fmt: skip
        if reasons:
            partly = not short
            return InstanceList(tuple(found.values()), False, "; ".join(reasons), partly=partly)
        return InstanceList(tuple(found.values()), True)

    async def holds(self, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str) -> bool:
        """Whether any lists an instance. Raises PacsError."""
        for pacs, _ in self._parts:
            if await pacs.finder.holds(study_instance_uid, series_instance_uid, sop_instance_uid):
                return True
        return False

    def part_of(self, selection: Selection, pacs: Pacs) -> Selection | None:
        """What of *selection* is to be had from *pacs*; None where nothing is."""
        if selection.sop_instance_uids:
            own = tuple(uid for uid in selection.sop_instance_uids if self._owners.get(uid) == pacs.name)
            return replace(selection, sop_instance_uids=own) if own else None
        if selection.series_instance_uid is None or selection.series_instance_uid in self._series[pacs.name]:
            return selection
        return None

    async def have_come(self, pacs: Pacs) -> None:
        """Waits until the instances that count as those of *pacs*, which says that it sent all, have come, or none did
        for a while: some answer a C-MOVE before they send, and the copy of the next one would be here first."""
        flight, ended = self._flight, time.monotonic()
        while pacs.name in self._to_be_listed or any(
            of == pacs.name and uid not in flight.taken and uid not in flight.stored for uid, of in self._owners.items()
        ):
            if flight.refusal or time.monotonic() - max(ended, flight.last_arrival) >= pacs.habits.settle:
                break
            await asyncio.sleep(min(LOOKS_EVERY, pacs.habits.settle))


class _EachsHabits(Habits):
    """What is learnt while a study is merged is learnt of the PACS that it is seen at, and kept as theirs."""

    def __init__(self, each: Mapping[str, Habits], owners: Mapping[str, str]) -> None:
        """*each* is by the PACS's name; *owners* says by SOP Instance UID which PACS an instance is asked of."""
        super().__init__(max(habits.settle for habits in each.values()))
        self._each = each
        self._owners = owners

    def _of(self, sop_instance_uids: Collection[str]) -> list[Habits]:
        names = {self._owners.get(uid) for uid in sop_instance_uids}
        return [habits for name, habits in self._each.items() if name in names]

    @property
    def settle(self) -> float:
        """That of the one that needs the longest."""
        return max(habits.settle for habits in self._each.values())

    @property
    def sends_instances(self) -> bool:
        """Whether all do."""
        return all(habits.sends_instances for habits in self._each.values())

    def came_late(self, seconds: float, sop_instance_uids: Collection[str] = ()) -> None:
        """Instances came late from those whose they are."""
        for habits in self._of(sop_instance_uids):
            habits.came_late(seconds)

    def sends_no_instances(self, sop_instance_uids: Collection[str] = ()) -> None:
        """Those whose they are brought none of them by themselves."""
        for habits in self._of(sop_instance_uids):
            habits.sends_no_instances()

    def listed(self, listing: InstanceList) -> None:
        """Nothing: what each listed was learnt of each."""


class _Retriever:
    """The *n*-th method of each, as one (a ``Retriever``): the first PACS first, so that its copy counts."""

    def __init__(self, merged: Merged, pacs: Sequence[Pacs], n: int) -> None:
        self._merged = merged
        self._each = [(p, p.retrievers[n]) for p in pacs if n < len(p.retrievers)]

    @property
    def method(self) -> str:
        """Their names."""
        return ", ".join(dict.fromkeys(retriever.method for _, retriever in self._each))

    @property
    def comes_apart(self) -> bool:
        """Whether any does."""
        return any(retriever.comes_apart for _, retriever in self._each)

    @property
    def remedy(self) -> str:
        """What an operator has to see to, for each."""
        return "; ".join(dict.fromkeys(retriever.remedy for _, retriever in self._each))

    async def retrieve(
        self,
        selection: Selection,
        *,
        turn: Claim,
        deliver: InstanceHandler,
        last_arrival: Callable[[], float],
        total_limit: float,
    ) -> None:
        """From each what it has. Raises the first PacsError once all were asked; that of one that cannot reach us only
        where it is the only kind."""
        failure: PacsError | None = None
        for pacs, retriever in self._each:
            part = self._merged.part_of(selection, pacs)
            if part is None:
                continue
            try:
                await retriever.retrieve(
                    part, turn=turn, deliver=deliver, last_arrival=last_arrival, total_limit=total_limit
                )
            except PacsError as e:
                log.warning("%s from PACS %s: %s", retriever.method, pacs.name, e)
                failure = e if failure is None or isinstance(failure, UnreachableMoveDestination) else failure
            else:
                if retriever.comes_apart and not part.sop_instance_uids and pacs is not self._each[-1][0]:
                    await self._merged.have_come(pacs)
        if failure is not None:
            raise failure


def _is_anothers(one: StudyRecord, other: StudyRecord) -> bool:
    """Whether two PACS name two patients: archives may number one patient differently, but not call him otherwise,
    too."""
    a, b = statement_of(one), statement_of(other)
    return a is not None and b is not None and a.patient_id != b.patient_id and a.patient_name != b.patient_name
