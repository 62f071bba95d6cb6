"""Use case 3: a signed report is kept once acknowledged, and brought to where the hospital looks for it."""

from typing import TYPE_CHECKING

from gateway.runtime import on_demand

if TYPE_CHECKING:
    from gateway.reports.delivery import ReportDelivery
    from gateway.reports.dicom.deliver import PacsDelivery
    from gateway.reports.fetch import AskAgain, ReportFetcher
    from gateway.reports.folder.deliver import Folder
    from gateway.reports.hl7 import mllp
    from gateway.reports.hl7.deliver import Hl7Receiver
    from gateway.reports.hl7.field_map import FieldMap
    from gateway.reports.hl7.message import Addendum, Profile, TextForm
    from gateway.reports.inquiry import Inquiry
    from gateway.reports.jobs import FETCH, FOLDER, HL7, PACS, DeliverReport, FetchReport
    from gateway.reports.missed import MissedReports
    from gateway.reports.pdf.download import PdfDownload
    from gateway.reports.pdf.fresh_url import ask_avara
    from gateway.reports.place import PlaceDelivery
    from gateway.reports.receive import ReportHandler
    from gateway.reports.release import assign
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
    "FetchReport",
    "FieldMap",
    "Folder",
    "Hl7Receiver",
    "Inquiry",
    "MissedReports",
    "PacsDelivery",
    "PdfDownload",
    "PlaceDelivery",
    "Profile",
    "ReportDelivery",
    "ReportFetcher",
    "ReportHandler",
    "TextForm",
    "ask_avara",
    "assign",
    "mllp",
]
