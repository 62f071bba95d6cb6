"""docs/security.md names for each defence a test: each is there, and each row has one."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docs/security.md").read_text()


def test_every_test_that_is_named_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", TEXT)
    assert len(named) > 20
    for file, name in named:
        source = (ROOT / file).read_text()
        assert not name or re.search(rf"^(async )?def {name}\(", source, re.MULTILINE), f"{file}::{name}"


def test_every_defence_names_one():
    rows = [line for line in TEXT.splitlines() if line.startswith("| ") and line.count("|") == 4]
    assert rows
    for row in rows:
        attempt, _, shown = row.strip("| ").split(" | ")
        assert "tests/" in shown or attempt == "attempt", row
