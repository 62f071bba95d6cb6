"""``make audit`` says that all is well only where somebody was asked about every package."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
@pytest.mark.parametrize(
    ("said", "status", "ends"),
    [
        ("No known vulnerabilities found", 0, 0),
        ("Found 2 known vulnerabilities in 1 package", 1, 1),
        ("No known vulnerabilities found\nyarl  Dependency not found and could not be audited: yarl (1.25)", 0, 3),
        ("ConnectionError: no route", 1, 3),
    ],
)
def test_a_database_that_could_not_be_asked_is_no_good_news(tmp_path, said, status, ends):
    tool = tmp_path / "pip-audit"
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{said}\nEND\nexit {status}\n")
    tool.chmod(0o755)
    done = subprocess.run(
        ["sh", str(ROOT / "scripts/audit")],
        env=os.environ | {"PIP_AUDIT": str(tool)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == ends
    assert ("not audited" in done.stderr) == (ends == 3)
