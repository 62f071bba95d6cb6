"""What is read of a header that is not as the standard has it, and what a UID becomes as a key: pure, in milliseconds.

That such instances open is in test_instances.py.
"""

from __future__ import annotations

import json
import re
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dicom.elements import MalformedDataSet, read_elements
from gateway.dicom.tolerant import read_tolerantly
from gateway.dicom.uid import is_uid, is_usable
from gateway.pacs.receiver import IncomingInstance
from gateway.pacs.upper.spool import MemoryBody
from gateway.studies import header, index, keys
from gateway.studies.header import read_header_tolerantly
from gateway.studies.index import Instance, StudyIndex, reading_order
from gateway.studies.manifest import write_manifest
from tests.field.inputs import (
    BIG_ENDIAN,
    IMPLICIT,
    KINDS,
    SERIES,
    STUDY,
    big_endian,
    elements,
    encoded,
    explicit,
    implicit,
    references,
    with_element,
    with_vr,
)
from tests.field.raw_pacs import EXPLICIT

READABLE = {name: kind for name, kind in KINDS.items() if kind.described}


def incoming(data, syntax=EXPLICIT):
    return IncomingInstance("1.2.840.10008.5.1.4.1.1.2", "1.2.3", syntax, "THEM", "US", "", MemoryBody(data))


@pytest.mark.parametrize("kind", READABLE)
def test_the_closer_look_reads_all_of_every_kind(kind):
    held = READABLE[kind].instance
    study, read = read_header_tolerantly(incoming(held.data, held.syntax))
    assert (study, read.series_instance_uid, read.sop_instance_uid) == (STUDY, held.series, held.uid)
    assert (read.rows, read.columns, read.bits_allocated, read.samples_per_pixel) == (2, 2, 8, 1)
    assert (read.modality, read.instance_number, read.photometric_interpretation) == ("CT", 1, "MONOCHROME2")


@pytest.mark.parametrize(
    ("syntax", "data"),
    [(EXPLICIT, encoded(elements())), (IMPLICIT, encoded(elements(), implicit)), (BIG_ENDIAN, big_endian(elements()))],
)
def test_what_the_quick_way_can_read_the_closer_look_reads_alike(syntax, data):
    quick = read_elements(data, syntax, header.WANTED)
    closer = read_tolerantly(MemoryBody(data), syntax, header.WANTED)
    assert {tag: value for tag, (_, value) in closer.items()} == quick


def test_the_quick_way_passes_an_element_out_of_order():
    data = with_element(0x00280010, explicit(0x00311010, b"LO", b"AB"))
    assert read_elements(data, EXPLICIT, header.WANTED) == read_elements(encoded(elements()), EXPLICIT, header.WANTED)


@pytest.mark.parametrize(
    ("vr", "value", "rows"),
    [
        (b"US", b"\x00\x02", 512), (b"UL", b"\x00\x02\0\0", 512), (b"SL", b"\x00\x02\0\0", 512),
        (b"IS", b"512 ", 512), (b"IS", b"64", 64), (b"DS", b"512.0 ", 512), (b"US", b"\x00\x02\x00\x03", 512),
        (b"UL", b"\0\0\1\0", None), (b"SL", b"\xff\xff\xff\xff", None), (b"IS", b"many", None), (b"US", b"", None),
        (b"US", b"64", 0x3436), (b"OW", b"\x00\x02", 512),
    ],
)  # fmt: skip
def test_a_number_is_one_in_whichever_value_representation(vr, value, rows):
    """PS3.6 has US for Rows; PS3.5 §6.2 says how each is encoded."""
    assert read_header_tolerantly(incoming(with_vr(0x00280010, vr, value)))[1].rows == rows


@pytest.mark.parametrize("value", [b"\x00\x02", b"\x32\x00"])
def test_a_number_as_it_should_be_takes_the_quick_way(value):
    assert header.read_header(incoming(with_vr(0x00280010, b"US", value)))[1].rows == int.from_bytes(value, "little")


def test_number_of_frames_in_binary_is_a_number():
    data = with_element(0x00280008, explicit(0x00280008, b"US", b"\x07\0"))
    assert read_header_tolerantly(incoming(data))[1].number_of_frames == 7


def test_a_sequence_that_cannot_be_followed_is_passed_by_its_delimiter():
    """PS3.5 §7.5.2: a Sequence Delimitation Item ends it."""
    broken = references(2).replace(b"\x08\x00\x50\x11UI", b"\xfe\xff\x50\x11UI")
    study, read = read_header_tolerantly(incoming(with_element(0x00081115, broken)))
    assert (study, read.rows) == (STUDY, 2)


@pytest.mark.slow
def test_a_million_elements_end_the_closer_look():
    """Bounded, whatever comes: half a second of one processor is not a way to stop the others."""

    class Counted(MemoryBody):
        reads = 0

        def read(self, offset, limit):
            self.reads += 1
            return super().read(offset, limit)

    endless = Counted(explicit(0x00090010, b"UN", b"") * 2_000_000)
    assert read_tolerantly(endless, EXPLICIT, header.WANTED) == {}
    assert endless.reads < 1000


@given(st.binary(max_size=400), st.sampled_from((EXPLICIT, IMPLICIT, BIG_ENDIAN, "1.2.840.10008.1.2.1.99")))
def test_no_bytes_break_the_closer_look(data, syntax):
    read_header_tolerantly(incoming(data, syntax))


