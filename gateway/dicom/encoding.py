"""Data sets of pydicom's as encoded bytes (PS3.5 §7, A.2 to A.5)."""

from __future__ import annotations

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID


def encode_data_set(dataset: Dataset, transfer_syntax_uid: str) -> bytes:
    """*dataset* in *transfer_syntax_uid*, without file meta information."""
    syntax = UID(transfer_syntax_uid)
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = syntax.is_little_endian, syntax.is_implicit_VR
    write_dataset(buffer, Dataset({tag: element for tag, element in dataset._dict.items() if tag.group != 2}))
    encoded: bytes = buffer.getvalue()
    return encoded
