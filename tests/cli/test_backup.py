"""``backup`` and ``restore`` as commands: beside a running gateway and without one, on the embedded store. Not here:
what is in a backup (tests/admin/test_backup.py)."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

from gateway import app
from gateway.config import load
from gateway.journal import Jobs, jobs
from tests.untyped import Untyped

pytestmark = pytest.mark.slow  # each command is a process

KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def config(tmp_path):
    """A configuration whose PACS is away, so that what is to be stored waits."""

    def write(name):
        file = tmp_path / f"{name}.yaml"
        pacs = {"name": "main", "ae_title": "MAIN", "host": "127.0.0.1", "port": 1}
        sections = {
            "pacs": [pacs], "state_dir": str(tmp_path / name), "http": {"port": 0},
            "dicom": {"host": "127.0.0.1", "port": 0}, "avara": {"webhook_keys": [KEY]},
            "cache": {"min_free": 0},
        }  # fmt: skip
        file.write_text(json.dumps(sections))
        return file

    return write


async def command(*arguments):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *map(str, arguments),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    return process.returncode, said.decode()


async def test_what_is_undelivered_goes_along_from_a_gateway_that_runs_into_one_that_is_new(config, tmp_path):
    old, new = config("old"), config("new")
    async with app.serving(load(old, {})) as gateway:
        await gateway.store.put("outbox/1", b"capture", content_type="application/dicom")
        await gateway.store.put("studies/1.2.3/x", b"cache", content_type="application/dicom")
        await gateway.journal.run(
            lambda c: jobs.add(
                c, "capture.store", "it", Untyped({"target": "main", "key": "outbox/1"}), quarantined="later"
            )
        )
        code, said = await command("backup", "-c", old, tmp_path / "backup")
        assert code == 0, said
        assert "1 objects" in said
        code, said = await command("restore", "-c", old, "--replace", tmp_path / "backup")
        assert code == 1
        assert "is running" in said
    code, said = await command("restore", "-c", new, tmp_path / "backup")
    assert code == 0, said
    code, said = await command("restore", "-c", new, tmp_path / "backup")
    assert (code, "--replace" in said) == (1, True)
    async with app.open_gateway(load(new, {})) as gateway:
        assert await gateway.store.get("outbox/1") == b"capture"
        assert await gateway.store.head("studies/1.2.3/x") is None
        (job,) = await Jobs(gateway.journal).list(kinds=["capture.store"])
        assert (job.subject, job.last_error) == ("it", "later")


async def test_a_gateway_that_does_not_run_is_backed_up_and_brought_back_in_place(config, tmp_path):
    file = config("state")
    async with app.open_gateway(load(file, {})) as gateway:
        await gateway.store.put("inbox/slot", b"upload", content_type="application/dicom")
    code, said = await command("backup", "-c", file, tmp_path / "backup")
    assert code == 0, said
    code, said = await command("backup", "-c", file, tmp_path / "backup")
    assert (code, "not empty" in said) == (1, True)
    async with app.open_gateway(load(file, {})) as gateway:
        await gateway.store.delete(["inbox/slot"])
    code, said = await command("restore", "-c", file, "--replace", tmp_path / "backup")
    assert code == 0, said
    assert "before-restore" in said
    async with app.open_gateway(load(file, {})) as gateway:
        assert await gateway.store.get("inbox/slot") == b"upload"


async def test_what_cannot_be_backed_up_or_brought_back_is_told_in_a_line(config, tmp_path):
    file = config("state")
    for arguments in (("backup",), ("restore",)):
        code, said = await command(*arguments, "-c", file, tmp_path / "nothing")
        assert code == 1
        assert len(said.strip().splitlines()) == 1, said
        assert "no journal" in said or "not a backup" in said
    assert not (tmp_path / "state").exists()
