"""A small realistic study, made anew each time: several series, modalities and transfer syntaxes, and a PDF."""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable, Iterator
from functools import partial

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    CTImageStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    KeyObjectSelectionDocumentStorage,
    MRImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)


class SampleInstance:
    """One instance of a sample study; its data set is made by *make*, once its content is asked for."""

    def __init__(self, sop_instance_uid: str, make: Callable[[], Dataset]) -> None:
        self.sop_instance_uid = sop_instance_uid
        self._make = make

    @functools.cached_property
    def content(self) -> bytes:
        """The instance as a Part 10 file."""
        out = io.BytesIO()
        self._make().save_as(out, enforce_file_format=True)
        return out.getvalue()


def sample_study(study_instance_uid: str | None = None) -> tuple[str, list[SampleInstance]]:
    """A study of 33 instances in five series; its Study Instance UID and its instances."""
    study = study_instance_uid or generate_uid(None)
    makers: list[Callable[[str], Dataset]] = [
        *_axial(study, 1, "CT", CTImageStorage, "Thorax 5.0", 20, ExplicitVRLittleEndian),
        *_axial(study, 2, "MR", MRImageStorage, "T1 sag", 10, RLELossless),
        partial(_ultrasound, study, 3),
        partial(_key_objects, study, 4),
        partial(_pdf, study, 5),
    ]
    uids = [generate_uid(None) for _ in makers]
    return study, [SampleInstance(uid, partial(make, uid)) for uid, make in zip(uids, makers, strict=True)]


