"""The objects that a report becomes: legal by others' judgement, in the PACS's own letters, the same each time.

The judges are dicom3tools (dciodvfy), DCMTK and pydicom's reader; dicom-validator is not among them, since it gets
the standard over the network. That a PACS takes the objects is tried with Orthanc; how and when they are sent is
tested elsewhere.
"""

from __future__ import annotations

import dataclasses
import datetime
import io
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.valuerep import PN_DELIMS, TEXT_VR_DELIMS

from gateway.demo.sample import sample_study, small_pdf
from gateway.dicom import texts
from gateway.dicom.elements import read_elements, text
from gateway.dicom.sop_classes import BASIC_TEXT_SR, ENCAPSULATED_PDF
from gateway.pacs.peer import Peer
from gateway.pacs.scu.client import PacsClient
from gateway.pacs.scu.results import InstanceRef, StudyRecord, record_of
from gateway.pacs.scu.store import OutgoingInstance, store
from gateway.pacs.upper.spool import MemoryBody
from gateway.reports.dicom.basic_text_sr import basic_text_sr
from gateway.reports.dicom.encapsulated_pdf import encapsulated_pdf
from gateway.reports.report import Predecessor, Report

STUDY = StudyRecord(
    study_instance_uid="1.2.3", instances=1, series=1, patient_id="P-9", patient_name="Petrov^Ivan",
    patient_birth_date="19500505", patient_sex="M", issuer_of_patient_id="HOSPITAL", accession_number="ACC-1",
    study_id="S1", study_date="20260101", study_time="081500", study_description="Thorax",
    referring_physician="House^Greg",
)  # fmt: skip
REPORT = Report(
    report_id="rep_1", study_id="stu_1", study_instance_uid="1.2.3", version=1, is_critical=False,
    plain_text="Lungs are clear.\n\nNo effusion.", pdf=small_pdf("Report"), received=1_770_000_000.25,
)  # fmt: skip
SECOND = dataclasses.replace(REPORT, version=2, is_critical=True, plain_text="Addendum: a nodule.")
PREVIOUS = Predecessor(ENCAPSULATED_PDF, REPORT.document_uid, REPORT.series_instance_uid)

