"""Real images of many vendors, transfer syntaxes and character sets: into Orthanc, through the gateway, out of URLs.

What comes out is compared with what Orthanc holds. Orthanc writes some data sets anew when it sends them (lengths of
sequences and groups, trailing padding, OB for OW); there every value has to be equal, pixels included, and elsewhere
every byte. That the gateway alters none is shown without Orthanc in tests/pacs/test_interoperation.py. Left out is what
Orthanc refuses to take, and what has no valid UIDs.
"""

from __future__ import annotations

import io
import warnings

import aiohttp
import pytest
from pydicom import dcmread

from gateway.dicom.uid import is_uid
from tests.conftest import data_set
from tests.dicom.test_elements import FILES


def whole(content):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        d = dcmread(io.BytesIO(content))
        d.pop("DataSetTrailingPadding", None)
        return [(e.tag, e.value) for e in d if e.tag.element]  # without group lengths


@pytest.mark.parametrize("method", ["c-move", "c-get", "wado-rs"])
async def test_real_images_come_out_equal_in_their_own_transfer_syntax(orthanc, start, method):
    studies, syntaxes, seen, refused = set(), set(), set(), 0
    for path in FILES:
        d = dcmread(path, stop_before_pixels=True)
        if not all(map(is_uid, (d.StudyInstanceUID, d.SeriesInstanceUID, d.SOPInstanceUID))):
            continue
        if d.SOPInstanceUID in seen:  # the same image in another encoding; Orthanc keeps one of them
            continue
        seen.add(d.SOPInstanceUID)
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{orthanc.url}/instances", data=io.BytesIO(path.read_bytes())) as taken,
        ):
            if taken.status != 200:
                refused += 1
                continue
        studies.add(str(d.StudyInstanceUID))
    assert refused < len(FILES) / 10
    gateway = await start(orthanc, pacs_options={"retrieve": method, "dicomweb_url": orthanc.dicomweb_url})
    compared, equal_bytes = 0, 0
    for study in sorted(studies):
        held = await orthanc.instances(study)
        answer = await gateway.ask(study)
        assert "error" not in answer, (study, answer["error"])
        assert len(answer["urls"]) == len(held)
        for url in answer["urls"]:
            uid = url.split("?")[0].rsplit("/", 1)[1].removesuffix(".dcm")
            content = await gateway.open(url)
            compared += 1
            if data_set(content) == data_set(held[uid]):
                equal_bytes += 1
            else:
                assert whole(content) == whole(held[uid]), uid
        index = await gateway.parts.cache.index(study)
        syntaxes |= {i.transfer_syntax_uid for i in index.instances.values()}
        if "manifest" in answer:
            assert answer["manifest"]["studyInstanceUID"] == study
    assert compared >= 35
    assert equal_bytes >= 20
    assert len(syntaxes) >= 8
