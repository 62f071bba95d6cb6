"""Memory is bounded whatever is sent: as many associations as are taken, each with as much as it can send.

What is left out: the whole process with one 2 GB instance, which ``make bench`` measures.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import sys
from pathlib import Path

import pytest

from gateway.pacs.upper.wire import data_pdus
from tests.pacs.test_wire import Peer, store_request

pytestmark = pytest.mark.slow

STUDY = "1.2.826.77"


def instance(n, size):
    elements = [
        (0x0008, 0x0018, b"UI", f"{STUDY}.{n}"), (0x0020, 0x000D, b"UI", STUDY), (0x0020, 0x000E, b"UI", f"{STUDY}.0"),
    ]  # fmt: skip
    head = b"".join(
        struct.pack("<HH2sH", group, element, vr, len(v)) + v
        for group, element, vr, value in elements
        for v in [value.encode() + b"\0" * (len(value) % 2)]
    )
    return head + struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, size) + bytes(size)


@pytest.mark.parametrize("size", [1_900_000, 9_000_000], ids=["held in memory", "spooled"])
async def test_all_associations_at_once_with_large_instances_and_a_stalled_store_stay_within_bounds(tmp_path, size):
    stack, taken = contextlib.ExitStack(), 0
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.studies.receiver_process", tmp_path, STUDY,
        stdin=-1, stdout=-1, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    try:
        port = int(await asyncio.wait_for(process.stdout.readline(), 20))

        async def resident():
            process.stdin.write(b"\n")
            return int(await asyncio.wait_for(process.stdout.readline(), 20))

        before = await resident()

        async def send(n):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.closing(writer):
                peer = Peer(reader, writer)
                await peer.associate()
                acknowledged = asyncio.create_task(acknowledgements(peer))
                stack.callback(acknowledged.cancel)
                for k in range(3):
                    pdus = data_pdus(1, store_request(f"{STUDY}.{n}.{k}"), command=True, last=True, max_pdu=65536)
                    pdus += data_pdus(1, instance(f"{n}.{k}", size), command=False, last=True, max_pdu=65536)
                    writer.writelines(pdus)
                    await writer.drain()
                await asyncio.sleep(3600)

        async def acknowledgements(peer):
            nonlocal taken
            while await peer.status() == 0:
                taken += 1

        senders = [asyncio.create_task(send(n)) for n in range(64)]
        await asyncio.wait(senders, timeout=4)
        grown = await resident() - before
        for task in senders:
            task.cancel()
        await asyncio.gather(*senders, return_exceptions=True)
        stack.close()
    finally:
        process.kill()
        await process.wait()
    # 64 MB of acknowledged instances, 48 MB of those that wait, a read each, and what the allocator keeps.
    assert grown < 200
    assert 0 < taken <= 70  # back-pressure: of 192 that were sent, no more than the buffer has room for
