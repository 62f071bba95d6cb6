"""What an operator is shown of an object, made in a process of its own; nothing where the object breaks that."""

from __future__ import annotations

import io
from pathlib import Path

import pypdfium2
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from gateway.demo.sample import sample_study
from gateway.page.preview import NoPreview, Previews
from gateway.runtime.spools import Spools

PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 100]>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
)


@pytest.fixture
async def show(store, tmp_path):
    async def show(content, page=0):
        await store.put("shown", content, content_type="application/octet-stream")
        return await Previews(store, Spools(tmp_path)).picture("shown", page)

    return show


def read(name):
    return Path(get_testdata_file(name)).read_bytes()


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "examples_palette.dcm", "SC_rgb_jpeg_dcmtk.dcm", "MR_small_jp2klossless.dcm"]
)
async def test_an_image_is_shown_as_jpeg_whatever_its_syntax(show, name):
    image = Image.open(io.BytesIO(await show(read(name))))
    assert image.format == "JPEG"
    low, high = image.convert("L").getextrema()
    assert high - low > 50


async def test_a_page_of_a_pdf_is_shown_as_a_picture(show):
    image = Image.open(io.BytesIO(await show(PDF)))
    assert (image.format, image.size) == ("JPEG", (1000, 500))
    with pytest.raises(NoPreview):
        await show(PDF, 7)


def pdf_of(pages):
    """A PDF of so many pages, each 100 points wider than the one before."""
    document, out = pypdfium2.PdfDocument.new(), io.BytesIO()
    for number in range(1, pages + 1):
        document.new_page(100 * number, 100)
    document.save(out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "pages"),
    [
        (pdf_of(3), 3),
        (sample_study()[1][-1].content, 1),  # an Encapsulated PDF
        (sample_study()[1][30].content, 12),  # an ultrasound
        (sample_study()[1][0].content, 1),
    ],
    ids=["PDF", "Encapsulated PDF", "multi-frame", "single frame"],
)
async def test_it_is_known_how_many_pages_there_are_to_see_and_each_can_be_seen(store, tmp_path, content, pages):
    await store.put("shown", content, content_type="application/octet-stream")
    previews = Previews(store, Spools(tmp_path))
    assert await previews.pages("shown") == pages
    first, last = [Image.open(io.BytesIO(await previews.picture("shown", n))) for n in (0, pages - 1)]
    assert pages == 1 or first.tobytes() != last.tobytes()


@pytest.mark.parametrize(
    "content", [b"", b"junk" * 100, sample_study()[1][0].content[:400], b"%PDF-1.4\n" + b"[" * 999]
)
async def test_what_cannot_be_shown_is_said(show, content):
    with pytest.raises(NoPreview):
        await show(content)


async def test_the_header_is_bounded_whatever_it_holds(store, tmp_path):
    await store.put("shown", read("CT_small.dcm"), content_type="application/dicom")
    found = await Previews(store, Spools(tmp_path)).header("shown")
    assert ("(0010,0010)", "Patient's Name") in [(e.tag, e.name) for e in found]
    assert max(len(e.value) for e in found) <= 200
