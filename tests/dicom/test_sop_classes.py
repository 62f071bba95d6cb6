"""Which SOP classes are stored, and that there is one list of them and of the transfer syntaxes.

What is left out: whether a PACS may send them, which tests/pacs has.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydicom._uid_dict import UID_dictionary
from pynetdicom.sop_class import _STORAGE_CLASSES

from gateway.dicom.sop_classes import is_storage_class

GATEWAY = Path(__file__).parents[2] / "gateway"


@pytest.mark.parametrize(
    "uid",
    [
        "1.2.840.10008.1.3.10",  # Media Storage Directory
        "1.2.840.10008.5.1.1.27",  # Stored Print, retired
        "1.2.840.10008.5.1.1.29", "1.2.840.10008.5.1.1.30",  # Hardcopy Grayscale and Color Image, retired
        "1.2.840.10008.5.1.4.1.1.5",  # Nuclear Medicine Image (old), retired
        "1.2.840.10008.5.1.4.34.7",  # RT Beams Delivery Instruction
        "1.2.840.10008.5.1.4.38.1", "1.2.840.10008.5.1.4.39.1",  # Hanging Protocol, Color Palette
        "1.2.840.10008.5.1.4.43.1", "1.2.840.10008.5.1.4.44.1", "1.2.840.10008.5.1.4.45.1",  # implant templates
        "1.2.840.10008.5.1.4.1.1.999",  # a later edition's
        "1.2.840.113619.4.30", "1.3.12.2.1107.5.9.1", "2.25.4711",  # GE's, Siemens's, anybody's
    ],
)  # fmt: skip
def test_what_is_stored_and_no_image_is_a_storage_class(uid):
    """PS3.4 Annexes B.5, GG, U, X, BB and the retired ones of PS3.6 Table A-1."""
    assert is_storage_class(uid)


def test_every_storage_class_that_others_know_is_one():
    assert all(is_storage_class(str(uid)) for uid in _STORAGE_CLASSES.values())
    named = [uid for uid, (name, kind, *_) in UID_dictionary.items() if kind == "SOP Class" and " Storage" in name]
    assert not [UID_dictionary[uid][0] for uid in named if not is_storage_class(uid)]


@pytest.mark.parametrize(
    "uid",
    [
        "1.2.840.10008.1.1", "1.2.840.10008.1.20.1",  # verification, storage commitment
        "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.2.1.2", "1.2.840.10008.5.1.4.1.2.3.3",  # query/retrieve
        "1.2.840.10008.5.1.4.31", "1.2.840.10008.5.1.4.34.6.1",  # worklists
        "1.2.840.10008.5.1.1.9", "1.2.840.10008.5.1.1.16", "1.2.840.10008.3.1.2.3.3",  # print, MPPS
        "1.2.840.10008.5.1.4.38.2", "1.2.840.10008.5.1.4.39.3", "1.2.840.10008.5.1.4.43.4",  # queries for templates
        "1.2.840.10008.5.1.4.1.1.200.4", "1.2.840.10008.5.1.4.1.1.201.6",  # queries beside where they are stored
        "1.2.840.10008.1.2.1", "1.2.840.10008.3.1.1.1", "1.2.840.10008.4.2",  # no SOP classes at all
    ],
)  # fmt: skip
def test_queries_print_worklists_and_what_is_no_sop_class_are_none(uid):
    assert not is_storage_class(uid)


def test_transfer_syntaxes_are_named_in_one_file():
    """UNCOMPRESSED had four contents in four files."""
    at_home = {"gateway/dicom/syntaxes.py", "gateway/dicom/sop_classes.py"}
    elsewhere = [
        str(file.relative_to(GATEWAY.parent))
        for file in GATEWAY.rglob("*.py")
        if re.search(r'"1\.2\.840\.10008\.1\.2(\.\d+)*"|^UNCOMPRESSED\b', file.read_text(), re.MULTILINE)
    ]
    assert not [name for name in elsewhere if name not in at_home and not name.startswith("gateway/demo/")]
