"""Scripts for tests, of npm packages: fetched once, and kept in the checkout."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

KEPT = Path(__file__).parent.parent.parent / ".npm-packages"

VERSIONS = {
    "axe-core": "4.10.3",
    "cornerstone-core": "2.6.1",
    "cornerstone-wado-image-loader": "4.13.2",
    "dicom-parser": "1.8.21",
}
"""Exactly these: what a test sees must not change by itself."""

WITHIN = 120.0
"""Seconds."""


class NotToBeHad(Exception):
    """A package cannot be fetched here; why."""


def package(name: str) -> Path:
    """The folder of a package's files; skips the test where it cannot be had."""
    try:
        return fetched(name)
    except NotToBeHad as e:
        pytest.skip(str(e))


def fetched(name: str) -> Path:
    """The folder of a package's files. Raises NotToBeHad."""
    version = VERSIONS[name]
    folder = KEPT / f"{name}-{version}"
    if not folder.is_dir():
        npm = shutil.which("npm")
        if npm is None:
            raise NotToBeHad(f"no npm to fetch {name} with: `make test` installs it where the system has it")
        with tempfile.TemporaryDirectory() as directory:
            command = [npm, "pack", "--silent", "--pack-destination", directory, f"{name}@{version}"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN, check=False)
            if done.returncode:
                raise NotToBeHad(f"{name} {version} cannot be fetched: {done.stderr.strip()[-200:]}")
            [archive] = Path(directory).glob("*.tgz")
            with tarfile.open(archive) as opened:
                opened.extractall(Path(directory) / "out", filter="data")
            KEPT.mkdir(exist_ok=True)
            try:
                (Path(directory) / "out/package").rename(folder)
            except OSError:  # another disk, or another run has it already
                shutil.copytree(Path(directory) / "out/package", folder, dirs_exist_ok=True)
    return folder
