"""Use case 3: a signed report is kept once acknowledged, and brought to where the hospital looks for it."""

from typing import TYPE_CHECKING

from gateway.runtime import on_demand

if TYPE_CHECKING:
    from gateway.reports.delivery import Delivery
    from gateway.reports.dicom.deliver import PacsDelivery
    from gateway.reports.fetch import AskAgain, ReportFetcher, assign
    from gateway.reports.folder.deliver import Folder, FolderDelivery
    from gateway.reports.hl7 import mllp
    from gateway.reports.hl7.deliver import Hl7Delivery, Hl7Receiver
    from gateway.reports.hl7.message import Addendum, FieldMap, Profile, TextForm
    from gateway.reports.inquiry import Inquiry
    from gateway.reports.jobs import FETCH, FOLDER, HL7, PACS, DeliverReport, FetchReport
    from gateway.reports.missed import MissedReports
    from gateway.reports.pdf.download import PdfDownload, ask_avara
    from gateway.reports.receive import ReportHandler
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "FETCH",
    "FOLDER",
    "HL7",
    "PACS",
    "Addendum",
    "AskAgain",
    "DeliverReport",
    "Delivery",
    "FetchReport",
    "FieldMap",
    "Folder",
    "FolderDelivery",
    "Hl7Delivery",
    "Hl7Receiver",
    "Inquiry",
    "MissedReports",
    "PacsDelivery",
    "PdfDownload",
    "Profile",
    "ReportFetcher",
    "ReportHandler",
    "TextForm",
    "ask_avara",
    "assign",
    "mllp",
]
