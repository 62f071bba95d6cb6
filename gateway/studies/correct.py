"""An instance whose file has other UIDs than the PACS lists, with the PACS's put in (``pacs[].correct_uids``).

A viewer that compares what is in a file with the manifest then finds the same; what was there before stays in the file,
as Original Attributes Sequence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from gateway.dicom import WINDOW, tags, with_uids
from gateway.pacs import Body, IncomingInstance
from gateway.studies.index import Instance

PUT_IN = "the UIDs that the PACS lists were put in"

NAMES = {
    tags.STUDY_INSTANCE_UID: "Study Instance UID",
    tags.SERIES_INSTANCE_UID: "Series Instance UID",
    tags.SOP_INSTANCE_UID: "SOP Instance UID",
}


def differing(read: Instance, read_study: str, listed: Instance, study: str, series: str) -> dict[int, tuple[str, str]]:
    """The UIDs that the file has (*read*) and those that the PACS lists for it, by tag, where these are others; none
    where its header could not be read. *series* is empty where the PACS has not listed it."""
    if not (read_study and read.sop_instance_uid):
        return {}
    pairs = {
        tags.SOP_INSTANCE_UID: (read.sop_instance_uid, listed.sop_instance_uid),
        tags.STUDY_INSTANCE_UID: (read_study, study),
        tags.SERIES_INSTANCE_UID: (read.series_instance_uid, series),
    }
    return {tag: (former, new) for tag, (former, new) in pairs.items() if new and former != new}


def corrected(incoming: IncomingInstance, uids: Mapping[int, tuple[str, str]]) -> IncomingInstance:
    """*incoming* with the new ones of *uids*. It may read from the disk, so is not for the event loop. Raises
    MalformedDataSet where it cannot be done without a guess."""
    body = incoming.body
    parts = with_uids(body.head(WINDOW), body.size, incoming.transfer_syntax_uid, uids)
    return dataclasses.replace(incoming, body=_Spliced(body, parts))


def note_of(uids: Mapping[int, tuple[str, str]]) -> str:
    """What the index notes of an instance that had these put in."""
    former = ", ".join(f"{NAMES[tag]} {old or 'absent'}" for tag, (old, _) in uids.items())
    return f"{PUT_IN}; the file had {former}"


def was_corrected(instance: Instance) -> bool:
    """Whether its bytes are other ones than the PACS sent."""
    return PUT_IN in instance.note


class _Spliced:
    """Stretches of a body, and bytes in between (a ``Body``)."""

    def __init__(self, body: Body, parts: tuple[tuple[int, int] | bytes, ...]) -> None:
        self._body, self._parts = body, parts
        self.spooled = body.spooled
        self.size = sum(len(part) if isinstance(part, bytes) else part[1] - part[0] for part in parts)

    def head(self, limit: int) -> memoryview:
        """The first *limit* bytes."""
        return memoryview(self.read(0, limit))

    def read(self, offset: int, limit: int) -> bytes:
        """Up to *limit* bytes from *offset*."""
        found, at, end = [], 0, min(offset + limit, self.size)
        for part in self._parts:
            length = len(part) if isinstance(part, bytes) else part[1] - part[0]
            start, stop = max(offset - at, 0), min(end - at, length)
            if start < stop:
                if isinstance(part, bytes):
                    found.append(part[start:stop])
                else:
                    found.append(self._body.read(part[0] + start, stop - start))
            at += length
        return b"".join(found)

    def close(self) -> None:
        """Lets go of the bytes."""
        self._body.close()
