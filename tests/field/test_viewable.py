"""Documents and video of odd instances, and ``cache.make_viewable``: what a browser can open, and what came, kept."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.filereader import read_dataset
from pydicom.sequence import Sequence

from gateway.dicom.elements import MalformedDataSet
from gateway.dicom.encoding import encode_data_set
from gateway.dicom.viewable import made_viewable
from gateway.pacs.receiver import IncomingInstance
from gateway.pacs.upper.spool import MemoryBody
from gateway.studies import keys, media
from gateway.studies.outcome import Complete
from tests.field.inputs import BIG_ENDIAN, DEFLATED, STUDY, big_endian, elements, encoded, explicit, held, raw_deflate
from tests.field.raw_pacs import EXPLICIT, raw_pacs
from tests.field.test_instances import data_set, opened

PDF = "1.2.840.10008.5.1.4.1.1.104.1"
MPEG4 = "1.2.840.10008.1.2.4.102"


def incoming(data, syntax, sop_class=PDF):
    return IncomingInstance(sop_class, "1.2.3", syntax, "THEM", "US", "", MemoryBody(data))


async def unpacked(instance):
    found = await media.unpack(instance)
    return found and b"".join([chunk async for chunk in found.chunks()])


def video(before):
    """A video with *before* elements of private data, 60 KB each, before its Pixel Data (PS3.5 §8.2, A.4.6)."""
    parts = elements()[:-1] + [(0x00490000 + n + 0x1000, b"UN", bytes(60_000)) for n in range(before)]
    movie = b"\0\0\0\x18ftypmp42" + bytes(100)
    fragments = b"\xfe\xff\x00\xe0\0\0\0\0" + b"\xfe\xff\x00\xe0" + struct.pack("<I", len(movie)) + movie
    pixel_data = struct.pack("<HH2sxxI", 0x7FE0, 0x0010, b"OB", 0xFFFFFFFF) + fragments + b"\xfe\xff\xdd\xe0\0\0\0\0"
    return encoded(parts) + pixel_data, movie


@pytest.mark.parametrize("before", [0, 2, 20])
async def test_a_video_is_unpacked_however_much_comes_before_it(before):
    data, movie = video(before)
    assert await unpacked(incoming(data, MPEG4, "1.2.840.10008.5.1.4.1.1.77.1.1.1")) == movie


@pytest.mark.parametrize("encode", [lambda d: (d, EXPLICIT), lambda d: (raw_deflate(d), DEFLATED)])
@pytest.mark.parametrize("length", [100, 101])
async def test_a_document_is_unpacked_deflated_or_not(encode, length):
    """PS3.5 A.5; PS3.3 C.24.2.2: Encapsulated Document Length tells padding from content."""
    document = b"%PDF-1.7".ljust(length, b"x")
    parts = [e for e in elements(sop_class=PDF) if e[0] < 0x00280000]
    parts += [(0x00420011, b"OB", document + b"\0" * (length % 2)), (0x00420015, b"UL", struct.pack("<I", length))]
    assert await unpacked(incoming(*encode(encoded(parts)))) == document


async def test_a_document_that_cannot_be_found_is_logged(caplog):
    assert await unpacked(incoming(encoded(elements(sop_class=PDF)), EXPLICIT)) is None
    assert "not unpacked" in caplog.text


def rich():
    """A data set with every kind of value, nested twice."""
    inner = Dataset()
    inner.ReferencedFrameNumber, inner.Rows, inner.RealWorldValueSlope = [1, 2], 7, 2.5
    item = Dataset()
    item.PurposeOfReferenceCodeSequence, item.SimpleFrameList = Sequence([inner]), [1, 2**31]
    d = Dataset()
    d.PatientID, d.Rows, d.FrameIncrementPointer, d.RecommendedDisplayFrameRateInFloat = "P1", 512, 0x00181063, 2.5
    d.ReferencedImageSequence = Sequence([item, Dataset()])
    return d


@pytest.mark.parametrize("undefined", [False, True])
def test_big_endian_is_turned_round_to_what_pydicom_writes(undefined):
    """PS3.5 §7.3: every value of two, four or eight bytes; sequences of either kind of length (§7.5)."""
    d = rich()
    for holder in (d, d.ReferencedImageSequence[0]):
        for element in holder:
            if element.VR == "SQ":
                element.is_undefined_length = undefined
                for one in element.value:
                    one.is_undefined_length_sequence_item = undefined
    assert made_viewable(encode_data_set(d, BIG_ENDIAN), BIG_ENDIAN) == encode_data_set(d, EXPLICIT)


def test_words_of_pixels_are_turned_round_and_bytes_are_not():
    big = explicit(0x7FE00010, b"OW", b"\1\2\3\4", ">") + explicit(0x7FE10010, b"OB", b"\1\2", ">")
    little = explicit(0x7FE00010, b"OW", b"\2\1\4\3") + explicit(0x7FE10010, b"OB", b"\1\2")
    assert made_viewable(big, BIG_ENDIAN) == little


def test_deflated_is_inflated():
    assert made_viewable(raw_deflate(encoded(elements())), DEFLATED) == encoded(elements())


@given(st.binary(max_size=200), st.sampled_from((BIG_ENDIAN, DEFLATED)))
def test_no_bytes_break_it(data, syntax):
    try:
        made = made_viewable(data, syntax)
    except MalformedDataSet:
        return
    assert syntax == DEFLATED or len(made) == len(data)


@pytest.mark.parametrize("syntax", [BIG_ENDIAN, DEFLATED])
@pytest.mark.parametrize("method", ["c-move", "c-get", "wado-rs"])
async def test_made_viewable_the_url_gives_explicit_little_endian_and_what_came_is_kept(start, syntax, method):
    came = big_endian(elements()) if syntax == BIG_ENDIAN else raw_deflate(encoded(elements()))
    one, plain = held(came, syntax=syntax), held(encoded(elements(2)))
    plain.uid = f"{plain.series}.2"
    async with raw_pacs(one, plain) as pacs:
        gateway, ended, _, objects = await opened(start, pacs, method, cache={"make_viewable": True})
        assert isinstance(ended, Complete)
        assert list(map(data_set, objects)) == [encoded(elements()), plain.data]
        read = read_dataset(io.BytesIO(data_set(objects[0])), False, True)
        assert (read.Rows, read.PixelData) == (2, b"abcd")
        kept = ended.index.instances[one.uid]
        assert (kept.transfer_syntax_uid, kept.viewable_from) == (EXPLICIT, syntax)
        assert ended.index.instances[plain.uid].viewable_from == ""
        original = await gateway.parts.store.get(keys.original(STUDY, one.uid))
        assert (data_set(original), len(original)) == (came, kept.original_size)
        assert ended.index.size == sum([o.size async for o in gateway.parts.store.list(keys.study(STUDY))]) - (
            await size_of_index(gateway)
        )


async def size_of_index(gateway):
    return len(await gateway.parts.store.get(keys.index(STUDY)))


async def test_without_the_setting_nothing_is_altered(start):
    one = held(big_endian(elements()), syntax=BIG_ENDIAN)
    async with raw_pacs(one) as pacs:
        _, ended, _, objects = await opened(start, pacs, "c-move")
        assert list(map(data_set, objects)) == [one.data]
        assert ended.index.instances[one.uid].viewable_from == ""


async def test_what_cannot_be_made_viewable_is_given_as_it_came(start, caplog):
    broken = held(big_endian(elements())[:-2], syntax=BIG_ENDIAN)
    async with raw_pacs(broken) as pacs:
        _, ended, _, objects = await opened(start, pacs, "c-move", cache={"make_viewable": True})
        assert isinstance(ended, Complete)
        assert list(map(data_set, objects)) == [broken.data]
    assert "not made viewable" in caplog.text
