"""Instances for a PACS that takes no compressed ones: decoded without loss, frame by frame, within bounds."""

from __future__ import annotations

import io
import os
import struct
import tempfile
from pathlib import Path

import imagecodecs
import numpy
import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filereader import read_dataset
from pydicom.uid import UID, RLELossless, SecondaryCaptureImageStorage, generate_uid

from gateway.demo.sample import sample_capture
from gateway.pacs.scu.store import CannotTranscode
from gateway.pacs.scu.transcode import transcoded
from gateway.runtime.spools import Spools

pytestmark = pytest.mark.slow  # each decodes in a process of its own

HTJ2K = bytes.fromhex(
    "ff4fff5100294000000000180000001000000000000000000000001800000010000000000000000000010f0101ff50000800"
    "020000000aff52000c00020001000504044001ff5c00132088909090909090909090909090888888ff64001700014f70656e"
    "4a50482056657220302e32362e332eff90000a0000000000ac0001ff93c00026bdf504877400c000130014f403877400c000"
    "12c0001520a90107740012012502fe01623400c00013c000158058c5ea828b74005080500028c0004200775600c000155000"
    "05a4a2448912f5da7202750046bfd137fa46dfe81bfde040f68401ecb800c0002d080005d0802a2a2a2a2a2a2a2af3fa7a7a"
    "718278001edc833dd8833dd8833dd8833dd8833dd883ff1007381efd9ce07bf67381ecbf00ffd9"
)
"""16 × 24 pixels of 16 bits, each 150 more than the one before, without loss (by OpenJPH)."""

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"


async def decode(content: bytes, to: str, tmp_path: Path, **options) -> Dataset:
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(content)
        body = await transcoded(file, to, spools=Spools(tmp_path), **options)
        whole = body.read(0, body.size)
        body.close()
        return read_dataset(io.BytesIO(whole), UID(to).is_implicit_VR, True)


def capture(pixels: bytes, syntax: str, **attributes) -> bytes:
    d = Dataset()
    d.SOPClassUID, d.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.Rows, d.Columns, d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 24, 16, 16, 15, 0
    d.update(attributes)
    for keyword, value in attributes.items():
        setattr(d, keyword, value)
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = syntax
    d.PixelData = pixels
    d["PixelData"].is_undefined_length = True
    out = io.BytesIO()
    d.save_as(out, enforce_file_format=True)
    return out.getvalue()


@pytest.mark.parametrize("to", [EXPLICIT, IMPLICIT])
async def test_rle_is_decoded_to_the_same_pixels(tmp_path, to):
    plain, packed = sample_capture("1.2.3"), sample_capture("1.2.3", syntax=RLELossless)
    decoded = await decode(packed.content, to, tmp_path)
    assert decoded.PixelData == dcmread(io.BytesIO(plain.content)).PixelData
    assert decoded.SOPInstanceUID == packed.sop_instance_uid
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("to", [EXPLICIT, IMPLICIT])
async def test_what_is_uncompressed_changes_its_encoding_alone(tmp_path, to):
    content = sample_capture("1.2.3").content
    decoded, sent = await decode(content, to, tmp_path), dcmread(io.BytesIO(content))
    assert {e.keyword for e in decoded} == {e.keyword for e in sent}
    assert decoded.PixelData == sent.PixelData


@pytest.mark.parametrize(
    "name",
    [
        "JPEG2000.dcm",
        "MR_small_jp2klossless.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
        "JPEG-LL.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "MR_small_RLE.dcm",
        "examples_jpeg2k.dcm",
        "color3d_jpeg_baseline.dcm",
    ],
)
async def test_real_images_of_every_compression_are_decoded(tmp_path, name):
    content = Path(get_testdata_file(name)).read_bytes()
    reference = dcmread(io.BytesIO(content))
    reference.decompress(as_rgb=False, generate_instance_uid=False)
    decoded = await decode(content, EXPLICIT, tmp_path)
    assert decoded.PixelData == reference.PixelData
    assert decoded.PhotometricInterpretation == reference.PhotometricInterpretation


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203"])
async def test_high_throughput_jpeg_2000_is_decoded_to_the_same_pixels(tmp_path, syntax):
    decoded = await decode(capture(encapsulate([HTJ2K]), syntax), EXPLICIT, tmp_path)
    assert decoded.PixelData == (numpy.arange(16 * 24) * 150).astype("<u2").tobytes()


@pytest.mark.parametrize("bits", [8, 16])
async def test_jpeg_xl_is_decoded_to_the_same_pixels(tmp_path, bits):
    pixels = numpy.random.default_rng(1).integers(0, 2**bits, (16, 24)).astype(f"<u{bits // 8}")
    stream = imagecodecs.jpegxl_encode(pixels, lossless=True)
    content = capture(
        encapsulate([stream]), "1.2.840.10008.1.2.4.110",
        BitsAllocated=bits, BitsStored=bits, HighBit=bits - 1,
    )  # fmt: skip
    assert (await decode(content, EXPLICIT, tmp_path)).PixelData == pixels.tobytes()


def bomb(rows: int, columns: int, frames: int, stream: bytes) -> bytes:
    return capture(encapsulate([stream] * frames), RLELossless, Rows=rows, Columns=columns, NumberOfFrames=str(frames))


def rle(frame: int) -> bytes:
    """Two segments of zeros for as many pixels, as small as RLE can say it."""
    segment = b"\x81\0" * (-(-frame // 128))
    return struct.pack("<16I", 2, 64, 64 + len(segment), *[0] * 13) + segment * 2


async def test_what_would_decode_to_too_much_is_refused_before_a_byte_is_decoded(tmp_path):
    with pytest.raises(CannotTranscode, match="would take 5368709120 bytes uncompressed: enable"):
        await decode(bomb(8192, 8192, 40, b"\0" * 64), EXPLICIT, tmp_path)
    assert not list(tmp_path.iterdir())


async def test_a_long_multi_frame_is_decoded_without_holding_it(tmp_path):
    content = bomb(1024, 1024, 24, rle(1024 * 1024))
    before = peak_of_children()
    decoded = await decode(content, EXPLICIT, tmp_path)
    assert len(decoded.PixelData) == 48 * 1024 * 1024
    assert not any(decoded.PixelData)
    # Far below what all of its frames take, beside what the libraries need; the first child of all may be another.
    assert peak_of_children() - before < 400 * 1024 * 1024


def peak_of_children() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (bomb(16, 24, 1, b"\0" * 64), "while it was decoded"),
        (capture(encapsulate([os.urandom(100)]), "1.2.840.10008.1.2.4.70"), "while it was decoded"),
        (capture(encapsulate([os.urandom(100)]), "1.2.840.10008.1.2.4.110"), "while it was decoded"),
        (capture(encapsulate([b"\0" * 100]), "1.2.840.10008.1.2.4.100"), "cannot be decoded here"),
        (bomb(0, 24, 1, b"\0" * 64), "not those of an image"),
    ],
)
async def test_what_cannot_be_decoded_says_so(tmp_path, content, said):
    with pytest.raises(CannotTranscode, match=said):
        await decode(content, EXPLICIT, tmp_path)
    assert not list(tmp_path.iterdir())
