"""Uploads as writers that are not careful make them: mended where that is certain, held with what is wrong and where.

Each has the data set, as it comes and as it is stored (PS3.5 §7, §8, §9, §A). Pure, but for the files.
"""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian, RLELossless

from gateway.captures.envelope import Unacceptable
from gateway.demo.sample import sample_capture
from gateway.dicom.elements import MalformedDataSet
from tests.captures.test_mend import (
    BIG,
    END,
    EXPLICIT,
    IMPLICIT,
    STUDY,
    element,
    encapsulated,
    frames,
    geometry,
    implicit,
    item,
    look,
    mended,
    without_meta,
)

JPEG_SYNTAX, DEFLATED = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.1.99"
JPEG = b"\xff\xd8\xff\xe0\0\4ab\xff\xc0\0\x0b\x08\0\x30\0\x30\1\1\x11\0" + b"\xff\xd9"
UNDEFINED = 0xFFFFFFFF
ITEM_END = b"\xfe\xff\x0d\xe0\0\0\0\0"
REFERENCE = element(0x00081155, b"UI", b"1.2.6\0")
BEFORE, BEHIND = element(0x00080060, b"CS", b"OT"), element(0x00100010, b"PN", b"DOE^JANE")
RLE_FRAME = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x0f" + bytes(range(15))


def undefined(tag, content, vr=b"SQ"):
    return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr, 0, UNDEFINED) + content


def sequence(*items, tag=0x00081140):
    return element(tag, b"SQ", b"".join(items))


def headed(tag, form):
    return struct.pack("<HH", tag >> 16, tag & 0xFFFF) + form


WHOLE = undefined(0x00081140, item(REFERENCE) + END)
WHOLE_ITEM = item(REFERENCE, UNDEFINED) + ITEM_END


@pytest.mark.parametrize(
    ("ugly", "right"),
    [
        # Delimiters of sequences and items (PS3.5 §7.5.2): nothing but items is in a sequence, and none in an item.
        pytest.param(undefined(0x00081140, item(REFERENCE)), WHOLE, id="a sequence that an element ends"),
        pytest.param(undefined(0x00081140, b""), undefined(0x00081140, END), id="an empty sequence"),
        pytest.param(
            undefined(0x00081140, item(REFERENCE, UNDEFINED) + END),
            undefined(0x00081140, WHOLE_ITEM + END),
            id="an item that its sequence ends",
        ),
        pytest.param(
            undefined(0x00081140, item(REFERENCE, UNDEFINED) * 2 + END),
            undefined(0x00081140, WHOLE_ITEM * 2 + END),
            id="an item that another one ends",
        ),
        pytest.param(
            sequence(item(REFERENCE, UNDEFINED)), sequence(WHOLE_ITEM), id="an item that a length ends"
        ),
        pytest.param(
            sequence(item(undefined(0x00081199, item(REFERENCE)))),
            sequence(item(undefined(0x00081199, item(REFERENCE) + END))),
            id="a sequence that the length of its item ends",
        ),
        pytest.param(
            undefined(0x00081115, item(undefined(0x00081199, item(REFERENCE)), UNDEFINED) + ITEM_END + END),
            undefined(0x00081115, item(undefined(0x00081199, item(REFERENCE) + END), UNDEFINED) + ITEM_END + END),
            id="a sequence that the delimiter of its item ends",
        ),
        pytest.param(sequence(item(REFERENCE), END), sequence(item(REFERENCE)), id="a delimiter within a length"),
        pytest.param(sequence(item(REFERENCE + ITEM_END)), sequence(item(REFERENCE)), id="one within an item's"),
        pytest.param(sequence(item(REFERENCE)) + END, sequence(item(REFERENCE)), id="a delimiter behind a length"),
        pytest.param(
            undefined(0x00081140, WHOLE_ITEM[:-4] + b"\4\0\0\0" + END),
            undefined(0x00081140, WHOLE_ITEM + END),
            id="an item's delimiter with a length",
        ),
        pytest.param(
            undefined(0x00081140, WHOLE_ITEM + END[:4] + b"\4\0\0\0"),
            undefined(0x00081140, WHOLE_ITEM + END),
            id="a sequence's delimiter with a length",
        ),
        # §6.2.2: items of a UN are in implicit VR.
        pytest.param(undefined(0x00081140, item(REFERENCE) + END, b"UN"), WHOLE, id="a UN with explicit items"),
        # §9.1: digits and dots, and one NUL behind them where their length is odd.
        *(
            pytest.param(element(0x00081155, b"UI", uid), REFERENCE, id=f"a UID {uid!r}")
            for uid in (b"1.2.6 ", b"1.2.6\0\0\0", b" 1.2.6", b"1.2.6\n", b"1.2.6 \0")
        ),
        pytest.param(sequence(item(element(0x00081155, b"UI", b"1.2.6   "))), sequence(item(REFERENCE)), id="inside"),
        # §7.1.2: the forms of a header.
        *(
            pytest.param(
                headed(0x00091010, form) + b"abcd", element(0x00091010, b"UN", b"abcd"), id=f"a header {form!r}"
            )
            for form in (
                b"ZZ\4\0", b"??\4\0", b"\0\0\4\0", b"  \0\0\4\0\0\0", b"ZZ\0\0\4\0\0\0", b"\4\0\0\0", b"UN\4\0",
            )
        ),
        pytest.param(headed(0x00091010, b"OB\4\0") + b"abcd", element(0x00091010, b"OB", b"abcd"), id="a short OB"),
        pytest.param(headed(0x00090010, b"lo\4\0") + b"ACME", element(0x00090010, b"LO", b"ACME"), id="lower case"),
        pytest.param(
            element(0x00081155, b"UI", b"1.2.6") + b"\0", REFERENCE, id="a pad byte that is not counted"
        ),
        pytest.param(REFERENCE * 2, REFERENCE, id="an element twice"),
        pytest.param(element(0x00080000, b"UL", b"\xff\0\0\0") + REFERENCE, REFERENCE, id="a stale group length"),
        pytest.param(element(0x00080000, b"UL", b"\x10\0\0") + REFERENCE, REFERENCE, id="a group length of 3 bytes"),
        pytest.param(
            headed(0x00080000, b"??\4\0") + b"\x10\0\0\0" + REFERENCE, REFERENCE, id="a group length without a VR"
        ),
    ],
)  # fmt: skip
def test_what_is_certain_is_mended(ugly, right):
    found, notes = mended(BEFORE + ugly + BEHIND)
    assert found == BEFORE + right + BEHIND
    assert notes
    assert mended(found) == (found, ())


