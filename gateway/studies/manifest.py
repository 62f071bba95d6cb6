"""The manifest: what lets Avara's viewer scroll before it has parsed every file (docs/contract.md: Manifest)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from gateway.avara import Manifest, SeriesManifest, SopManifest
from gateway.dicom import PARAMETRIC_MAP
from gateway.studies.index import Instance


def build_manifest(study_instance_uid: str, instances: Iterable[Instance]) -> Manifest | None:
    """The manifest of *instances*, which are in reading order; None where nothing can be listed.

    An image whose geometry is incomplete is left out, as the viewer would drop it, and so is what could not be read:
    its URL still loads.
    """
    series = []
    for series_uid, members in groupby(instances, key=lambda i: i.series_instance_uid):
        listed = [i for i in members if i.described]
        sops = [sop for i in listed if (sop := _sop(i)) is not None]
        if sops:
            first = next((i for i in listed if i.modality), listed[0])
            modality = first.modality or "OT"
            number = first.series_number if first.series_number is not None else 0
            series.append(
                SeriesManifest(
                    seriesInstanceUID=series_uid,
                    modality=modality,
                    seriesDescription=first.series_description or f"{modality} series {number}",
                    seriesNumber=number,
                    sops=sops,
                )
            )
    return Manifest(studyInstanceUID=study_instance_uid, series=series) if series else None


def _sop(i: Instance) -> SopManifest | None:
    if not i.sop_class_uid:  # listed by a PACS that does not say it, and on its way
        return None
    if i.rows is None and i.columns is None:  # a report, a presentation state, a document: no geometry to give
        return SopManifest(
            sopInstanceUID=i.sop_instance_uid, sopClassUID=i.sop_class_uid, instanceNumber=i.instance_number
        )
    if not (i.rows and i.columns and i.bits_allocated and i.samples_per_pixel and i.photometric_interpretation):
        return None
    # The one class whose pixels may be floats: 32 bits allocated are Float Pixel Data, 64 are Double Float Pixel Data
    # (PS3.3 C.7.6.24, C.7.6.25).
    floats = i.sop_class_uid == PARAMETRIC_MAP
    return SopManifest(
        sopInstanceUID=i.sop_instance_uid,
        sopClassUID=i.sop_class_uid,
        rows=i.rows,
        columns=i.columns,
        bitsAllocated=i.bits_allocated,
        samplesPerPixel=i.samples_per_pixel,
        photometricInterpretation=i.photometric_interpretation,
        bitsStored=i.bits_stored,
        highBit=i.high_bit,
        pixelRepresentation=i.pixel_representation,
        instanceNumber=i.instance_number,
        numberOfFrames=i.number_of_frames,
        rescaleSlope=i.rescale_slope,
        rescaleIntercept=i.rescale_intercept,
        isFloatPixelData=True if floats and i.bits_allocated == 32 else None,
        isDoubleFloatPixelData=True if floats and i.bits_allocated == 64 else None,
    )
