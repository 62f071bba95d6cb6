"""Packages that this process does without, installed though they are."""

from __future__ import annotations

import sys


def leave_out(*packages: str) -> None:
    """Has *packages* be missing from this process: who imports one gets ImportError. To be called before that."""
    for package in packages:
        # What the import system has for this; a package that is loaded already stays.
        sys.modules.setdefault(package, None)  # type: ignore[arg-type]