def test_a_group_length_that_mending_makes_wrong_goes():
    length = element(0x00100000, b"UL", struct.pack("<I", 11))
    right = length + element(0x00100010, b"PN", b"ODD") + element(0x00200010, b"SH", b"AB")
    assert mended(right)[0] == element(0x00100010, b"PN", b"ODD ") + element(0x00200010, b"SH", b"AB")
    fits = element(0x00100000, b"UL", struct.pack("<I", 12)) + element(0x00100010, b"PN", b"EVEN")
    assert mended(fits + element(0x00200010, b"SH", b"AB"))[1] == ()


def test_what_is_of_no_data_set_is_left_out():
    # PS3.10 §7.1, PS3.7 §6.3: file meta information and command elements.
    found, _ = mended(element(0x00000002, b"UI", b"1.2\0") + BEFORE + element(0x00020010, b"UI", b"1.2\0"))
    assert found == BEFORE


@pytest.mark.parametrize(
    ("ugly", "told"),
    [
        (element(0x00080018, b"UI", b"1.2\0") + element(0x00080018, b"UI", b"1.3\0"), r"\(0008,0018\) twice, with two"),
        (undefined(0x00081140, item(REFERENCE, UNDEFINED)), "an item that does not end"),
        (undefined(0x00081140, item(REFERENCE)), r"\(0008,1140\) does not end"),
        (headed(0x00091010, b"ZZ\7\0abcd"), r"\(0009,1010\) at byte 10 of its data set has no VR that there is \(ZZ\)"),
        (element(0x7FE00010, b"OB", b"\1\2") + element(0x00080018, b"UI", b"1.3\0"), "lies behind the pixel data"),
        (element(0x7FE00010, b"OB", b"\1\2") + b"--boundary--", "12 bytes follow its pixel data, at byte 24 "),
        (element(0x7FE00010, b"OB", b"\1\2") + b"\0" * 128 + b"DICM\2\0", "a second file begins at byte 24 "),
        (element(0x7FE00010, b"OB", b"\1\2") * 2, "pixel data twice, the second at byte 24 "),
    ],
)
def test_what_is_not_certain_is_told_with_its_place(ugly, told):
    with pytest.raises(MalformedDataSet, match=told):
        mended(BEFORE + ugly)


