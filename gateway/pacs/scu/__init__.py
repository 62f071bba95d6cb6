"""What we ask of a PACS as SCU: find, move, get, store, echo, storage commitment (PS3.4)."""

from typing import TYPE_CHECKING

from gateway.runtime import on_demand

if TYPE_CHECKING:
    from gateway.pacs.scu.client import (
        ACCESSION_NUMBER,
        INSTANCE_CREATION_DATE,
        INSTANCE_CREATION_TIME,
        INSTANCE_NUMBER,
        ISSUER_OF_PATIENT_ID,
        MODALITIES_IN_STUDY,
        MODALITY,
        PATIENT_BIRTH_DATE,
        PATIENT_ID,
        PATIENT_NAME,
        PATIENT_SEX,
        REFERRING_PHYSICIAN,
        SERIES_DESCRIPTION,
        SERIES_INSTANCE_UID,
        SERIES_NUMBER,
        SOP_CLASS_UID,
        SOP_INSTANCE_UID,
        STUDY_DATE,
        STUDY_DESCRIPTION,
        STUDY_ID,
        STUDY_INSTANCE_UID,
        STUDY_INSTANCES,
        STUDY_SERIES,
        STUDY_TIME,
        InstanceList,
        InstanceRef,
        OnFound,
        PacsClient,
        StudyRecord,
        fingerprint,
        the_one,
    )
    from gateway.pacs.scu.commitment import CommitmentResult, acknowledge, read_report, request_commitment
    from gateway.pacs.scu.get import GetRetriever
    from gateway.pacs.scu.lookup import Questions, Records
    from gateway.pacs.scu.move import MoveRetriever
    from gateway.pacs.scu.retrieve import Finder, Retriever, Selection
    from gateway.pacs.scu.store import (
        CannotTranscode,
        OutgoingInstance,
        Stored,
        Transcode,
        failure_to_store,
        warning_of,
    )
    from gateway.pacs.scu.target import CStoreTarget, Target
    from gateway.pacs.scu.transcode import data_set_of, transcoded
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "ACCESSION_NUMBER",
    "INSTANCE_CREATION_DATE",
    "INSTANCE_CREATION_TIME",
    "INSTANCE_NUMBER",
    "ISSUER_OF_PATIENT_ID",
    "MODALITIES_IN_STUDY",
    "MODALITY",
    "PATIENT_BIRTH_DATE",
    "PATIENT_ID",
    "PATIENT_NAME",
    "PATIENT_SEX",
    "REFERRING_PHYSICIAN",
    "SERIES_DESCRIPTION",
    "SERIES_INSTANCE_UID",
    "SERIES_NUMBER",
    "SOP_CLASS_UID",
    "SOP_INSTANCE_UID",
    "STUDY_DATE",
    "STUDY_DESCRIPTION",
    "STUDY_ID",
    "STUDY_INSTANCES",
    "STUDY_INSTANCE_UID",
    "STUDY_SERIES",
    "STUDY_TIME",
    "CStoreTarget",
    "CannotTranscode",
    "CommitmentResult",
    "Finder",
    "GetRetriever",
    "InstanceList",
    "InstanceRef",
    "MoveRetriever",
    "OnFound",
    "OutgoingInstance",
    "PacsClient",
    "Questions",
    "Records",
    "Retriever",
    "Selection",
    "Stored",
    "StudyRecord",
    "Target",
    "Transcode",
    "acknowledge",
    "data_set_of",
    "failure_to_store",
    "fingerprint",
    "read_report",
    "request_commitment",
    "the_one",
    "transcoded",
    "warning_of",
]
