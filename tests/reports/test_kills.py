"""kill -9 at every step between Avara's delivery and the record of the last place: it is everywhere, once."""

from __future__ import annotations

import asyncio
import contextlib
import io
import signal

import aiohttp
import pytest
from pydicom import dcmread

from tests.kills import Mortal, ends_well

from .conftest import PDF, SAMPLE, STUDY

pytestmark = pytest.mark.slow

STEPS = {
    "received, not kept": "gateway.reports.receive:ReportHandler._keep",
    "kept, not acknowledged": "gateway.avara.answers:ReportAcknowledged.to_json",
    "acknowledged, not fetched": "gateway.reports.fetch:ReportFetcher._bring",
    "fetched, not checked": "gateway.reports.fetch:ReportFetcher._check",
    "checked, no version yet": "gateway.reports.fetch:ReportFetcher._release",
    "a version, not made": "gateway.reports.dicom.deliver:PacsDelivery._make",
    "made, not handed over": "gateway.outbox.outbox:Outbox.add",
    "stored, not recorded": "gateway.outbox.outbox:Outbox._done",
    "in the folder, not recorded": "gateway.reports.folder.write:Written.__init__",
}


@pytest.mark.parametrize("step", STEPS, ids=list(STEPS))
async def test_a_kill_at_any_step_loses_nothing_and_delivers_once(pacs, avara, weed, tmp_path, step):
    folder = tmp_path / "ris"
    folder.mkdir()
    reports = {
        "allowed_hosts": [f"127.0.0.1:{avara.server.port}"], "allow_http": True, "allow_private_addresses": True,
        "keep_after_delivered": "100ms", "folders": [{"name": "ris", "path": str(folder)}],
    }  # fmt: skip
    event = {
        "studyId": "stu_1", "reportId": "rep_1", "isCritical": False, "plainText": "No fracture.",
        "presignedUrl": avara.url(), "studyInstanceUid": STUDY,
    }  # fmt: skip
    async with Mortal(pacs, weed, tmp_path, reports=reports) as gateway:
        dying = await gateway.start(STEPS[step])
        acknowledged = None
        with contextlib.suppress(aiohttp.ClientError):
            acknowledged = await gateway.post("report.delivered", event)
        assert await asyncio.wait_for(dying.wait(), 30) == -signal.SIGKILL
        again = await gateway.start()
        if acknowledged is None:  # as Avara does: the same webhook once more
            acknowledged = await gateway.post("report.delivered", event)
        assert acknowledged == {"success": True}
        kinds = ("report.fetch", "report.pacs", "report.store", "report.folder", "object.clean")
        await gateway.over(kinds, ("reports/", "outbox/"))
        assert await ends_well(again)
    known = {i.sop_instance_uid for i in SAMPLE}
    held = [dcmread(io.BytesIO(c)) for uid, c in pacs.instances(STUDY).items() if uid not in known]
    assert [d.EncapsulatedDocument[: d.EncapsulatedDocumentLength] for d in held] == [PDF]
    assert sorted(p.suffix for p in folder.iterdir()) == [".json", ".pdf", ".txt"]
