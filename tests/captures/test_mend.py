"""Slips of writers in uploads: mended where that is certain, told where it is not. Pure, but for the files."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import ImplicitVRLittleEndian, RLELossless

from gateway.captures.envelope import Unacceptable
from gateway.captures.examine import check, examine
from gateway.config.captures import CAPTURE_CLASSES
from gateway.demo.sample import sample_capture
from gateway.dicom.elements import MalformedDataSet
from gateway.dicom.mend import mend
from gateway.dicom.stretches import pieces
from gateway.runtime.spools import Spools

EXPLICIT, IMPLICIT, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
STUDY = "1.2.3"


def element(tag, vr, value, *, big=False):
    order = ">" if big else "<"
    head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF) + vr
    if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
        return head + b"\0\0" + struct.pack(order + "I", len(value)) + value
    return head + struct.pack(order + "H", len(value)) + value


def implicit(tag, value):
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value


def item(value, length=None):
    return b"\xfe\xff\x00\xe0" + struct.pack("<I", len(value) if length is None else length) + value


END = b"\xfe\xff\xdd\xe0\0\0\0\0"
PIXELS = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF)


def frames(n):
    return element(0x00280008, b"IS", f"{n} "[: 2 if n < 10 else 3].ljust(2).encode())


def mended(data, syntax=EXPLICIT):
    found = mend(memoryview(data), syntax)
    whole = b"".join(bytes(p) for p in pieces(memoryview(data), found))
    assert len(whole) == found.length
    return whole, found.notes


@pytest.mark.parametrize(
    ("syntax", "odd", "even"),
    [
        # PS3.5 §7.1.1: a value has an even length; §6.2: text is padded with a space, UI and bytes with a NUL.
        (EXPLICIT, element(0x00100010, b"PN", b"ODD"), element(0x00100010, b"PN", b"ODD ")),
        (EXPLICIT, element(0x00080018, b"UI", b"1.2"), element(0x00080018, b"UI", b"1.2\0")),
        (EXPLICIT, element(0x00420011, b"OB", b"%PDF-"), element(0x00420011, b"OB", b"%PDF-\0")),
        (EXPLICIT, element(0x00091001, b"UN", b"abc"), element(0x00091001, b"UN", b"abc\0")),
        (EXPLICIT, element(0x00204000, b"LT", b"abc"), element(0x00204000, b"LT", b"abc ")),
        (IMPLICIT, implicit(0x00100010, b"ODD"), implicit(0x00100010, b"ODD ")),
        (IMPLICIT, implicit(0x00080018, b"1.2"), implicit(0x00080018, b"1.2\0")),
        (IMPLICIT, implicit(0x00090010, b"ACM"), implicit(0x00090010, b"ACM ")),
        (BIG, element(0x00100010, b"PN", b"ODD", big=True), element(0x00100010, b"PN", b"ODD ", big=True)),
        (EXPLICIT, element(0x7FE00010, b"OB", b"\1\2\3"), element(0x7FE00010, b"OB", b"\1\2\3\0")),
        (
            EXPLICIT,  # within an item and a sequence of defined lengths, whose lengths grow along
            element(0x00081140, b"SQ", item(element(0x00081155, b"UI", b"1.2.3"))),
            element(0x00081140, b"SQ", item(element(0x00081155, b"UI", b"1.2.3\0"))),
        ),
        (
            IMPLICIT,
            implicit(0x00081140, item(implicit(0x00081155, b"1.2.3"))),
            implicit(0x00081140, item(implicit(0x00081155, b"1.2.3\0"))),
        ),
    ],
)
def test_a_value_of_odd_length_is_padded(syntax, odd, even):
    behind = (
        implicit(0x7FE10010, b"LAST") if syntax == IMPLICIT else element(0x7FE10010, b"LO", b"LAST", big=syntax == BIG)
    )
    found, notes = mended(odd + behind, syntax)
    assert found == even + behind
    assert len(notes) == 1
    assert "even length" in notes[0]
    assert mended(found, syntax) == (found, ())


@pytest.mark.parametrize(("vr", "size"), [(b"US", 3), (b"UL", 5), (b"FL", 7), (b"FD", 9), (b"AT", 3), (b"SS", 1)])
def test_a_binary_value_that_is_cut_short_is_told_with_its_place(vr, size):
    with pytest.raises(MalformedDataSet, match=r"\(0028,0010\) at byte 14 .* not a whole number of values of its VR"):
        mended(element(0x00100010, b"PN", b"EVEN^X") + element(0x00280010, vr, b"\1" * size))


@pytest.mark.parametrize(
    "behind", [b"\0" * 1000, b"\r\n", b"\n", b"\0", b"\0\0\r\n", b"\x1a", b" " * 7, b"\0" * 70_000]
)
def test_padding_behind_the_data_set_is_left_out(behind):
    data = element(0x00100010, b"PN", b"EVEN") + element(0x7FE00010, b"OB", b"\1\2\3\4")
    found, notes = mended(data + behind)
    assert found == data
    assert notes == (f"{len(behind)} bytes behind the data set left out",)


def test_padding_that_the_standard_has_is_kept():
    # PS3.10 §7.2: Data Set Trailing Padding.
    data = element(0x00100010, b"PN", b"EVEN") + element(0xFFFCFFFC, b"OB", b"\0" * 64)
    assert mended(data) == (data, ())


def test_other_bytes_behind_the_data_set_are_told():
    with pytest.raises(MalformedDataSet):
        mended(element(0x00100010, b"PN", b"EVEN") + b"-----boundary--\r\n")


def encapsulated(*fragments, table=b"", count=None, end=END):
    return frames(count or len(fragments)) + PIXELS + item(table) + b"".join(map(item, fragments)) + end


def test_a_fragment_of_odd_length_is_padded_and_the_offset_table_moved():
    # PS3.5 §A.4: each fragment has an even length.
    data = encapsulated(b"\xff\xd8\xff\xe0abc", b"\xff\xd8\xff\xe0defg", table=struct.pack("<2I", 0, 15))
    found, notes = mended(data, "1.2.840.10008.1.2.4.50")
    assert found == encapsulated(b"\xff\xd8\xff\xe0abc\0", b"\xff\xd8\xff\xe0defg", table=struct.pack("<2I", 0, 16))
    assert notes == ("1 fragments of the pixel data padded to an even length",)


def test_a_pad_byte_that_a_fragment_does_not_count_is_counted():
    data = frames(1) + PIXELS + item(b"") + item(b"\xff\xd8\xff\xe0abc", 7) + b"\0" + END
    found, _ = mended(data, "1.2.840.10008.1.2.4.50")
    assert found == encapsulated(b"\xff\xd8\xff\xe0abc\0")


@pytest.mark.parametrize("behind", [b"", b"\0\0", element(0xFFFCFFFC, b"OB", b"\0\0")])
def test_a_missing_delimiter_is_added_where_the_fragments_are_all_there(behind):
    whole = encapsulated(b"\xff\xd8\xff\xe0abcd\xff\xd9")
    found, notes = mended(whole.removesuffix(END) + behind, "1.2.840.10008.1.2.4.50")
    assert found.startswith(whole)
    assert "delimiter" in notes[0]


@pytest.mark.parametrize(
    ("fragments", "count", "syntax"),
    [
        ([b"\xff\xd8\xff\xe0abcd"], 1, "1.2.840.10008.1.2.4.50"),  # the code stream does not end
        ([b"\xff\xd8\xff\xe0abcd\xff\xd9"] * 2, 3, "1.2.840.10008.1.2.4.50"),  # a frame is missing
        ([b"abcd"] * 2, 3, RLELossless),
    ],
)
def test_fragments_that_were_cut_off_are_told(fragments, count, syntax):
    with pytest.raises(MalformedDataSet, match="cut off"):
        mended(encapsulated(*fragments, count=count, end=b""), syntax)


def test_rle_frames_that_a_general_writer_cut_are_joined():
    # PS3.5 §A.4.2: each frame of RLE is in one fragment; dcmjs cuts at 20 KiB (dcmjs#340).
    data = encapsulated(b"aa", b"bb", b"cc", b"dddd", table=struct.pack("<2I", 0, 20), count=2)
    found, notes = mended(data, RLELossless)
    assert found == encapsulated(b"aabb", b"ccdddd", table=struct.pack("<2I", 0, 12))
    assert notes == ("RLE frames in several fragments joined",)


def test_an_offset_table_that_points_between_fragments_is_corrected():
    data = encapsulated(b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xe1", table=struct.pack("<2I", 0, 13))
    found, notes = mended(data, "1.2.840.10008.1.2.4.50")
    assert found == encapsulated(b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xe1", table=struct.pack("<2I", 0, 12))
    assert notes == ("the offset table of the pixel data corrected",)


def test_frames_in_several_fragments_get_an_offset_table_where_their_code_streams_begin():
    data = encapsulated(b"\xff\xd8\xff\xe0", b"abcd", b"\xff\xd8\xff\xe1", b"ef", count=2)
    found, notes = mended(data, "1.2.840.10008.1.2.4.50")
    assert found == encapsulated(
        b"\xff\xd8\xff\xe0", b"abcd", b"\xff\xd8\xff\xe1", b"ef", table=struct.pack("<2I", 0, 24), count=2
    )
    assert notes == ("the offset table of the pixel data added",)


def test_fragments_that_belong_to_nobody_knows_which_frame_are_told():
    with pytest.raises(MalformedDataSet, match="3 fragments and 2 frames"):
        mended(encapsulated(b"ab", b"cd", b"ef", table=struct.pack("<2I", 0, 11), count=2), RLELossless)


def geometry(rows, columns):
    return (
        element(0x00280002, b"US", struct.pack("<H", 1))
        + element(0x00280010, b"US", struct.pack("<H", rows))
        + element(0x00280011, b"US", struct.pack("<H", columns))
        + element(0x00280100, b"US", struct.pack("<H", 8))
    )


def test_two_zeros_too_many_behind_the_pixels_are_left_out():
    head = geometry(2, 3)
    found, notes = mended(head + element(0x7FE00010, b"OB", b"\1\2\3\4\5\6\0\0"))
    assert found == head + element(0x7FE00010, b"OB", b"\1\2\3\4\5\6")
    assert notes == ("2 bytes too many behind the pixels left out",)


@pytest.mark.parametrize("behind", [b"\0\7", b"\0" * 4])
def test_pixels_that_may_be_others_are_not_touched(behind):
    data = geometry(2, 3) + element(0x7FE00010, b"OB", b"\1\2\3\4\5\6" + behind)
    assert mended(data) == (data, ())


@given(st.binary(max_size=300), st.sampled_from([EXPLICIT, IMPLICIT, BIG, RLELossless]))
def test_what_is_mended_needs_no_more_mending(data, syntax):
    try:
        found, _ = mended(data, syntax)
        again, notes = mended(found, syntax)
    except MalformedDataSet:
        return
    assert (again, notes) == (found, ())


@pytest.mark.parametrize("syntax", [EXPLICIT, ImplicitVRLittleEndian, RLELossless])
def test_what_needs_no_mending_stays_the_same_bytes(syntax):
    content = sample_capture(STUDY, syntax=syntax).content
    start = 144 + int.from_bytes(content[140:144], "little")
    assert mended(content[start:], syntax) == (content[start:], ())


# -- whole files


def look(content, tmp_path):
    path = tmp_path / "upload"
    path.write_bytes(content)
    with path.open("rb", buffering=0) as file:
        upload = examine(file, len(content), spools=Spools(tmp_path), max_size=10_000_000)
        assert not file.closed
        check(
            upload, study_instance_uid=STUDY, series_instance_uid=None, sop_instance_uid=None,
            allowed_sop_classes=CAPTURE_CLASSES,
        )  # fmt: skip
        upload.file.seek(0)
        stored = upload.file.read()
        if upload.file is not file:
            upload.close()
    return upload, stored


def without_meta(content):
    return content[144 + int.from_bytes(content[140:144], "little") :]


@pytest.mark.parametrize(
    ("cut", "note"),
    [
        (lambda c: c[128:], "the preamble added"),
        (lambda c: c[132:], "preamble and prefix added"),
        (without_meta, "the file meta information added"),
    ],
)
@pytest.mark.parametrize("syntax", [EXPLICIT, ImplicitVRLittleEndian])
def test_a_file_without_its_preamble_is_one_all_the_same(tmp_path, cut, note, syntax):
    content = sample_capture(STUDY, syntax=syntax).content
    upload, stored = look(cut(content), tmp_path)
    assert note in upload.mended
    assert upload.transfer_syntax_uid == syntax
    assert without_meta(stored) == without_meta(content)
    assert dcmread(io.BytesIO(stored)).SOPInstanceUID == upload.sop_instance_uid


def without_syntax(content):
    d = dcmread(io.BytesIO(content))
    syntax = str(d.file_meta.TransferSyntaxUID).encode()
    syntax += b"\0" * (len(syntax) % 2)
    named = struct.pack("<HH2sH", 2, 0x10, b"UI", len(syntax)) + syntax
    assert named in content
    return content.replace(named, b"", 1)


@pytest.mark.parametrize("syntax", [EXPLICIT, ImplicitVRLittleEndian])
def test_a_transfer_syntax_that_is_not_named_is_the_one_that_the_data_set_shows(tmp_path, syntax):
    content = sample_capture(STUDY, syntax=syntax).content
    upload, stored = look(without_syntax(content), tmp_path)
    assert upload.transfer_syntax_uid == syntax
    assert f"the transfer syntax added, {syntax} by its data set" in upload.mended
    assert without_meta(stored) == without_meta(content)


def test_a_compression_that_nothing_names_is_told(tmp_path):
    content = without_syntax(sample_capture(STUDY, syntax=RLELossless).content)
    with pytest.raises(Unacceptable, match="its pixel data are compressed"):
        look(content, tmp_path)


def test_a_jpeg_that_names_no_transfer_syntax_shows_it(tmp_path):
    jpeg = b"\xff\xd8\xff\xe0\0\4ab\xff\xc0\0\x0b\x08\0\x30\0\x30\1\1\x11\0" + b"\xff\xd9"
    d = dcmread(io.BytesIO(sample_capture(STUDY, syntax=RLELossless).content))
    d.PixelData = encapsulate([jpeg])
    out = io.BytesIO()
    d.save_as(out)
    upload, stored = look(without_syntax(out.getvalue()), tmp_path)
    assert upload.transfer_syntax_uid == "1.2.840.10008.1.2.4.50"
    assert next(iter(generate_frames(dcmread(io.BytesIO(stored)).PixelData, number_of_frames=1))).startswith(jpeg)


def test_an_upload_in_big_endian_without_meta_is_told_apart(tmp_path):
    content = Path(get_testdata_file("MR_small_bigendian.dcm")).read_bytes()
    path = tmp_path / "upload"
    path.write_bytes(without_meta(content))
    with path.open("rb", buffering=0) as file:
        upload = examine(file, path.stat().st_size, spools=Spools(tmp_path), max_size=10_000_000)
        assert upload.transfer_syntax_uid == BIG
        upload.close()


def test_several_slips_at_once_are_all_mended(tmp_path):
    content = sample_capture(STUDY).content
    upload, stored = look(content[128:] + b"\r\n", tmp_path)
    assert upload.mended == ("the preamble added", "2 bytes behind the data set left out")
    assert without_meta(stored) == without_meta(content)


def test_uids_of_a_mended_upload_are_still_checked(tmp_path):
    d = dcmread(io.BytesIO(sample_capture(STUDY).content))
    del d.SeriesInstanceUID
    out = io.BytesIO()
    d.save_as(out)
    with pytest.raises(Unacceptable, match="Series Instance UID is absent"):
        look(without_meta(out.getvalue()), tmp_path)


def test_a_capture_in_jpeg_xl_is_taken_for_what_it_is(tmp_path):
    d = dcmread(io.BytesIO(sample_capture(STUDY, syntax=RLELossless).content))
    d.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.110"
    out = io.BytesIO()
    d.save_as(out)
    assert look(out.getvalue(), tmp_path)[0].transfer_syntax_uid == "1.2.840.10008.1.2.4.110"
