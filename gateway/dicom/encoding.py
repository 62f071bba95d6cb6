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


class CannotDecompress(ValueError):
    """There is no lossless way from a data set's transfer syntax to an uncompressed one."""


def uncompressed(dataset: Dataset, transfer_syntax_uid: str) -> bytes:
    """*dataset*, which was read with its file meta information, in an uncompressed transfer syntax, losing nothing.

    Raises CannotDecompress.
    """
    former = UID(dataset.file_meta.TransferSyntaxUID)
    if former.is_encapsulated:
        try:
            dataset.decompress(as_rgb=False, generate_instance_uid=False)
        except Exception as e:  # a decoder's, whichever it is
            raise CannotDecompress(f"{former.name} cannot be decoded here ({type(e).__name__})") from e
    elif not former.is_little_endian:
        raise CannotDecompress(f"{former.name} is not turned round")
    return encode_data_set(dataset, transfer_syntax_uid)
