"""What we ask of a PACS as SCU: find, move, get, store, echo, storage commitment (PS3.4)."""

from typing import TYPE_CHECKING

from gateway.runtime import on_demand

if TYPE_CHECKING:
    from gateway.pacs.scu.client import PacsClient
    from gateway.pacs.scu.commitment import CommitmentResult, acknowledge, read_report, request_commitment
    from gateway.pacs.scu.get import GetRetriever
    from gateway.pacs.scu.lookup import Questions, Records
    from gateway.pacs.scu.move import MoveRetriever
    from gateway.pacs.scu.results import (
        GEOMETRY,
        NOTHING_ELSE,
        InstanceList,
        InstanceRef,
        ListedGeometry,
        OnFound,
        StudiesFound,
        StudyRecord,
        fingerprint,
        the_one,
        whole_geometry,
    )
    from gateway.pacs.scu.retrieve import Finder, Retriever, Selection
    from gateway.pacs.scu.search import (
        NEARLINE,
        OFFLINE,
        FindSearch,
        Found,
        SeriesTraits,
        StudyQuery,
        StudySearch,
        StudyTraits,
        modalities_of,
    )
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
    "GEOMETRY",
    "NEARLINE",
    "NOTHING_ELSE",
    "OFFLINE",
    "CStoreTarget",
    "CannotTranscode",
    "CommitmentResult",
    "FindSearch",
    "Finder",
    "Found",
    "GetRetriever",
    "InstanceList",
    "InstanceRef",
    "ListedGeometry",
    "MoveRetriever",
    "OnFound",
    "OutgoingInstance",
    "PacsClient",
    "Questions",
    "Records",
    "Retriever",
    "Selection",
    "SeriesTraits",
    "Stored",
    "StudiesFound",
    "StudyQuery",
    "StudyRecord",
    "StudySearch",
    "StudyTraits",
    "Target",
    "Transcode",
    "acknowledge",
    "data_set_of",
    "failure_to_store",
    "fingerprint",
    "modalities_of",
    "read_report",
    "request_commitment",
    "the_one",
    "transcoded",
    "warning_of",
    "whole_geometry",
]