# Specific Character Set, and a Patient's Name in it, as a PACS sends them. Those of the east are the examples of
# PS3.5 Annexes H to K, and letters whose codes look like delimiters.
NAMES = [
    (b"", b"Petrov^Ivan"),
    (b"ISO_IR 100", "Müller^Renée".encode("latin-1")),
    (b"ISO_IR 101", "Wałęsa^Lech".encode("iso8859_2")),
    (b"ISO_IR 109", "Ħaġar^Ġorġ".encode("iso8859_3")),
    (b"ISO_IR 110", "Ķēniņš^Jānis".encode("iso8859_4")),
    (b"ISO_IR 126", "Σωκράτης^Διονύσης".encode("iso8859_7")),
    (b"ISO_IR 127", "قباني^لنزار".encode("iso8859_6")),
    (b"ISO_IR 138", "שרון^דבורה".encode("iso8859_8")),
    (b"ISO_IR 144", "Люкceмбypг^Роза".encode("iso8859_5")),
    (b"ISO_IR 148", "Çavuşoğlu^İpek".encode("iso8859_9")),
    (b"ISO_IR 166", "นามสกุล^ชื่อ".encode("tis_620")),
    (b"ISO_IR 13", b"\xd4\xcf\xc0\xde ABC^\xc0\xdb\xb3"),
    (b"ISO_IR 192", "Wang^XiaoDong=王^小东=".encode()),
    (b"GB18030", "Wang^XiaoDong=王^小东=".encode("gb18030")),
    (b"GBK", "Wang^XiaoDong=王^小东=".encode("gbk")),
    (
        b"\\ISO 2022 IR 87",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
    ),
    (
        b"ISO 2022 IR 13\\ISO 2022 IR 87",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
    ),
    (b"\\ISO 2022 IR 87", b"Deguchi^Ko=\x1b$B=P8}\x1b(B^\x1b$B9,\x1b(B"),  # with an equals sign in it
    (b"\\ISO 2022 IR 159", b"Deng^Li=" + "鄧".encode("iso2022_jp_2") + b"^Li"),
    (
        b"\\ISO 2022 IR 149",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
    ),
    (b"\\ISO 2022 IR 58", b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab="),
    (b"ISO 2022 IR 100\\ISO 2022 IR 144", "Müller^".encode("latin-1") + b"\x1b-L" + "Иван".encode("iso8859_5")),
]
"""Each is kept."""

LABELLED_WRONGLY = [
    (b"ISO_IR 100", "Müßig^Šárka".encode()),
    (b"ISO_IR 100", "Rossi^Nicolà".encode()),
    (b"ISO_IR 100", "Müßig^Šárka".encode("cp1252")),
]
"""Kept, too: what this PACS means by these bytes, it alone knows."""

MISREAD = [
    (b"\\ISO 2022 IR 87", b"Miyazaki^Ko=" + "宮崎".encode("iso2022_jp") + b"^" + "幸".encode("iso2022_jp")),
]
"""Kept, too, though DCMTK and dicom3tools take the second byte of 宮 for a backslash: it stands after an escape
sequence, and every PACS of Japan has many such names."""

MIXED_UP = [
    ("ISO_IR 13\\ISO 2022 IR 87", ["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎"),
    ("ISO 2022 IR 6\\ISO 2022 IR 87", ["", "ISO 2022 IR 87"], "Yamada=山田"),
    ("ISO 2022 IR 149", ["", "ISO 2022 IR 149"], "Hong=洪"),
    ("ISO 2022 IR 100", "ISO_IR 100", "Müller"),
]
"""Terms of one value and of several, mixed up: the bytes are the same under the right ones."""


def study(claimed, name, **others):
    """The study of a PACS that answers with these bytes."""
    said = record_of({0x00080005: claimed, 0x00100010: name})
    return dataclasses.replace(
        STUDY, specific_character_set=said.specific_character_set, patient_name=said.patient_name, **others
    )


def objects(report, of, previous=()):
    """Of both kinds, with the tree of the second in the letters of its text."""
    return [encapsulated_pdf(report, of, previous), basic_text_sr(report, of, previous)]


def read(made):
    return dcmread(io.BytesIO(made.content))


def raw(made, tag):
    """The bytes of an element, padding and all."""
    start = 144 + int.from_bytes(made.content[140:144], "little")
    return read_elements(made.content[start:], "1.2.840.10008.1.2.1", {tag})[tag]


EXPLAINED = (
    # Of a name in one component, as PS3.5 §6.2.1 discourages: the PACS's own, and not ours to take apart.
    "Retired Person Name form",
    # Type 2, and the PACS does not say.
    "Missing attribute or value that would be needed to build DICOMDIR",
    # DCMTK checks the VR of texts in some character sets only, and says so for the others.
    "The VR checker does not support this Specific Character Set",
    "Reading unknown/unsupported SpecificCharacterSet",
)
"""Warnings that remain."""

UNKNOWN_TO_DCIODVFY = ("ISO_IR 13", "GBK")
"""Its version of 2022 takes their letters for those of the default repertoire, and has to be left out of it."""


def faults(program, made, directory, *options):
    """What *program* finds wrong with the object."""
    path = directory / "object.dcm"
    path.write_bytes(made.content)
    done = subprocess.run([program, *options, str(path)], capture_output=True, timeout=30)
    said = (done.stdout if program == "dciodvfy" else b"") + done.stderr
    lines = said.decode("latin-1").splitlines()
    found = [
        line
        for line in lines
        if line.startswith(("Error", "Warning", "E:", "W:", "F:")) and not any(known in line for known in EXPLAINED)
    ]
    if program != "dciodvfy" and done.returncode:
        found.append(f"exit code {done.returncode}")
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("claimed", "name"), NAMES)
@pytest.mark.parametrize(("report", "previous"), [(REPORT, ()), (SECOND, [PREVIOUS])])
def test_others_find_no_fault_in_any_character_set(claimed, name, report, previous, tmp_path):
    local = text(name, claimed)
    report = dataclasses.replace(report, plain_text=f"{local}\n{report.plain_text}\n{local}")
    for made in objects(report, study(claimed, name, study_description=local.replace("=", " ")), previous):
        if claimed.decode() not in UNKNOWN_TO_DCIODVFY:
            assert faults("dciodvfy", made, tmp_path) == []
        assert faults("dcmdump", made, tmp_path, "-q") == []
    assert faults("dsrdump", made, tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("claimed", UNKNOWN_TO_DCIODVFY)
@pytest.mark.parametrize(("report", "previous"), [(REPORT, ()), (SECOND, [PREVIOUS])])
def test_others_find_no_fault_in_the_terms_of_the_rarest(claimed, report, previous, tmp_path):
    for made in objects(report, dataclasses.replace(STUDY, specific_character_set=claimed), previous):
        assert read(made).SpecificCharacterSet == claimed
        assert faults("dciodvfy", made, tmp_path) == []


@pytest.mark.parametrize(("claimed", "name"), NAMES + LABELLED_WRONGLY + MISREAD)
def test_a_name_has_the_very_bytes_that_the_pacs_has(claimed, name):
    of = study(claimed, name)
    for made in (encapsulated_pdf(REPORT, of), basic_text_sr(REPORT, of)):
        assert raw(made, 0x00100010).rstrip(b" ") == name
        terms = read(made).get("SpecificCharacterSet", "")
        assert (terms if isinstance(terms, str) else "\\".join(terms)) == claimed.decode()


@pytest.mark.parametrize(("claimed", "terms", "name"), MIXED_UP)
def test_terms_that_were_mixed_up_are_put_right(claimed, terms, name):
    d = read(encapsulated_pdf(REPORT, dataclasses.replace(STUDY, specific_character_set=claimed, patient_name=name)))
    assert d.SpecificCharacterSet == terms
    assert d.PatientName == name


@pytest.mark.slow
@pytest.mark.parametrize(
    "claimed",
    [
        "", "ISO_IR 6", "NONSENSE", "iso_ir 100", "ISO_IR 999", "GBK\\ISO 2022 IR 87", "\\\\", "\\NONSENSE",
        "ISO 2022 IR 87\\ISO 2022 IR 87", "ISO_IR 192\\",
    ],
)  # fmt: skip
def test_a_character_set_that_cannot_be_kept_becomes_utf_8_and_no_letter_is_lost(claimed, tmp_path):
    of = dataclasses.replace(STUDY, specific_character_set=claimed, patient_name="Müller^Иван", study_description="胸")
    for made in objects(REPORT, of):
        d = read(made)
        assert d.SpecificCharacterSet == "ISO_IR 192"
        assert (d.PatientName, d.StudyDescription) == ("Müller^Иван", "胸")
        assert faults("dciodvfy", made, tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("claimed", ["GBK", "GB18030"])
@pytest.mark.parametrize("name", ["Wang^Cheng=王^誠=", "Wang^Wei=王^僞="])  # second bytes that are \\ and ^
def test_a_letter_that_others_would_take_for_a_delimiter_is_in_utf_8(claimed, name, tmp_path):
    made = encapsulated_pdf(REPORT, dataclasses.replace(STUDY, specific_character_set=claimed, patient_name=name))
    assert read(made).SpecificCharacterSet == "ISO_IR 192"
    assert str(read(made).PatientName) == name.rstrip("=")
    assert faults("dciodvfy", made, tmp_path) == []


def test_a_text_in_other_letters_than_the_pacs_has_does_not_touch_the_pdf():
    of = study(b"ISO_IR 100", "Müller^Renée".encode("latin-1"))
    report = dataclasses.replace(REPORT, plain_text="Размер 5 мм – ohne Befund")
    document, tree = map(read, objects(report, of))
    assert document.SpecificCharacterSet == "ISO_IR 100"
    assert tree.SpecificCharacterSet == "ISO_IR 192"
    assert document.PatientName == tree.PatientName == "Müller^Renée"
    assert tree.ContentSequence[0].ContentSequence[0].TextValue == "Размер 5 мм – ohne Befund"


@pytest.mark.parametrize(
    ("claimed", "written"),
    [
        ("\\ISO 2022 IR 149", "소견: 정상\n결론 abc 정상\n"), ("\\ISO 2022 IR 87", "所見: 正常\n結論 abc 正常 abc"),
        ("ISO 2022 IR 13\\ISO 2022 IR 87", "ｼｮｹﾝ 正常 abc ｼｮ\nｼｮｹﾝ"), ("ISO_IR 144", "Норма\nabc"),
        ("ISO 2022 IR 126\\ISO 2022 IR 100\\ISO 2022 IR 149", "Διon é ε\né Δ 정상 Δ é\nΔ"), ("GB18030", "正常\n胸"),
    ],
)  # fmt: skip
def test_every_line_of_a_text_is_in_the_pacs_character_set(claimed, written):
    d = read(basic_text_sr(dataclasses.replace(REPORT, plain_text=written),
                           dataclasses.replace(STUDY, specific_character_set=claimed)))  # fmt: skip
    assert (
        "\\".join([d.SpecificCharacterSet] if isinstance(d.SpecificCharacterSet, str) else d.SpecificCharacterSet)
        == claimed
    )
    assert d.ContentSequence[0].ContentSequence[0].TextValue == written.rstrip().replace("\n", "\r\n")


CLAIMS = sorted({claimed.decode() for claimed, _ in NAMES})
LETTERS = st.text(
    st.one_of(
        st.sampled_from("abc XYZ^=\\ÄßéñЖяΔεשقกงﾔﾏ山田出誠鄧王東홍길동\n\t\r\x00\x1b\x7f\x85\u2028\ud800😀~¥‾€"),
        st.characters(),
    ),
    max_size=80,
)


@given(
    LETTERS, LETTERS, LETTERS, LETTERS, LETTERS, LETTERS,
    st.one_of(st.sampled_from(CLAIMS), st.text(max_size=20), st.lists(st.sampled_from(CLAIMS)).map("\\".join)),
)  # fmt: skip
def test_whatever_a_pacs_says_an_object_is_made_that_says_it_too(name, short, day, hour, code, plain, claimed):
    of = dataclasses.replace(
        STUDY, patient_name=name, referring_physician=name, patient_id=short, accession_number=short, study_id=short,
        issuer_of_patient_id=short, study_description=short, patient_birth_date=day, study_date=day, study_time=hour,
        patient_sex=code, specific_character_set=claimed,
    )  # fmt: skip
    for made in (encapsulated_pdf(REPORT, of), basic_text_sr(dataclasses.replace(REPORT, plain_text="x" + plain), of)):
        d = read(made)
        terms = d.get("SpecificCharacterSet", "")
        encodings = convert_encodings(terms if isinstance(terms, str) else list(terms))
        held = decode_bytes(raw(made, 0x00100020), encodings, TEXT_VR_DELIMS).replace("\x1b$)A", "")
        assert held.rstrip(" ") == texts.short_text(short)
        held = decode_bytes(raw(made, 0x00100010), encodings, PN_DELIMS).replace("\x1b$)A", "")
        assert held.rstrip(" ") == texts.person_name(name)
        assert (d.StudyDate, d.StudyTime, d.PatientSex) == (texts.date(day), texts.time(hour), texts.sex(code))


@given(st.sampled_from(CLAIMS), LETTERS)
def test_what_a_character_set_takes_it_gives_back(claimed, written):
    of = texts.character_set_for(claimed, [(texts.long_text(written), texts.TEXT_DELIMITERS)])
    encoded = of.encode(texts.long_text(written), texts.TEXT_DELIMITERS)
    decoded = decode_bytes(encoded, convert_encodings(list(of.terms)), TEXT_VR_DELIMS)
    assert decoded.replace("\x1b$)A", "") == texts.long_text(written)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attribute", "said", "keyword", "held"),
    [
        ("patient_birth_date", "-", "PatientBirthDate", ""),
        ("patient_birth_date", "1950.05.05", "PatientBirthDate", "19500505"),
        ("patient_birth_date", "1950-05-05", "PatientBirthDate", "19500505"),
        ("patient_birth_date", "19500231", "PatientBirthDate", ""),
        ("patient_birth_date", "00000000", "PatientBirthDate", ""),
        ("patient_birth_date", "1950", "PatientBirthDate", ""),
        ("patient_birth_date", "05051950", "PatientBirthDate", ""),
        ("study_date", "20260101\\20260102", "StudyDate", ""),
        ("study_time", "08:15:00", "StudyTime", "081500"),
        ("study_time", "081500.123456", "StudyTime", "081500.123456"),
        ("study_time", "0815", "StudyTime", "0815"),
        ("study_time", "8:15", "StudyTime", ""),
        ("study_time", "246000", "StudyTime", ""),
        ("study_time", "081500.1234567", "StudyTime", ""),
        ("patient_sex", "f", "PatientSex", "F"),
        ("patient_sex", "U", "PatientSex", ""),
        ("patient_sex", "MALE", "PatientSex", ""),
        ("patient_id", "A\\B", "PatientID", "A/B"),
        ("patient_id", "A\r\n\x1bB\0", "PatientID", "A   B"),
        ("patient_name", "A^B^C^D^E^F^G", "PatientName", "A^B^C^D^E F G"),
        ("patient_name", "A=B=C=D", "PatientName", "A=B=C D"),
        ("patient_name", "A\\B", "PatientName", "A/B"),
        ("patient_name", "-", "PatientName", "-"),
        ("patient_name", "A\ud800B", "PatientName", "A\ufffdB"),
        ("study_id", "", "StudyID", ""),
    ],
)  # fmt: skip
def test_what_has_no_place_in_an_object_is_changed_the_least(attribute, said, keyword, held, tmp_path):
    of = dataclasses.replace(STUDY, **{attribute: said})
    for made in objects(REPORT, of):
        assert read(made)[keyword].value == held
        assert faults("dciodvfy", made, tmp_path) == []
        assert faults("dcmdump", made, tmp_path, "-q") == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .*length .* exceeds the:UserWarning")
@pytest.mark.parametrize(
    ("attribute", "keyword", "said", "held"),
    [
        ("patient_id", "PatientID", "0" * 80, "0" * 80),
        ("accession_number", "AccessionNumber", "RIS-2026-0000000001", "RIS-2026-0000000001"),
        ("patient_name", "PatientName", "x" * 100, "x" * 100),
        ("study_description", "StudyDescription", "胸" * 70_000, "胸" * 1024),
    ],
)
@pytest.mark.parametrize("claimed", ["ISO_IR 192", "\\ISO 2022 IR 87", "GB18030"])
def test_a_value_that_is_too_long_is_not_cut_to_be_that_of_another(attribute, keyword, said, held, claimed, tmp_path):
    of = dataclasses.replace(STUDY, **{attribute: said, "specific_character_set": claimed})
    for made in objects(REPORT, of):
        assert read(made)[keyword].value == held
        assert not [fault for fault in faults("dcmdump", made, tmp_path, "-q") if "maximum length" not in fault]


def test_patient_and_study_are_those_of_the_pacs():
    for made in objects(REPORT, STUDY):
        d = read(made)
        assert (d.PatientID, d.IssuerOfPatientID, d.PatientName) == ("P-9", "HOSPITAL", "Petrov^Ivan")
        assert (d.PatientBirthDate, d.PatientSex) == ("19500505", "M")
        assert (d.StudyInstanceUID, d.StudyDate, d.StudyTime) == ("1.2.3", "20260101", "081500")
        assert (d.AccessionNumber, d.StudyID, d.StudyDescription) == ("ACC-1", "S1", "Thorax")
        assert d.ReferringPhysicianName == "House^Greg"


@pytest.mark.slow
def test_a_pacs_that_says_nothing_of_the_study_gets_legal_objects(tmp_path):
    silent = dataclasses.replace(
        STUDY, **{f.name: "" for f in dataclasses.fields(STUDY) if isinstance(getattr(STUDY, f.name), str)}
        | {"study_instance_uid": "1.2.3"},
    )  # fmt: skip
    for made in objects(REPORT, silent):
        assert faults("dciodvfy", made, tmp_path) == []
        d = read(made)
        assert "IssuerOfPatientID" not in d
        assert d.PatientID == d.PatientName == ""


@pytest.mark.slow
@pytest.mark.parametrize("pdf", [b"%PDF-1.4 odd", b"%PDF-1.4 even", small_pdf("x"), small_pdf("xy")])
def test_the_pdf_comes_out_as_it_went_in(pdf, tmp_path):
    made = encapsulated_pdf(dataclasses.replace(REPORT, pdf=pdf), STUDY)
    d = read(made)
    assert len(d.EncapsulatedDocument) % 2 == 0
    assert d.EncapsulatedDocumentLength == len(pdf)
    assert d.EncapsulatedDocument[: d.EncapsulatedDocumentLength] == pdf
    assert faults("dciodvfy", made, tmp_path) == []


def test_the_pdf_says_what_it_is():
    d = read(encapsulated_pdf(REPORT, STUDY))
    assert (d.SOPClassUID, d.Modality, d.MIMETypeOfEncapsulatedDocument) == (ENCAPSULATED_PDF, "DOC", "application/pdf")
    assert (d.BurnedInAnnotation, d.VerificationFlag, d.ConversionType) == ("YES", "VERIFIED", "WSD")
    assert (d.ConceptNameCodeSequence[0].CodeValue, d.ConceptNameCodeSequence[0].CodingSchemeDesignator) == (
        "18748-4",
        "LN",
    )
    assert (d.DocumentTitle, d.InstanceNumber) == ("Diagnostic Imaging Report", 1)
    assert (d.Manufacturer, d.ManufacturerModelName) == ("Avara", "Avara Gateway")
    assert d.AcquisitionDateTime == ""
    local = datetime.datetime.fromtimestamp(REPORT.received).astimezone()
    assert (d.ContentDate, d.ContentTime) == (local.strftime("%Y%m%d"), local.strftime("%H%M%S.250000"))


def test_the_file_is_told_about_as_it_is():
    for made in objects(REPORT, STUDY):
        d = read(made)
        meta = d.file_meta
        assert made.sop_class_uid == d.SOPClassUID == meta.MediaStorageSOPClassUID
        assert made.sop_instance_uid == d.SOPInstanceUID == meta.MediaStorageSOPInstanceUID
        assert made.series_instance_uid == d.SeriesInstanceUID
        assert made.transfer_syntax_uid == meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"


def test_the_same_report_is_the_same_object():
    again = dataclasses.replace(REPORT)
    assert objects(again, STUDY) == objects(REPORT, STUDY)
    assert len({made.sop_instance_uid for made in objects(REPORT, STUDY) + objects(SECOND, STUDY)}) == 4


def test_a_later_version_names_the_one_before_in_the_same_series():
    tree_before = Predecessor(BASIC_TEXT_SR, REPORT.text_uid, REPORT.text_series_uid)
    for make, before in ((encapsulated_pdf, [PREVIOUS]), (basic_text_sr, [tree_before])):
        first, second = read(make(REPORT, STUDY)), read(make(SECOND, STUDY, before))
        assert "PredecessorDocumentsSequence" not in first
        assert second.SeriesInstanceUID == first.SeriesInstanceUID
        assert second.InstanceNumber == 2
        (named,) = second.PredecessorDocumentsSequence
        (series,) = named.ReferencedSeriesSequence
        (instance,) = series.ReferencedSOPSequence
        assert named.StudyInstanceUID == "1.2.3"
        assert series.SeriesInstanceUID == first.SeriesInstanceUID
        assert (instance.ReferencedSOPClassUID, instance.ReferencedSOPInstanceUID) == (
            first.SOPClassUID,
            first.SOPInstanceUID,
        )


def test_a_critical_report_and_a_later_version_say_so_to_whoever_opens_them():
    document, tree = map(read, objects(SECOND, STUDY))
    assert document.DocumentTitle == "CRITICAL: Diagnostic Imaging Report, version 2 (addendum or correction)"
    comment = tree.ContentSequence[0]
    assert (comment.ConceptNameCodeSequence[0].CodeValue, comment.TextValue) == ("121106", document.DocumentTitle)


def test_the_tree_claims_no_more_than_is_known():
    d = read(basic_text_sr(REPORT, STUDY))
    assert (d.SOPClassUID, d.Modality) == (BASIC_TEXT_SR, "SR")
    assert (d.CompletionFlag, d.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    assert "VerifyingObserverSequence" not in d
    assert d.ReferencedRequestSequence[0].AccessionNumber == "ACC-1"
    (findings,) = d.ContentSequence
    (item,) = findings.ContentSequence
    assert item.TextValue == "Lungs are clear.\r\n\r\nNo effusion."


@pytest.mark.slow
def test_the_evidence_is_what_the_pacs_lists_but_for_the_report_itself(tmp_path):
    listed = [
        InstanceRef("1.2.3.1", "1.2.3.1.1", "1.2.840.10008.5.1.4.1.1.2"),
        InstanceRef("1.2.3.2", "1.2.3.2.1", "1.2.840.10008.5.1.4.1.1.4"),
        InstanceRef("1.2.3.1", "1.2.3.1.2", "1.2.840.10008.5.1.4.1.1.2"),
        InstanceRef("1.2.3.1", "1.2.3.1.3", ""),
        InstanceRef(REPORT.series_instance_uid, REPORT.document_uid, ENCAPSULATED_PDF),
    ]
    made = basic_text_sr(REPORT, STUDY, evidence=listed)
    (evidence,) = read(made).CurrentRequestedProcedureEvidenceSequence
    assert {
        s.SeriesInstanceUID: [i.ReferencedSOPInstanceUID for i in s.ReferencedSOPSequence]
        for s in evidence.ReferencedSeriesSequence
    } == {"1.2.3.1": ["1.2.3.1.1", "1.2.3.1.2"], "1.2.3.2": ["1.2.3.2.1"]}
    assert faults("dciodvfy", made, tmp_path) == []
    assert faults("dsrdump", made, tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("said", "held"),
    [
        ("a\rb\r\nc\nd", "a\r\nb\r\nc\r\nd"), ("a\x00\x07b\x1b$B", "ab$B"), ("\ufeffab\tc\fd\\e", "ab      c\r\nd\\e"),
        ("a\u2028b\x85c\n\n", "a\r\nb\r\nc"), ("x" * 200_000, "x" * 200_000), ("\ud83da", "\ufffda"),
    ],
)  # fmt: skip
def test_a_text_of_any_length_has_clean_lines(said, held, tmp_path):
    made = basic_text_sr(dataclasses.replace(REPORT, plain_text=said), STUDY)
    assert read(made).ContentSequence[0].ContentSequence[0].TextValue == held
    assert faults("dciodvfy", made, tmp_path) == []
    assert faults("dsrdump", made, tmp_path) == []


@pytest.mark.parametrize("nothing", [None, "", " \n\t", "\x00"])
def test_a_report_without_text_is_no_tree(nothing):
    with pytest.raises(ValueError, match="version 1 of report rep_1 has no text"):
        basic_text_sr(dataclasses.replace(REPORT, plain_text=nothing), STUDY)


@pytest.mark.parametrize("nothing", [None, b""])
def test_a_report_without_a_pdf_is_no_document(nothing):
    with pytest.raises(ValueError, match="version 1 of report rep_1 has no PDF"):
        encapsulated_pdf(dataclasses.replace(REPORT, pdf=nothing), STUDY)


def test_a_report_is_never_given_the_patient_of_another_study():
    for make in (encapsulated_pdf, basic_text_sr):
        with pytest.raises(ValueError, match="of another study"):
            make(REPORT, dataclasses.replace(STUDY, study_instance_uid="1.2.4"))


def test_what_the_pacs_says_of_its_character_set_is_kept_as_it_says_it():
    assert record_of({0x00080005: b"\\ISO 2022 IR 87 "}).specific_character_set == "\\ISO 2022 IR 87"
    assert record_of({}).specific_character_set == ""


async def test_orthanc_takes_both_and_gives_the_pdf_back(orthanc):
    uid, sample = sample_study()
    await orthanc.add(sample[0].content)
    client = PacsClient(
        Peer("orthanc", orthanc.ae_title, "127.0.0.1", orthanc.dicom_port, "AVARAGW"),
        advertised="AVARAGW",
    )
    found = await client.find_study(uid)
    assert found.specific_character_set == "ISO_IR 100"
    report = dataclasses.replace(REPORT, study_instance_uid=uid, pdf=small_pdf("odd or even?") + b"\n")
    for made in objects(report, found) + objects(dataclasses.replace(report, version=2), found):
        start = 144 + int.from_bytes(made.content[140:144], "little")
        body = MemoryBody(made.content[start:])
        instance = OutgoingInstance(made.sop_class_uid, made.sop_instance_uid, made.transfer_syntax_uid, body)
        stored = await store(client, instance, None)
        assert stored.warning == ""
    held = await orthanc.instances(uid)
    d = dcmread(io.BytesIO(held[report.document_uid]))
    assert d.EncapsulatedDocument[: d.EncapsulatedDocumentLength] == report.pdf
    assert d.PatientName == "Müller^Renée"
    assert report.text_uid in held
    assert len(held) == 5