def synthetic_ct(study_instance_uid: str, count: int, rows: int, columns: int) -> Iterator[SampleInstance]:
    """A single CT series of *count* slices of rows × columns × 2 bytes, for measuring."""
    pixels = bytes(range(256)) * (rows * columns * 2 // 256 + 1)
    series = generate_uid(None)

    def made(number: int, uid: str) -> Dataset:
        d = _base(uid, study_instance_uid, series, 1, "CT", CTImageStorage, number, ExplicitVRLittleEndian)
        _geometry(d, number, rows, columns)
        d.PixelData = pixels[: rows * columns * 2]
        return d

    for number in range(1, count + 1):
        uid = generate_uid(None)
        yield SampleInstance(uid, partial(made, number, uid))


def sample_capture(
    study_instance_uid: str, *, syntax: str = ExplicitVRLittleEndian, **attributes: object
) -> SampleInstance:
    """A secondary capture as a viewer makes it of a sample study; *attributes* go over its own."""
    uid, series = generate_uid(None), generate_uid(None)
    d = _base(uid, study_instance_uid, series, 99, "OT", SecondaryCaptureImageStorage, 1, syntax)
    for keyword in ("AccessionNumber", "StudyID", "ReferringPhysicianName"):
        delattr(d, keyword)  # the viewer does not know them
    d.ConversionType, d.SeriesDescription = "WSD", "Key image"
    d.Rows, d.Columns, d.SamplesPerPixel, d.PhotometricInterpretation = 48, 64, 3, "RGB"
    d.BitsAllocated = d.BitsStored = 8
    d.HighBit, d.PixelRepresentation, d.PlanarConfiguration = 7, 0, 0
    d.PixelData = bytes(n * 7 % 256 for n in range(48 * 64 * 3))
    for keyword, value in attributes.items():
        if value is None:
            delattr(d, keyword)
        else:
            setattr(d, keyword, value)
    d.file_meta.MediaStorageSOPClassUID, d.file_meta.MediaStorageSOPInstanceUID = d.SOPClassUID, d.SOPInstanceUID
    if syntax == RLELossless:
        d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        d.compress(RLELossless, generate_instance_uid=False)
    return SampleInstance(d.SOPInstanceUID, lambda: d)


def _base(
    uid: str, study: str, series: str, series_number: int, modality: str, sop_class: str, number: int, syntax: str
) -> Dataset:
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = UID(syntax)
    d.file_meta.MediaStorageSOPClassUID = d.SOPClassUID = UID(sop_class)
    d.SpecificCharacterSet = "ISO_IR 100"
    d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = UID(uid)
    d.StudyDate, d.StudyTime, d.AccessionNumber = "20260105", "081500", "DEMO-1"
    d.Modality, d.Manufacturer, d.ReferringPhysicianName = modality, "Avara Gateway demo", "Grünwald^Zoë"
    d.StudyDescription = "Demonstration"
    d.PatientName, d.PatientID, d.PatientBirthDate, d.PatientSex = "Müller^Renée", "DEMO-001", "19700101", "F"
    d.StudyInstanceUID, d.SeriesInstanceUID, d.StudyID = study, series, "DEMO"
    d.SeriesNumber, d.InstanceNumber = series_number, number
    return d


def _geometry(d: Dataset, number: int, rows: int, columns: int) -> None:
    d.ImagePositionPatient = [-100, -100, 5.0 * number]
    d.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    d.FrameOfReferenceUID = d.StudyInstanceUID
    d.PixelSpacing, d.SliceThickness = [1, 1], 5
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.Rows, d.Columns, d.BitsAllocated, d.BitsStored, d.HighBit = rows, columns, 16, 16, 15
    d.PixelRepresentation, d.RescaleIntercept, d.RescaleSlope = 0, -1024, 1


def _axial(
    study: str, series_number: int, modality: str, sop_class: str, description: str, count: int, syntax: str
) -> Iterator[Callable[[str], Dataset]]:
    series, size = generate_uid(None), 64

    def made(number: int, uid: str) -> Dataset:
        d = _base(uid, study, series, series_number, modality, sop_class, number, ExplicitVRLittleEndian)
        d.SeriesDescription = description
        _geometry(d, number, size, size)
        d.PixelData = _disc(size, size / 2 * math.sin(math.pi * number / (count + 1)))
        if syntax == RLELossless:
            d.PixelData = encapsulate([_rle(d.PixelData)])
            d["PixelData"].is_undefined_length = True
            d.file_meta.TransferSyntaxUID = RLELossless
        return d

    return (partial(made, number) for number in range(1, count + 1))


@functools.cache  # the same in each study, and most of what making one takes
def _disc(size: int, radius: float) -> bytes:
    """A bright disc in a square frame of 16 bits."""
    return b"".join(
        (1100 if math.hypot(x - size / 2, y - size / 2) < radius else 0).to_bytes(2, "little")
        for y in range(size)
        for x in range(size)
    )


@functools.cache
def _rle(frame: bytes) -> bytes:
    """A 16-bit frame in RLE Lossless: two segments, high bytes first (PS3.5 Annex G)."""
    segments = [_packed(frame[1::2]), _packed(frame[0::2])]
    offsets = [2, 64, 64 + len(segments[0])]
    header = b"".join(n.to_bytes(4, "little") for n in offsets).ljust(64, b"\0")
    return header + b"".join(segments)


def _packed(data: bytes) -> bytes:
    out, at = bytearray(), 0
    while at < len(data):
        run = 1
        while run < 128 and at + run < len(data) and data[at + run] == data[at]:
            run += 1
        out += bytes((257 - run, data[at])) if run > 1 else bytes((0, data[at]))
        at += run
    return bytes(out + b"\0" * (len(out) % 2))


def _ultrasound(study: str, series_number: int, uid: str) -> Dataset:
    series = generate_uid(None)
    d = _base(uid, study, series, series_number, "US", UltrasoundMultiFrameImageStorage, 1, ExplicitVRLittleEndian)
    d.SeriesDescription, frames, size = "Cine", 12, 48
    d.SamplesPerPixel, d.PhotometricInterpretation, d.NumberOfFrames = 1, "MONOCHROME2", frames
    d.Rows, d.Columns, d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = size, size, 8, 8, 7, 0
    ramp = bytes(range(256)) * (size * size // 256 + 1)
    d.PixelData = b"".join(ramp[8 * f :][: size * size] for f in range(frames))
    return d


def _key_objects(study: str, series_number: int, uid: str) -> Dataset:
    series = generate_uid(None)
    d = _base(uid, study, series, series_number, "KO", KeyObjectSelectionDocumentStorage, 1, ImplicitVRLittleEndian)
    title = Dataset()
    title.CodeValue, title.CodingSchemeDesignator, title.CodeMeaning = "113000", "DCM", "Of Interest"
    d.ValueType, d.ContinuityOfContent, d.ConceptNameCodeSequence = "CONTAINER", "SEPARATE", [title]
    d.ContentDate, d.ContentTime = "20260105", "082000"
    return d


def _pdf(study: str, series_number: int, uid: str) -> Dataset:
    d = _base(uid, study, generate_uid(None), series_number, "DOC", EncapsulatedPDFStorage, 1, ExplicitVRLittleEndian)
    document = small_pdf("Demonstration report")
    d.SeriesDescription, d.DocumentTitle, d.BurnedInAnnotation = "Report", "Report", "YES"
    d.ConversionType, d.ConceptNameCodeSequence = "WSD", []
    d.MIMETypeOfEncapsulatedDocument = "application/pdf"
    d.EncapsulatedDocumentLength = len(document)
    d.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
    return d


def small_pdf(text: str) -> bytes:
    """A one-page PDF with a line of text."""
    stream = f"BT /F1 24 Tf 72 720 Td ({text}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out, places = bytearray(b"%PDF-1.4\n"), []
    for number, content in enumerate(objects, start=1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return bytes(out)
