"""The end of a run tells what was left out; a skip that nobody allowed fails it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def run(folder: Path, body: str, *arguments: str) -> tuple[int, str]:
    (folder / "test_it.py").write_text(f"import pytest\ndef test_one():\n    {body}\ndef test_two(): pass\n")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests.left_out", "-p", "no:cacheprovider", f"--rootdir={folder}",
         f"--confcutdir={folder}",
         "-c", "/dev/null", str(folder), *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return ran.returncode, ran.stdout


@pytest.mark.parametrize(
    ("body", "arguments", "code", "told"),
    [
        ("pass", (), 0, "nothing"),
        ("pytest.skip('no minio on PATH; and so on')", (), 0, "1 skipped: no minio on PATH; and so on"),
        ("pytest.skip('no dcmtk')", (), 1, "1 skipped: no dcmtk  FAILS THE RUN"),
        ("pytest.importorskip('no_such_module')", (), 1, "FAILS THE RUN"),
        ("pass", ("-k", "two"), 0, "1 not chosen"),
        ("assert False", (), 1, "nothing"),
    ],
)
@pytest.mark.slow
def test_what_was_left_out_is_told_and_fails_a_run_unless_it_is_allowed(tmp_path, body, arguments, code, told):
    returned, output = run(tmp_path, body, *arguments)
    assert returned == code, output
    assert told in output.partition("left out")[2], output
