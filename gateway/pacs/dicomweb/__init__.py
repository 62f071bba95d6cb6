"""A PACS by HTTP: QIDO-RS, WADO-RS and STOW-RS (PS3.18)."""

from typing import TYPE_CHECKING

from gateway.runtime import on_demand

if TYPE_CHECKING:
    from gateway.pacs.dicomweb.metadata import Metadata
    from gateway.pacs.dicomweb.qido import QidoFinder
    from gateway.pacs.dicomweb.remove import Removal, remove_study
    from gateway.pacs.dicomweb.search import QidoSearch
    from gateway.pacs.dicomweb.service import DicomWeb, WebPeer, basic, bearer
    from gateway.pacs.dicomweb.stow import StowTarget
    from gateway.pacs.dicomweb.wado import WadoRetriever
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "DicomWeb",
    "Metadata",
    "QidoFinder",
    "QidoSearch",
    "Removal",
    "StowTarget",
    "WadoRetriever",
    "WebPeer",
    "basic",
    "bearer",
    "remove_study",
]
