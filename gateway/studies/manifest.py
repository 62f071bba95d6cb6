"""The manifest: what lets Avara's viewer scroll before it has parsed every file (docs/contract.md: Manifest).

It is written here and not by a model for each instance: of a hundred thousand that takes a tenth of the time, and
somebody waits for it. What the slices of a series have in common is written once.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import groupby
from json.encoder import encode_basestring

from gateway.avara import SeriesManifest, SopDescription
from gateway.dicom import PARAMETRIC_MAP
from gateway.studies.index import Instance


def write_manifest(study_instance_uid: str, instances: Iterable[Instance]) -> bytes | None:
    """The JSON of a manifest (:class:`gateway.avara.Manifest`) of *instances*, which are in reading order; None where
    nothing can be listed.

    An image whose geometry is incomplete is left out, as the viewer would drop it, and so is what could not be read:
    its URL still loads. What its file and the PACS name differently is given the name in the file: a viewer knows no
    other one. Where several files have one name, the first has it.
    """
    series = []
    named = set[str]()
    for series_uid, members in groupby(instances, key=lambda i: i.series_instance_uid):
        listed = [i for i in members if i.described]
        sops = []
        for i in listed:
            uid = i.own_uid or i.sop_instance_uid
            sop = _sop(i, uid)
            if sop and uid not in named:
                named.add(uid)
                sops.append(sop)
        if sops:
            first = next((i for i in listed if i.modality), listed[0])
            modality = first.modality or "OT"
            number = first.series_number if first.series_number is not None else 0
            begun = SeriesManifest(
                seriesInstanceUID=series_uid,
                modality=modality,
                seriesDescription=first.series_description or f"{modality} series {number}",
                seriesNumber=number,
                sops=(),
            )
            series.append(begun.to_json().decode().removesuffix("]}") + ",".join(sops) + "]}")
    if not series:
        return None
    return f'{{"studyInstanceUID":{encode_basestring(study_instance_uid)},"series":[{",".join(series)}]}}'.encode()


def _sop(i: Instance, uid: str) -> str:
    """An instance in a manifest, called *uid*; empty where it cannot be in one."""
    described = _described(
        i.sop_class_uid, i.rows, i.columns, i.bits_allocated, i.bits_stored, i.high_bit, i.pixel_representation,
        i.samples_per_pixel, i.photometric_interpretation, i.number_of_frames, i.rescale_slope, i.rescale_intercept,
    )  # fmt: skip
    if not described:
        return ""
    number = "" if i.instance_number is None else f'"instanceNumber":{i.instance_number},'
    return f'{{"sopInstanceUID":{encode_basestring(uid)},{number}{described}'


@lru_cache(maxsize=4096)
def _described(
    sop_class_uid: str, rows: int | None, columns: int | None, bits_allocated: int | None, bits_stored: int | None,
    high_bit: int | None, pixel_representation: int | None, samples_per_pixel: int | None,
    photometric_interpretation: str, number_of_frames: int | None, rescale_slope: float | None,
    rescale_intercept: float | None,
) -> str:  # fmt: skip
    """The end of an object in JSON that says this; empty where it is not enough."""
    if not sop_class_uid:  # listed by a PACS that does not say it, and on its way
        return ""
    if rows is None and columns is None:  # a report, a presentation state, a document: no geometry to give
        described = SopDescription(sopClassUID=sop_class_uid)
    elif not (rows and columns and bits_allocated and samples_per_pixel and photometric_interpretation):
        return ""
    else:
        # The one class whose pixels may be floats: 32 bits allocated are Float Pixel Data, 64 are Double Float Pixel
        # Data (PS3.3 C.7.6.24, C.7.6.25).
        floats = sop_class_uid == PARAMETRIC_MAP
        described = SopDescription(
            sopClassUID=sop_class_uid,
            rows=rows,
            columns=columns,
            bitsAllocated=bits_allocated,
            samplesPerPixel=samples_per_pixel,
            photometricInterpretation=photometric_interpretation,
            bitsStored=bits_stored,
            highBit=high_bit,
            pixelRepresentation=pixel_representation,
            numberOfFrames=number_of_frames,
            rescaleSlope=rescale_slope,
            rescaleIntercept=rescale_intercept,
            isFloatPixelData=True if floats and bits_allocated == 32 else None,
            isDoubleFloatPixelData=True if floats and bits_allocated == 64 else None,
        )
    return described.to_json().decode().removeprefix("{")
