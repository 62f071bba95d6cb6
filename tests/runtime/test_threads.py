"""Threads: what hangs in one place keeps nobody waiting who does not need that place."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from pathlib import Path

import pytest

import gateway
from gateway.journal import Journal
from gateway.objects import Credentials, ObjectStore, StoreError
from gateway.runtime.threads import DaemonThreads, in_thread
from tests.rig.journal import with_journal

ROOT = Path(gateway.__file__).parent
MANY = 50
"""More calls than any executor here has threads."""


@contextlib.asynccontextmanager
async def silent_server():
    """Takes connections and says nothing; its port."""
    held = []

    async def take(reader, writer):
        held.append(writer)
        with contextlib.suppress(OSError):
            while await reader.read(65536):
                pass

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in held:
            writer.transport.abort()


async def test_a_store_that_hangs_keeps_no_journal_no_folder_no_file_and_no_name_waiting(tmp_path):
    journal = await Journal.open(f"sqlite:///{with_journal(tmp_path) / 'journal.db'}")
    folder = DaemonThreads("folder", at_once=2)
    async with silent_server() as port, contextlib.AsyncExitStack() as stack:
        store = await stack.enter_async_context(
            ObjectStore(
                endpoint=lambda: f"127.0.0.1:{port}",
                secure=False,
                region="r",
                bucket="bucket",
                credentials=Credentials("a", "b"),
            )
        )

        async def listing():
            with contextlib.suppress(StoreError):
                async for _ in store.list(""):
                    pass

        hanging = [asyncio.create_task(listing()) for _ in range(MANY)]
        try:
            await asyncio.sleep(0.1)
            async with asyncio.timeout(10):  # the store itself has 30 s for each answer
                await journal.remember_study("stu_1", "1.2.3")
                assert await folder.run(lambda: 1) == 1
                assert await in_thread(pow, 2, 3) == 8
                assert await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 80)
            assert not any(task.done() for task in hanging)
        finally:
            for task in hanging:
                task.cancel()
            await asyncio.gather(*hanging, return_exceptions=True)
    await journal.close()


async def test_a_name_server_that_is_silent_keeps_no_file_waiting():
    answered = threading.Event()
    loop = asyncio.get_running_loop()
    looking_up = [loop.run_in_executor(None, answered.wait) for _ in range(MANY)]  # where asyncio looks up names
    try:
        async with asyncio.timeout(10):
            assert await in_thread(pow, 2, 3) == 8
    finally:
        answered.set()
        await asyncio.gather(*looking_up)


async def test_who_is_cancelled_waits_for_the_call_that_works_on_their_file():
    begun, goes_on, ended = threading.Event(), threading.Event(), []

    def work():
        begun.set()
        goes_on.wait()
        ended.append(True)

    waiting = asyncio.create_task(in_thread(work))
    while not begun.is_set():
        await asyncio.sleep(0.001)
    waiting.cancel()
    await asyncio.sleep(0.01)
    assert not waiting.done()
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended


async def test_who_is_cancelled_before_a_thread_was_free_has_nothing_done():
    goes_on, done = threading.Event(), []
    hanging = [asyncio.create_task(in_thread(goes_on.wait)) for _ in range(MANY)]
    await asyncio.sleep(0.01)
    waiting = asyncio.create_task(in_thread(done.append, True))
    await asyncio.sleep(0.01)
    waiting.cancel()
    try:
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(waiting, 10)
    finally:
        goes_on.set()
    await asyncio.gather(*hanging)
    assert not done


def test_nobody_puts_anything_beside_the_names_that_asyncio_looks_up():
    shared = re.compile(r"asyncio\.to_thread|run_in_executor\(None")
    assert [str(p.relative_to(ROOT)) for p in ROOT.rglob("*.py") if shared.search(p.read_text())] == []
