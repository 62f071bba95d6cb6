"""Makes of a stranger's file what an operator can look at: its header as JSON, or a picture as JPEG. Run as a program
of its own by :mod:`gateway.page.preview`, with the file as its input: ``previewer header``, ``previewer pages`` for how
many pictures there are, ``previewer picture PAGE``.

It imports nothing of the gateway.
"""

from __future__ import annotations

import io
import json
import sys
import warnings
from typing import Any, BinaryIO

MOST_ELEMENTS, MOST_CHARACTERS = 400, 200

SIDE = 1000
"""Pixels of the longer side of a picture."""

QUALITY = 80


def header(file: BinaryIO) -> str:
    """The elements of a DICOM file, as a JSON list of tag, name and value; nested ones are counted."""
    from pydicom import dcmread

    found: list[tuple[str, str, str]] = []
    for element in dcmread(file, stop_before_pixels=True, force=True):
        if len(found) == MOST_ELEMENTS:
            break
        if element.VR == "SQ":
            value = f"{len(element.value)} items"
        elif isinstance(element.value, bytes):
            value = f"{len(element.value)} bytes"
        else:
            value = str(element.value)[:MOST_CHARACTERS]
        found.append((f"({element.tag.group:04X},{element.tag.element:04X})", element.name, value))
    return json.dumps(found)


def pages(file: BinaryIO) -> int:
    """How many frames or pages there are to see."""
    import pypdfium2
    from pydicom import dcmread

    content = _pdf(file)
    if content is None:
        attributes = dcmread(file, stop_before_pixels=True, force=True)
        if "EncapsulatedDocument" not in attributes:
            return int(attributes.get("NumberOfFrames") or 1)
        content = bytes(attributes.EncapsulatedDocument)
    return len(pypdfium2.PdfDocument(content))


def _pdf(file: BinaryIO) -> bytes | None:
    """All of it, where it is a PDF as it is; the file is at its beginning otherwise."""
    is_pdf = file.read(1024).find(b"%PDF-") >= 0
    file.seek(0)
    return file.read() if is_pdf else None


def picture(file: BinaryIO, page: int) -> bytes:
    """One frame or page, as JPEG."""
    content = _pdf(file)
    image = _frame(file, page) if content is None else _page(content, page)
    image.thumbnail((SIDE, SIDE))
    out = io.BytesIO()
    image.convert("RGB").save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def _page(content: bytes, page: int) -> Any:
    import pypdfium2

    document = pypdfium2.PdfDocument(content)
    shown = document[page]
    width, height = shown.get_size()
    return shown.render(scale=SIDE / max(width, height, 1)).to_pil()


def _frame(file: BinaryIO, frame: int) -> Any:
    import numpy as np
    from PIL import Image
    from pydicom import dcmread
    from pydicom.pixels import (  # type: ignore[attr-defined]
        apply_color_lut,
        apply_modality_lut,
        apply_voi_lut,
        pixel_array,
    )

    attributes = dcmread(file, stop_before_pixels=True, force=True)
    file.seek(0)
    if "EncapsulatedDocument" in attributes:
        return _page(bytes(attributes.EncapsulatedDocument), frame)
    pixels = pixel_array(file, index=frame)
    if attributes.get("PhotometricInterpretation") == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, attributes)
    if pixels.ndim == 3:
        return Image.fromarray((pixels >> 8 if pixels.dtype.itemsize > 1 else pixels).astype(np.uint8))
    shown = apply_voi_lut(apply_modality_lut(pixels, attributes), attributes).astype(np.float64)
    low, high = float(shown.min()), float(shown.max())
    grey = (shown - low) * (255.0 / max(high - low, 1e-9))
    if attributes.get("PhotometricInterpretation") == "MONOCHROME1":
        grey = 255.0 - grey
    return Image.fromarray(grey.astype(np.uint8))


def main() -> None:
    """Prints what is asked for."""
    warnings.simplefilter("ignore")
    file = open(0, "rb", closefd=False)  # noqa: SIM115  (standard input, which lasts as long as we do)
    what = sys.argv[1]
    if what == "header":
        made = header(file).encode()
    elif what == "pages":
        made = str(pages(file)).encode()
    else:
        made = picture(file, int(sys.argv[2]))
    sys.stdout.buffer.write(made)


if __name__ == "__main__":
    main()
