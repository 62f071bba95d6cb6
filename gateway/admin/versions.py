"""What runs, against what is installed: after an upgrade without a restart they differ."""

from __future__ import annotations

import platform
import re
import sqlite3
from collections.abc import Mapping
from importlib import metadata

from gateway import __version__

NAME = "avara-gateway"

SQLITE_LEAST = (3, 35, 0)
"""Of ALTER TABLE DROP COLUMN, by which a roll-back goes (sqlite.org/releaselog/3_35_0.html)."""


def installed() -> dict[str, str]:
    """The versions of the gateway and of what it needs, as they are installed now; an empty one is missing."""
    found = {NAME: _version(NAME)}
    for requirement in metadata.requires(NAME) or ():
        name, _, condition = requirement.partition(";")
        if "extra ==" in condition:
            continue
        package = re.split(r"[^A-Za-z0-9._-]", name.strip(), maxsplit=1)[0]
        if (version := _version(package)) or not condition:  # what a condition leaves out here is not missing
            found[package] = version
    return found


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def told(
    began_with: Mapping[str, str], now: Mapping[str, str], sqlite: str = sqlite3.sqlite_version
) -> tuple[bool | None, str]:
    """How that is, and what to do; *began_with* was installed when the process began, *now* is."""
    if missing := sorted(name for name, version in now.items() if not version):
        return False, f"{', '.join(missing)} is not installed any more: install the gateway anew, and restart it"
    if tuple(map(int, sqlite.split(".")[:3])) < SQLITE_LEAST:
        least = ".".join(map(str, SQLITE_LEAST))
        return False, f"SQLite is {sqlite}, and the journal needs {least}: install a Python with a newer one"
    changed = {name: version for name, version in now.items() if began_with.get(name, version) != version}
    if changed:
        named = ", ".join(f"{name} {began_with[name]} runs, {changed[name]} is installed" for name in sorted(changed))
        return None, f"{named}: restart the gateway (systemctl restart avara-gateway)"
    tells = f"gateway {__version__}, Python {platform.python_version()}, SQLite {sqlite}"
    return True, f"{tells}, {len(now) - 1} packages: what runs is what is installed"
