"""Addenda: reports of their own that add to another one of their study. None ever leaves as a second final report, in
whatever order things come about; each names what it adds to. Messages are read by hl7apy, which did not write them."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
from datetime import UTC, datetime

import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread

from gateway.demo.sample import sample_study, small_pdf
from gateway.journal import Journal, study_reports
from gateway.journal.job import Unfit
from gateway.journal.study_reports import FIRST, StudyReport
from gateway.reports.hl7.message import ADDENDUM, OBSERVATION, Profile, build_oru
from gateway.reports.release import assign
from gateway.reports.report import Signer, Signing
from tests.rig.journal import with_journal

from .conftest import SAMPLE, STUDY, a_report, a_study

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SAMPLE_UIDS = {i.sop_instance_uid for i in SAMPLE}


def read(message):
    """A message's OBR and OBX, by a strict parser of another hand."""
    # That parser allows the data of an ED 199 characters, which the standard (chapter 2.A.24) does not limit.
    message = re.sub(rb"\^Base64\^[A-Za-z0-9+/=]+", b"^Base64^QUJD", message)
    parsed = parse_message(message.decode(), find_groups=True, validation_level=VALIDATION_LEVEL.STRICT)
    assert parsed.validate()
    order = parsed.ORU_R01_PATIENT_RESULT.ORU_R01_ORDER_OBSERVATION
    return order, [o.OBX for o in order.ORU_R01_OBSERVATION]


def shown(observations):
    return [
        (o.obx_3.value, o.obx_4.value, o.obx_5.value, o.obx_11.value) for o in observations if o.obx_2.value == "TX"
    ]


def built(report, profile=None, before=()):
    return build_oru(report, a_study(), profile or Profile(), message_control_id="X", now=NOW, before=before)


# -- which report adds to which


async def settled(journal, *reports, **told):
    """Settles reports in this order: (id, acknowledged at)."""
    known = [StudyReport(name, "stu_1", "1.2.3", float(at)) for name, at in reports]
    for report in sorted(known, key=lambda r: r.received):
        await journal.run(lambda c, r=report: study_reports.know(c, r))
    return [await journal.run(lambda c, r=r: study_reports.settle(c, r, **told.get(r.report_id, {}))) for r in known]


async def test_what_was_acknowledged_first_is_the_original_whatever_goes_out_first(journal):
    addendum, original = await settled(journal, ("b", 2), ("a", 1))
    assert (original.ordinal, original.original) == (FIRST, None)
    assert (addendum.ordinal, addendum.original) == (2, "a")


async def test_a_third_report_adds_to_the_original_not_to_the_second(journal):
    *_, third = await settled(journal, ("a", 1), ("b", 2), ("c", 3))
    assert (third.ordinal, third.original) == (3, "a")


async def test_what_went_out_as_the_original_stays_it_whatever_comes_before_it_later(journal):
    await settled(journal, ("b", 2))
    (earlier,) = await settled(journal, ("a", 1))
    assert (earlier.ordinal, earlier.original) == (2, "b")


async def test_avaras_word_decides_which_it_is(journal):
    first, second = await settled(
        journal, ("b", 2), ("a", 1), b={"addendum": False}, a={"addendum": True, "original": "b"}
    )
    assert (first.ordinal, second.ordinal, second.original) == (FIRST, 2, "b")


async def test_an_addendum_whose_original_never_came_through_here_is_still_no_final_report(journal):
    (only,) = await settled(journal, ("b", 2), b={"addendum": True, "original": None})
    assert only.ordinal == 2
    assert await journal.run(lambda c: study_reports.before(c, "b")) is None


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(st.permutations(range(5)), st.permutations(range(5)))
def test_one_report_of_a_study_is_the_original_in_any_order(tmp_path_factory, acknowledged, released):
    async def of_these():
        journal = await Journal.open(f"sqlite:///{with_journal(tmp_path_factory.mktemp('j')) / 'journal.db'}")
        try:
            for at, n in enumerate(acknowledged):
                await journal.run(
                    lambda c, n=n, at=at: study_reports.know(c, StudyReport(f"r{n}", "stu_1", None, float(at)))
                )
            found = [
                await journal.run(lambda c, n=n: study_reports.settle(c, StudyReport(f"r{n}", "stu_1", "1.2.3", 0.0)))
                for n in released
            ]
        finally:
            await journal.close()
        assert sorted(r.ordinal for r in found)[0] == FIRST
        assert len({r.ordinal for r in found}) == 5
        assert {r.original for r in found} == {None, f"r{acknowledged[0]}"}

    asyncio.run(of_these())


