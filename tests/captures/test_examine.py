"""Uploads from a stranger: what is taken for what it is, and what is told apart without harm."""

from __future__ import annotations

import contextlib
import io
import struct
import time
import tracemalloc
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from gateway.captures.envelope import Unacceptable
from gateway.captures.examine import check, examine
from gateway.config.captures import CAPTURE_CLASSES
from gateway.demo.sample import sample_capture
from gateway.runtime.spools import Spools

STUDY = "1.2.3"
OPEN = []


@pytest.fixture(autouse=True)
def _closes():
    yield
    while OPEN:
        OPEN.pop().close()


def look(content, tmp_path, max_size=10_000_000):
    path = tmp_path / "upload"
    path.write_bytes(content)
    OPEN.append(path.open("rb", buffering=0))
    upload = examine(OPEN[-1], len(content), spools=Spools(tmp_path), max_size=max_size)
    OPEN.append(upload.file)
    return upload


def accept(content, tmp_path, **announced):
    upload = look(content, tmp_path)
    check(
        upload,
        study_instance_uid=announced.get("study", STUDY),
        series_instance_uid=announced.get("series"),
        sop_instance_uid=announced.get("instance"),
        allowed_sop_classes=CAPTURE_CLASSES,
    )
    return upload


def changed(capture, **attributes):
    d = dcmread(io.BytesIO(capture))
    for keyword, value in attributes.items():
        if value is None:
            delattr(d, keyword)
        else:
            setattr(d, keyword, value)
    out = io.BytesIO()
    d.save_as(out)
    return out.getvalue()


def raw(data_set, syntax="1.2.840.10008.1.2.1"):
    """A Part 10 file around encoded elements."""
    uid = syntax.encode() + b"\0" * (len(syntax) % 2)
    meta = struct.pack("<HH2sH", 2, 0x10, b"UI", len(uid)) + uid
    return b"\0" * 128 + b"DICM" + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(meta)) + meta + data_set


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", ImplicitVRLittleEndian, RLELossless])
def test_a_capture_is_taken_for_what_it_is(tmp_path, syntax):
    capture = sample_capture(STUDY, syntax=syntax)
    upload = accept(capture.content, tmp_path)
    assert upload.sop_instance_uid == capture.sop_instance_uid
    assert upload.transfer_syntax_uid == syntax
    assert "PixelData" not in upload.attributes
    assert (upload.pixel_data.fragments is None) == (syntax != RLELossless)


def test_a_deflated_capture_is_inflated(tmp_path):
    capture = sample_capture(STUDY)
    d = dcmread(io.BytesIO(capture.content))
    d.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    out = io.BytesIO()
    d.save_as(out)
    upload = accept(out.getvalue(), tmp_path)
    assert upload.transfer_syntax_uid == "1.2.840.10008.1.2.1"
    upload.file.seek(0)
    assert dcmread(io.BytesIO(upload.file.read())).PixelData == d.PixelData


@pytest.mark.parametrize(
    "name",
    ["CT_small.dcm", "rtplan.dcm", "SC_rgb_jpeg_dcmtk.dcm", "test-SR.dcm", "MR_small_bigendian.dcm", "US1_J2KR.dcm"],
)
def test_real_files_of_many_kinds_can_be_examined(tmp_path, name):
    content = Path(get_testdata_file(name)).read_bytes()
    upload = look(content, tmp_path)
    assert upload.sop_class_uid == dcmread(io.BytesIO(content)).SOPClassUID


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "too short"),
        (b"%PDF-1.4" + b"x" * 500, "no DICOM file"),
        (b"PK\x03\x04" + b"\0" * 500, "no DICOM file"),
        (b"\0" * 128 + b"DICM" + b"\0" * 100, "names no transfer syntax"),
        (raw(b"", "1.2.3.4"), "names no transfer syntax"),
        (raw(b"", "../../etc/passwd"), "names no transfer syntax"),
        (raw(b"", "1.2.840.10008.1.2.4.95"), "names no transfer syntax"),
        (raw(struct.pack("<HH2sH", 8, 0x18, b"UI", 200) + b"1.2"), "longer than what is left"),
        (raw(struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, 0xFFFFFFF0)), "longer than what is left"),
        (raw(struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF)), "do not end"),
        (raw(b"\xff" * 40), "no value representation"),
    ],
)
def test_what_is_no_dicom_file_is_told_so(tmp_path, content, said):
    with pytest.raises(Unacceptable, match=said):
        look(content, tmp_path)


