"""Removes a study from a PACS by its HTTP interface. No service for it is common to all PACS: of three known ones each
has its request. Only the gateway's own synthetic study is ever removed so.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from gateway.pacs import Claim, Lane, RequestRefused, background
from gateway.pacs.dicomweb.service import DicomWeb

Removal = Literal["orthanc", "dcm4chee", "dicomweb"]

REJECTED_AS = "113039%5EDCM"
"""Data Retention Policy Expired (PS3.16 CID 7011): of the reasons for a rejection the one after which an archive may
take the same study again."""


async def remove_study(web: DicomWeb, study_instance_uid: str, patient_id: str, how: Removal) -> None:
    """Removes the study of that UID and patient; none is none. Raises PacsUnreachable, RequestRefused."""
    root = web.peer.url
    if how == "orthanc":
        # Its REST API lies beside its DICOMweb service.
        method, url = "DELETE", f"{root.rpartition('/')[0]}/studies/{orthanc_id(patient_id, study_instance_uid)}"
    elif how == "dcm4chee":
        method, url = "POST", f"{root}/studies/{study_instance_uid}/reject/{REJECTED_AS}"
    else:
        method, url = "DELETE", f"{root}/studies/{study_instance_uid}"
    status = await web.request(method, url, Claim(Lane.QUERY, study_instance_uid, background))
    if not (200 <= status < 300 or status == 404):
        raise RequestRefused(
            f"{web.peer} does not remove the study ({method}, HTTP status {status}): is canary.remove right for it, "
            "and may the user of its dicomweb_url remove studies?",
            status=status,
        )


def orthanc_id(patient_id: str, study_instance_uid: str) -> str:
    """What Orthanc calls a study: patient and study in one, so that no other patient's can be meant."""
    digest = hashlib.sha1(f"{patient_id}|{study_instance_uid}".encode(), usedforsecurity=False).hexdigest()
    return "-".join(digest[at : at + 8] for at in range(0, 40, 8))
