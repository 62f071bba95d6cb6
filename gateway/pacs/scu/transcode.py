"""Data sets of pydicom's as encoded bytes (PS3.5 §7), and Part 10 files as data sets in a body."""

from __future__ import annotations

import io
import os
from io import FileIO

from pydicom import Dataset, dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID

from gateway.pacs.scu.store import CannotTranscode
from gateway.pacs.upper.spool import FileBody, MemoryBody


def encode_data_set(dataset: Dataset, transfer_syntax_uid: str) -> bytes:
    """*dataset* in *transfer_syntax_uid*, without file meta information."""
    syntax = UID(transfer_syntax_uid)
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = syntax.is_little_endian, syntax.is_implicit_VR
    write_dataset(buffer, Dataset({tag: element for tag, element in dataset._dict.items() if tag.group != 2}))
    encoded: bytes = buffer.getvalue()
    return encoded


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
    former = UID(dataset.file_meta.TransferSyntaxUID)
    if former.is_encapsulated:
        try:
            dataset.decompress(as_rgb=False, generate_instance_uid=False)
        except Exception as e:  # a decoder's, whichever it is
            raise CannotTranscode(
                f"the PACS takes only uncompressed instances of this SOP class, and {former.name} cannot be decoded "
                f"here ({type(e).__name__}): enable {former.name} in the PACS"
            ) from e
    elif not former.is_little_endian:
        raise CannotTranscode(f"the PACS does not take {former.name}: enable it there")
    return MemoryBody(encode_data_set(dataset, transfer_syntax_uid))
