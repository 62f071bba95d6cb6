"""The demo itself: with Orthanc, with the small PACS that stands in for it, and with the worst PACS in town."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

pytestmark = pytest.mark.slow

WITHOUT_ORTHANC = """
import gateway.demo.stage as demo
def none():
    raise demo.NoOrthanc("none")
demo.find_orthanc = none
raise SystemExit(demo.run(keep=False))
"""


@pytest.mark.parametrize("arguments", [["-m", "gateway", "demo"], ["-c", WITHOUT_ORTHANC]], ids=["orthanc", "stand-in"])
async def test_the_demo_shows_the_main_job_and_leaves_nothing_behind(arguments, tmp_path):
    environment = os.environ | {"TMPDIR": str(tmp_path), "COLUMNS": "200"}
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=-1, stderr=-2, env=environment)
    out, _ = await asyncio.wait_for(process.communicate(), 100)
    said = out.decode()
    assert process.returncode == 0, said
    assert "33 data sets with the PACS: equal, byte by byte" in said
    assert "a PDF that opens" in said
    assert "its pixels equal, byte by byte; filled in from the PACS: AccessionNumber" in said
    assert "34 URLs, the capture among them" in said
    assert "its PDF equal, byte by byte" in said
    assert "35 URLs, the report among them, a PDF of 1 page that opens" in said
    assert ("a PACS of ours in memory, since Orthanc is not installed" in said) == (arguments[0] == "-c")
    assert list(tmp_path.iterdir()) == []


async def test_the_demo_opens_a_study_of_the_worst_pacs_in_town(tmp_path):
    """``make demo WORST=1``."""
    environment = os.environ | {"TMPDIR": str(tmp_path), "COLUMNS": "200"}
    command = [sys.executable, "-m", "tests.rig.worst"]
    process = await asyncio.create_subprocess_exec(*command, stdout=-1, stderr=-2, env=environment)
    out, _ = await asyncio.wait_for(process.communicate(), 100)
    said = out.decode()
    assert process.returncode == 0, said
    assert "the worst PACS in town (" in said
    assert "33 data sets with the PACS: equal, byte by byte" in said
    assert list(tmp_path.iterdir()) == []
