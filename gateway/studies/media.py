"""What is in a DICOM object but is not DICOM: documents and video, unpacked for viewers (contract: ``mediaUrls``).

Encapsulated documents carry their bytes in (0042,0011) and say their type in (0042,0012) (PS3.3 C.24.2).
Video lies in the fragments of Pixel Data (PS3.5 §8.2); it is unpacked where those hold a container that a
browser plays or a user can save (MP4, MPEG transport or programme stream), and left alone where they hold
a bare elementary stream.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from gateway.dicom import ENCAPSULATED_PDF, UNDEFINED, VIDEO, find_element, plain, read_tolerantly
from gateway.pacs import Body, IncomingInstance
from gateway.runtime import in_thread
from gateway.studies.index import Instance, Media

log = logging.getLogger(__name__)

DOCUMENT_LIMIT = 64 * 1024 * 1024
"""Bytes. A larger encapsulated document is not unpacked (it would have to fit in memory); its DICOM
object is served as any other."""

DOCUMENTS = {
    ENCAPSULATED_PDF: ("application/pdf", "pdf"),
    "1.2.840.10008.5.1.4.1.1.104.2": ("text/xml", "xml"),  # Encapsulated CDA
    "1.2.840.10008.5.1.4.1.1.104.3": ("model/stl", "stl"),  # Encapsulated STL
    "1.2.840.10008.5.1.4.1.1.104.4": ("model/obj", "obj"),  # Encapsulated OBJ
    "1.2.840.10008.5.1.4.1.1.104.5": ("model/mtl", "mtl"),  # Encapsulated MTL
}
"""SOP Class UID → MIME type and file extension (PS3.3 Table C.24-2). The class decides, not the MIME type
that the object claims: what a browser is told to open must not be the sender's free choice."""

ENCAPSULATED_DOCUMENT, DOCUMENT_LENGTH, PIXEL_DATA = 0x00420011, 0x00420015, 0x7FE00010


@dataclass(frozen=True, slots=True)
class Unpacked:
    """Media taken out of an instance, as pieces that can be read again for a second try."""

    media: Media
    chunks: Callable[[], AsyncIterator[bytes]]


async def unpack(incoming: IncomingInstance) -> Unpacked | None:
    """The document or video within an instance; None where there is none, or none that can be unpacked.

    Never raises for what the instance holds: its DICOM object is served in any case.
    """
    is_document = incoming.sop_class_uid in DOCUMENTS
    if not is_document and incoming.transfer_syntax_uid not in VIDEO:
        return None
    read = _document if is_document else _video
    try:
        return await in_thread(read, incoming)
    except Exception as e:  # it is served all the same
        log.warning("nothing unpacked from instance %s: %s", incoming.sop_instance_uid, type(e).__name__)
        return None


def _document(incoming: IncomingInstance) -> Unpacked | None:
    syntax = incoming.transfer_syntax_uid
    source = plain(incoming.body, syntax)
    element = find_element(source, syntax, ENCAPSULATED_DOCUMENT)
    if element is None or not 0 < element[2] <= DOCUMENT_LIMIT:
        log.warning("document %s is not unpacked: its bytes cannot be found", incoming.sop_instance_uid)
        return None
    _, _, length, offset = element
    document = source.read(offset, length)
    # The value is padded to even length; its true one is told apart (PS3.3 C.24.2.2, field note 17).
    declared = read_tolerantly(incoming.body, syntax, {DOCUMENT_LENGTH}).get(DOCUMENT_LENGTH)
    true_length = int.from_bytes(declared[1], "little") if declared else length
    if length - 1 <= true_length <= length:
        document = document[:true_length]
    mime_type, extension = DOCUMENTS[incoming.sop_class_uid]

    async def chunks() -> AsyncIterator[bytes]:
        yield document

    return Unpacked(Media(mime_type, extension, len(document)), chunks)


def _video(incoming: IncomingInstance) -> Unpacked | None:
    body = incoming.body
    fragments = _fragments(body, incoming.transfer_syntax_uid)
    if not fragments:
        log.warning("video %s is not unpacked: its fragments cannot be found", incoming.sop_instance_uid)
        return None
    container = _container(body.read(*fragments[0]))
    if container is None:
        log.info("video %s is an elementary stream: not unpacked", incoming.sop_instance_uid)
        return None

    async def chunks() -> AsyncIterator[bytes]:
        for offset, length in fragments:
            for at in range(offset, offset + length, 1024 * 1024):
                yield await in_thread(body.read, at, min(1024 * 1024, offset + length - at))

    return Unpacked(Media(*container, sum(length for _, length in fragments)), chunks)


def _fragments(body: Body, transfer_syntax_uid: str) -> list[tuple[int, int]]:
    """(offset, length) of each fragment of Pixel Data, the Basic Offset Table left out (PS3.5 §A.4)."""
    element = find_element(body, transfer_syntax_uid, PIXEL_DATA)
    if element is None or element[2] != UNDEFINED:
        return []
    at = element[3]
    found = []
    while True:
        item = body.read(at, 8)
        tag, length = item[:4], int.from_bytes(item[4:], "little")
        if tag != b"\xfe\xff\x00\xe0":
            break
        if at + 8 + length > body.size:
            return []
        found.append((at + 8, length))
        at += 8 + length
    return [fragment for fragment in found[1:] if fragment[1]]


def _container(start: bytes) -> tuple[str, str] | None:
    """MIME type and extension of a video by its first bytes; None for an elementary stream."""
    if start[4:8] == b"ftyp":
        return "video/mp4", "mp4"
    if start[:1] == b"\x47" and start[188:189] == b"\x47":
        return "video/mp2t", "ts"
    if start[:4] == b"\x00\x00\x01\xba":
        return "video/mpeg", "mpg"
    return None


def file_name(instance: Instance, media: Media) -> str:
    """A name to save it under: modality and numbers, never free text, which may name the patient."""
    modality = "".join(c for c in instance.modality if c.isalnum()).lower() or "media"
    parts = [modality]
    if instance.series_number is not None:
        parts.append(f"series-{instance.series_number}")
    if instance.instance_number is not None:
        parts.append(f"instance-{instance.instance_number}")
    return "-".join(parts) + f".{media.extension}"