# -- HL7


def test_an_addendum_beside_the_original_has_observations_of_its_own_and_is_no_final_result():
    order, first = read(built(a_report()))
    assert order.OBR.obr_25.value == "F"
    order, added = read(built(a_report(report_id="rep_2", ordinal=2, original="rep_1", plain_text="Also a fracture.")))
    assert order.OBR.obr_25.value == "C"
    assert {o.obx_11.value for o in added} == {"C"}
    assert not {(o.obx_3.value, o.obx_4.value) for o in first} & {(o.obx_3.value, o.obx_4.value) for o in added}
    assert shown(added) == [(ADDENDUM, "3", "Also a fracture.", "C")]


def test_an_addendum_in_place_of_the_original_has_its_text_and_says_where_it_begins():
    report = a_report(report_id="rep_3", ordinal=3, original="rep_1", plain_text="Third.")
    order, added = read(built(report, before=["First.", "Second."]))
    assert order.OBR.obr_25.value == "C"
    texts = shown(added)
    assert [t[2] for t in texts] == ["First.", "", "ADDENDUM", "Second.", "", "ADDENDUM", "Third."]
    assert {(t[0], t[1], t[3]) for t in texts} == {(OBSERVATION, "1", "C")}
    (pdf,) = [o for o in added if o.obx_2.value == "ED"]
    assert (pdf.obx_3.value, pdf.obx_4.value) == (ADDENDUM, "6")  # the original's PDF stays beside it


def test_who_signed_and_who_ordered_are_where_the_standard_has_them():
    signing = Signing(1_795_500_123.0, Signer("O'Hara", "Joan", "A&B", "MD", "1234567890"))
    order, _ = read(built(a_report(signing=signing)))
    assert order.OBR.obr_22.value == "20261124060203+0000"
    assert order.OBR.obr_32.value == "1234567890&O'Hara&Joan&A\\T\\B&MD&&&&NPI"
    assert order.ORC.orc_12.value == order.OBR.obr_16.value == "^House^Gregory"


# -- from the webhook to where it goes


@pytest.fixture
async def ris():
    """A receiver that takes everything."""
    taken = []

    async def receive(reader, writer):
        taken.append((await reader.readuntil(b"\x1c\r"))[1:-2])
        writer.write(b"\x0bMSA|AA|" + taken[-1].split(b"|")[9] + b"\r\x1c\r")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(receive, "127.0.0.1", 0, limit=10_000_000)
    async with server:
        yield taken, {"name": "ris", "host": "127.0.0.1", "port": server.sockets[0].getsockname()[1]}


async def two(hospital, **data):
    """An original and its addendum, delivered one after the other."""
    await hospital.deliver(plainText="No fracture.", **data)
    await hospital.ended("report.hl7", "done")
    await hospital.ended("report.store", "done")
    hospital.avara.documents["/report.pdf"] = small_pdf("An addendum")
    await hospital.deliver(reportId="rep_2", plainText="A fracture after all.", **data)
    await hospital.ended("report.hl7", "done", count=2)
    await hospital.ended("report.store", "done", count=2)


def documents(contents):
    found = [dcmread(io.BytesIO(c)) for uid, c in contents.items() if uid not in SAMPLE_UIDS]
    return sorted(found, key=lambda d: int(d.InstanceNumber))


async def test_a_second_report_of_a_study_is_an_addendum_everywhere(pacs, hospital_of, ris, tmp_path):
    taken, receiver = ris
    hospital = await hospital_of(pacs, hl7=[receiver], folders=[{"name": "share", "path": str(tmp_path)}])
    await two(hospital)
    (_, first), (order, second) = (read(m) for m in taken)
    assert shown(first) == [(OBSERVATION, "1", "No fracture.", "F")]
    assert shown(second) == [(ADDENDUM, "3", "A fracture after all.", "C")]
    assert order.OBR.obr_25.value == "C"
    original, addendum = documents(pacs.instances(STUDY))
    assert addendum.SeriesInstanceUID == original.SeriesInstanceUID
    named = addendum.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert [n.ReferencedSOPInstanceUID for n in named] == [original.SOPInstanceUID]
    assert "addendum" in addendum.DocumentTitle
    assert "addendum" not in original.DocumentTitle
    await hospital.ended("report.folder", "done", count=2)
    sidecars = {s["reportId"]: s for s in (json.loads(p.read_text()) for p in tmp_path.glob("*.json"))}
    assert sidecars["rep_1"]["isAddendum"] is False
    assert (sidecars["rep_2"]["isAddendum"], sidecars["rep_2"]["originalReportId"]) == (True, "rep_1")


