"""How the instances of a study are listed, by C-FIND at SERIES and IMAGE level (PS3.4 C.6.2.1).

A list is compared with what the PACS counts, since some end their answers early; what one leaves out is asked for by
Instance Number (:mod:`gateway.pacs.scu.numbered`).
"""

from __future__ import annotations

import logging
import math
import uuid
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from gateway.dicom import has_images, integer, is_usable, string, tags, text, unsigned_short
from gateway.pacs import OperationFailed
from gateway.pacs.scu.find import find
from gateway.pacs.scu.numbered import ROUND, Others, the_others
from gateway.pacs.scu.results import (
    GEOMETRY,
    InstanceList,
    InstanceRef,
    ListedGeometry,
    OnFound,
    count,
    fingerprint,
    whole_geometry,
)
from gateway.pacs.upper import Association

log = logging.getLogger(__name__)


TELL_EVERY = 100
"""Instances of a list that are told of at once, while the others are still being listed."""


@dataclass(frozen=True, slots=True)
class ListedSeries:
    """A series that a PACS lists."""

    uid: str
    """Empty where it has none: it is listed last, and has what no other has."""
    instances: int | None
    """Number of Series Related Instances, where it says it."""
    number: int | None
    modality: str
    description: str

    @property
    def place(self) -> tuple[bool, float]:
        """Sorts series as they are read: those with images first, by their numbers."""
        return not has_images(self.modality), math.inf if self.number is None else self.number


@dataclass(frozen=True, slots=True)
class SeriesAnswer:
    """What was answered when a series was asked for."""

    refs: Sequence[InstanceRef]
    answers: int
    """Those included that it cannot have."""


_SERIES = frozenset((tags.STUDY_INSTANCE_UID, tags.SERIES_INSTANCE_UID, tags.NUMBER_OF_SERIES_RELATED_INSTANCES,
tags.SERIES_NUMBER, tags.MODALITY,
                     tags.SERIES_DESCRIPTION, tags.SPECIFIC_CHARACTER_SET))  # fmt: skip
TELLING = (tags.INSTANCE_CREATION_DATE, tags.INSTANCE_CREATION_TIME, tags.INSTANCE_NUMBER, tags.NUMBER_OF_FRAMES)
"""What tells an instance from one that replaced it, of what a PACS lists without opening files."""
_IMAGE = frozenset(
    (tags.STUDY_INSTANCE_UID, tags.SERIES_INSTANCE_UID, tags.SOP_INSTANCE_UID, tags.SOP_CLASS_UID, *TELLING)
)


async def series_of(association: Association, study_instance_uid: str) -> list[ListedSeries]:
    """The series that it lists of the study, as they are read. Raises PacsError."""
    return (await _listed_series(association, study_instance_uid))[0]


async def _listed_series(association: Association, study_instance_uid: str) -> tuple[list[ListedSeries], int]:
    """The same, and how many answers came."""
    found: dict[str, ListedSeries] = {}
    unnamed: set[str] = set()
    answers = 0
    keys = dict.fromkeys(_SERIES - {tags.SPECIFIC_CHARACTER_SET}, "") | {tags.STUDY_INSTANCE_UID: study_instance_uid}
    async for raw in find(association, "SERIES", keys, _SERIES):
        answers += 1
        of, uid = string(raw.get(tags.STUDY_INSTANCE_UID)), string(raw.get(tags.SERIES_INSTANCE_UID))
        # One without a UID has instances, too; an answer that names nothing says nothing.
        if of not in ("", study_instance_uid) or not (is_usable(uid) or (of and not uid)):
            continue
        found[uid] = ListedSeries(
            uid,
            count(raw.get(tags.NUMBER_OF_SERIES_RELATED_INSTANCES)),
            integer(raw.get(tags.SERIES_NUMBER)),
            string(raw.get(tags.MODALITY)),
            text(raw.get(tags.SERIES_DESCRIPTION, b""), raw.get(tags.SPECIFIC_CHARACTER_SET, b"")).strip(" \t\r\n\0"),
        )
        if not of:
            unnamed.add(uid)
    if unnamed and await _ignores_keys(association, "SERIES"):
        found = {uid: one for uid, one in found.items() if uid not in unnamed}
    return sorted(found.values(), key=lambda one: (not one.uid, one.place)), answers


