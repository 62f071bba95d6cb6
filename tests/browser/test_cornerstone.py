"""What viewers are made of: cornerstone's DICOM image loader, on a page of another origin than the gateway's, is given
the URLs of an answer, and has the pixels that the PACS has.
"""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from aiohttp import web
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from gateway.demo.sample import sample_study
from tests.rig.chromium import chromium
from tests.rig.npm import package

pytestmark = pytest.mark.slow

SCRIPTS = {
    "core.js": ("cornerstone-core", "dist/cornerstone.min.js"),
    "parser.js": ("dicom-parser", "dist/dicomParser.min.js"),
    "loader.js": ("cornerstone-wado-image-loader", "dist/cornerstoneWADOImageLoaderNoWebWorkers.bundle.min.js"),
}

PAGE = """<!doctype html><title>viewer</title><div id="view" style="width:256px;height:256px"></div>
<script src="core.js"></script><script src="parser.js"></script><script src="loader.js"></script><script>
const loader = cornerstoneWADOImageLoader;
loader.external.cornerstone = cornerstone;
loader.external.dicomParser = dicomParser;
const view = document.getElementById('view');
cornerstone.enable(view);
async function show(url) {
  const image = await cornerstone.loadAndCacheImage('wadouri:' + url);
  const drawn = new Promise(done => view.addEventListener('cornerstoneimagerendered', done, {once: true}));
  cornerstone.displayImage(view, image);
  await drawn;
  const canvas = view.querySelector('canvas');
  const shown = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  const tones = new Set(shown.filter((_, n) => n % 4 === 0));
  return {rows: image.rows, columns: image.columns, pixels: Array.from(image.getPixelData()), tones: tones.size};
}
</script>"""


@pytest.fixture
async def viewer(tmp_path):
    """A tab with cornerstone, on a web origin that is not the gateway's."""
    files = {name: (package(of) / path).read_bytes() for name, (of, path) in SCRIPTS.items()}

    async def file(request):
        content = files.get(request.match_info["name"], PAGE.encode())
        kind = "text/javascript" if request.match_info["name"] else "text/html"
        return web.Response(body=content, content_type=kind)

    application = web.Application()
    application.router.add_get("/{name:.*}", file)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with chromium(tmp_path / "chromium") as tab:
        await tab.open(f"http://localhost:{runner.addresses[0][1]}/")
        await tab.until("typeof show === 'function'")
        yield tab
    await runner.cleanup()


async def show(tab, url):
    return await tab.run(f"show({json.dumps(url)})")


def same(shown, content):
    """Whether what cornerstone has is what the PACS has, pixel by pixel."""
    expected = dcmread(io.BytesIO(content)).pixel_array
    assert (shown["rows"], shown["columns"]) == expected.shape[:2]
    found = np.array(shown["pixels"]).reshape(shown["rows"], shown["columns"], -1)[:, :, : expected[0, 0].size]
    assert np.array_equal(found.squeeze(), expected)
    assert shown["tones"] > 4, "nothing is drawn"


def in_study(name, study, number):
    """A real image, as an instance of a study."""
    d = dcmread(get_testdata_file(name))
    d.StudyInstanceUID, d.SeriesInstanceUID = study, f"{study}.1"
    d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = f"{study}.1.{number}"
    d.PatientID, d.PatientName = "P1", "One"
    d.InstanceNumber = number
    out = io.BytesIO()
    d.save_as(out)
    return out.getvalue()


REAL = ["CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "JPEG-LL.dcm"]
"""Uncompressed, RLE, JPEG 2000 and JPEG Lossless."""


@pytest.mark.parametrize("where", ["embedded", "s3"])
async def test_cornerstone_shows_every_image_of_a_study_as_the_pacs_has_it(simulator, start, viewer, where):
    study = generate_uid()[:40].rstrip(".")
    files = [in_study(name, study, n) for n, name in enumerate(REAL, 1)]
    simulator.add(*files)
    options = {"store": {"bucket": "dicom"}, "cache": {"min_free": "0"}} if where == "embedded" else {}
    gateway = await start(simulator, **options)
    answer = await gateway.ask(study)
    assert len(answer["urls"]) == len(files)
    by_uid = {dcmread(io.BytesIO(content), stop_before_pixels=True).SOPInstanceUID: content for content in files}
    for url in answer["urls"]:
        uid = dcmread(io.BytesIO(await gateway.open(url)), stop_before_pixels=True).SOPInstanceUID
        same(await show(viewer, url), by_uid.pop(uid))
    assert not by_uid


async def test_the_first_image_of_a_cold_study_is_drawn_while_the_others_are_still_on_their_way(
    simulator, start, viewer
):
    study, sample = sample_study()
    simulator.add(*(i.content for i in sample))
    simulator.behaviour.delay_per_instance = 1.0
    gateway = await start(simulator, avara={"answer": "listed", "answer_patience": "0s"})
    answer = await gateway.ask(study)
    assert len(answer["urls"]) == len(sample)
    shown = await show(viewer, answer["urls"][0])
    flight = gateway.parts.fetcher.flight(study)
    assert flight is not None, "the whole study was there before its first image was drawn"
    assert len(flight.stored) < len(sample)
    uid = dcmread(io.BytesIO(await gateway.open(answer["urls"][0])), stop_before_pixels=True).SOPInstanceUID
    [content] = [i.content for i in sample if i.sop_instance_uid == uid]
    same(shown, content)