def test_bytes_of_ones_behind_the_data_set_are_left_out():
    assert mended(BEHIND + b"\xff" * 512) == (BEHIND, ("512 bytes behind the data set left out",))


# -- pixel data


@pytest.mark.parametrize(
    ("bits", "vr", "right"),
    # PS3.5 §A.2: OW above 8 bits allocated, else OB or OW.
    [
        (8, b"UN", b"OB"),
        (16, b"UN", b"OW"),
        (16, b"OB", b"OW"),
        (8, b"US", b"OB"),
        (8, b"OW", b"OW"),
        (8, b"ox", b"OB"),
    ],
)
def test_pixel_data_have_a_vr_of_pixel_data(bits, vr, right):
    head = geometry(2, 3).replace(struct.pack("<HH2sHH", 0x28, 0x100, b"US", 2, 8), b"") + element(
        0x00280100, b"US", struct.pack("<H", bits)
    )
    pixels = bytes(range(bits // 8 * 6))
    ugly = headed(0x7FE00010, vr + b"\0\0" + struct.pack("<I", len(pixels))) + pixels if vr == b"ox" else None
    found, notes = mended(head + (ugly or element(0x7FE00010, vr, pixels)))
    assert found == head + element(0x7FE00010, right, pixels)
    assert bool(notes) == (vr != right)


def test_words_in_big_endian_are_not_guessed():
    with pytest.raises(MalformedDataSet, match="pixel data of VR UN in big endian"):
        mended(element(0x7FE00010, b"UN", b"\1\2", big=True), BIG)


@pytest.mark.parametrize("vr", [b"OW", b"UN"])
def test_encapsulated_pixel_data_are_ob(vr):
    right = encapsulated(b"\xff\xd8\xff\xe0")
    assert mended(right.replace(b"OB", vr), JPEG_SYNTAX)[0] == right


@pytest.mark.parametrize("frame", [JPEG + b"\0" * (len(JPEG) % 2), RLE_FRAME])
def test_a_missing_offset_table_is_added(frame):
    right, syntax = encapsulated(frame, frame), RLELossless if frame is RLE_FRAME else JPEG_SYNTAX
    assert mended(right.replace(item(b""), b"", 1), syntax)[0] == right


@pytest.mark.parametrize("end", [END[:4], ITEM_END, ITEM_END + END, END[:4] + b"\x08\0\0\0"])
def test_an_odd_delimiter_behind_fragments_is_put_right(end):
    right = encapsulated(b"\xff\xd8\xff\xe0ab\xff\xd9")
    assert mended(right.removesuffix(END) + end, JPEG_SYNTAX)[0] == right


@pytest.mark.parametrize(
    ("fragments", "count", "syntax", "told"),
    [
        ([b"\xff\xd8\xff\xd9"] * 2, 3, JPEG_SYNTAX, "2 fragments where Number of Frames says 3"),
        ([RLE_FRAME], 3, RLELossless, "1 fragments where Number of Frames says 3"),
        ([b"\xff\xd8\xff\xd9", b""], 2, JPEG_SYNTAX, "1 fragments where Number of Frames says 2"),
        ([b"\xff\xd8\xff\xe0\xff\xd9"] * 2, 1, JPEG_SYNTAX, "more code streams than Number of Frames says, 1"),
    ],
)
def test_frames_that_are_not_as_many_as_said_are_told(fragments, count, syntax, told):
    with pytest.raises(MalformedDataSet, match=told):
        mended(encapsulated(*fragments, count=count), syntax)


def test_a_video_has_its_frames_in_one_fragment():
    assert mended(encapsulated(b"\0\0\1\xb3", count=9), "1.2.840.10008.1.2.4.100")[1] == ()


# -- whole files


def file(data_set, syntax, preamble=b"\0" * 128):
    uid = syntax.encode() + b"\0" * (len(syntax) % 2)
    return preamble + b"DICM" + headed(0x00020010, b"UI" + struct.pack("<H", len(uid))) + uid + data_set


PLAIN, IMPLICITLY = (without_meta(sample_capture(STUDY, syntax=s).content) for s in (EXPLICIT, ImplicitVRLittleEndian))


def compressed():
    d = dcmread(io.BytesIO(sample_capture(STUDY, syntax=RLELossless).content))
    data = without_meta(sample_capture(STUDY, syntax=RLELossless).content)
    at = data.index(struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, UNDEFINED))
    assert int(d.get("NumberOfFrames") or 1) == 1
    return data[:at] + encapsulated(JPEG + b"\0" * (len(JPEG) % 2))[len(frames(1)) :]


def deflated(data):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("content", "syntax"),
    [
        pytest.param(file(IMPLICITLY, EXPLICIT), IMPLICIT, id="implicit as explicit"),
        pytest.param(file(PLAIN, IMPLICIT), EXPLICIT, id="explicit as implicit"),
        pytest.param(file(PLAIN, BIG), EXPLICIT, id="little endian as big"),
        pytest.param(file(IMPLICITLY, BIG), IMPLICIT, id="implicit as big endian"),
        pytest.param(file(PLAIN, DEFLATED), EXPLICIT, id="not deflated"),
        pytest.param(file(IMPLICITLY, DEFLATED), IMPLICIT, id="not deflated, and implicit"),
        pytest.param(file(PLAIN, JPEG_SYNTAX), EXPLICIT, id="native as JPEG"),
        pytest.param(file(PLAIN + b"\0" * 9, IMPLICIT), EXPLICIT, id="with padding"),
        pytest.param(file(compressed(), EXPLICIT), JPEG_SYNTAX, id="JPEG as native"),
        pytest.param(file(compressed(), IMPLICIT), JPEG_SYNTAX, id="JPEG as implicit"),
        pytest.param(file(compressed(), "1.2.840.10008.1.2.4.90"), JPEG_SYNTAX, id="JPEG as JPEG 2000"),
        pytest.param(file(compressed(), "1.2.840.10008.1.2.4.70"), JPEG_SYNTAX, id="lossy as lossless"),
        pytest.param(file(compressed(), RLELossless), JPEG_SYNTAX, id="JPEG as RLE"),
    ],
)
def test_a_wrong_transfer_syntax_is_the_one_that_the_data_set_shows(tmp_path, content, syntax):
    upload, stored = look(content, tmp_path)
    assert upload.transfer_syntax_uid == syntax
    assert any("the transfer syntax corrected from " in note for note in upload.mended)
    assert dcmread(io.BytesIO(stored)).file_meta.TransferSyntaxUID == syntax
    assert without_meta(stored) in content


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_what_is_deflated_is_inflated_whatever_it_says(tmp_path, syntax):
    upload, stored = look(file(deflated(PLAIN), syntax), tmp_path)
    assert upload.transfer_syntax_uid == EXPLICIT
    assert without_meta(stored) == PLAIN


