"""What is installed is what the locks name, and the locks are within the ranges of pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ("requirements.lock", "deploy/locks/build.lock", "deploy/locks/tools.lock")
PYTHONS = ("3.11", "3.12", "3.13")


def _entries(text: str) -> list[tuple[Requirement, list[str]]]:
    """Each requirement with its hashes."""
    joined = text.replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [
        (Requirement(line.split(" --hash=")[0]), re.findall(r"--hash=sha256:([0-9a-f]{64})(?=\s|$)", line))
        for line in lines
    ]


def _environment(python: str) -> dict[str, str]:
    found = {**default_environment(), "python_version": python, "python_full_version": f"{python}.4", "extra": ""}
    return found | {"sys_platform": "linux", "platform_machine": "x86_64"}


def _locked(name: str, python: str) -> dict[str, str]:
    """Package → version, of those that the lock *name* has for *python*."""
    found: dict[str, str] = {}
    for requirement, _ in _entries((ROOT / name).read_text()):
        if requirement.marker is None or requirement.marker.evaluate(_environment(python)):
            [exact] = requirement.specifier
            assert exact.operator == "=="
            assert canonicalize_name(requirement.name) not in found, "two versions for one Python"
            found[canonicalize_name(requirement.name)] = exact.version
    return found


def _unmet(wanted: list[str], locked: dict[str, str], python: str) -> list[str]:
    requirements = [Requirement(text) for text in wanted]
    return [
        str(r)
        for r in requirements
        if (r.marker is None or r.marker.evaluate(_environment(python)))
        and not r.specifier.contains(locked.get(canonicalize_name(r.name), "0"), prereleases=True)
    ]


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_has_what_pyproject_asks_for_in_a_version_that_it_allows(python):
    assert _unmet(PROJECT["project"]["dependencies"], _locked("requirements.lock", python), python) == []
    assert _unmet(PROJECT["build-system"]["requires"], _locked("deploy/locks/build.lock", python), python) == []


def test_a_range_that_the_lock_does_not_meet_is_seen():
    locked = _locked("requirements.lock", "3.11")
    assert _unmet(["aiohttp>=99"], locked, "3.11") == ["aiohttp>=99"]
    assert _unmet(["not-locked>=1"], locked, "3.11") == ["not-locked>=1"]


def test_what_the_locked_packages_need_is_locked_too():
    locked = _locked("requirements.lock", "3.11")
    seen = 0
    for package, version in locked.items():
        try:
            installed = metadata.distribution(package)
        except metadata.PackageNotFoundError:
            continue
        if installed.version == version:
            seen += 1
            assert _unmet(installed.requires or [], locked, "3.11") == [], package
    assert seen > 20


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_the_hashes_of_its_files(lock):
    entries = _entries((ROOT / lock).read_text())
    assert len(entries) >= 5
    assert [str(requirement) for requirement, hashes in entries if not hashes] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_registry(lock):
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert re.search(r"^\s*(-i|--index-url|--extra-index-url|--find-links|--trusted-host)\b", text, re.M) is None


def test_image_and_package_are_installed_by_the_lock():
    dockerfile = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    installs = [command for line in dockerfile.splitlines() for command in line.split("&&") if "pip" in command]
    for command in installs:
        if " install " in command or " wheel " in command:
            assert "--require-hashes" in command or ("--no-deps" in command), command
    assert sum("--require-hashes" in command for command in installs) == 2
