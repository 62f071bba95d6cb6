"""Where a study's objects lie in the store.

UIDs are checked (:func:`gateway.dicom.uid.is_uid`) where they enter the gateway; here they are joined.
"""

ROOT = "studies/"


def study(study_instance_uid: str) -> str:
    """The prefix of everything that is kept of a study."""
    return f"{ROOT}{study_instance_uid}/"


def index(study_instance_uid: str) -> str:
    """The index, written last."""
    return f"{study(study_instance_uid)}index"


def instance(study_instance_uid: str, sop_instance_uid: str) -> str:
    """A DICOM instance as a Part 10 file. By SOP Instance UID, so a resend replaces itself (field note 12)."""
    return f"{study(study_instance_uid)}instances/{sop_instance_uid}.dcm"


def media(study_instance_uid: str, sop_instance_uid: str, extension: str) -> str:
    """What was unpacked from an instance: a PDF, a video."""
    return f"{study(study_instance_uid)}media/{sop_instance_uid}.{extension}"
