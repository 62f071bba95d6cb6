"""The wire contract with Avara: event and answer models, signature check, webhook endpoint."""

from typing import TYPE_CHECKING

from gateway.runtime import on_demand

if TYPE_CHECKING:
    from gateway.avara.answers import (
        Manifest,
        MediaUrl,
        ReportAcknowledged,
        SecondaryCaptureAccess,
        SeriesManifest,
        SopManifest,
        StudyAccess,
    )
    from gateway.avara.api import ApiError, ApiRefused, AvaraApi, Report, Studies, Study, User
    from gateway.avara.endpoint import Answered, Refusal, Refused, WebhookEndpoint
    from gateway.avara.events import Event, ReportDelivered, SecondaryCaptureAccessRequested, StudyAccessRequested
    from gateway.avara.signature import Delivery, WebhookVerifier, sign
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "Answered",
    "ApiError",
    "ApiRefused",
    "AvaraApi",
    "Delivery",
    "Event",
    "Manifest",
    "MediaUrl",
    "Refusal",
    "Refused",
    "Report",
    "ReportAcknowledged",
    "ReportDelivered",
    "SecondaryCaptureAccess",
    "SecondaryCaptureAccessRequested",
    "SeriesManifest",
    "SopManifest",
    "Studies",
    "Study",
    "StudyAccess",
    "StudyAccessRequested",
    "User",
    "WebhookEndpoint",
    "WebhookVerifier",
    "sign",
]
