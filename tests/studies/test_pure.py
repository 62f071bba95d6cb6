"""The pure parts of study access: index, reading order, manifest, media. No server, no clock."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import random
import warnings
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from gateway.avara.answers import Manifest
from gateway.demo.sample import small_pdf
from gateway.dicom.elements import MalformedDataSet
from gateway.dicom.sop_classes import KEY_OBJECT_SELECTION, PARAMETRIC_MAP
from gateway.pacs.receiver import IncomingInstance
from gateway.pacs.upper.spool import MemoryBody
from gateway.studies import media
from gateway.studies.header import read_header
from gateway.studies.index import Instance, Media, StudyIndex, dump, load, reading_order
from gateway.studies.manifest import write_manifest

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"

uids = st.from_regex(r"[1-9](\.[1-9]){1,5}", fullmatch=True)
numbers = st.none() | st.integers(-5, 500)
instances = st.fixed_dictionaries(
    {
        "sop_instance_uid": uids,
        "series_instance_uid": st.sampled_from(["1.1", "1.2", "1.3"]),
        "sop_class_uid": st.just(CT),
        "transfer_syntax_uid": st.just(EXPLICIT),
        "size": st.integers(1, 10**12),
        "modality": st.text(max_size=3),
        "series_number": numbers,
        "series_description": st.text(max_size=10),
        "instance_number": numbers,
        "position": st.none() | st.floats(-1000, 1000),
        "rows": st.none() | st.integers(1, 9),
        "rescale_slope": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "revision": st.sampled_from(["", "r1"]),
        "fingerprint": st.sampled_from(["", "abc"]),
        "unlisted_since": st.sampled_from([0.0, 1.5]),
        "rejects": st.lists(uids, max_size=2).map(tuple),
        "media": st.none() | st.builds(Media, st.just("application/pdf"), st.just("pdf"), st.integers(1, 9)),
    }
).map(lambda known: Instance(**known))


def index_of(found, complete=True):
    return StudyIndex("1.2.3", {i.sop_instance_uid: i for i in reading_order(found)}, complete, "main")


@pytest.mark.slow
@given(st.lists(instances, max_size=20), st.booleans())
def test_an_index_reads_as_it_was_written(found, complete):
    index = index_of(found, complete)
    assert load(dump(index)) == index
    assert list(load(dump(index)).instances) == list(index.instances)


def test_an_index_of_the_first_form_is_read_but_for_what_was_not_looked_at_then():
    """A warm cache stays warm; key objects come again, since they may be rejection notes."""
    new = ("revision", "fingerprint", "unlisted_since", "rejection", "rejects")
    fields = [name for name in Instance._fields if name not in new]
    found = [image(1), image(2, sop_class_uid=KEY_OBJECT_SELECTION)]
    read = load(in_rows(found, fields, format=1))
    assert list(read.instances.values()) == [image(1)]
    assert (read.statement, read.fetched, read.compared) == (None, 0.0, 0.0)


def in_rows(found, fields=Instance._fields, **more):
    """An index as it was stored before its instances had columns."""
    rows = [[getattr(i, name) for name in fields] for i in found]
    document = {"study": "1.2.3", "complete": True, "pacs": "main", "fields": fields, "instances": rows} | more
    return zlib.compress(json.dumps(document, default=dataclasses.astuple).encode())


@pytest.mark.slow
@given(st.lists(instances, max_size=5, unique_by=lambda i: i.sop_instance_uid))
def test_an_index_of_the_form_before_this_one_is_read(found):
    assert list(load(in_rows(found, format=2)).instances.values()) == found


def test_an_index_of_a_later_form_or_with_more_than_is_known_is_an_absent_one():
    document = json.loads(zlib.decompress(dump(index_of([image(1)]))))
    assert load(zlib.compress(json.dumps(document).encode()))
    columns = document["columns"]
    for other in (
        document | {"format": 4},
        document | {"columns": columns | {"new": {"all": 1}}},
        document | {"columns": {name: column for name, column in columns.items() if name != "size"}},
        document | {"columns": columns | {"size": {"each": [1, 2]}}},
    ):
        assert load(zlib.compress(json.dumps(other).encode())) is None


@given(st.binary(max_size=200))
def test_a_damaged_index_is_an_absent_one(stored):
    assert load(stored) is None


@pytest.mark.slow
@given(st.lists(instances, max_size=20, unique_by=lambda i: i.sop_instance_uid), st.randoms())
def test_reading_order_does_not_depend_on_who_arrived_first(found, rng: random.Random):
    shuffled = list(found)
    rng.shuffle(shuffled)
    assert reading_order(shuffled) == reading_order(found)


@pytest.mark.slow
@given(st.lists(instances, max_size=20))
def test_a_series_is_one_block(found):
    order = [i.series_instance_uid for i in reading_order(found)]
    assert len([1 for a, b in itertools.pairwise(order) if a != b]) == max(len(set(order)) - 1, 0)


def image(number, **changes):
    known = {
        "sop_instance_uid": f"1.9.{number}", "series_instance_uid": "1.9", "sop_class_uid": CT,
        "transfer_syntax_uid": EXPLICIT, "size": 1, "modality": "CT", "series_number": 3, "series_description": "Axial",
        "instance_number": number, "rows": 4, "columns": 5, "bits_allocated": 16, "samples_per_pixel": 1,
        "photometric_interpretation": "MONOCHROME2",
    }  # fmt: skip
    return Instance(**(known | changes))


def manifest_of(study, found):
    """As a viewer reads it."""
    written = write_manifest(study, found)
    return Manifest.model_validate_json(written, strict=True) if written is not None else None


@pytest.mark.slow
@given(st.lists(instances, max_size=20, unique_by=lambda i: i.sop_instance_uid))
def test_a_manifest_is_as_the_contract_has_it(found):
    described = [
        i._replace(columns=5, bits_allocated=16, samples_per_pixel=1, photometric_interpretation="RGB") for i in found
    ]
    ordered = reading_order(described)
    written = write_manifest("1.2.3", ordered)
    if written is None:
        assert not any(i.rows for i in described)
        return
    manifest = Manifest.model_validate_json(written, strict=True)
    assert json.loads(written) == json.loads(manifest.to_json())  # nothing besides, and no nulls
    sops = [sop for series in manifest.series for sop in series.sops]
    expected = [i for i in ordered if i.rows]
    assert [s.sopInstanceUID for s in sops] == [i.sop_instance_uid for i in expected]
    assert [(s.rows, s.instanceNumber, s.rescaleSlope) for s in sops] == [
        (i.rows, i.instance_number, i.rescale_slope) for i in expected
    ]
    assert all(series.seriesDescription and series.modality for series in manifest.series)


def test_slices_without_numbers_are_ordered_along_their_normal():
    found = [image(n, instance_number=None, position=p) for n, p in ((1, 10.0), (2, -5.0), (3, 2.5))]
    assert [i.position for i in reading_order(found)] == [-5.0, 2.5, 10.0]


def test_an_image_without_its_geometry_is_left_out_and_the_others_stay():
    manifest = manifest_of("1.2.3", [image(1, rows=None), image(2, bits_allocated=None), image(3)])
    assert [s.instanceNumber for s in manifest.series[0].sops] == [3]


def test_a_report_needs_no_geometry():
    report = image(
        1, sop_class_uid="1.2.840.10008.5.1.4.1.1.88.11", rows=None, columns=None, photometric_interpretation=""
    )
    [sop] = manifest_of("1.2.3", [report]).series[0].sops
    assert sop.rows is None


def test_required_texts_are_never_empty():
    [series] = manifest_of("1.2.3", [image(1, modality="", series_description="", series_number=None)]).series
    assert (series.modality, series.seriesDescription, series.seriesNumber) == ("OT", "OT series 0", 0)


@pytest.mark.parametrize(("bits", "expected"), [(16, (None, None)), (32, (True, None)), (64, (None, True))])
def test_float_pixels_are_told(bits, expected):
    [sop] = manifest_of("1.2.3", [image(1, sop_class_uid=PARAMETRIC_MAP, bits_allocated=bits)]).series[0].sops
    assert (sop.isFloatPixelData, sop.isDoubleFloatPixelData) == expected


def test_nothing_to_list_is_no_manifest():
    assert manifest_of("1.2.3", [image(1, columns=None)]) is None


def incoming(dataset, sop_class=CT, syntax=EXPLICIT):
    out = DicomBytesIO()
    out.is_implicit_VR, out.is_little_endian = False, True
    write_dataset(out, dataset)
    return IncomingInstance(sop_class, "1.2.3.4", syntax, "THEM", "US", "127.0.0.1", MemoryBody(out.getvalue()))


def header(**values):
    d = Dataset()
    d.SOPInstanceUID, d.StudyInstanceUID, d.SeriesInstanceUID = "1.2.3.4", "1.2.3", "1.2.3.1"
    for name, value in values.items():
        setattr(d, name, value)
    return read_header(incoming(d))[1]


def test_the_data_set_says_which_instance_it_is():
    assert header(SOPInstanceUID="1.2.3.99").sop_instance_uid == "1.2.3.99"


@pytest.mark.parametrize("uid", ["", "1.2*", "1.2\\\\1.3", "x" * 81])
def test_a_data_set_without_a_usable_uid_takes_a_closer_look(uid):
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        d = Dataset()
        d.SOPInstanceUID, d.StudyInstanceUID, d.SeriesInstanceUID = "1.2.3.4", "1.2.3", "1.2.3.1"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            setattr(d, keyword, uid)
            made = incoming(d)
        with pytest.raises(MalformedDataSet, match="a UID is absent"):
            read_header(made)


def test_position_is_along_the_normal_of_the_slice():
    sagittal = header(ImagePositionPatient=[12.5, 1, 2], ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    assert sagittal.position == -12.5


def test_odd_numbers_cost_their_own_value_only():
    odd = header(InstanceNumber="7", SeriesNumber=None, RescaleSlope="1e0", ImagePositionPatient=[1, 2])
    assert (odd.instance_number, odd.series_number, odd.rescale_slope, odd.position) == (7, None, 1.0, None)


async def test_a_padded_pdf_is_unpacked_to_its_true_length():
    document = small_pdf("odd") + b"\n" * (1 - len(small_pdf("odd")) % 2)
    d = Dataset()
    d.EncapsulatedDocument, d.EncapsulatedDocumentLength = document + b"\0", len(document)
    found = await media.unpack(incoming(d, "1.2.840.10008.5.1.4.1.1.104.1"))
    assert b"".join([c async for c in found.chunks()]) == document
    assert found.media == Media("application/pdf", "pdf", len(document))


async def test_the_sop_class_says_what_a_document_is_not_the_sender():
    d = Dataset()
    d.MIMETypeOfEncapsulatedDocument, d.EncapsulatedDocument = "text/html", b"<ClinicalDocument/>."
    found = await media.unpack(incoming(d, "1.2.840.10008.5.1.4.1.1.104.2"))
    assert (found.media.mime_type, found.media.extension) == ("text/xml", "xml")


MP4 = b"\0\0\0\x18ftypmp42" + bytes(1000)


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (MP4, ("video/mp4", "mp4")),
        ((b"\x47" + bytes(187)) * 4, ("video/mp2t", "ts")),
        (b"\0\0\1\xba" + bytes(500), ("video/mpeg", "mpg")),
        (b"\0\0\0\1\x67" + bytes(501), None),
    ],
)
async def test_a_video_is_unpacked_where_its_container_allows(stream, expected):
    d = Dataset()
    d.Rows = 1
    d.PixelData = encapsulate([stream[:300], stream[300:]]) if expected else encapsulate([stream])
    d["PixelData"].is_undefined_length = True
    d["PixelData"].VR = "OB"
    found = await media.unpack(incoming(d, "1.2.840.10008.5.1.4.1.1.77.1.4.1", "1.2.840.10008.1.2.4.102"))
    if expected is None:
        assert found is None
        return
    assert (found.media.mime_type, found.media.extension) == expected
    assert b"".join([c async for c in found.chunks()]) == stream
    assert found.media.size == len(stream)


async def test_a_broken_document_costs_its_unpacking_only():
    body = MemoryBody(b"\x42\x00\x11\x00OB\0\0\xff\xff\xff\x7f")
    broken = IncomingInstance("1.2.840.10008.5.1.4.1.1.104.1", "1.2", EXPLICIT, "A", "B", "h", body)
    assert await media.unpack(broken) is None


def test_a_file_name_carries_no_free_text():
    i = image(4, modality="D/OC", series_description="Müller^Renée")
    assert media.file_name(i, Media("application/pdf", "pdf", 1)) == "doc-series-3-instance-4.pdf"


def test_what_pydicom_reads_of_a_memory_body_is_what_was_sent():
    body = MemoryBody(b"0123456789")
    assert (body.read(2, 3), bytes(body.head(4)), body.size) == (b"234", b"0123", 10)
    assert io.BytesIO(body.read(0, 99)).read() == b"0123456789"
