"""The fast reader of headers, held against pydicom on real images of many vendors, syntaxes and character sets."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.data import DATA_ROOT
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from gateway.dicom import tags
from gateway.dicom.elements import MalformedDataSet, integer, read_elements, string, text, unsigned_short
from gateway.studies.header import WANTED

IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"


def real_files():
    """Real Part 10 images that ship with pydicom and pydicom-data."""
    import data_store

    chosen = []
    shipped = Path(DATA_ROOT) / "test_files", Path(data_store.__file__).parent
    for path in sorted(path for folder in shipped for path in folder.rglob("*.dcm")):
        if path.stat().st_size > 8_000_000:
            continue
        content = path.read_bytes()
        if content[128:132] != b"DICM":
            continue
        try:
            d = dcmread(io.BytesIO(content), stop_before_pixels=True)
            _ = d.StudyInstanceUID, d.SeriesInstanceUID, d.SOPInstanceUID, d.SOPClassUID, d.file_meta.TransferSyntaxUID
        except Exception:  # broken on purpose
            continue
        if int.from_bytes(content[140:144], "little") and content[132:136] == b"\x02\0\0\0":
            chosen.append(path)
    return chosen


FILES = real_files()


def test_there_are_real_images_of_many_kinds():
    syntaxes = {dcmread(p, stop_before_pixels=True).file_meta.TransferSyntaxUID for p in FILES}
    assert len(FILES) >= 40
    assert len(syntaxes) >= 8


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_real_headers_read_as_pydicom_reads_them(path):
    content = path.read_bytes()
    d = dcmread(io.BytesIO(content), stop_before_pixels=True)
    encoded = content[144 + int.from_bytes(content[140:144], "little") :]
    raw = read_elements(encoded, str(d.file_meta.TransferSyntaxUID), WANTED)
    assert string(raw[tags.STUDY_INSTANCE_UID]) == d.StudyInstanceUID
    assert string(raw[tags.SERIES_INSTANCE_UID]) == d.SeriesInstanceUID
    assert string(raw.get(tags.MODALITY)) == (d.get("Modality") or "")
    for tag, keyword in ((tags.ROWS, "Rows"), (tags.COLUMNS, "Columns")):
        assert unsigned_short(raw.get(tag)) == d.get(keyword), keyword
    assert integer(raw.get(tags.INSTANCE_NUMBER)) == d.get("InstanceNumber")


def encoded(d, syntax):
    out = DicomBytesIO()
    out.is_implicit_VR, out.is_little_endian = syntax == IMPLICIT, syntax != BIG
    write_dataset(out, d)
    return out.getvalue()


def nested(depth):
    d = Dataset()
    d.Modality, d.StudyInstanceUID, d.Rows = "CT", "1.2.3", 7
    inner = Dataset()
    inner.Modality, inner.StudyInstanceUID = "XX", "9.9.9"
    for _ in range(depth):
        outer = Dataset()
        outer.ReferencedSeriesSequence = [inner, inner]
        inner = outer
    d.ReferencedStudySequence = [inner]
    d[0x00081110].is_undefined_length = True
    return d


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
@pytest.mark.parametrize("undefined", [True, False])
def test_what_is_inside_sequences_is_never_taken_for_the_studys(syntax, undefined):
    d = nested(5)
    d[0x00081110].is_undefined_length = undefined
    raw = read_elements(encoded(d, syntax), syntax, WANTED)
    assert (string(raw[tags.MODALITY]), string(raw[tags.STUDY_INSTANCE_UID])) == ("CT", "1.2.3")
    assert unsigned_short(raw[tags.ROWS]) == 7


def test_sequences_nested_too_deep_are_refused():
    item = struct.pack("<HHI", 0x0008, 0x1110, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    with pytest.raises(MalformedDataSet):
        read_elements(item * 100_000, IMPLICIT, WANTED)


@pytest.mark.slow
def test_a_deflated_data_set_is_read_and_a_bomb_is_not_unpacked():
    import zlib

    def deflate(content):
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        return packer.compress(content) + packer.flush()

    assert string(read_elements(deflate(encoded(nested(1), EXPLICIT)), DEFLATED, WANTED)[tags.MODALITY]) == "CT"
    pixels = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, 200_000_000) + b"\0" * 200_000_000
    bomb = deflate(encoded(nested(1), EXPLICIT) + pixels)
    assert len(bomb) < 300_000
    assert string(read_elements(bomb, DEFLATED, WANTED)[tags.MODALITY]) == "CT"


@given(st.binary(max_size=300), st.sampled_from([IMPLICIT, EXPLICIT, BIG, DEFLATED]))
def test_garbage_is_refused_or_read_and_never_crashes(data, syntax):
    try:
        found = read_elements(data, syntax, WANTED)
    except MalformedDataSet:
        return
    assert set(found) <= WANTED


@given(st.integers(0, 2000), st.sampled_from([IMPLICIT, EXPLICIT, BIG]))
def test_a_data_set_that_ends_anywhere_never_crashes(end, syntax):
    try:
        found = read_elements(encoded(nested(3), syntax)[:end], syntax, WANTED)
    except MalformedDataSet:
        return
    assert set(found) <= WANTED


@pytest.mark.parametrize(
    ("raw", "charset", "expected"),
    [
        (b"plain ", b"", "plain"),
        ("Müller".encode("latin-1"), b"ISO_IR 100", "Müller"),
        ("Müller".encode(), b"ISO_IR 192", "Müller"),
        ("Люкceмбypг".encode("iso8859_5"), b"ISO_IR 144", "Люкceмбypг"),
        ("王".encode("gb18030"), b"GB18030", "王"),
        (b"\x1b$B;3ED\x1b(B", b"\\ISO 2022 IR 87", "山田"),
        (b"Zhang=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1", b"\\ISO 2022 IR 58", "Zhang=张^小"),
    ],
)
def test_texts_are_decoded_by_their_character_set(raw, charset, expected):
    assert text(raw, charset) == expected


@given(st.binary(max_size=60), st.sampled_from([b"", b"ISO_IR 100", b"NONSENSE", b"ISO 2022 IR 87", b"\\\\", b"\xff"]))
def test_no_text_and_no_character_set_makes_decoding_fail(raw, charset):
    assert isinstance(text(raw, charset), str)
