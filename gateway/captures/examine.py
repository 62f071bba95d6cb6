"""Looks at an uploaded file as at one from a stranger, and says what it is or what is wrong with it (PS3.10 §7).

The file is walked from end to end before any library is given it, so nothing here grows with what it claims: not
with its lengths, its nesting, nor with what a deflated data set would inflate to.
"""

from __future__ import annotations

import mmap
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO

from pydicom import Dataset, dcmread
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from gateway.captures.envelope import Unacceptable, open_envelope
from gateway.dicom import (
    MalformedDataSet,
    Mended,
    PixelData,
    file_header,
    is_uid,
    pieces,
    read_elements,
    read_structure,
    string,
)
from gateway.dicom import mend as dicom_mend
from gateway.runtime import Spools

MAX_HEADER = 128 * 1024 * 1024
"""Bytes before the pixel data, an encapsulated document included: they are held in memory while they are read."""

CHUNK = 1024 * 1024


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
    mended: tuple[str, ...] = ()
    """What was wrong with it and is put right, for the record."""

    def close(self) -> None:
        """Gives the disk space back."""
        self.file.close()


def examine(file: FileIO, size: int, *, spools: Spools, max_size: int) -> Upload:
    """The instance in *file*; it lies in a file of its own where it had to be mended or inflated.

    *file* stays open. Raises Unacceptable, OSError. Works through the whole file: to be called in a thread.
    """
    if size > max_size:
        raise Unacceptable(f"it has {size} bytes; captures.max_size allows {max_size}")
    if size < 132 + 8:
        raise Unacceptable("it is too short for a DICOM file")
    # Not closed by hand: an error's traceback may still look at it, and it goes with its last user.
    view = memoryview(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ))
    try:
        envelope = open_envelope(view)
        if envelope.transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
            with _inflated(view[envelope.data_offset :], spools, max_size) as (inflated, length):
                data = memoryview(mmap.mmap(inflated.fileno(), length, access=mmap.ACCESS_READ))
                return _mended(data, ExplicitVRLittleEndian, envelope.notes, spools, max_size)
        data = view[envelope.data_offset :]
        mended = dicom_mend.mend(data, envelope.transfer_syntax_uid)
    except MalformedDataSet as e:
        raise Unacceptable(f"it is no whole DICOM file: {e}") from e
    if envelope.notes or mended.notes:
        return _mended(data, envelope.transfer_syntax_uid, envelope.notes, spools, max_size, mended)
    return _upload(file, size, envelope.data_offset, envelope.transfer_syntax_uid, ())


def _mended(
    data: memoryview,
    transfer_syntax_uid: str,
    notes: tuple[str, ...],
    spools: Spools,
    max_size: int,
    mended: Mended | None = None,
) -> Upload:
    """The instance whose data set is *data*, as a file of its own that is as it should be."""
    try:
        mended = mended or dicom_mend.mend(data, transfer_syntax_uid)
        header = _header_of(data, transfer_syntax_uid)
    except MalformedDataSet as e:
        raise Unacceptable(f"it is no whole DICOM file: {e}") from e
    if len(header) + mended.length > max_size:
        raise Unacceptable(f"it grows to more than captures.max_size ({max_size} bytes)")
    file = spools.file()
    try:
        write_all(file, header)
        for piece in pieces(data, mended):
            write_all(file, piece)
        return _upload(file, len(header) + mended.length, len(header), transfer_syntax_uid, (*notes, *mended.notes))
    except BaseException:
        file.close()
        raise


def _upload(file: FileIO, size: int, data_offset: int, transfer_syntax_uid: str, notes: tuple[str, ...]) -> Upload:
    """The instance in *file*, whose data set is whole. Raises Unacceptable."""
    view = memoryview(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ))
    try:
        structure = read_structure(view[data_offset:], transfer_syntax_uid)
    except MalformedDataSet as e:
        raise Unacceptable(f"it is no whole DICOM file: {e}") from e
    header_end = structure.pixel_data.offset if structure.pixel_data else size - data_offset
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
            raise Unacceptable(f"its {name} UID is absent or not a valid UID")
    return Upload(
        file, data_offset, size, sop_class, instance, series, study, transfer_syntax_uid, structure.pixel_data,
        attributes, notes,
    )  # fmt: skip


@contextmanager
def _inflated(deflated: memoryview, spools: Spools, max_size: int) -> Iterator[tuple[FileIO, int]]:
    """The data set in explicit VR little endian: losing nothing, and what everybody can take."""
    # Some writers put a zlib header before what PS3.5 §A.5 has as a bare deflate stream.
    zlib_header = len(deflated) > 2 and deflated[0] & 0x0F == 8 and (deflated[0] << 8 | deflated[1]) % 31 == 0
    file = spools.file()
    with file:
        size = 0
        inflate = zlib.decompressobj(15 if zlib_header else -15)
        try:
            for at in range(0, len(deflated), CHUNK):
                pending = bytes(deflated[at : at + CHUNK])
                while pending and not inflate.eof:
                    size += write_all(file, inflate.decompress(pending, CHUNK))
                    pending = inflate.unconsumed_tail
                    if size > max_size:
                        raise Unacceptable(f"it inflates to more than captures.max_size ({max_size} bytes)")
            while not inflate.eof and (rest := inflate.decompress(b"", CHUNK)):
                size += write_all(file, rest)
                if size > max_size:
                    raise Unacceptable(f"it inflates to more than captures.max_size ({max_size} bytes)")
        except zlib.error as e:
            raise Unacceptable("it is no whole DICOM file: its data set cannot be inflated") from e
        if not inflate.eof:
            raise Unacceptable("it is no whole DICOM file: its deflated data set does not end")
        if not size:
            raise Unacceptable("it is no whole DICOM file: its data set is empty")
        yield file, size


def write_all(file: FileIO, data: bytes | memoryview) -> int:
    """Writes all of *data*, whatever the kernel takes at a time; its length in bytes."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
    return len(data)


def _header_of(data: memoryview, transfer_syntax_uid: str) -> bytes:
    """Preamble and file meta information for a data set; what it lacks is told when it is looked into."""
    found = read_elements(data, transfer_syntax_uid, {0x00080016, 0x00080018})
    return file_header(string(found.get(0x00080016)), string(found.get(0x00080018)), transfer_syntax_uid)


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
            raise Unacceptable("its pixel attributes do not describe an image")
    except Unacceptable:
        raise
    except Exception as e:  # attributes of a stranger's: absent, of a wrong kind, or several where one is due
        raise Unacceptable("its pixel attributes are absent or cannot be read") from e
    if pixels.length not in (expected, expected + expected % 2):
        raise Unacceptable(f"its pixel data have {pixels.length} bytes where its attributes demand {expected}")
