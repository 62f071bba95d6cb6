"""What can be said of an instance that a PACS lists and that has not come: its place among those that have."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from dataclasses import replace

from gateway.dicom import has_images
from gateway.pacs.scu import InstanceList, InstanceRef
from gateway.studies.index import Instance


def compared(listing: InstanceList, pacs: str, *, instances: int | None, series: int | None) -> InstanceList:
    """The *listing* of a *pacs*, which is not complete where that counts more *instances* of the study than it lists,
    or more *series*, where instances are not counted. Where nothing is counted, as many series as a limit may be may be
    a part of them."""
    short, listed = "", len(listing.instances)
    if instances is not None:
        short = f"{listed} of the {instances} instances that it counts" if listed < instances else ""
    elif listing.series is None:
        pass
    elif series is not None:
        short = f"{listing.series} of the {series} series that it counts" if listing.series < series else ""
    elif listing.may_lack_series:
        short = f"{listing.series} series, where its answers may end"
    if not listing.complete or not short:
        return listing
    return replace(listing, complete=False, reason=f"PACS {pacs} lists {short}", short=True)


def series_place(ref: InstanceRef) -> tuple[bool, float]:
    """Sorts the series of a study, as far as one listed instance tells of its own: images first, by Series Number."""
    return not has_images(ref.modality, ref.sop_class_uid), _number(ref.series_number)


def _number(number: int | None) -> float:
    return math.inf if number is None else number


def in_series(listed: Iterable[InstanceRef], first: InstanceRef) -> list[str]:
    """SOP Instance UIDs of what is read from *first* on, in its series."""

    def place(ref: InstanceRef) -> tuple[float, str]:
        return _number(ref.instance_number), ref.sop_instance_uid

    series = sorted((ref for ref in listed if ref.series_instance_uid == first.series_instance_uid), key=place)
    return [ref.sop_instance_uid for ref in series if place(ref) >= place(first)]


def opening(listed: Iterable[InstanceRef], most: int) -> list[InstanceRef]:
    """What is read first of a study: of its first series, *most* instances."""

    def place(ref: InstanceRef) -> tuple[bool, float, str, float, str]:
        return *series_place(ref), ref.series_instance_uid, _number(ref.instance_number), ref.sop_instance_uid

    # Not all is put in order for these few: there may be a hundred thousand.
    found = heapq.nsmallest(most, listed, key=place)
    return [ref for ref in found if ref.series_instance_uid == found[0].series_instance_uid]


def awaited(sop_instance_uid: str, listed: InstanceRef | None) -> Instance:
    """The instance as it is *listed*; last of all where it is not. Of an image whose pixels the
    PACS does not describe it has 0 rows, which keeps it out of the manifest, and in its place."""
    ref = listed or InstanceRef("", sop_instance_uid, "")
    size = 0 if has_images(ref.modality, ref.sop_class_uid) else None
    instance = Instance(
        sop_instance_uid=sop_instance_uid,
        series_instance_uid=ref.series_instance_uid,
        sop_class_uid=ref.sop_class_uid,
        transfer_syntax_uid="",
        size=0,
        modality=ref.modality,
        series_number=ref.series_number,
        series_description=ref.series_description,
        instance_number=ref.instance_number,
        rows=size,
        columns=size,
    )
    return instance if ref.geometry is None else instance._replace(**ref.geometry._asdict())
