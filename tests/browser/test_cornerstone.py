"""What viewers are made of: cornerstone's DICOM image loader, on a page of another origin than the gateway's, is given
the URLs of an answer, and has the pixels that the PACS has.
"""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from gateway.demo.sample import sample_study
from tests.rig.npm import NotToBeHad
from tests.rig.viewer import viewer as viewer_in

pytestmark = pytest.mark.slow


@pytest.fixture
async def viewer(tmp_path):
    """A tab with cornerstone, on a web origin that is not the gateway's."""
    try:
        async with viewer_in(tmp_path) as tab:
            yield tab
    except NotToBeHad as e:
        pytest.skip(str(e))


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
