"""The SOP classes: the one list of them, and which are stored (PS3.4 Annexes B, GG; PS3.6 Table A-1)."""

from __future__ import annotations

from pydicom._uid_dict import UID_dictionary

VERIFICATION = "1.2.840.10008.1.1"
STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
"""Storage Commitment Push Model (PS3.4 J.3)."""
STORAGE_COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
"""Its well-known SOP Instance (PS3.4 J.3.5)."""
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"
KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"

_NO_IMAGES = (
    "1.2.840.10008.5.1.4.1.1.88.", "1.2.840.10008.5.1.4.1.1.11.", "1.2.840.10008.5.1.4.1.1.104.",
    "1.2.840.10008.5.1.4.1.1.481.3", "1.2.840.10008.5.1.4.1.1.481.5",
)  # fmt: skip
"""Reports and key objects, presentation states, documents, RT structure sets and plans: how their UIDs begin."""

_OF_NO_IMAGES = frozenset(("SR", "KO", "PR", "DOC", "RTSTRUCT", "RTPLAN", "REG", "ECG", "HC", "AU"))
"""Modalities (PS3.3 C.7.3.1.1.1) whose series have no images."""


def has_images(modality: str, sop_class_uid: str = "") -> bool:
    """Whether what a PACS says of instances lets them be images; they are, as far as it says nothing."""
    return not sop_class_uid.startswith(_NO_IMAGES) and (modality not in _OF_NO_IMAGES)


COMMON_STORAGE_CLASSES = tuple(
    f"1.2.840.10008.5.1.4.1.1.{last}"
    for last in (
        "2", "4", "2.1", "4.1",  # CT, MR, enhanced CT, enhanced MR
        "1", "1.1", "1.2", "13.1.3",  # CR, digital X-ray, mammography, tomosynthesis
        "6.1", "3.1", "12.1", "12.2", "20", "128",  # ultrasound, with frames, XA, RF, NM, PET
        "7", "7.2", "7.4", "104.1",  # secondary captures, encapsulated PDF
        "88.59", "11.1", "88.11", "88.22", "88.33", "88.67", "66.4",  # key objects, presentation states, SR, SEG
        "481.1", "481.2", "481.3", "481.5",  # RT image, dose, structure set, plan
        "77.1.1", "77.1.4",  # endoscopy, photographs
    )
)  # fmt: skip
"""What is proposed to a PACS that does not list which SOP classes it has."""

_STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."
_QUERIES = (" - FIND", " - MOVE", " - GET", "Inventory Creation", "Repository Query")


def _is_stored(uid: str, name: str) -> bool:
    if uid.startswith(_STORAGE_ROOT):  # protocols and inventories are asked for beside where they are stored
        return not name.endswith(_QUERIES)
    return "Storage" in name and not name.startswith(("Storage Commitment", "Storage Service", "Storage Management"))


NOT_STORED = frozenset(uid for uid, (name, *_) in UID_dictionary.items() if not _is_stored(uid, name))
"""UIDs that the standard registers, and not for what C-STORE brings: queries, print, worklists and other services,
and what is no SOP class at all."""


def is_storage_class(uid: str) -> bool:
    """Whether instances of the SOP class *uid* are stored: whatever is not known to be something else.

    So those of the standard, retired ones too (hardcopy, stored print), what is no image (hanging protocols, colour
    palettes, implant templates, a media directory), those of a later edition, and every private one.
    """
    return uid not in NOT_STORED
