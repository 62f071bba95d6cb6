"""That the promises are looked at: each kind of damage, done by hand behind the gateway's back, is found."""

from __future__ import annotations

import pytest

from gateway.studies import keys

from .promises import broken

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture
async def served(hospital):
    """A hospital with a study that was opened, a capture and a report that are in the PACS."""
    hospital.known.forget()
    study = await hospital.examine(hospital.main)
    await hospital.open_study(study)
    capture = await hospital.upload(study)
    report = await hospital.deliver(study, critical=True)
    assert await broken(hospital) == []
    yield hospital, study, capture, report
    hospital.known.forget()
    await hospital.main.clear()
    await hospital.second.clear()


async def found(hospital):
    return "\n".join(await broken(hospital, heals_within=0.5))


async def test_what_is_lost_or_doubled_is_found(served):
    hospital, study, capture, report = served
    held = await hospital.main.held(study)
    await hospital.main._ok("DELETE", f"/instances/{held[capture.sop_instance_uid]}")
    assert f"capture {capture.sop_instance_uid} was acknowledged and is not in MAIN" in await found(hospital)
    capture.acknowledged = False
    hospital.ris.controls[report.document].add("another")
    sidecar = hospital.folders[0] / f"{report.report_id}_v1.json"
    (hospital.folders[1] / f"{report.report_id}_v2.json").write_bytes(
        (hospital.folders[1] / f"{report.report_id}_v1.json").read_bytes()
    )
    sidecar.unlink()
    hospital.mail.mails.clear()
    said = await found(hospital)
    for place in ("2 times in the RIS", "0 times in folder ris", "2 times in folder archive", "0 times in mail"):
        assert place in said
    assert "times in the PACS" not in said
    report.acknowledged = False
    hospital.known.captures.remove(capture)
    (hospital.folders[1] / f"{report.report_id}_v2.json").unlink()
    hospital.ris.controls.clear()
    stranger = await hospital.second.held(study)
    assert f"SECOND has instance {capture.sop_instance_uid}, which nobody sent" in await found(hospital)
    assert capture.sop_instance_uid in stranger
    hospital.known.reports.clear()
    assert "documents" in await found(hospital)


async def test_an_index_that_names_what_is_not_there_and_what_is_left_behind_are_found(served):
    hospital, study, _, _ = served
    instance = min(hospital.known.studies[study])
    left = [hospital.gateway.state_dir / "spool" / "left", hospital.folders[0] / ".left.avara-part"]
    async with hospital.gateway.store() as store:
        content = await store.get(keys.instance(study, instance))
        await store.delete([keys.instance(study, instance)])
        assert f"names instance {instance} of {len(content)} bytes; the store has None" in await found(hospital)
        await store.put(keys.instance(study, instance), [content], content_type="application/dicom")
        assert await found(hospital) == ""
        await store.put("outbox/left", [b"left"], content_type="application/dicom")
        for path in left:
            path.touch()
        said = await found(hospital)
        assert "outbox/left is left in the store" in said
        assert "left is left in the spool" in said
        await store.delete(["outbox/left"])
    left[0].unlink()
    assert ".left.avara-part is left in folder ris" in await found(hospital)
    left[1].unlink()
    assert await found(hospital) == ""
