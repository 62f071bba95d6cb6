"""The synthetic canary's study: a patient who cannot be taken for one, and the same UIDs whenever it is made."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from gateway import __version__
from gateway.dicom import ENCAPSULATED_PDF, EXPLICIT_LITTLE_ENDIAN, encode_data_set, file_header

PATIENT_ID = "AVARA-GATEWAY-CANARY"
PATIENT_NAME = "CANARY^SYNTHETIC"
MARKED_STUDY_ID = "CANARY"
"""Study ID (0020,0010)."""
DESCRIPTION = "SYNTHETIC TEST, NOT A PATIENT"
DATE = "20000101"
"""Long ago, so that it stands in nobody's list of the day."""

MARK = b"AVARA GATEWAY CANARY"
"""The private creator (PS3.5 §7.8.1) that each of its objects has."""

SIDE = 64
"""Pixels of its image's sides."""

_NAMESPACE = uuid.UUID("a0e6a9d4-9e1f-4b57-8f3c-1c0f6f6f2f7e")
"""Ours; never to be changed, or what was left in a PACS would stay there beside what comes."""

_PDF = (
    b"%PDF-1.4\n%"
    + MARK
    + b"\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 100]>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
)


@dataclass(frozen=True, slots=True)
class SyntheticObject:
    """An instance of the study."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    attributes: Dataset

    def data_set(self, transfer_syntax_uid: str = EXPLICIT_LITTLE_ENDIAN) -> bytes:
        """Its attributes, encoded."""
        return encode_data_set(self.attributes, transfer_syntax_uid)

    @property
    def file(self) -> bytes:
        """As a Part 10 file."""
        return file_header(self.sop_class_uid, self.sop_instance_uid, EXPLICIT_LITTLE_ENDIAN) + self.data_set()


class SyntheticStudy:
    """The study of one gateway."""

    def __init__(self, ae_title: str) -> None:
        """Gateways of other titles have other UIDs, so that several can share a PACS."""
        self._ae_title = ae_title
        self.study_instance_uid = self._uid("study")
        self.image = self._image("image", 1, "SYNTHETIC IMAGE")
        self.capture = self._image("capture", 2, "SYNTHETIC CAPTURE")
        self.report = self._report()

    @property
    def sop_instance_uids(self) -> frozenset[str]:
        """Of all that it can ever have."""
        return frozenset(one.sop_instance_uid for one in (self.image, self.capture, self.report))

    def _uid(self, *what: str) -> str:
        """A name-based UID under 2.25 (PS3.5 §B.2)."""
        return f"2.25.{uuid.uuid5(_NAMESPACE, chr(0).join((self._ae_title, *what))).int}"

    def _base(self, what: str, sop_class_uid: str, number: int, description: str) -> Dataset:
        d = Dataset()
        d.SOPClassUID, d.SOPInstanceUID = sop_class_uid, self._uid(what)
        d.PatientName, d.PatientID, d.PatientBirthDate, d.PatientSex = PATIENT_NAME, PATIENT_ID, "19000101", "O"
        d.StudyInstanceUID, d.SeriesInstanceUID = self.study_instance_uid, self._uid(f"series of {what}")
        d.StudyID, d.StudyDate, d.StudyTime, d.AccessionNumber = MARKED_STUDY_ID, DATE, "000000", ""
        d.StudyDescription, d.SeriesDescription, d.ReferringPhysicianName = DESCRIPTION, description, ""
        d.SeriesNumber, d.InstanceNumber, d.ConversionType = number, 1, "WSD"
        d.Manufacturer, d.ManufacturerModelName, d.SoftwareVersions = "Avara", "Avara Gateway", __version__
        d.ContentDate, d.ContentTime = DATE, "000000"
        d.private_block(0x0011, MARK.decode(), create=True).add_new(0x01, "LO", DESCRIPTION)
        return d

    def _image(self, what: str, number: int, description: str) -> SyntheticObject:
        d = self._base(what, SecondaryCaptureImageStorage, number, description)
        d.Modality = "OT"
        d.Rows = d.Columns = SIDE
        d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
        d.BitsAllocated = d.BitsStored = 8
        d.HighBit, d.PixelRepresentation = 7, 0
        # A cross: nothing that a body could look like.
        d.PixelData = bytes(255 if x in (y, SIDE - 1 - y) else 0 for y in range(SIDE) for x in range(SIDE))
        return _made(d)

    def _report(self) -> SyntheticObject:
        d = self._base("report", ENCAPSULATED_PDF, 3, "SYNTHETIC REPORT")
        d.Modality, d.BurnedInAnnotation, d.AcquisitionDateTime = "DOC", "NO", ""
        d.DocumentTitle, d.ConceptNameCodeSequence = DESCRIPTION, []
        d.MIMETypeOfEncapsulatedDocument = "application/pdf"
        d.EncapsulatedDocument = _PDF + b"\0" * (len(_PDF) % 2)
        d.EncapsulatedDocumentLength = len(_PDF)
        return _made(d)


def _made(d: Dataset) -> SyntheticObject:
    return SyntheticObject(str(d.SOPClassUID), str(d.SOPInstanceUID), str(d.SeriesInstanceUID), d)
