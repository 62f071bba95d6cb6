"""The wheel is the same bytes for whoever builds it, and has what an installation needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PARTS = ("gateway", "deploy", "scripts", "pyproject.toml", "README.md")

pytestmark = pytest.mark.slow


def _build(at: Path, *, umask: int, when: int) -> Path:
    """Builds a copy of the sources that lies at *at*, whose files were changed at *when*."""
    for part in PARTS:
        source, target = ROOT / part, at / part
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    for file in at.rglob("*"):
        os.utime(file, (when, when))
        file.chmod((0o777 if file.is_dir() or os.access(file, os.X_OK) else 0o666) & ~umask)
    (at / "scripts/build-wheel").chmod(0o755)
    subprocess.run(
        ["sh", str(at / "scripts/build-wheel"), str(at / "out")],
        check=True, timeout=110, capture_output=True, umask=umask,
        env=os.environ | {"PYTHON": sys.executable, "SOURCE_DATE_EPOCH": "1764000000", "TZ": f"UTC{umask % 7}"},
    )  # fmt: skip
    [wheel] = (at / "out").glob("*.whl")
    return wheel


def test_two_builds_of_the_same_sources_are_the_same_bytes(tmp_path):
    one = _build(tmp_path / "one", umask=0o022, when=1_700_000_000)
    other = _build(tmp_path / "at another/place", umask=0o077, when=1_500_000_000)
    assert one.name == other.name
    assert one.read_bytes() == other.read_bytes()
    with zipfile.ZipFile(one) as wheel:
        names = wheel.namelist()
    assert [n for n in names if "__pycache__" in n] == []
    assert any(n.endswith("/share/man/man1/avara-gateway.1") for n in names)
    missing = {p.relative_to(ROOT).as_posix() for p in (ROOT / "gateway").rglob("*") if p.is_file()} - set(names)
    assert {m for m in missing if "__pycache__" not in m} == set()
