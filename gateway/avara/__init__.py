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
        SopDescription,
        SopManifest,
        StudyAccess,
    )
    from gateway.avara.api import ApiError, ApiRefused, AvaraApi, Report, Studies, Study, User
    from gateway.avara.endpoint import Answered, Refusal, Refused, WebhookEndpoint
    from gateway.avara.events import Event, ReportDelivered, SecondaryCaptureAccessRequested, StudyAccessRequested
    from gateway.avara.remember import GOOD_FOR, Deliveries
    from gateway.avara.signature import WebhookDelivery, WebhookVerifier, sign
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "GOOD_FOR",
    "Answered",
    "ApiError",
    "ApiRefused",
    "AvaraApi",
    "Deliveries",
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
    "SopDescription",
    "SopManifest",
    "Studies",
    "Study",
    "StudyAccess",
    "StudyAccessRequested",
    "User",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookVerifier",
    "sign",
]
