"""A PACS by HTTP: QIDO-RS, WADO-RS and STOW-RS (PS3.18)."""

from typing import TYPE_CHECKING

from gateway.runtime import on_demand

if TYPE_CHECKING:
    from gateway.pacs.dicomweb.service import DicomWeb, WebPeer, basic, bearer
    from gateway.pacs.dicomweb.stow import StowTarget
    from gateway.pacs.dicomweb.wado import WadoRetriever
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "DicomWeb",
    "StowTarget",
    "WadoRetriever",
    "WebPeer",
    "basic",
    "bearer",
]
