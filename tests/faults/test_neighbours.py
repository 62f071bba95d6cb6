"""One's trouble is not the others': faults that a hospital has, and who is to be served all the same."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time

import aiohttp
import pytest

from .disks import Disk, why_not
from .faults import fault
from .hospital import Hospital, NotServed
from .process import command_of, processes
from .promises import broken

pytestmark = [pytest.mark.server, pytest.mark.slow]

disks = pytest.mark.skipif(bool(why_not()), reason=why_not() or "there are disks")


@pytest.fixture
async def fresh(tmp_path):
    """Makes hospitals whose gateway runs; they end with the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(*, descriptors=None, **sections):
            hospital = await stack.enter_async_context(Hospital(tmp_path, **sections))
            await hospital.gateway.start(descriptors=descriptors)
            return hospital

        yield make


async def until(condition, within):
    async with asyncio.timeout(within):
        while not await condition():
            await asyncio.sleep(0.2)


async def test_a_target_that_takes_connections_and_says_nothing_holds_up_no_other(patient_hospital):
    hospital = patient_hospital
    study = await hospital.examine(hospital.main)
    await hospital.open_study(study)  # so that no PACS has to be asked for an upload URL
    hospital.relays["second"].wire.silent = True
    captures = [await hospital.upload(study) for _ in range(10)]
    wanted = {c.sop_instance_uid for c in captures}

    async def all_in_the_first():
        return wanted <= set(await hospital.main.held(study))

    await until(all_in_the_first, 45)
    hospital.relays["second"].mend()
    assert await broken(hospital, heals_within=120) == []


@disks
@pytest.mark.timeout(240)
async def test_a_folder_whose_disk_hangs_holds_up_no_other_and_gets_its_reports_later(fresh, tmp_path):
    hospital = await fresh()
    async with Disk(tmp_path / "share", megabytes=16) as disk:
        hospital.gateway.document["reports"]["folders"][0]["path"] = str(disk.path)
        await hospital.gateway.stop()
        await hospital.gateway.start()
        hospital.folders[0] = disk.path
        (disk.path / "lost+found").rmdir()
        study = await hospital.examine(hospital.main)
        async with disk.hanging():
            reports = [await hospital.deliver(study) for _ in range(10)]

            async def all_in_the_second():
                return all((hospital.folders[1] / f"{r.report_id}_v1.json").exists() for r in reports)

            await until(all_in_the_second, 60)
        assert await broken(hospital, heals_within=150) == []
        assert await hospital.gateway.stop() == 0


async def test_retrievals_that_are_silent_hold_up_no_other_study_and_no_capture(patient_hospital):
    hospital = patient_hospital
    # As many as one PACS gets at once, and all of them silent: what it sends does not arrive.
    studies = [await hospital.examine(hospital.main, count=20) for _ in range(5)]
    cached = await hospital.examine(hospital.main)
    await hospital.open_study(cached)
    hospital.relays["gateway"].wire.silent = True
    asked = [asyncio.create_task(attempted(hospital.open_study(s, images=0))) for s in studies[:4]]
    await asyncio.sleep(2)
    began = time.monotonic()
    # It is listed, with URLs that wait for their images.
    await hospital.open_study(studies[4], images=0)
    assert time.monotonic() - began < 9.9
    capture = await hospital.upload(cached)

    async def stored():
        return capture.sop_instance_uid in await hospital.main.held(cached)

    await until(stored, 30)
    hospital.relays["gateway"].mend()
    await asyncio.gather(*asked)
    assert await broken(hospital) == []


async def waits(hospital, kind):
    return any(j[1] == kind and j[2] == "waiting" for j in hospital.gateway.jobs())


async def attempted(asked):
    with contextlib.suppress(NotServed):
        await asked


@pytest.mark.timeout(240)
async def test_a_thousand_connections_that_read_nothing_take_no_ones_turn(fresh):
    hospital = await fresh(descriptors=1024)
    study = await hospital.examine(hospital.main, count=4, size=512)
    answer = await hospital.post("study.access_requested", studyId="stu_1", studyInstanceUid=study)
    path = answer["urls"][0].removeprefix(hospital.gateway.url)
    request = f"GET {path} HTTP/1.1\r\nHost: {hospital.gateway.url.removeprefix('http://')}\r\n\r\n".encode()
    before = hospital.gateway.log_file.stat().st_size
    port = hospital.gateway.document["http"]["port"]
    silent = []
    try:
        for _ in range(1000):
            one = socket.socket()
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect(("127.0.0.1", port))
            silent.append(one)
        await asyncio.sleep(1)
        for one in silent:
            with contextlib.suppress(OSError):
                one.send(request)
        await asyncio.sleep(3)
        # Webhooks, journal and PACS keep theirs: a new study is opened, a report is taken.
        new = await hospital.examine(hospital.main)
        await hospital.open_study(new, images=0)
        report = await hospital.deliver(new)
        assert report.acknowledged
        # And another browser is served while they stay.
        await hospital.open_study(new, images=1)
        assert hospital.gateway.figures()["MB"] < 350
        assert hospital.gateway.log_file.stat().st_size - before < 1_000_000
    finally:
        for one in silent:
            one.close()
    assert await broken(hospital) == []


