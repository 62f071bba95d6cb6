"""Work on a stranger's bytes, in a process of its own that the kernel bounds in memory, CPU, file size and time.

A thread cannot be ended, and a hostile file holds the interpreter, and with it every association and answer, for as
long as it likes. A process costs a quarter of a second, and dies alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

_CONFINE = str(Path(__file__).with_name("confine.py"))

MAX_ANSWER = 1024 * 1024
"""Bytes that a confined program may print."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a confined program may use."""

    memory: int
    """Bytes of address space."""
    cpu: int
    """Seconds of CPU; past them it is ended by SIGXCPU."""
    file_size: int = 0
    """Bytes of a file that it writes."""
    within: float = 60.0
    """Seconds on the clock."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a confined program ended."""

    returncode: int
    """Negative: the signal that ended it."""
    printed: bytes


async def run_confined(
    program: Path, *arguments: str, limits: Limits, stdin: bytes | int = b"", pass_fds: Collection[int] = ()
) -> Ended:
    """Runs *program*, a Python file that imports nothing of the gateway, within *limits*.

    *stdin* is what it reads, or a file descriptor. Raises TimeoutError, and OSError where no process can be started.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        _CONFINE,
        json.dumps(asdict(limits)),
        str(os.getpid()),
        str(program),
        *arguments,
        stdin=asyncio.subprocess.PIPE if isinstance(stdin, bytes) else stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        pass_fds=tuple(pass_fds),
        limit=MAX_ANSWER,
    )
    try:
        async with asyncio.timeout(limits.within):
            printed, _ = await process.communicate(stdin if isinstance(stdin, bytes) else None)
    finally:
        if process.returncode is None:
            process.kill()
        returncode = await process.wait()
    return Ended(returncode, printed[:MAX_ANSWER])