async def _ignores_keys(association: Association, level: str) -> bool:
    """Whether it answers a query for what nobody has: then what it answers without saying which study it is of may be
    another patient's. Raises PacsError."""
    nobodys = f"2.25.{uuid.uuid4().int}"
    keys = {tags.STUDY_INSTANCE_UID: nobodys, tags.SERIES_INSTANCE_UID: ""}
    if level == "IMAGE":
        keys |= {tags.SERIES_INSTANCE_UID: f"2.25.{uuid.uuid4().int}", tags.SOP_INSTANCE_UID: ""}
    answered = False
    try:
        async for _ in find(association, level, keys, set(keys)):
            answered = True
    except OperationFailed as e:
        log.info("%s has no answer for a study that there is none of: %s", association.peer, e)
    if answered:
        log.warning("%s answers every query with all that it has: what does not say whose it is counts for nothing",
                    association.peer)  # fmt: skip
    return answered


class InstanceListing:
    """Lists the instances of one study, on an association for queries."""

    def __init__(
        self,
        association: Association,
        study_instance_uid: str,
        *,
        on_found: OnFound | None,
        counted: int | None,
        sop_classes: bool,
        geometry: bool,
        cuts_at: int | None,
    ) -> None:
        """*on_found* and *counted* as :meth:`PacsClient.list_instances` has them; *sop_classes* says whether each one's
        SOP class is asked for, *geometry* whether its pixels' is, *cuts_at* after how many answers this PACS is
        known to end one."""
        self._association = association
        self._study_uid = study_instance_uid
        self._on_found = on_found
        self._counted = counted
        self._sop_classes = sop_classes or geometry
        self._also = GEOMETRY if geometry else ()
        self._cuts_at = cuts_at
        self._ignores_keys: bool | None = None
        """Not known as long as it names what its answers are of."""

    async def run(self) -> InstanceList:
        """The list, series by series. Raises PacsError where the PACS cannot be reached."""
        counted = self._counted
        found: dict[str, InstanceRef] = {}
        answered: dict[str, SeriesAnswer] = {}
        short: list[str] = []
        cut_at: int | None = None
        try:
            series, answers = await _listed_series(self._association, self._study_uid)
            for one in series:
                elsewhere = () if one.uid else found
                listed = await self._list_series(one, elsewhere=elsewhere)
                found.update((ref.sop_instance_uid, ref) for ref in listed.refs)
                answered[one.uid] = listed
            for one in self._may_be_cut(series, answered, len(found)):
                listed = answered[one.uid]
                others = await self._list_others(one, listed, lacking=None if counted is None else counted - len(found))
                found.update((ref.sop_instance_uid, ref) for ref in others.found)
                now = len(listed.refs) + len(others.found)
                if now < (one.instances or 0):
                    short.append(f"{now} of the {one.instances} instances of series {one.uid}")
                elif not others.certain and one.instances is None and (counted is None or len(found) < counted):
                    short.append(f"{now} instances of series {one.uid}, where its answers may end")
                if others.found or now < (one.instances or 0):
                    cut_at = max(cut_at or 0, listed.answers)
        except OperationFailed as e:
            return InstanceList(tuple(found.values()), False, str(e))
        if not found:
            what = "lists no series of the study" if not series else "lists series and none of their instances"
            return InstanceList((), False, f"{self._association.peer} {what}")
        if short:
            return InstanceList(
                tuple(found.values()), False, f"{self._association.peer} lists {short[0]}", short=True, cut_at=cut_at
            )
        may_lack = answers == self._cuts_at or answers % ROUND == 0
        return InstanceList(tuple(found.values()), True, cut_at=cut_at, series=len(series), may_lack_series=may_lack)

    def _may_be_cut(
        self, series: Sequence[ListedSeries], answered: Mapping[str, SeriesAnswer], found: int
    ) -> list[ListedSeries]:
        """The series of which what was answered may be a part: it is less than is counted, or nothing is counted and it
        is as long as a limit may be."""
        counted = self._counted
        short = [one for one in series if len(answered[one.uid].refs) < (one.instances or 0)]
        if counted is not None and found >= counted:
            return short
        uncounted = [one for one in series if one.instances is None and answered[one.uid].answers]
        longest = max((answered[one.uid].answers for one in uncounted), default=0)
        limits = {self._cuts_at, longest if counted is not None else None}
        return short + [
            one
            for one in uncounted
            if (n := answered[one.uid].answers) in limits or (counted is None and n % ROUND == 0)
        ]

    async def _list_others(
        self,
        series: ListedSeries,
        listed: SeriesAnswer,
        *,
        lacking: int | None,
    ) -> Others:
        """What *series* has besides what is *listed*; *lacking* is how many the study lacks, where it is counted."""

        async def ask(number: int) -> tuple[Sequence[InstanceRef], int]:
            answered = await self._list_series(series, number=number)
            return answered.refs, answered.answers

        def lacks(found: int) -> bool:
            if series.instances is not None:
                return len(listed.refs) + found < series.instances
            return lacking is None or found < lacking

        return await the_others(ask, listed.refs, lacks=lacks)

    async def _list_series(
        self,
        series: ListedSeries,
        *,
        number: int | None = None,
        elsewhere: Container[str] = (),
    ) -> SeriesAnswer:
        """The instances of a series that it lists, but for those that are known to be *elsewhere*; with *number*, those
        that have this Instance Number."""
        keys = {
            tags.STUDY_INSTANCE_UID: self._study_uid,
            tags.SERIES_INSTANCE_UID: series.uid,
            tags.SOP_INSTANCE_UID: "",
        } | dict.fromkeys(TELLING, "")
        if self._sop_classes:
            keys[tags.SOP_CLASS_UID] = ""
        keys |= dict.fromkeys(self._also, "")
        if number is not None:
            keys[tags.INSTANCE_NUMBER] = str(number)
        refs: list[InstanceRef] = []
        unnamed: list[InstanceRef] = []
        known = set[str]()
        told = dropped = repeated = 0
        async for raw in find(self._association, "IMAGE", keys, _IMAGE.union(self._also)):
            uid, sop_class = string(raw.get(tags.SOP_INSTANCE_UID)), string(raw.get(tags.SOP_CLASS_UID))
            # A PACS that takes a key for a suggestion answers with other studies' instances, too.
            of = string(raw.get(tags.STUDY_INSTANCE_UID)), string(raw.get(tags.SERIES_INSTANCE_UID))
            asked_for = of[0] in ("", self._study_uid) and of[1] in ("", series.uid)
            if uid in known:
                repeated += 1  # counted twice, it would stand for one that the answer leaves out
            elif asked_for and is_usable(uid) and uid not in elsewhere:
                known.add(uid)
                (refs if any(of) else unnamed).append(
                    InstanceRef(
                        series.uid,
                        uid,
                        sop_class if is_usable(sop_class) else "",
                        fingerprint(series.uid, (string(raw.get(tag)) for tag in TELLING)),
                        series.modality,
                        series.description,
                        series.number,
                        integer(raw.get(tags.INSTANCE_NUMBER)),
                        _geometry(raw) if self._also else None,
                    )
                )
            else:
                dropped += 1
            if self._on_found is not None and len(refs) - told >= TELL_EVERY:
                self._on_found(refs[told:])
                told = len(refs)
        if unnamed and self._ignores_keys is None:
            self._ignores_keys = await _ignores_keys(self._association, "IMAGE")
        if self._ignores_keys:
            dropped += len(unnamed)
        else:
            refs += unnamed
        if self._on_found is not None and told < len(refs):
            self._on_found(refs[told:])
        if dropped:
            which = series.uid or "without a UID"
            log.warning("%s lists %d instances that series %s cannot have", self._association.peer, dropped, which)
        return SeriesAnswer(refs, len(refs) + dropped + repeated)


def _geometry(raw: Mapping[int, bytes]) -> ListedGeometry | None:
    """The geometry in an answer; None where it is not whole."""
    photometric, *shorts, frames = GEOMETRY
    numbers = [*(unsigned_short(raw.get(tag)) for tag in shorts), integer(raw.get(frames))]
    return whole_geometry(ListedGeometry(string(raw.get(photometric)), *numbers))
