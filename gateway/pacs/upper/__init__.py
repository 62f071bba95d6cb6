"""The upper layer (PS3.8) and the messages that it carries (PS3.7)."""

from typing import TYPE_CHECKING

from gateway.runtime import on_demand

if TYPE_CHECKING:
    from gateway.pacs.upper import dimse
    from gateway.pacs.upper.association import RELEASE_RP_PDU, Association
    from gateway.pacs.upper.cpu import FRUITLESS, TAKEN, CpuBudget
    from gateway.pacs.upper.link import ConnectionClosed, Link
    from gateway.pacs.upper.negotiation import (
        APPLICATION_CONTEXT,
        APPLICATION_CONTEXT_NOT_SUPPORTED,
        CALLED_AE_NOT_RECOGNIZED,
        CALLING_AE_NOT_RECOGNIZED,
        LOCAL_LIMIT_EXCEEDED,
        PROTOCOL_VERSION_NOT_SUPPORTED,
        Accepted,
        Chooses,
        Context,
        Proposal,
        Rejected,
        accept,
        read_request,
        reject_pdu,
        request_pdu,
    )
    from gateway.pacs.upper.pdus import Titles, read_titles
    from gateway.pacs.upper.reader import Message
    from gateway.pacs.upper.spool import SPOOL_ABOVE, DataSetTooLarge, FileBody, MemoryBody, Spool
    from gateway.pacs.upper.wire import ASSOCIATE_RQ, P_DATA_TF, RELEASE_RQ, ServiceProvider, data_pdus
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "APPLICATION_CONTEXT",
    "APPLICATION_CONTEXT_NOT_SUPPORTED",
    "ASSOCIATE_RQ",
    "CALLED_AE_NOT_RECOGNIZED",
    "CALLING_AE_NOT_RECOGNIZED",
    "FRUITLESS",
    "LOCAL_LIMIT_EXCEEDED",
    "PROTOCOL_VERSION_NOT_SUPPORTED",
    "P_DATA_TF",
    "RELEASE_RP_PDU",
    "RELEASE_RQ",
    "SPOOL_ABOVE",
    "TAKEN",
    "Accepted",
    "Association",
    "Chooses",
    "ConnectionClosed",
    "Context",
    "CpuBudget",
    "DataSetTooLarge",
    "FileBody",
    "Link",
    "MemoryBody",
    "Message",
    "Proposal",
    "Rejected",
    "ServiceProvider",
    "Spool",
    "Titles",
    "accept",
    "data_pdus",
    "dimse",
    "read_request",
    "read_titles",
    "reject_pdu",
    "request_pdu",
]
