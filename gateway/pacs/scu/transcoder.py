"""Turns an instance into an uncompressed transfer syntax, frame by frame (PS3.5 §8, §A). Run as a program of its own by
:mod:`gateway.pacs.scu.transcode`: ``transcoder SYNTAX DESCRIPTOR MOST``, with the Part 10 file as its input.

It imports nothing of the gateway. What is decoded is never whole in memory: a frame is written as soon as it is there.
"""

from __future__ import annotations

import json
import logging
import os
import struct
import sys
import warnings
from collections.abc import Iterator
from typing import Any, BinaryIO

from pydicom import Dataset, dcmread
from pydicom.encaps import generate_frames
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.pixels import get_decoder  # type: ignore[attr-defined]
from pydicom.pixels.utils import as_pixel_options
from pydicom.uid import UID

JPEG_XL = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (110, 111, 112))

MAX_FRAME = 512 * 1024 * 1024
"""Bytes of one decoded frame."""

PIECE = 1024 * 1024

PIXEL_DATA = 0x7FE00010


class Refused(Exception):
    """It is not decoded; the text says why."""


def transcode(source: BinaryIO, target: UID, out: BinaryIO, most: int) -> None:
    """Writes the data set of the file *source* in *target* to *out*, of *most* bytes at the most. Raises Refused."""
    header = dcmread(source, stop_before_pixels=True)
    former = UID(header.file_meta.TransferSyntaxUID)
    pixels_at = source.tell()
    if former not in JPEG_XL and not former.is_encapsulated:
        if not former.is_little_endian:
            raise Refused(f"there is no way from {former.name}")
        source.seek(0)
        _write(out, dcmread(source), target)
        return
    tag = source.read(12)
    if len(tag) < 12 or tag[:4] != b"\xe0\x7f\x10\x00":
        _write(out, header, target)
        return
    # Before a byte is decoded: what it would become.
    frames, samples = int(header.get("NumberOfFrames") or 1), int(header.SamplesPerPixel)
    allocated = int(header.BitsAllocated)
    frame = int(header.Rows) * int(header.Columns) * samples * ((allocated + 7) // 8)
    if frames < 1 or frame < 1:
        raise Refused("its pixel attributes are not those of an image")
    if frame > MAX_FRAME or frame * frames > min(most, 0xFFFFFFFE):
        raise Refused(f"it would take {frame * frames} bytes uncompressed")
    written = 0
    decoded = (_jpeg_xl if former in JPEG_XL else _decoded)(source, pixels_at + 12, header, former)
    for array, description in decoded:
        raw = array.tobytes()
        if len(raw) != frame:
            raise Refused(f"a frame decodes to {len(raw)} bytes where its attributes say {frame}")
        if not written:
            header.PhotometricInterpretation = description["photometric_interpretation"]
            if samples > 1:
                header.PlanarConfiguration = description["planar_configuration"]
            for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
                if keyword in header:
                    delattr(header, keyword)
            _write(out, header, target)
            _write_pixel_header(out, target, frame * frames, allocated)
        written += len(raw)
        out.write(raw)
    if written != frame * frames:
        raise Refused(f"it has {written // frame} frames where it says {frames}")
    out.write(b"\0" * (written % 2))


def _decoded(source: BinaryIO, at: int, header: Dataset, syntax: UID) -> Iterator[tuple[Any, Any]]:
    source.seek(at)
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise Refused(f"{syntax.name} cannot be decoded here") from None
    options = as_pixel_options(
        header, pixel_keyword="PixelData", pixel_vr="OB", transfer_syntax_uid=syntax, as_rgb=False
    )
    yield from decoder.iter_array(source, **options)


def _jpeg_xl(source: BinaryIO, at: int, header: Dataset, syntax: UID) -> Iterator[tuple[Any, Any]]:
    import imagecodecs
    import numpy

    source.seek(at)
    allocated, colour = int(header.BitsAllocated), int(header.SamplesPerPixel) == 3
    wanted = numpy.dtype(f"<u{(allocated + 7) // 8}")
    for stream in generate_frames(source, number_of_frames=int(header.get("NumberOfFrames") or 1)):
        array = imagecodecs.jpegxl_decode(stream)
        if array.dtype.itemsize != wanted.itemsize:
            raise Refused(f"a frame has {array.dtype.itemsize * 8} bits where its attributes say {allocated}")
        # A JPEG XL decoder gives colours as RGB, however they were coded.
        interpretation = "RGB" if colour else header.PhotometricInterpretation
        yield array.astype(wanted), {"photometric_interpretation": interpretation, "planar_configuration": 0}


def _write(out: BinaryIO, dataset: Dataset, target: UID) -> None:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = target.is_little_endian, target.is_implicit_VR
    write_dataset(buffer, Dataset({tag: element for tag, element in dataset._dict.items() if tag.group != 2}))
    view = memoryview(buffer.getvalue())
    for at in range(0, len(view), PIECE):
        out.write(view[at : at + PIECE])


def _write_pixel_header(out: BinaryIO, target: UID, length: int, allocated: int) -> None:
    length += length % 2
    if target.is_implicit_VR:
        out.write(struct.pack("<HHI", 0x7FE0, 0x0010, length))
    else:
        out.write(struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB" if allocated <= 8 else b"OW", 0, length))


def main() -> None:
    """Prints ``{"size": n}``, or ``{"refused": reason}``."""
    logging.disable()  # what pydicom warns of quotes the data set
    warnings.simplefilter("ignore")
    target, descriptor, most = UID(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    try:
        with os.fdopen(0, "rb", buffering=0, closefd=False) as source, os.fdopen(descriptor, "wb") as out:
            transcode(source, target, out, most)
            out.flush()
            size = out.tell()
    except Refused as e:
        print(json.dumps({"refused": str(e)}))  # noqa: T201  (its answer)
    except MemoryError:
        print(json.dumps({"refused": "it needs more memory to decode than its attributes say"}))  # noqa: T201
    except Exception as e:  # a decoder's, whichever it is
        print(json.dumps({"refused": f"{type(e).__name__} while it was decoded"}))  # noqa: T201
    else:
        print(json.dumps({"size": size}))  # noqa: T201


if __name__ == "__main__":
    main()