def test_a_jpeg_that_may_be_in_either_of_two_syntaxes_keeps_its_own(tmp_path):
    assert look(file(compressed(), "1.2.840.10008.1.2.4.51"), tmp_path)[0].transfer_syntax_uid.endswith(".51")


META = file(b"", EXPLICIT)[132:]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(file(PLAIN, EXPLICIT, b"\0" * 64), id="a short preamble"),
        pytest.param(file(PLAIN, EXPLICIT, b"\r\n" + b"\0" * 128), id="a line end before it"),
        pytest.param(b"\0" * 128 + META + PLAIN, id="no prefix"),
        pytest.param(file(file(PLAIN, EXPLICIT), IMPLICIT), id="a file in a file"),
        pytest.param(file(META + PLAIN, IMPLICIT), id="two file meta information"),
        pytest.param(b"\0" * 128 + b"DICM" + implicit(0x00020010, META[8:]) + PLAIN, id="meta in implicit VR"),
    ],
)
def test_what_is_around_a_data_set_is_made_anew(tmp_path, content):
    content = content.replace(META, element(0x00020000, b"UL", struct.pack("<I", 999)) + META)
    upload, stored = look(content, tmp_path)
    assert upload.transfer_syntax_uid == EXPLICIT
    assert PLAIN in stored


def test_what_is_compressed_in_implicit_vr_is_told(tmp_path):
    pixels = struct.pack("<HHI", 0x7FE0, 0x10, UNDEFINED)
    data = IMPLICITLY[: IMPLICITLY.index(struct.pack("<HH", 0x7FE0, 0x10))] + pixels + item(b"") + item(JPEG) + END
    with pytest.raises(Unacceptable, match=f"its data set is not encoded as its transfer syntax {JPEG_SYNTAX} has it"):
        look(file(data, JPEG_SYNTAX), tmp_path)
