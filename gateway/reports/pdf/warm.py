"""Programs that look at documents of strangers, each in a process of its own that is forked from one that is warm.

To start Python and to load a PDF library takes a quarter of a second of a core, a fork of what has loaded them a
hundredth. What is forked has the same as a process that is started: nothing of ours, and limits that it gives itself.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import socket
import subprocess
import sys
from pathlib import Path

_FORKER = str(Path(__file__).with_name("forker.py"))

MAX_OUTPUT = 64 * 1024
"""Bytes of what a program may say; one that says more is ended."""


class NotStarted(Exception):
    """No process can be had: the text says why."""


class WarmPython:
    """The process that forks; started when it is first needed, and again if it was killed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        atexit.register(self.close)

    def close(self) -> None:
        """Ends it; what is under way ends too, once nobody waits for it."""
        atexit.unregister(self.close)
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(2)
        self._control = self._process = None

    async def run(self, program: str, content: bytes) -> tuple[int, bytes]:
        """Runs the Python file *program* on *content*: its exit code, negative for a signal, and what it wrote. When
        nobody waits any more it is killed. Raises NotStarted."""
        for _ in range(2):
            code, output = await self._run(program, content)
            if code is not None:
                return code, output
            self._kill()  # it was ended by somebody else, or has no memory to fork with
        raise NotStarted("the process that it is forked from was ended twice")

    async def _run(self, program: str, content: bytes) -> tuple[int | None, bytes]:
        given, theirs_given = socket.socketpair()
        result, theirs_result = socket.socketpair()
        try:
            with theirs_given, theirs_result:
                self._request(program, theirs_given, theirs_result)
            result_reader, result_writer = await asyncio.open_connection(sock=result)
            try:
                _, given_writer = await asyncio.open_connection(sock=given)
                feeding = asyncio.create_task(_feed(given_writer, content), name="feeding a reader")
                try:
                    output = await _all_of(result_reader)
                finally:
                    feeding.cancel()
                    given_writer.transport.abort()
                    await asyncio.gather(feeding, return_exceptions=True)
            finally:
                result_writer.transport.abort()
        finally:
            given.close()
            result.close()
        wrote, _, code = output.rpartition(b"\n")
        return (int(code), wrote) if code.removeprefix(b"-").isdigit() else (None, b"")

    def _request(self, program: str, given: socket.socket, result: socket.socket) -> None:
        if self._control is None:
            self._start()
        assert self._control is not None
        try:
            socket.send_fds(self._control, [program.encode()], [given.fileno(), result.fileno()])
        except OSError:
            self._kill()
            self._start()
            socket.send_fds(self._control, [program.encode()], [given.fileno(), result.fileno()])

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: S603  (our own file, by our own Python)
                    [sys.executable, "-I", _FORKER],
                    stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={},
                )  # fmt: skip
            except OSError as e:
                ours.close()
                raise NotStarted(f"this machine starts no process ({e.strerror})") from e
        self._control = ours

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._control is not None:
            self._control.close()
        self._control = self._process = None


async def _feed(writer: asyncio.StreamWriter, content: bytes) -> None:
    with contextlib.suppress(OSError):  # it ended before it had read all
        writer.write(content)
        await writer.drain()
        writer.write_eof()


async def _all_of(reader: asyncio.StreamReader) -> bytes:
    output = b""
    with contextlib.suppress(OSError):
        while len(output) <= MAX_OUTPUT and (chunk := await reader.read(MAX_OUTPUT)):
            output += chunk
    return output
