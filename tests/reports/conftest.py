"""A report, its study as a PACS tells of it, and a certificate."""

from __future__ import annotations

import dataclasses

import pytest

from gateway.pacs.client import StudyRecord
from gateway.reports.report import Report
from tests.reports.tls import certificate

STUDY_UID = "1.2.826.0.1.3680043.10.1"


def a_report(**changes):
    report = Report(
        report_id="rep_0123456789abcdef0123456789abcdef",
        study_id="stu_0123456789abcdef0123456789abcdef",
        study_instance_uid=STUDY_UID,
        version=1,
        is_critical=False,
        plain_text="FINDINGS\nNo pneumothorax.",
        pdf=b"%PDF-1.4 not looked at %%EOF",
        received=1_795_500_000.0,
    )
    return dataclasses.replace(report, **changes)


def a_study(**changes):
    study = StudyRecord(
        study_instance_uid=STUDY_UID,
        instances=2,
        series=1,
        patient_id="MRN0001",
        patient_name="Doe^Jane^Ann^Dr.^Jr.",
        patient_birth_date="19700131",
        patient_sex="F",
        issuer_of_patient_id="HOSP",
        accession_number="ACC0001",
        study_id="S1",
        study_date="20261120",
        study_time="101530.250",
        study_description="CT chest",
        referring_physician="House^Gregory",
    )
    return dataclasses.replace(study, **changes)


@pytest.fixture(scope="session")
def tls(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("tls"))
