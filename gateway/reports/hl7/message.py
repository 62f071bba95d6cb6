"""A report as HL7 v2.5.1 ORU^R01 (chapter 7.3.1), for a RIS or an HIS.

What a message says, and how a receiver's own wishes change it:

- MSH-10 is the same for every try of one version of a report, so that a receiver can drop what it has.
- PID: MRN, issuer, name, birth date and sex as the PACS has them. ORC-3, OBR-3 and OBR-18: the accession number.
- OBR-4 is LOINC 18748-4 with the study's description; OBR-25 and OBX-11 are F for the first report of a study, and C
  for every later version and every addendum, which is a report of its own (:class:`Addendum` says how it is sent).
- OBR-22 is when the report was signed, and OBR-32 by whom, where Avara has told. ORC-12 and OBR-16 are who ordered it.
- The text is one OBX of type TX a line, which every receiver shows alike; or one FT with ``\\.br\\`` (chapter 2.7.6).
- The PDF is one OBX of type ED, base64 (chapter 2.A.24).
- OBX-8 of a critical report is the flag that is configured. The order's priority stays as it was ordered.
- :class:`~gateway.reports.hl7.field_map.FieldMap` changes, adds or removes any other field.

No character is lost without a word: what a character set does not have is written otherwise only where that says the
same (typographic quotes, dashes, spaces), and else the message is refused before it is sent.
"""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum

from gateway.pacs.scu import StudyRecord
from gateway.reports.errors import ReportError
from gateway.reports.hl7.field_map import NAMES, FieldMap, check_literal
from gateway.reports.report import Report, Signing

OBSERVATION = "18748-4^Diagnostic imaging report^LN"
ADDENDUM = "55107-7^Addendum Document^LN"
"""LOINC's name of it; PS3.16 CID 7001 and PS3.20 9.7 have the code as Addendum."""

CHARSETS = {
    "ASCII": "ascii",
    "UNICODE UTF-8": "utf-8",
    "8859/15": "iso8859_15",
    **{f"8859/{n}": f"iso8859_{n}" for n in range(1, 10)},
}
"""MSH-18 (table 0211) to Python's codec. Of ASCII no byte has another meaning in any of them."""

