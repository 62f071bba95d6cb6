"""Looks at an uploaded file as at one from a stranger, and says what it is or what is wrong with it (PS3.10 §7).

The file is walked from end to end before any library is given it, so nothing here grows with what it claims: not
with its lengths, its nesting, nor with what a deflated data set would inflate to.
"""

from __future__ import annotations

import mmap
import struct
import tempfile
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.uid import UID, AllTransferSyntaxes, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from gateway.dicom.elements import ElementReader, MalformedDataSet, string
from gateway.dicom.part10 import file_header
from gateway.dicom.structure import PixelData, read_structure
from gateway.dicom.uid import is_uid

PREFIX = b"DICM"
MAX_META = 64 * 1024
"""Bytes of the file meta information."""

MAX_HEADER = 128 * 1024 * 1024
"""Bytes before the pixel data, an encapsulated document included: they are held in memory while they are read."""

CHUNK = 1024 * 1024


class Unacceptable(Exception):
    """An upload that is not to be stored. The text says why, in words for an operator and without patient data."""


@dataclass(slots=True)
class Upload:
    """A file that holds one instance."""

    file: FileIO
    """The whole file; the data set is walked, and not deflated."""
    data_offset: int
    size: int
    """Bytes of the file."""
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str
    pixel_data: PixelData | None
    """Its offset counts from ``data_offset``."""
    attributes: Dataset
    """All but the pixel data and what follows them."""

    def close(self) -> None:
        """Gives the disk space back."""
        self.file.close()


def examine(file: FileIO, size: int, *, spool_dir: Path, max_size: int) -> Upload:
    """The instance in *file*, which the result takes over. Raises Unacceptable, OSError.

    Works through the whole file: to be called in a thread.
    """
    if size > max_size:
        raise Unacceptable(f"it has {size} bytes; captures.max_size allows {max_size}")
    if size < 132 + 8:
        raise Unacceptable("it is too short for a DICOM file")
    # Not closed by hand: an error's traceback may still look at it, and it goes with its last user.
    view = memoryview(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ))
    try:
        meta_end, transfer_syntax_uid = _meta(view)
        if transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
            inflated, inflated_size = _inflate(view, meta_end, spool_dir, max_size)
            return _examined_then_closed(file, inflated, inflated_size, spool_dir, max_size)
        structure = read_structure(view[meta_end:], transfer_syntax_uid)
    except MalformedDataSet as e:
        raise Unacceptable(f"it is no whole DICOM file: {e}") from e
    header_end = structure.pixel_data.offset if structure.pixel_data else size - meta_end
    if header_end > MAX_HEADER:
        raise Unacceptable(f"it has {header_end} bytes before its pixel data; {MAX_HEADER} are allowed")
    file.seek(0)
    try:
        attributes = dcmread(file, stop_before_pixels=True)
        sop_class, instance = (str(attributes.get(name, "")) for name in ("SOPClassUID", "SOPInstanceUID"))
        series, study = (str(attributes.get(name, "")) for name in ("SeriesInstanceUID", "StudyInstanceUID"))
    except Exception as e:  # pydicom meets a stranger's bytes, and raises whatever they lead it to
        raise Unacceptable(f"its attributes cannot be read ({type(e).__name__})") from e
    named = {"SOP Class": sop_class, "SOP Instance": instance, "Series Instance": series, "Study Instance": study}
    for name, uid in named.items():
        if not is_uid(uid):
            raise Unacceptable(f"its {name} UID is absent or no UID")
    return Upload(
        file, meta_end, size, sop_class, instance, series, study, transfer_syntax_uid, structure.pixel_data, attributes
    )


def _examined_then_closed(former: FileIO, file: FileIO, size: int, spool_dir: Path, max_size: int) -> Upload:
    try:
        upload = examine(file, size, spool_dir=spool_dir, max_size=max_size)
    except BaseException:
        file.close()
        raise
    former.close()
    return upload


def _meta(view: memoryview) -> tuple[int, str]:
    """Where the data set begins, and its transfer syntax."""
    if view[128:132] != PREFIX:
        raise Unacceptable("it is no DICOM file: DICM is missing at its 129th byte (PS3.10 §7.1)")
    reader = ElementReader(view[132 : 132 + MAX_META], explicit=True, big=False)
    at, end, syntax = 0, min(len(view) - 132, MAX_META), ""
    while at + 8 <= end:
        if struct.unpack_from("<H", view, 132 + at)[0] != 0x0002:
            break
        tag, _, length, value = reader.element(at, explicit=True)
        if value + length > end:
            raise MalformedDataSet("its file meta information is longer than the file, or than any is")
        if tag == 0x00020010:
            syntax = string(bytes(view[132 + value : 132 + value + length]))
        at = value + length
    if syntax not in AllTransferSyntaxes:  # a private one cannot be looked into
        raise Unacceptable("its file meta information names no transfer syntax that is known")
    return 132 + at, syntax


