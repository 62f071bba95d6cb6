"""The DICOM Conformance Statement says what the code does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.dicom.sop_classes import VERIFICATION, is_storage_class
from gateway.dicom.syntaxes import COMMONEST_FIRST

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "scripts/write-conformance"
STATEMENT = (ROOT / "docs/conformance.md").read_text()


def _check(script: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)


def _table(name: str) -> list[list[str]]:
    text = STATEMENT.partition(f"<!-- {name} -->\n")[2].partition("<!-- end -->")[0]
    return [line.strip("| ").split(" | ") for line in text.splitlines()[2:]]


def _uids(name: str) -> list[str]:
    return [uid for row in _table(name) for cell in row for uid in re.findall(r"`([\d.]+)`", cell)]


def test_the_tables_are_those_of_the_code():
    checked = _check(SCRIPT)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(
    ("was", "now"),
    [("262144 bytes", "16384 bytes"), ("| CT Image Storage |", "| Other Storage |"), ("<!-- keys -->\n", "")],
)
def test_a_statement_that_says_otherwise_is_told(tmp_path, was, now):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "docs").mkdir()
    script = tmp_path / "scripts/write-conformance"
    script.write_text(SCRIPT.read_text())
    assert was in STATEMENT
    (tmp_path / "docs/conformance.md").write_text(STATEMENT.replace(was, now))
    checked = _check(script)
    assert checked.returncode == 1
    assert "docs/conformance.md" in checked.stderr


def test_it_names_every_transfer_syntax_and_only_storage_classes_as_received():
    assert _uids("syntaxes") == list(COMMONEST_FIRST)
    received = _uids("classes")
    assert len(received) == len(set(received)) > 150
    assert all(is_storage_class(uid) for uid in received)
    assert VERIFICATION not in received