_ESCAPES = str.maketrans({"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "~": "\\R\\", "&": "\\T\\"})

_SAME_IN_ASCII = str.maketrans(
    {
        "‘": "'", "’": "'", "‚": "'", "′": "'", "“": '"', "”": '"', "„": '"', "″": '"', "‐": "-", "‑": "-", "‒": "-",
        "–": "-", "—": "-", "−": "-", "…": "...", "•": "*", "≤": "<=", "≥": ">=", "→": "->", "\u00a0": " ",
        "\u2002": " ", "\u2003": " ", "\u2009": " ", "\u202f": " ", "\u200b": "", "\ufeff": "",
    }
)  # fmt: skip


class NotRepresentable(ReportError):
    """The configured character set lacks a character of the message."""


class Addendum(Enum):
    """How a report is sent that adds to another one of its study, which the receiver has."""

    COMBINED = "combined"
    """In place of the other: its text, a line ``ADDENDUM``, and the new text; where the text of the other is no longer
    kept, as with ``separate``."""
    SEPARATE = "separate"
    """Beside the other, under an OBX-3 and OBX-4 of its own."""


class TextForm(Enum):
    """How the report's text is written."""

    LINES = "lines"
    """One OBX of type TX for each line."""
    FORMATTED = "formatted"
    """One OBX of type FT, its lines ended by ``\\.br\\``."""


@dataclass(frozen=True, slots=True)
class Profile:
    """How one receiver wants its messages. Raises ValueError for what no message can hold."""

    sending_application: str = "AVARA-GATEWAY"
    sending_facility: str = ""
    receiving_application: str = ""
    receiving_facility: str = ""
    charset: str = "UNICODE UTF-8"
    """MSH-18, of table 0211."""
    text_form: TextForm = TextForm.LINES
    addendum: Addendum = Addendum.SEPARATE
    with_pdf: bool = True
    critical_flag: str = "AA"
    """OBX-8 of a critical report (table 0078)."""
    fields: FieldMap = field(default_factory=FieldMap)

    def __post_init__(self) -> None:
        if self.charset not in CHARSETS:
            raise ValueError(f"charset {self.charset!r} is none of {', '.join(CHARSETS)}")
        for name in ("sending_application", "sending_facility", "receiving_application", "receiving_facility"):
            check_literal(getattr(self, name), "|\\~", name)
        check_literal(self.critical_flag, "|\\^~&", "critical_flag")


def control_id(report: Report) -> str:
    """MSH-10 of a version of a report: 20 characters, the same for every try."""
    identity = "\0".join((report.report_id, report.study_instance_uid, str(report.version)))
    digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).digest()
    return base64.b32encode(digest).decode()[:20]


def build_oru(
    report: Report,
    study: StudyRecord,
    profile: Profile,
    *,
    message_control_id: str,
    now: datetime,
    before: Sequence[str] = (),
) -> bytes:
    """The message, without MLLP's frame; *now* is an aware time. *before* are the texts of the reports that an addendum
    adds to, which are sent with it, in place of them. Raises NotRepresentable."""
    corrected = "F" if report.is_first else "C"
    text, text_id, pdf_id = report.plain_text, report.ordinal * 2 - 1, report.ordinal * 2
    if before and text is not None:
        text, text_id = "\n\nADDENDUM\n".join((*before, text)), 1
    flag = profile.critical_flag if report.is_critical else ""
    values = _values(report, study, flag)
    mrn, accession = values["patient_id"], values["accession_number"]
    observed = _timestamp(study.study_date, study.study_time)
    segments: list[tuple[str, str, dict[int, str]]] = [
        (
            "MSH", "",
            {
                3: profile.sending_application, 4: profile.sending_facility, 5: profile.receiving_application,
                6: profile.receiving_facility, 7: f"{now:%Y%m%d%H%M%S%z}", 9: "ORU^R01^ORU_R01",
                10: message_control_id, 11: "P", 12: "2.5.1", 18: profile.charset,
            },
        ),
        (
            "PID", "",
            {
                1: "1", 3: mrn and _joined(mrn, "", "", values["issuer_of_patient_id"], "MR"),
                5: values["patient_name"], 7: values["patient_birth_date"], 8: values["patient_sex"],
            },
        ),
    ]  # fmt: skip
    if profile.fields.has("PV1"):
        segments.append(("PV1", "", {1: "1", 2: "U"}))
    segments += [
        ("ORC", "", {1: "RE", 3: accession, 12: values["referring_physician"]}),
        (
            "OBR", "",
            {
                1: "1", 3: accession, 4: _joined(OBSERVATION, "", values["study_description"]), 7: observed,
                16: values["referring_physician"], 18: accession,
                22: f"{datetime.fromtimestamp(_signed_at(report), UTC):%Y%m%d%H%M%S%z}", 25: corrected,
                32: _interpreter(report.signing),
            },
        ),
    ]  # fmt: skip
    observations = _text_observations(text, profile.text_form)
    if report.pdf is not None and profile.with_pdf:
        # Put in at the end: it needs no escaping, and is too large to be handed about.
        observations.append(("pdf", "ED", ""))
    for number, (kind, value_type, value) in enumerate(observations, start=1):
        sub_id = text_id if kind == "text" else pdf_id
        shown = {1: str(number), 2: value_type, 3: OBSERVATION if sub_id <= 2 else ADDENDUM, 4: str(sub_id), 5: value,
                 8: flag, 11: corrected, 14: observed}  # fmt: skip
        segments.append(("OBX", kind, shown))
    out = []
    for name, kind, fields in segments:
        profile.fields.apply(name, kind, fields, values)
        if kind == "pdf" and report.pdf is not None:
            source = profile.sending_application.replace("^", "&")
            fields[5] = f"{source}^APPLICATION^PDF^Base64^" + base64.b64encode(report.pdf).decode()
        out.append(_encoded(name, fields, profile.charset))
    return b"".join(out)


def _values(report: Report, study: StudyRecord, flag: str) -> dict[str, str]:
    """What the names in templates stand for, escaped."""
    plain = {
        "accession_number": study.accession_number, "critical_flag": flag,
        "issuer_of_patient_id": study.issuer_of_patient_id, "patient_birth_date": _timestamp(study.patient_birth_date),
        "patient_id": study.patient_id, "report_id": report.report_id, "study_date": _timestamp(study.study_date),
        "study_description": study.study_description, "study_id": report.study_id,
        "study_instance_uid": report.study_instance_uid, "version": str(report.version),
        # DICOM's M, F and O are in table 0001; whatever else a PACS has is unknown there.
        "patient_sex": sex if (sex := study.patient_sex.strip()) in ("", "M", "F", "O") else "U",
        "study_time": _timestamp("00000000", study.study_time)[8:],
    }  # fmt: skip
    values = {name: _escaped(text) for name, text in plain.items()}
    values["patient_name"] = _person(study.patient_name)
    physician = _person(study.referring_physician).split("~")[0]
    values["referring_physician"] = f"^{physician}" if physician else ""  # XCN begins with an id
    assert set(values) == set(NAMES)
    return values


def _signed_at(report: Report) -> float:
    signed = report.signing.signed_at if report.signing is not None else None
    return report.received if signed is None else signed


def _interpreter(signing: Signing | None) -> str:
    """OBR-32, Principal Result Interpreter: NDL (chapter 2.A.46), whose first component is a CNN."""
    if signing is None or signing.signer is None:
        return ""
    signer = signing.signer
    parts = (signer.npi, signer.family, signer.given, signer.middle, signer.suffix)
    shown = [*(_escaped(part) for part in parts), "", "", "", "NPI" if signer.npi else ""]
    return "&".join(shown).rstrip("&")


def _person(name: str) -> str:
    """DICOM's PN (PS3.5 §6.2.1) as XPN (chapter 2.A.88): suffix and prefix change places, a group is a repetition."""
    repetitions = []
    for code, group in zip("AIP", name.split("="), strict=False):
        family, given, middle, prefix, suffix = ([_escaped(part.strip()) for part in group.split("^")] + [""] * 5)[:5]
        if any((family, given, middle, prefix, suffix)):
            repetitions.append((code, (family, given, middle, suffix, prefix)))
    if len(repetitions) == 1:
        return _joined(*repetitions[0][1])
    return "~".join(_joined(*parts, "", "", code) for code, parts in repetitions)


def _timestamp(date: str, time: str = "") -> str:
    """DICOM's DA and TM as HL7's TS; empty where the date is none."""
    digits = re.sub(r"[^0-9]", "", date)
    if len(digits) != 8:
        return ""
    clock = re.match(r"\s*(\d\d):?(\d\d):?(\d\d)?", time)
    return digits + ("".join(part or "" for part in clock.groups()) if clock else "")


def _text_observations(text: str | None, form: TextForm) -> list[tuple[str, str, str]]:
    if text is None:
        return []
    lines = [_escaped(line) for line in text.splitlines()]
    if form is TextForm.FORMATTED:
        return [("text", "FT", "\\.br\\".join(lines))]
    return [("text", "TX", line) for line in lines]


def _escaped(text: str) -> str:
    """One line, its separators escaped (chapter 2.7.1). A control character would end a segment or MLLP's block."""
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in whole).translate(_ESCAPES)


def _joined(*components: str) -> str:
    return "^".join(components).rstrip("^")


def _encoded(name: str, fields: Mapping[int, str], charset: str) -> bytes:
    codec = CHARSETS[charset]
    out = [name.encode()]
    first = 1
    if name == "MSH":
        out, first = [b"MSH", b"^~\\&"], 3
    for number in range(first, max((n for n, text in fields.items() if text), default=0) + 1):
        text = fields.get(number, "")
        try:
            out.append(text.encode(codec))
        except UnicodeEncodeError:
            try:
                out.append(unicodedata.normalize("NFC", text).translate(_SAME_IN_ASCII).encode(codec))
            except UnicodeEncodeError:
                raise NotRepresentable(
                    f"{name}-{number} has a character that {charset} lacks: set reports.hl7.charset to UNICODE UTF-8, "
                    "or to another that the receiver can read"
                ) from None
    return b"|".join(out) + b"\r"