@given(st.data())
def test_no_change_of_one_byte_breaks_the_closer_look(data):
    content = bytearray(KINDS["8,000 references before the UIDs"].instance.data[:2000] + encoded(elements()))
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    read_header_tolerantly(incoming(bytes(content)))


class TestKeys:
    """Field note 21: what a PACS calls an instance becomes part of a key, and leads nowhere."""

    def test_those_of_proper_uids_are_what_they_were(self):
        """What is cached stays found."""
        assert keys.instance("1.2.3", "1.2.3.4") == "studies/1.2.3/instances/1.2.3.4.dcm"
        assert keys.index("1.2.3") == "studies/1.2.3/index"
        assert keys.media("1.2.3", "1.2.3.4", "pdf") == "studies/1.2.3/media/1.2.3.4.pdf"

    @given(st.text(st.characters(min_codepoint=1, max_codepoint=300), max_size=90).filter(is_usable))
    def test_a_segment_leads_nowhere_and_comes_back(self, uid):
        segment = keys.segment(uid)
        assert keys.uid_of(segment) == uid
        assert re.fullmatch(r"[0-9a-z._-]+", segment)
        assert segment not in (".", "..")
        assert len(keys.instance("1", uid).split("/")[-1]) <= 255
        assert keys.study_of(keys.study(uid)) == uid

    @given(st.text("aA_.~/ 1-%", max_size=6), st.text("aA_.~/ 1-%", max_size=6))
    def test_no_two_are_the_same_key(self, one, other):
        assert (keys.segment(one) == keys.segment(other)) == (one == other)

    @given(st.text(max_size=20))
    def test_what_is_no_segment_is_nobody_s(self, text):
        uid = keys.uid_of(text)
        assert uid is None or (is_usable(uid) and keys.segment(uid) == text)

    @pytest.mark.parametrize(
        "text", ["", " ", "1.2 ", "*", "1.2.*", "1?", "1\\2", "é", "\n", "1\n", "x" * 81, "\0", ".", ".."]
    )
    def test_what_would_match_more_or_is_too_long_or_leads_elsewhere_is_not_usable(self, text):
        """PS3.4 C.2.2.2: wild cards, lists of UIDs; RFC 3986 §5.2.4: segments of dots."""
        assert not is_usable(text)

    @given(st.text(max_size=80))
    def test_what_is_a_uid_is_usable(self, text):
        assert is_usable(text) or not is_uid(text)


def instance(uid, **of):
    return Instance(uid, SERIES, "1.2.840.10008.5.1.4.1.1.2", EXPLICIT, 10, **of)


IMAGE = {"rows": 2, "columns": 2, "bits_allocated": 8, "samples_per_pixel": 1, "photometric_interpretation": "RGB"}


def test_what_could_not_be_read_is_last_and_not_in_the_manifest():
    unread = instance("1.1", note="its header cannot be read", described=False)
    others = [instance(f"1.{n}", instance_number=n, **IMAGE) for n in (2, 3)]
    ordered = reading_order([unread, *others])
    assert [i.sop_instance_uid for i in ordered] == ["1.2", "1.3", "1.1"]
    [series] = json.loads(write_manifest(STUDY, ordered))["series"]
    assert [s["sopInstanceUID"] for s in series["sops"]] == ["1.2", "1.3"]
    assert write_manifest(STUDY, [unread]) is None


def test_a_manifest_calls_an_instance_what_its_file_does_and_no_two_the_same():
    """A viewer finds a file by the SOP Instance UID that it reads in it."""
    plain, other, copy = (instance(f"1.{n}", **IMAGE) for n in (2, 3, 4))
    other, copy = other._replace(own_uid="1.9"), copy._replace(own_uid="1.2")
    listed = StudyIndex(STUDY, {i.sop_instance_uid: i for i in (plain, other, copy)}, True, "main")
    [series] = json.loads(write_manifest(STUDY, index.load(index.dump(listed)).shown))["series"]
    assert [s["sopInstanceUID"] for s in series["sops"]] == ["1.2", "1.9"]


def test_an_index_of_an_earlier_version_is_read():
    """A warm cache stays warm over an update."""
    written = StudyIndex(STUDY, {"1.2": instance("1.2", **IMAGE)}, True, "main")
    document = json.loads(zlib.decompress(index.dump(written)))
    for new in ("note", "described", "own_uid", "viewable_from", "original_size"):
        del document["columns"][new]
    assert index.load(zlib.compress(json.dumps(document).encode())) == written
    assert index.load(index.dump(written)) == written


def test_the_quick_way_says_where_a_closer_look_is_due():
    with pytest.raises(MalformedDataSet):
        header.read_header(incoming(with_vr(0x00280010, b"UL", b"\2\0\0\0")))


@pytest.mark.parametrize("zeros", [8, 10, 64, 70_000])
@pytest.mark.parametrize("at", [0, 1, 3])
@pytest.mark.parametrize(
    ("syntax", "write"), [(EXPLICIT, encoded), (IMPLICIT, lambda e: encoded(e, implicit)), (BIG_ENDIAN, big_endian)]
)
def test_zeros_between_elements_are_passed_over(zeros, at, syntax, write):
    """No element begins so (PS3.7 §6.3.1: group 0000 is of command sets alone); pydicom's reader passes over some."""
    parts = elements()
    data = write(parts[:at]) + bytes(zeros) + write(parts[at:])
    study, read = read_header_tolerantly(incoming(data, syntax))
    assert (study, read.series_instance_uid, read.sop_instance_uid) == (STUDY, SERIES, f"{SERIES}.1")
    assert (read.rows, read.modality) == (2, "CT")