def test_a_truncated_file_is_told_wherever_it_ends(tmp_path):
    content = sample_capture(STUDY).content
    for end in {len(content) - 1, len(content) // 2, *range(400, len(content) - 9000, 97)}:
        with pytest.raises(Unacceptable):
            accept(content[:end], tmp_path)


def test_a_truncated_compressed_file_is_told(tmp_path):
    content = sample_capture(STUDY, syntax=RLELossless).content
    for cut in (20, 500, 900):
        with pytest.raises(Unacceptable, match="no whole DICOM file"):
            accept(content[:-cut], tmp_path)


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"StudyInstanceUID": "1.2.4"}, "Study Instance UID is not that"),
        ({"StudyInstanceUID": "../../secret"}, "Study Instance UID is absent or not a valid UID"),
        ({"SOPInstanceUID": "1.2/../../x"}, "SOP Instance UID is absent or not a valid UID"),
        ({"SeriesInstanceUID": None}, "Series Instance UID is absent or not a valid UID"),
        ({"SOPInstanceUID": "1." + "2" * 70}, "SOP Instance UID is absent or not a valid UID"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, "SOP class CT Image Storage is not on the list"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11"}, "add 1.2.840.10008.5.1.4.1.1.88.11 to"),
        ({"Rows": 49}, "pixel data have 9216 bytes where its attributes demand 9408"),
        ({"NumberOfFrames": 1000}, "where its attributes demand"),
        ({"BitsAllocated": None}, "pixel attributes are absent"),
        ({"Rows": 0}, "do not describe an image"),
        ({"PixelData": None}, "is an image and has no pixel data"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_is_not_as_announced_or_contradicts_itself_is_told(tmp_path, attributes, said):
    with pytest.raises(Unacceptable, match=said):
        accept(changed(sample_capture(STUDY).content, **attributes), tmp_path)


@pytest.mark.parametrize("uid", ["series", "instance"])
def test_an_announced_uid_binds(tmp_path, uid):
    capture = sample_capture(STUDY)
    d = dcmread(io.BytesIO(capture.content))
    right = {"series": d.SeriesInstanceUID, "instance": d.SOPInstanceUID}
    accept(capture.content, tmp_path, **{uid: right[uid]})
    with pytest.raises(Unacceptable, match="is not the one that was announced"):
        accept(capture.content, tmp_path, **{uid: "1.2.9"})


def test_an_upload_over_the_limit_is_refused(tmp_path):
    content = sample_capture(STUDY).content
    with pytest.raises(Unacceptable, match=r"captures\.max_size allows 1000"):
        look(content, tmp_path, max_size=1000)


@pytest.mark.slow
def test_a_deflate_bomb_costs_no_more_than_the_limit(tmp_path):
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = b"".join(squeeze.compress(bytes(1_000_000)) for _ in range(300)) + squeeze.flush()
    assert len(bomb) < 400_000
    tracemalloc.start()
    with pytest.raises(Unacceptable, match="inflates to more than"):
        look(raw(bomb, DeflatedExplicitVRLittleEndian), tmp_path, max_size=5_000_000)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("defined", [True, False], ids=["defined", "undefined"])
def test_deep_sequences_are_told_and_do_no_harm(tmp_path, defined):
    inner = b""
    for _ in range(5000):
        if defined:
            item = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner
            inner = struct.pack("<HH2sHI", 8, 0x1111, b"SQ", 0, len(item)) + item
        else:
            inner = (
                struct.pack("<HH2sHI", 8, 0x1111, b"SQ", 0, 0xFFFFFFFF)
                + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + inner
                + struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
            )  # fmt: skip
        if len(inner) > 4_000_000:
            break
    with pytest.raises(Unacceptable, match="nested too deep"):
        look(raw(inner), tmp_path)


def test_a_million_elements_are_told_in_no_time(tmp_path):
    element = struct.pack("<HH2sH", 9, 0x10, b"LO", 0)
    began = time.monotonic()
    with pytest.raises(Unacceptable, match="more than 200000 elements"):
        look(raw(element * 1_000_000), tmp_path, max_size=100_000_000)
    assert time.monotonic() - began < 10


def test_sequences_that_mean_well_are_walked(tmp_path):
    item = Dataset()
    item.CodeValue = "1"
    nested = Dataset()
    nested.PurposeOfReferenceCodeSequence = Sequence([item, item])
    content = changed(sample_capture(STUDY).content, ContributingEquipmentSequence=Sequence([nested]))
    assert accept(content, tmp_path).attributes.ContributingEquipmentSequence[0]


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_garbage_is_told_apart_and_never_raises_anything_else(tmp_path, data):
    content = bytearray(sample_capture(STUDY).content)
    for _ in range(data.draw(st.integers(1, 12))):
        at = data.draw(st.integers(0, 1500))
        content[at : at + 1] = data.draw(st.binary(max_size=6))
    with contextlib.suppress(Unacceptable):
        accept(bytes(content), tmp_path)
    while OPEN:
        OPEN.pop().close()
