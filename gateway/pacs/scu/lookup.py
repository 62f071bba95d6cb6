"""Asks several PACS, one after the other, for what any of them may know."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.pacs.errors import PacsError
from gateway.pacs.scu.client import StudyRecord
from gateway.pacs.scu.retrieve import Finder


async def find_record(pacs: Sequence[Finder], study_instance_uid: str) -> StudyRecord | None:
    """What the first PACS that has the study says of it; None where every one answered and none has it.

    Raises PacsError where none of those that answered has it and one could not be asked.
    """
    failure: PacsError | None = None
    for client in pacs:
        try:
            record = await client.find_study(study_instance_uid)
        except PacsError as e:
            failure = e
            continue
        if record is not None:
            return record
    if failure is not None:
        raise failure
    return None
