"""The network between us and a PACS: DICOM in both directions, and DICOMweb."""

from typing import TYPE_CHECKING

from gateway.runtime import on_demand

if TYPE_CHECKING:
    from gateway.pacs.breaker import Breaker
    from gateway.pacs.certificate_names import ANY, is_named, names_of
    from gateway.pacs.errors import (
        AssociationRejected,
        HungUp,
        NoContextAccepted,
        OperationFailed,
        PacsError,
        PacsUnreachable,
        ProtocolViolation,
        RequestRefused,
        UnknownMoveDestination,
        UnreachableMoveDestination,
        WrongCertificate,
    )
    from gateway.pacs.lanes import ECHO, STORING, Claim, Lane, Lanes, Urgency, Urgent, background, interactive
    from gateway.pacs.peer import Peer, Timeouts
    from gateway.pacs.receiver import (
        AllowsAssociation,
        Body,
        IncomingInstance,
        InstanceHandler,
        IsCertified,
        OnRefused,
        Sender,
        Status,
    )
    from gateway.pacs.senders import KnownSender, Senders, is_local
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "ANY",
    "ECHO",
    "STORING",
    "AllowsAssociation",
    "AssociationRejected",
    "Body",
    "Breaker",
    "Claim",
    "HungUp",
    "IncomingInstance",
    "InstanceHandler",
    "IsCertified",
    "KnownSender",
    "Lane",
    "Lanes",
    "NoContextAccepted",
    "OnRefused",
    "OperationFailed",
    "PacsError",
    "PacsUnreachable",
    "Peer",
    "ProtocolViolation",
    "RequestRefused",
    "Sender",
    "Senders",
    "Status",
    "Timeouts",
    "UnknownMoveDestination",
    "UnreachableMoveDestination",
    "Urgency",
    "Urgent",
    "WrongCertificate",
    "background",
    "interactive",
    "is_local",
    "is_named",
    "names_of",
]
