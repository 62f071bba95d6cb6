"""Use case 2: upload URLs are given out, what is uploaded is checked and stored in the PACS, surely and once."""

from typing import TYPE_CHECKING

from gateway.runtime import on_demand

if TYPE_CHECKING:
    from gateway.captures import accept
    from gateway.captures.accept import can_be_accepted
    from gateway.captures.check import CHECKS_AT_ONCE, Policy, UploadChecker
    from gateway.captures.grant import CaptureAccessHandler
    from gateway.captures.inbox import Inbox
    from gateway.captures.jobs import CHECK, CheckUpload
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "CHECK",
    "CHECKS_AT_ONCE",
    "CaptureAccessHandler",
    "CheckUpload",
    "Inbox",
    "Policy",
    "UploadChecker",
    "accept",
    "can_be_accepted",
]