@pytest.mark.timeout(240)
async def test_a_store_that_hangs_holds_up_no_webhook_no_job_and_no_alert(tmp_path):
    """Reports lie in the store on their way, so they come later; that they came, and that one is critical, does not."""
    async with Hospital(tmp_path, relayed_store=True) as hospital:
        await hospital.gateway.start()
        study, other = [await hospital.examine(hospital.main) for _ in range(2)]
        await hospital.open_study(study)
        hospital.relays["store"].wire.silent = True
        # Much that waits for it: images of a cached study, a new one, and what each report puts there.
        asked = [asyncio.create_task(attempted(hospital.open_study(s))) for s in (study, other) for _ in range(10)]
        await asyncio.sleep(2)
        reports = []
        for _ in range(10):
            async with asyncio.timeout(10):  # for as long Avara waits
                reports.append(await hospital.deliver(study, critical=True))
        assert all(report.acknowledged for report in reports)

        async def all_told():
            return all(report.report_id in hospital.mail.mails for report in reports)

        await until(all_told, 30)

        async def told():
            return (await health(hospital))[0] == 503

        await until(told, 30)  # what it said a moment ago is said again for a few seconds
        hospital.relays["store"].mend()
        await asyncio.gather(*asked)
        assert await broken(hospital, heals_within=150) == []


async def test_what_waited_while_the_clock_was_a_day_ahead_is_tried_once_it_is_right(hospital):
    study = await hospital.examine(hospital.main)
    await hospital.open_study(study)
    hospital.relays["second"].wire.refuses = True
    async with fault("the RIS is killed").during(hospital):
        await hospital.deliver(study)
        await hospital.upload(study)
        await until(lambda: waits(hospital, "capture.store"), 30)
        async with fault("the clock is a day ahead").during(hospital):
            await asyncio.sleep(5)  # tried in vain, by a clock that is a day ahead and that the store refuses, too
    hospital.relays["second"].mend()
    assert await broken(hospital, heals_within=60) == []


async def test_of_a_killed_gateway_nothing_lives_on_beside_the_next_one(hospital):
    ours = f"-dir={hospital.gateway.state_dir / 'store'}"
    for _ in range(3):
        # So that it cannot end by itself while the next one starts: asked to end, it has taken up to 28 s.
        os.kill(hospital.gateway.store_process(), signal.SIGSTOP)
        await hospital.gateway.kill()
        await hospital.gateway.start()
        assert len([pid for pid in processes() if ours in command_of(pid)]) == 1


@disks
@pytest.mark.parametrize("how", ["full", "without_inodes", "read_only"])
@pytest.mark.timeout(240)
async def test_a_state_dir_that_cannot_be_written_is_told_and_nothing_acknowledged_is_lost(tmp_path, how):
    async with Disk(tmp_path / "disk", megabytes=1500, inodes=4000) as disk:
        async with Hospital(tmp_path, state_dir=str(disk.path / "state"), cache={"min_free": "10MB"}) as hospital:
            await hospital.gateway.start()
            study = await hospital.examine(hospital.main)
            await hospital.open_study(study)
            assert (await health(hospital))[0] == 200
            async with contextlib.AsyncExitStack() as fails:
                if how == "read_only":
                    await disk.turn_read_only()
                else:
                    await fails.enter_async_context(getattr(disk, how)())
                with contextlib.suppress(NotServed):
                    await hospital.deliver(study)

                async def told():
                    status, said = await health(hospital)
                    return status == 503 and "state_dir" in said

                await until(told, 30)
            if how == "read_only":
                await hospital.gateway.stop()
                await disk.mend()
                await hospital.gateway.start()
            await hospital.deliver(study, tries=30)
            assert await broken(hospital, heals_within=120) == []


async def health(hospital):
    try:
        async with hospital.http.get(f"{hospital.gateway.url}/health") as answer:
            return answer.status, await answer.text()
    except aiohttp.ClientError as e:
        return 0, repr(e)
