"""What is said of a ``state_dir`` that cannot be written to: real disks that are full, read-only and out of inodes."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import threading
from pathlib import Path

import aiohttp
import pytest

from gateway.admin import state_dir as room
from gateway.admin.health import Health, Unhealthy
from gateway.admin.state_dir import LEAST_FREE, LEAST_INODES, StateDir
from gateway.app import state_dir, why
from gateway.runtime.spools import NoRoom, Spools
from gateway.runtime.supervise import Supervisor


@pytest.fixture
def disk(tmp_path):
    """Mounts small disks, where this machine lets us."""
    mounted = []

    def mount(options):
        path = tmp_path / f"disk-{len(mounted)}"
        path.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
        mounted.append(path)
        return path

    yield mount
    for path in mounted:
        subprocess.run(["umount", str(path)], check=True)


async def said_of(path):
    with pytest.raises(Unhealthy) as caught:
        await StateDir(path, Spools(path)).check()
    assert str(path) not in str(caught.value)
    return str(caught.value)


async def test_a_disk_with_room_is_well_and_nothing_is_left_on_it(tmp_path):
    assert "GB are free" in str(await StateDir(tmp_path, Spools(tmp_path)).check())
    assert list(tmp_path.iterdir()) == []


async def test_instances_that_were_refused_for_lack_of_room_are_told(tmp_path):
    spools = Spools(tmp_path, most=10, keeps_free=0)
    with spools.file() as file, pytest.raises(NoRoom):
        file.write(bytes(11))
    with pytest.raises(Unhealthy, match=r"large instances are refused.*dicom\.spool_size"):
        await StateDir(tmp_path, spools).check()


async def test_a_disk_that_is_full_is_told_before_the_last_byte(disk):
    path = disk(f"size={LEAST_FREE * 2}")
    assert "are free" in str(await StateDir(path, Spools(path)).check())
    (path / "filler").write_bytes(b"\0" * (LEAST_FREE + 1_000_000))
    assert "its disk is full" in await said_of(path)


async def test_a_disk_without_a_byte_is_told(disk):
    path = disk("size=1m")
    with pytest.raises(OSError, match="No space"):
        (path / "filler").write_bytes(b"\0" * 2_000_000)
    assert "free space there" in await said_of(path)


async def test_a_disk_out_of_inodes_is_told_as_that(disk):
    path = disk(f"size={LEAST_FREE * 2},nr_inodes={LEAST_INODES}")
    assert "out of inodes" in await said_of(path)


async def test_a_disk_that_turned_read_only_is_told_with_its_mend(disk):
    path = disk("size=200m")
    assert await StateDir(path, Spools(path)).check()
    subprocess.run(["mount", "-o", "remount,ro", str(path)], check=True)
    assert "read-only" in await said_of(path)
    subprocess.run(["mount", "-o", "remount,rw", str(path)], check=True)
    assert await StateDir(path, Spools(path)).check()


async def test_a_folder_that_is_gone_is_told(tmp_path):
    assert "unmounted" in await said_of(tmp_path / "gone")


@pytest.mark.slow
async def test_a_disk_that_hangs_is_told_holds_up_nobody_and_is_asked_once(tmp_path, monkeypatch):
    asked, answers = [], threading.Event()
    statvfs = os.statvfs

    def hangs(path):
        asked.append(path)
        answers.wait(30)
        return statvfs(path)

    monkeypatch.setattr(room, "WITHIN", 0.1)
    monkeypatch.setattr(os, "statvfs", hangs)
    state_dir = StateDir(tmp_path, Spools(tmp_path))
    try:
        for _ in range(5):
            with pytest.raises(Unhealthy, match="hang"):
                await state_dir.check()
        assert len(asked) == 1
    finally:
        answers.set()
    async with asyncio.timeout(10):
        while True:
            try:
                await state_dir.check()
                break
            except Unhealthy:
                await asyncio.sleep(0.05)


async def test_health_and_check_say_what_is_wrong_with_it_and_how_to_mend_it(simulator, start, monkeypatch):
    monkeypatch.setattr("gateway.admin.health.FRESH", 0.0)
    gateway = await start(simulator)
    parts = gateway.parts
    monkeypatch.setattr(parts.state_dir, "_path", gateway.config.state_dir / "gone")
    async with gateway.http.get(f"http://127.0.0.1:{gateway.config.http.port}/health") as answer:
        said = await answer.json()
        assert answer.status == 503
        assert said["checks"]["state_dir"] == "failing"
        assert "unmounted" in said["reasons"]["state_dir"]
        assert str(gateway.config.state_dir) not in await answer.text()
    results = {r.name: r async for r in gateway.checked()}
    assert results["state_dir"].ok is False
    assert "unmounted" in results["state_dir"].text
    assert results["loops"].ok is True
    assert "inbox" in results["loops"].text


async def test_health_tells_anybody_only_what_they_may_know_and_its_log_the_rest(caplog):
    async def private():
        raise OSError("host 10.1.2.3 refuses")

    async def public():
        raise Unhealthy("the disk is full")

    async with Supervisor() as loops:
        health = Health({"private": private, "public": public}, loops)
        assert await health.failing() == {"private": "", "public": "the disk is full"}
    assert "10.1.2.3" in caplog.text


async def test_a_loop_that_is_down_is_told_by_check_with_what_ended_it(simulator, start):
    gateway = await start(simulator)
    loops = gateway.parts.loops

    async def fail():
        raise aiohttp.ClientError("host 10.1.2.3")

    await loops.remove("inbox")
    loops.add("inbox", fail)
    await asyncio.sleep(0.1)
    results = {r.name: r async for r in gateway.checked()}
    assert results["loop inbox"].ok is False
    assert "not running since 2" in results["loop inbox"].text
    assert "ClientError" in results["loop inbox"].text


# -- whose it is


def test_a_state_dir_that_others_could_read_is_closed(tmp_path, caplog):
    directory = tmp_path / "state"
    directory.mkdir(mode=0o755)
    directory.chmod(0o755)
    for name in ("journal.db", "journal.db-wal", "events.key"):
        (directory / name).write_bytes(b"x")
        (directory / name).chmod(0o644)
    with state_dir(directory):
        assert oct(directory.stat().st_mode & 0o777) == "0o700"
        for name in ("journal.db", "journal.db-wal", "events.key", "lock"):
            assert (directory / name).stat().st_mode & 0o077 == 0, name
        assert "was open to other users (mode 0755)" in caplog.text
        made = tmp_path / "made"
        made.write_bytes(b"")
        assert made.stat().st_mode & 0o077 == 0
    caplog.clear()
    with state_dir(directory):
        assert "open to other users" not in caplog.text


def test_one_that_is_another_users_and_open_is_refused(tmp_path, monkeypatch):
    def denied(path, mode):
        raise PermissionError(errno.EPERM, "Operation not permitted", str(path))

    directory = tmp_path / "state"
    directory.mkdir()
    directory.chmod(0o755)
    monkeypatch.setattr(Path, "chmod", denied)
    with pytest.raises(PermissionError) as caught, state_dir(directory):
        pass
    assert "give it to the user that the gateway runs as" in why(caught.value)
