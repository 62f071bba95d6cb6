"""Part 10 files as data sets in a body: as they are, and uncompressed for a PACS that takes nothing else."""

from __future__ import annotations

import io
import os
from io import FileIO

from pydicom import dcmread
from pydicom.uid import UID

from gateway.dicom.encoding import CannotDecompress, uncompressed
from gateway.pacs.scu.store import CannotTranscode
from gateway.pacs.upper.spool import FileBody, MemoryBody


def data_set_of(file: FileIO, size: int) -> FileBody:
    """The data set in a Part 10 file of ours of *size* bytes, as a body of its own: it closes *file* no more."""
    body = FileBody(file, size)
    # Our own file meta information begins with its group length (PS3.10 §7.1).
    start = 144 + int.from_bytes(body.read(140, 4), "little")
    return FileBody(os.fdopen(os.dup(file.fileno()), "rb", buffering=0), size - start, start=start)


def transcoded(file: FileIO, transfer_syntax_uid: str) -> MemoryBody:
    """The data set of a Part 10 file in an uncompressed transfer syntax, losing nothing. Raises CannotTranscode."""
    file.seek(0)
    dataset = dcmread(io.BytesIO(file.read()))
    try:
        return MemoryBody(uncompressed(dataset, transfer_syntax_uid))
    except CannotDecompress as e:
        former = UID(dataset.file_meta.TransferSyntaxUID).name
        raise CannotTranscode(
            f"the PACS takes only uncompressed instances of this SOP class, and {e}: enable {former} in the PACS"
        ) from e
