"""A PACS whose database was corrected and whose files were not: ``pacs[].correct_uids`` off and on."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.filereader import read_dataset

from gateway.demo.sample import sample_study
from gateway.dicom.elements import MalformedDataSet
from gateway.dicom.encoding import encode_data_set
from gateway.dicom.reidentify import with_uids
from gateway.pacs.receiver import IncomingInstance
from gateway.pacs.scu.results import InstanceRef
from gateway.pacs.upper.spool import MemoryBody
from gateway.studies.attribution import Attribution
from gateway.studies.flight import Flight
from gateway.studies.header import read_header
from gateway.studies.outcome import Complete
from tests.field.inputs import (
    BIG_ENDIAN,
    IMPLICIT,
    SERIES,
    STUDY,
    big_endian,
    elements,
    encoded,
    explicit,
    implicit,
    with_element,
)
from tests.field.raw_pacs import EXPLICIT, Held, raw_pacs
from tests.field.test_instances import data_set
from tests.rig.simulator import COERCED

STUDY_UID, SERIES_UID, SOP_UID = 0x0020000D, 0x0020000E, 0x00080018
OLD = {STUDY_UID: STUDY + ".7", SERIES_UID: SERIES + ".7", SOP_UID: SERIES + ".1.7"}
NEW = {STUDY_UID: STUDY, SERIES_UID: SERIES, SOP_UID: SERIES + ".1"}
CHANGED = {tag: (OLD[tag], NEW[tag]) for tag in OLD}
FILE = {"study": OLD[STUDY_UID], "series": OLD[SERIES_UID], "sop": OLD[SOP_UID]}
WRITE = {EXPLICIT: explicit, IMPLICIT: implicit}


def uids_of(d):
    return {tag: str(d[tag].value) for tag in OLD}


def former_in(d):
    """The values that the last item of Original Attributes Sequence has (PS3.3 C.12.1)."""
    return {e.tag: str(e.value) for e in d.OriginalAttributesSequence[-1].ModifiedAttributesSequence[0]}


def rewritten(data, syntax, uids=CHANGED, head=None):
    parts = with_uids(memoryview(data if head is None else head), len(data), syntax, uids)
    return b"".join(part if isinstance(part, bytes) else data[slice(*part)] for part in parts)


def read(data, syntax):
    return read_dataset(io.BytesIO(data), syntax == IMPLICIT, True)


@pytest.mark.parametrize("syntax", WRITE)
def test_only_the_uids_change_and_the_former_ones_are_kept(syntax):
    made = rewritten(encoded(elements(**FILE), WRITE[syntax]), syntax)
    *before, pixels = elements()
    assert made.startswith(encoded(before, WRITE[syntax]))
    assert made.endswith(encoded([pixels], WRITE[syntax]))
    d = read(made, syntax)
    assert (uids_of(d), former_in(d)) == (NEW, OLD)
    assert d.OriginalAttributesSequence[0].ReasonForTheAttributeModification == "COERCE"
    assert [e.tag for e in d] == sorted(e.tag for e in d)


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("syntax", WRITE)
def test_what_was_recorded_before_stays_the_first(syntax, undefined):
    d = read(rewritten(encoded(elements(**FILE), WRITE[syntax]), syntax), syntax)
    d["OriginalAttributesSequence"].is_undefined_length = undefined
    again = {SOP_UID: (NEW[SOP_UID], NEW[SOP_UID] + ".5")}
    twice = read(rewritten(encode_data_set(d, syntax), syntax, again), syntax)
    assert len(twice.OriginalAttributesSequence) == 2
    assert former_in(twice) == {SOP_UID: NEW[SOP_UID]}
    assert twice.PixelData == d.PixelData


def test_an_absent_series_instance_uid_is_put_in():
    without = encoded([e for e in elements() if e[0] != SERIES_UID])
    d = read(rewritten(without, EXPLICIT, {SERIES_UID: ("", SERIES)}), EXPLICIT)
    assert (d.SeriesInstanceUID, former_in(d)) == (SERIES, {SERIES_UID: ""})


def test_without_pixels_the_record_comes_last():
    d = read(rewritten(encoded(elements(**FILE)[:-1]), EXPLICIT), EXPLICIT)
    assert (uids_of(d), former_in(d)) == (NEW, OLD)


_OF_PIXELS = encoded(elements(**FILE))


@pytest.mark.parametrize(
    ("data", "syntax", "head"),
    [
        (big_endian(elements(**FILE)), BIG_ENDIAN, None),
        (_OF_PIXELS[:-30], EXPLICIT, _OF_PIXELS[:100]),
        (encoded(sorted(elements(**FILE), key=lambda e: e[0] >> 16 == 0x20)), EXPLICIT, None),
        (encoded(elements(**FILE), implicit), EXPLICIT, None),
        (encoded(elements(**FILE)), IMPLICIT, None),
        (encoded(elements(**FILE | {"sop": "1.2.3"})), EXPLICIT, None),
        (with_element(0x04000561, struct.pack("<HH2sxxI", 0x0400, 0x0561, b"SQ", 0xFFFFFFFF), **FILE), EXPLICIT, None),
    ],
)
def test_what_would_take_a_guess_is_left(data, syntax, head):
    with pytest.raises(MalformedDataSet):
        rewritten(data, syntax, head=head)


@given(st.binary(max_size=60), st.integers(0, 300), st.sampled_from(tuple(WRITE)))
def test_no_bytes_break_it(data, at, syntax):
    whole = encoded(elements(), WRITE[syntax])
    try:
        made = rewritten(whole[:at] + data + whole[at:], syntax, {tag: ("", uid) for tag, uid in NEW.items()})
    except MalformedDataSet:
        return
    assert len(made) > len(whole)


def test_a_former_uid_of_no_letters_is_no_hindrance():
    data = encoded([(t, vr, b"\xff\xfe1." if t == SERIES_UID else v) for t, vr, v in elements()])
    assert read(rewritten(data, EXPLICIT, {SERIES_UID: ("", SERIES)}), EXPLICIT).SeriesInstanceUID == SERIES


async def opened(start, pacs, method="c-move", **options):
    gateway = await start(pacs.described(method) | options)
    pacs.destination = ("127.0.0.1", gateway.parts.scp.port)
    ended = await gateway.parts.fetcher.fetch(STUDY).ended(60)
    assert isinstance(ended, Complete), ended
    answer = await gateway.ask(STUDY)
    assert "error" not in answer
    return ended.index.instances, answer, [await gateway.open(url) for url in answer["urls"]]


LARGE = b"p" * 3_000_000
"""Pixels of a data set that is received into a spool file."""


def of_the_pacs(syntax, changed=("study", "series", "sop"), pixels=b"abcd"):
    of = {name: FILE[name] for name in changed}
    parts = [*elements(**of)[:-1], (0x7FE00010, b"OB", pixels)]
    return Held(STUDY, SERIES, NEW[SOP_UID], encoded(parts, WRITE[syntax]), syntax=syntax)


@pytest.mark.parametrize("pixels", [b"abcd", LARGE], ids=["small", "spooled"])
@pytest.mark.parametrize("changed", [("study", "series", "sop"), ("study",), ("series",), ("sop",)])
@pytest.mark.parametrize("syntax", WRITE)
async def test_where_it_is_set_the_file_has_the_uids_that_the_pacs_lists(start, syntax, changed, pixels):
    one = of_the_pacs(syntax, changed, pixels)
    async with raw_pacs(one) as pacs:
        kept, answer, objects = await opened(start, pacs, correct_uids=True)
    d = dcmread(io.BytesIO(objects[0]))
    assert (uids_of(d), d.file_meta.MediaStorageSOPInstanceUID) == (NEW, NEW[SOP_UID])
    tags = {"study": STUDY_UID, "series": SERIES_UID, "sop": SOP_UID}
    assert former_in(d) == {tags[name]: FILE[name] for name in changed}
    assert d.PixelData == pixels
    series = answer["manifest"]["series"][0]
    assert (series["seriesInstanceUID"], [s["sopInstanceUID"] for s in series["sops"]]) == (SERIES, [one.uid])
    assert all(FILE[name] in kept[one.uid].note for name in changed)
    assert kept[one.uid].size == len(objects[0])


@pytest.mark.parametrize("method", ["c-get", "wado-rs"])
async def test_by_the_other_methods_too(start, method):
    async with raw_pacs(of_the_pacs(EXPLICIT)) as pacs:
        _, _, objects = await opened(start, pacs, method, correct_uids=True)
    assert uids_of(dcmread(io.BytesIO(objects[0]))) == NEW


@pytest.mark.parametrize("syntax", WRITE)
async def test_where_it_is_not_set_no_byte_is_altered(start, syntax):
    one = of_the_pacs(syntax)
    async with raw_pacs(one) as pacs:
        _, _, objects = await opened(start, pacs)
    assert list(map(data_set, objects)) == [one.data]


async def test_an_instance_that_has_the_listed_uids_stays_as_it_came(start):
    one = of_the_pacs(EXPLICIT, ())
    async with raw_pacs(one) as pacs:
        kept, _, objects = await opened(start, pacs, correct_uids=True)
    assert list(map(data_set, objects)) == [one.data]
    assert kept[one.uid].note == ""


async def test_one_in_another_encoding_stays_as_it_came_and_is_noted(start):
    one = Held(STUDY, SERIES, NEW[SOP_UID], big_endian(elements(**FILE)), syntax=BIG_ENDIAN)
    async with raw_pacs(one) as pacs:
        kept, _, objects = await opened(start, pacs, correct_uids=True)
    assert list(map(data_set, objects)) == [one.data]
    assert "cannot be put in" in kept[one.uid].note


@pytest.mark.parametrize("correct", [False, True])
async def test_a_study_of_coerced_uids_opens_whole(simulator, start, correct):
    study, sample = sample_study()
    simulator.add(*(i.content for i in sample))
    simulator.behaviour.coerced_uids = True
    gateway = await start(simulator, pacs_options={"correct_uids": correct})
    ended = await gateway.parts.fetcher.fetch(study).ended(60)
    assert isinstance(ended, Complete), ended
    assert set(ended.index.instances) == {i.sop_instance_uid for i in sample}
    answer = await gateway.ask(study)
    gateway.simulators.clear()  # what is stored is looked at, not what the PACS has for it
    stored = [dcmread(io.BytesIO(await gateway.open(url))) for url in answer["urls"]]
    listed = {i.sop_instance_uid for i in sample}
    assert ({d.SOPInstanceUID for d in stored} == listed) is correct
    assert all(d.StudyInstanceUID.endswith(COERCED) is not correct for d in stored)


@pytest.mark.parametrize("answers", ["", STUDY])
async def test_what_a_pacs_lists_in_another_study_than_its_file_names_goes_there_though_both_are_on_their_way(answers):
    """A study that was split in the database: its files still name the one that they were of."""
    was, now = Flight(OLD[STUDY_UID]), Flight(STUDY)
    flights = {flight.study_instance_uid: flight for flight in (was, now)}
    for flight in flights.values():
        flight.senders = frozenset(("PACS",))
    attribution, sop = Attribution(flights), f"{SERIES}.1"
    was.expect([InstanceRef(SERIES, f"{SERIES}.2", "")])
    now.expect([InstanceRef(SERIES, sop, "")])
    body = MemoryBody(encoded(elements(study=OLD[STUDY_UID], sop=sop)))
    incoming = IncomingInstance("1.2", sop, EXPLICIT, "PACS", "US", "", body, answers=answers)
    study, read = read_header(incoming)
    assert attribution.is_anothers(was, sop)
    flight, instance = await attribution.find(incoming, study, read)
    assert (flight, instance.sop_instance_uid) == (now, sop)
    assert OLD[STUDY_UID] in instance.note
    was.expect([InstanceRef(SERIES, sop, "")])  # a copy: both list it
    assert not attribution.is_anothers(was, sop)
