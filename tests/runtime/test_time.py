"""Time is handed in: nothing outside the clock's own room asks the machine for it, save where nothing is decided."""

from __future__ import annotations

import re
from pathlib import Path

import gateway

ROOT = Path(gateway.__file__).parent

SHOWN_ONLY = {
    "admin/logs.py": "a log line's own time",
    "cli/jobs.py": "how long until an attempt, for an operator who looks",
    "reports/folder/write.py": "compared with times of files, which the machine gives them",
}
"""Modules that ask the machine, and why that is right."""


def test_only_the_clock_asks_the_machine_for_the_time():
    asking = {
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        if path.parent.name != "runtime" and re.search(r"\btime\.time(_ns)?\(|\butcnow\(", path.read_text())
    }
    assert asking == set(SHOWN_ONLY)
