"""The list of licences is that of what is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "scripts/write-licences"


def check(script: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_what_the_gateway_depends_on_is_listed_with_its_licence():
    checked = check(SCRIPT)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.slow
def test_a_licence_that_is_not_listed_is_told(tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "docs").mkdir()
    script = tmp_path / "scripts/write-licences"
    script.write_text(SCRIPT.read_text())
    listed = (ROOT / "docs/licences.md").read_text()
    for changed in (listed.replace("| `aiohttp` |", "| `other` |"), listed.replace("MPL-2.0", "MIT")):
        assert changed != listed
        (tmp_path / "docs/licences.md").write_text(changed)
        checked = check(script)
        assert checked.returncode == 1
        assert "make licences" in checked.stderr


def test_the_readme_says_that_the_project_has_no_licence_yet():
    assert not list(ROOT.glob("LICEN[CS]E*")), "there is one: say so in the README, and drop this test"
    assert "no licence yet" in (ROOT / "README.md").read_text()
