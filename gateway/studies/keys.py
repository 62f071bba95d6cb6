"""Where a study's objects lie in the store.

UIDs become segments of keys. A proper one stands for itself; what a PACS has in the place of one
(:func:`gateway.dicom.uid.is_usable`) is written out in letters that mean nothing to any store, URL or file system, so
that no two are the same key, and none leads anywhere else.
"""

import re
from functools import lru_cache

from gateway.dicom import is_uid, is_usable
from gateway.runtime import Clock

ROOT = "studies/"

_UNSAFE = re.compile(r"[^0-9a-z.-]")
_WRITTEN_OUT = re.compile(r"_([0-9a-f]{2})")


def segment(uid: str) -> str:
    """A UID, or what stands in the place of one, as a segment of a key or a path: ``1.2.3``, ``_1.2._41b_2f``."""
    if is_uid(uid):
        return uid
    return "_" + _UNSAFE.sub(lambda letter: f"_{ord(letter[0]):02x}", uid)


def uid_of(segment_: str) -> str | None:
    """What :func:`segment` made *segment_* of; None where it made it of nothing."""
    if is_uid(segment_):
        return segment_
    uid = _WRITTEN_OUT.sub(lambda code: chr(int(code[1], 16)), segment_[1:])
    return uid if is_usable(uid) and segment(uid) == segment_ else None


@lru_cache(maxsize=1024)
def study(study_instance_uid: str) -> str:
    """The prefix of everything that is kept of a study."""
    return f"{ROOT}{segment(study_instance_uid)}/"


def study_of(prefix: str) -> str | None:
    """The study whose prefix this is; None where it is none of ours."""
    return uid_of(prefix.removeprefix(ROOT).rstrip("/"))


def index(study_instance_uid: str) -> str:
    """The index, written last."""
    return f"{study(study_instance_uid)}index"


def new_revision(clock: Clock) -> str:
    """A place in a study's folder where nothing lay before."""
    return f"r{int(clock.now() * 1000):x}"


def _folder(study_instance_uid: str, revision: str) -> str:
    # What replaces an instance never lies where that one lay: a URL of the old one dies with it.
    return f"{study(study_instance_uid)}{revision}/" if revision else study(study_instance_uid)


def instance(study_instance_uid: str, sop_instance_uid: str, revision: str = "") -> str:
    """A DICOM instance as a Part 10 file. By SOP Instance UID, so a resend replaces itself (field note 12)."""
    return f"{_folder(study_instance_uid, revision)}instances/{segment(sop_instance_uid)}.dcm"


def original(study_instance_uid: str, sop_instance_uid: str, revision: str = "") -> str:
    """An instance as it came, where the one beside it was made viewable."""
    return f"{_folder(study_instance_uid, revision)}original/{segment(sop_instance_uid)}.dcm"


def media(study_instance_uid: str, sop_instance_uid: str, extension: str, revision: str = "") -> str:
    """What was unpacked from an instance: a PDF, a video."""
    return f"{_folder(study_instance_uid, revision)}media/{segment(sop_instance_uid)}.{extension}"
