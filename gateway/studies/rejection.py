"""Rejection notes: Key Object Selection Documents by which a department withdraws instances (IHE RAD TF-3 4.66, IOCM).

A PACS that knows them hides what they reference by itself. One that does not sends both, and then it is for whoever
shows images to honour the note.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from io import BytesIO

from pydicom import Dataset
from pydicom.filereader import read_dataset

from gateway.dicom import DEFLATED, EXPLICIT_BIG_ENDIAN, IMPLICIT, MalformedDataSet, inflated, is_usable
from gateway.pacs import IncomingInstance

log = logging.getLogger(__name__)

TITLES = {
    "113001": "rejected for quality reasons",
    "113037": "rejected for patient safety reasons",
    "113038": "incorrect modality worklist entry",
    "113039": "data retention policy expired",
}
"""Document titles that reject what the document references (PS3.16 CID 7010), of coding scheme DCM."""

LIMIT = 8 * 1024 * 1024
"""Bytes of a document that are read; one that names 50,000 instances is smaller."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """What a rejection note says."""

    code: str
    """One of :data:`TITLES`."""
    sop_instance_uids: tuple[str, ...]


def read_rejection(incoming: IncomingInstance) -> Rejection | None:
    """The rejection that a Key Object Selection Document is; None where it is a selection of another kind, or cannot
    be read. Takes a while, so is not for the event loop. Never raises for what it holds."""
    body, syntax = incoming.body, incoming.transfer_syntax_uid
    try:
        data = body.read(0, min(body.size, LIMIT))
        if syntax in DEFLATED:
            data = inflated(data, LIMIT)
        document = read_dataset(BytesIO(data), syntax in IMPLICIT, syntax != EXPLICIT_BIG_ENDIAN)
        code = _title(document)
        return Rejection(code, _referenced(document)) if code else None
    except (Exception, MalformedDataSet) as e:  # pydicom meets bytes from outside, and raises what it will
        log.warning("a key object selection cannot be read: %s", type(e).__name__)
        return None


def _title(document: Dataset) -> str:
    for concept in document.get("ConceptNameCodeSequence") or ():
        code = str(concept.get("CodeValue", "")).strip()
        if code in TITLES and str(concept.get("CodingSchemeDesignator", "")).strip() == "DCM":
            return code
    return ""


def _referenced(document: Dataset) -> tuple[str, ...]:
    """What it references, by its evidence and by its content: some writers leave one of them out (PS3.3 C.17.6.2)."""
    found: list[str] = []
    for study in document.get("CurrentRequestedProcedureEvidenceSequence") or ():
        for series in study.get("ReferencedSeriesSequence") or ():
            found += _uids(series)
    waiting = list(document.get("ContentSequence") or ())
    while waiting:
        item = waiting.pop()
        found += _uids(item)
        waiting += item.get("ContentSequence") or ()
    return tuple(dict.fromkeys(found))


def _uids(item: Dataset) -> list[str]:
    uids = (str(ref.get("ReferencedSOPInstanceUID", "")).strip() for ref in item.get("ReferencedSOPSequence") or ())
    return [uid for uid in uids if is_usable(uid)]
