"""What the HL7 statement, the network table and the questionnaire say is what the code does."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.config.alerts import AlertEmailConfig
from gateway.config.avara import AvaraConfig
from gateway.config.dicom import DicomConfig
from gateway.config.http import HttpConfig, MetricsConfig
from gateway.config.page import PageConfig
from gateway.page import LEAST, visitors
from gateway.reports.hl7.acknowledgement import REFUSED, TAKEN
from gateway.reports.hl7.field_map import FieldMap
from gateway.reports.hl7.message import CHARSETS, Profile, build_oru
from gateway.reports.report import Signer, Signing
from tests.reports.conftest import a_report, a_study

DOCS = Path(__file__).parent.parent.parent / "docs"
HL7 = (DOCS / "hl7.md").read_text()
ALERTS = (DOCS / "alerts.md").read_text()
NETWORK = (DOCS / "network.md").read_text()
QUESTIONNAIRE = (DOCS / "questionnaire.md").read_text()
FIELD = r"\b(MSH|PID|ORC|OBR|OBX)-(\d+)\b"


def test_the_fields_of_the_hl7_statement_are_those_of_a_message():
    signing = Signing(signed_at=1_795_500_000.0, signer=Signer(npi="1234567893", family="Gray", given="Meredith"))
    profile = Profile(sending_facility="A", receiving_application="B", receiving_facility="C")
    report = a_report(is_critical=True, signing=signing)
    message = build_oru(report, a_study(), profile, message_control_id="X", now=datetime.now(UTC)).decode()
    filled = set()
    for line in message.split("\r")[:-1]:
        name, *fields = line.split("|")
        first = 2 if name == "MSH" else 1
        filled |= {(name, number) for number, value in enumerate(fields, start=first) if value}
    table = HL7.partition("## Segments")[2].partition("Without a PDF")[0]
    said = {
        (name, int(number))
        for row in re.findall(r"^\| ([^|]*) \|", table, re.M)
        for name, number in re.findall(FIELD, row)
    }
    assert filled - {("MSH", 2)} == said


def test_the_fields_that_cannot_be_changed_are_those_of_the_statement():
    said = HL7.partition("What it may not change: ")[2].partition(".\n")[0].replace("MSH-1 to MSH-7", "MSH-1, MSH-7")
    named = set(re.findall(r"([A-Z][A-Z0-9]{2})-(\d+)", said)) | {("MSH", str(n)) for n in range(1, 8)}
    refused = set()
    for segment, most in {"MSH": 21, "PID": 39, "PV1": 52, "ORC": 30, "OBR": 49, "OBX": 19}.items():
        for number in range(1, most + 1):
            try:
                FieldMap.parse({f"{segment}-{number}": ""})
            except ValueError:
                refused.add((segment, str(number)))
    assert refused == named


def test_every_acknowledgement_and_character_set_is_in_the_statement():
    for code in (*TAKEN, *REFUSED):
        assert f"`{code}`" in HL7
    assert {"ASCII", "UNICODE UTF-8", "8859/15", *(f"8859/{n}" for n in range(1, 10))} == set(CHARSETS)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("`http.host`, `http.port`", f"{HttpConfig.model_fields['port'].default}, on 127.0.0.1"),
        ("`dicom.host`, `dicom.port`", f"{DicomConfig.model_fields['port'].default}, on all addresses"),
        ("`page.host`, `page.port`", "none until it is set, on 127.0.0.1"),
        ("`metrics.host`, `metrics.port`", "none until it is set, on 127.0.0.1"),
        ("`alerts.email.server`, `alerts.email.port`", str(AlertEmailConfig.model_fields["port"].default)),
        ("`avara.domain`", str(AvaraConfig.model_fields["domain"].default)),
        ("`avara.api_url`", str(AvaraConfig.model_fields["api_url"].default).removeprefix("https://")),
    ],
)
def test_the_network_table_has_the_defaults_of_the_configuration(keys, said):
    (row,) = [line for line in NETWORK.splitlines() if line.startswith("|") and keys in line]
    assert said in row


def test_what_listens_on_this_machine_only_does_so_by_default():
    assert HttpConfig.model_fields["host"].default == "127.0.0.1"
    assert DicomConfig.model_fields["host"].default == "0.0.0.0"
    for section in (PageConfig, MetricsConfig):
        assert section.model_fields["host"].default == "127.0.0.1"
        assert section.model_fields["port"].default is None


def test_every_key_that_a_document_names_is_in_the_configuration():
    keys = set(re.findall(r"^\| `([^`]+)` \|", (DOCS.parent / "config/reference.md").read_text(), re.M))
    known = {key.rpartition(".")[0] for key in keys} | {key.replace("[]", "") for key in keys} | keys
    kinds = set(re.findall(r"`(\w+\.\w+)`", "".join(re.findall(r"^\| [^|]* \|", ALERTS, re.M))))
    sections = {key.partition(".")[0].removesuffix("[]") for key in keys}
    missing = [
        f"{path.name}: {key}"
        for path in DOCS.glob("*.md")
        for key in re.findall(r"`((?:\w+(?:\[\])?\.)+\w+)`", path.read_text())
        if key.partition(".")[0].removesuffix("[]") in sections and key not in known | kinds
    ]
    assert not missing


def test_the_times_of_the_questionnaire_are_the_defaults_of_the_configuration():
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]*)` \|", (DOCS.parent / "config/reference.md").read_text(), re.M)
    defaults = dict(rows)
    said = re.findall(r"`(\w+\.\w+)` \((\d+) (day|hour)s?\)", QUESTIONNAIRE)
    assert len(said) > 5
    assert {(key, f"{number}{unit[0]}") for key, number, unit in said} == {(key, defaults[key]) for key, _, _ in said}


def test_the_sessions_and_pauses_of_the_questionnaire_are_those_of_the_page():
    assert f"{LEAST} characters at least" in QUESTIONNAIRE
    assert (
        f"a pause after {visitors.TRIES} wrong ones that grows to {visitors.LONGEST_PAUSE / 60:.0f} minutes"
        in QUESTIONNAIRE
    )
    assert (
        f"sessions of {visitors.LASTS / 3600:.0f} hours at most, {visitors.IDLE / 3600:.0f} hour idle" in QUESTIONNAIRE
    )
