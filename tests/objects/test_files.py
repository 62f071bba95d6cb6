"""Objects in files: whose trouble is told as whose, nothing written in part, and no file closed under its reader."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from io import FileIO

import pytest

from gateway.objects import StoreError
from gateway.objects.files import ObjectTooLarge, fetch_to_file, read_file, write_whole
from gateway.runtime.spools import Spools
from gateway.runtime.threads import in_thread


async def test_a_full_spool_disk_is_told_as_that_and_not_as_the_stores_trouble(store, monkeypatch, tmp_path):
    await store.put("a", b"x" * 1000, content_type="a/b")

    def full(file, chunk):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("gateway.objects.files.write_whole", full)
    with pytest.raises(OSError, match="No space left"):
        await fetch_to_file(store, "a", Spools(tmp_path))


async def test_what_the_reader_of_an_object_raises_is_the_readers(store):
    await store.put("a", b"x" * 1000, content_type="a/b")
    for theirs in (ConnectionResetError("the browser left"), TimeoutError("mine"), OSError(errno.EIO, "my disk")):
        with pytest.raises(type(theirs)) as raised:  # noqa: PT012
            async with store.read("a") as chunks:
                async for _ in chunks:
                    raise theirs
        assert raised.value is theirs


async def test_what_cannot_be_read_to_be_put_is_told_as_that_and_not_tried_again(store):
    begun = 0

    async def chunks():
        nonlocal begun
        begun += 1
        yield b"x" * 500
        if begun > 1:  # not for the checksum, but while it is sent
            raise OSError(errno.EIO, "my disk")
        yield b"x" * 500

    with pytest.raises(OSError, match="my disk") as raised:
        await store.put_stream("b", 1000, chunks, content_type="a/b")
    assert not isinstance(raised.value, StoreError)
    assert begun == 2
    assert await store.head("b") is None


async def test_an_object_over_the_limit_is_no_file(store, tmp_path):
    await store.put("a", b"x" * 1000, content_type="a/b")
    with pytest.raises(ObjectTooLarge):
        await fetch_to_file(store, "a", Spools(tmp_path), max_size=999)
    fetched = await fetch_to_file(store, "a", Spools(tmp_path), max_size=1000)
    assert b"".join([c async for c in read_file(fetched.file, 0, fetched.size)]) == b"x" * 1000
    fetched.file.close()


class Nearly(FileIO):
    """A file on a disk that is nearly full: it takes three bytes at a time, and then none."""

    room = 10

    def write(self, data):
        taken = super().write(memoryview(data)[: min(3, self.room)])
        self.room -= taken
        return taken


def test_a_write_that_takes_a_part_is_gone_on_with_and_one_that_takes_nothing_is_an_error(tmp_path):
    with Nearly(tmp_path / "f", "w") as file:
        write_whole(file, b"0123456")
        with pytest.raises(OSError, match="No space left"):
            write_whole(file, b"0123456")
    assert (tmp_path / "f").read_bytes().startswith(b"0123456")


async def test_who_is_cancelled_goes_on_only_when_the_thread_has_let_go_of_the_file():
    began, ending, ended = threading.Event(), threading.Event(), False

    def reads():
        nonlocal ended
        began.set()
        ending.wait(20)
        ended = True

    waiting = asyncio.create_task(in_thread(reads))
    await asyncio.to_thread(began.wait)
    waiting.cancel()
    await asyncio.sleep(0.05)
    assert not waiting.done()
    ending.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended
