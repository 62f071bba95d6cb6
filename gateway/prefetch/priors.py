"""Which earlier studies of a patient a radiologist will want to compare with."""

from __future__ import annotations

import datetime
import re
from collections.abc import Awaitable, Callable, Iterable

from gateway.pacs.scu import StudyTraits
from gateway.prefetch.rules import moment

NOT_COMPARED = frozenset(("SR", "PR", "KO", "DOC", "OT", "SC", "SEG", "REG", "AU", "ECG"))
"""Modalities of what is made of images, or is none: two studies that share only these are not alike (PS3.3
C.7.3.1.1.1)."""

MOST_ASKED = 5
"""Studies of which the body part is asked for, each by a query at SERIES level."""

WILD = re.compile(r"[*?\\]|[^ -~]")
"""What C-FIND matches more than itself by, or takes for another value (PS3.4 C.2.2.2)."""


def same_patient(one: StudyTraits, other: StudyTraits, *, same_pacs: bool) -> bool:
    """Whether both are one patient's: a Patient ID means something within its issuer alone, and a PACS that names no
    issuer is its own."""
    if not one.patient_id or one.patient_id != other.patient_id:
        return False
    if one.issuer and other.issuer:
        return one.issuer == other.issuer
    return same_pacs


def earlier(study: StudyTraits, others: Iterable[StudyTraits], *, max_age: float) -> list[StudyTraits]:
    """Those of *others* that were taken before *study*, the newest first; none that is more than *max_age* seconds
    older. Which came first cannot be told of two without a date."""
    taken = moment(study.study_date, study.study_time)
    if taken is None:
        return []
    found: list[tuple[datetime.datetime, StudyTraits]] = []
    for other in others:
        then = moment(other.study_date, other.study_time)
        if other.study_instance_uid == study.study_instance_uid or then is None or then > taken:
            continue
        if (taken - then).total_seconds() <= max_age:
            found.append((then, other))
    return [other for _, other in sorted(found, key=lambda one: (one[0], one[1].study_instance_uid), reverse=True)]


def alike(study: StudyTraits, other: StudyTraits) -> bool:
    """Whether both have a modality in common by which one compares."""
    return bool((study.modalities & other.modalities) - NOT_COMPARED)


async def relevant(
    study: StudyTraits,
    candidates: Iterable[StudyTraits],
    most: int,
    body_parts: Callable[[StudyTraits], Awaitable[frozenset[str]]],
) -> list[StudyTraits]:
    """The first *most* of *candidates* that are of the same modality as *study*, or of the same body part. *body_parts*
    is asked for few, since it costs a query each."""
    found: list[StudyTraits] = []
    mine: frozenset[str] | None = None
    asked = 0
    for one in candidates:
        if len(found) >= most:
            break
        if alike(study, one):
            found.append(one)
        elif asked < MOST_ASKED:
            asked += 1
            mine = await body_parts(study) if mine is None else mine
            if mine and mine & await body_parts(one):
                found.append(one)
    return found