def _inflate(view: memoryview, data_offset: int, spool_dir: Path, max_size: int) -> tuple[FileIO, int]:
    """The same instance in explicit VR little endian: losing nothing, and what everybody can take."""
    reader_end = len(view)
    inflate = zlib.decompressobj(-15)
    file = tempfile.TemporaryFile(dir=spool_dir, buffering=0)  # noqa: SIM115
    try:
        size = file.write(_plain_header(view[132:data_offset]))
        at = data_offset
        pending = b""
        while (at < reader_end or pending) and not inflate.eof:
            if not pending:
                pending = bytes(view[at : at + CHUNK])
                at += len(pending)
            size += file.write(inflate.decompress(pending, CHUNK))
            pending = inflate.unconsumed_tail
            while not pending and at >= reader_end and not inflate.eof and (rest := inflate.decompress(b"", CHUNK)):
                size += file.write(rest)
            if size > max_size:
                raise Unacceptable(f"it inflates to more than captures.max_size ({max_size} bytes)")
        if not inflate.eof:
            raise Unacceptable("it is no whole DICOM file: its deflated data set does not end")
    except zlib.error as e:
        file.close()
        raise Unacceptable("it is no whole DICOM file: its data set cannot be inflated") from e
    except BaseException:
        file.close()
        raise
    return file, size


def _plain_header(meta: memoryview) -> bytes:
    reader = ElementReader(meta, explicit=True, big=False)
    found = reader.read({0x00020002, 0x00020003, 0x00020010})
    return file_header(string(found.get(0x00020002)), string(found.get(0x00020003)), ExplicitVRLittleEndian)


def check(
    upload: Upload,
    *,
    study_instance_uid: str,
    series_instance_uid: str | None,
    sop_instance_uid: str | None,
    allowed_sop_classes: Collection[str],
) -> None:
    """Whether an upload is what was announced, and may be stored. Raises Unacceptable."""
    if upload.study_instance_uid != study_instance_uid:
        raise Unacceptable("its Study Instance UID is not that of the study that the URL was given out for")
    if series_instance_uid and upload.series_instance_uid != series_instance_uid:
        raise Unacceptable("its Series Instance UID is not the one that was announced")
    if sop_instance_uid and upload.sop_instance_uid != sop_instance_uid:
        raise Unacceptable("its SOP Instance UID is not the one that was announced")
    if upload.sop_class_uid not in allowed_sop_classes:
        raise Unacceptable(
            f"its SOP class {UID(upload.sop_class_uid).name} is not on the list: add {upload.sop_class_uid} to "
            "captures.allowed_sop_classes if it is to be taken"
        )
    _check_pixels(upload)


def _check_pixels(upload: Upload) -> None:
    """Whether the pixel data are as long as rows, columns, … demand (PS3.5 §8.1, PS3.3 C.7.6.3)."""
    pixels, d = upload.pixel_data, upload.attributes
    try:
        rows, columns = d.get("Rows"), d.get("Columns")
        if pixels is None:
            if rows or columns or upload.sop_class_uid.startswith("1.2.840.10008.5.1.4.1.1.7"):
                raise Unacceptable("it is an image and has no pixel data")
            return
        if pixels.fragments is not None:
            if not UID(upload.transfer_syntax_uid).is_encapsulated:
                raise Unacceptable("its pixel data are encapsulated and its transfer syntax is not")
            if not pixels.fragments or not pixels.length:
                raise Unacceptable("its pixel data are empty")
            return
        if UID(upload.transfer_syntax_uid).is_encapsulated:
            raise Unacceptable("its transfer syntax is encapsulated and its pixel data are not")
        samples, bits = int(d.SamplesPerPixel), int(d.BitsAllocated)
        frames = int(d.get("NumberOfFrames") or 1)
        if d.get("PhotometricInterpretation") in ("YBR_FULL_422", "YBR_PARTIAL_422"):
            samples = 2
        expected = (int(rows) * int(columns) * samples * frames * bits + 7) // 8
        if min(int(rows), int(columns), samples, frames, bits) <= 0:
            raise Unacceptable("its pixel attributes are no numbers of an image")
    except Unacceptable:
        raise
    except Exception as e:  # attributes of a stranger's: absent, of a wrong kind, or several where one is due
        raise Unacceptable("its pixel attributes are absent or cannot be read") from e
    if pixels.length not in (expected, expected + expected % 2):
        raise Unacceptable(f"its pixel data have {pixels.length} bytes where its attributes demand {expected}")