async def test_orthanc_holds_the_addendum_in_the_originals_series(orthanc, hospital_of, ris):
    study, sample = sample_study()
    await orthanc.add(*(i.content for i in sample))
    hospital = await hospital_of(orthanc, hl7=[ris[1]])
    await two(hospital, studyInstanceUid=study)
    held = await orthanc.instances(study)
    original, addendum = documents({u: c for u, c in held.items() if u not in {i.sop_instance_uid for i in sample}})
    assert addendum.SeriesInstanceUID == original.SeriesInstanceUID
    assert addendum.PredecessorDocumentsSequence


async def test_combined_the_receiver_gets_both_texts_in_place_of_the_first(pacs, hospital_of, ris):
    taken, receiver = ris
    hospital = await hospital_of(pacs, hl7=[receiver | {"addendum": "combined"}])
    await two(hospital)
    assert [(t[1], t[2], t[3]) for t in shown(read(taken[1])[1])] == [
        ("1", "No fracture.", "C"), ("1", "", "C"), ("1", "ADDENDUM", "C"), ("1", "A fracture after all.", "C"),
    ]  # fmt: skip


async def test_combined_without_the_first_text_it_stands_beside_the_first_and_takes_nothing_away(
    pacs, hospital_of, ris
):
    taken, receiver = ris
    hospital = await hospital_of(pacs, hl7=[receiver | {"addendum": "combined"}], keep_texts="1s")
    await hospital.deliver(plainText="No fracture.")
    await hospital.ended("report.hl7", "done")
    async with asyncio.timeout(20):
        while [o async for o in hospital.gateway.parts.store.list("reports/") if o.key.endswith(".txt")]:
            await asyncio.sleep(0.1)
    await hospital.deliver(reportId="rep_2", plainText="A fracture after all.")
    await hospital.ended("report.hl7", "done", count=2)
    assert shown(read(taken[1])[1]) == [(ADDENDUM, "3", "A fracture after all.", "C")]


async def test_no_text_is_kept_where_nobody_wants_addenda_combined(pacs, hospital_of, ris):
    hospital = await hospital_of(pacs, hl7=[ris[1]])
    await hospital.deliver()
    await hospital.ended("report.hl7", "done")
    assert [o.key async for o in hospital.gateway.parts.store.list("reports/") if o.key.endswith(".txt")] == []


async def test_an_original_that_waits_for_its_study_is_not_overtaken_into_a_second_final_report(pacs, hospital_of, ris):
    taken, receiver = ris
    hospital = await hospital_of(pacs, hl7=[receiver])
    await hospital.deliver(studyInstanceUid=None, studyId="stu_9", plainText="The first.")
    async with asyncio.timeout(60):
        while not (job := (await hospital.jobs.list(kinds=["report.fetch"]))[0]).last_error:
            await asyncio.sleep(0.05)
    # Its addendum names the study, and so the original is known, too, as soon as it is tried again.
    await hospital.deliver(reportId="rep_2", studyId="stu_9", plainText="The second.")
    await hospital.ended("report.hl7", "done", within=60)
    async with asyncio.timeout(60):
        while (await hospital.jobs.get(job.id)).state.value != "done":  # its own next attempt may come first
            with contextlib.suppress(Unfit):  # it is just being tried
                await hospital.journal.run(lambda c: assign(c, job.id, STUDY))
            await asyncio.sleep(0.05)
    await hospital.ended("report.hl7", "done", count=2, within=60)
    states = {shown(observations)[0][2]: order.OBR.obr_25.value for order, observations in map(read, taken)}
    assert states == {"The first.": "F", "The second.": "C"}
