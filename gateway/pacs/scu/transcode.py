"""Part 10 files as data sets in a body: as they are, and uncompressed for a PACS that takes nothing else."""

from __future__ import annotations

import json
import os
import signal
from io import FileIO
from pathlib import Path

from gateway.dicom import header_length
from gateway.pacs.scu.store import CannotTranscode
from gateway.pacs.upper import FileBody
from gateway.runtime import Ended, Limits, NoRoom, SpoolFile, Spools, run_confined

_TRANSCODER = Path(__file__).with_name("transcoder.py")

MEMORY = 3 * 1024**3
"""Bytes of address space, of which the libraries take a third before they have decoded anything."""

CPU, WITHIN = 300, 900.0
"""Seconds; a multi-frame of 2 GiB takes about a minute of CPU to decode."""

MAX_DECODED = 2 * 1024**3
"""Bytes of the pixel data that an instance may decode to."""

HEADER = 256 * 1024 * 1024
"""Bytes that may stand before the pixel data."""

_UNCOMPRESSED_ONLY = "the PACS takes only uncompressed instances of this SOP class, and this one cannot be decoded: "
_ENABLE = ": enable its transfer syntax in the PACS"


def data_set_of(file: SpoolFile, size: int) -> FileBody:
    """The data set in a Part 10 file of ours of *size* bytes, as a body of its own: it closes *file* no more."""
    body = FileBody(file, size)
    start = header_length(body.read(0, 144))
    return FileBody(file.share(), size - start, start=start)


async def transcoded(
    file: FileIO, transfer_syntax_uid: str, *, spools: Spools, max_size: int = MAX_DECODED
) -> FileBody:
    """The data set of a Part 10 file in an uncompressed little endian transfer syntax, losing nothing.

    Raises CannotTranscode where there is no way, or it would take more than *max_size* bytes; OSError.
    """
    os.lseek(file.fileno(), 0, os.SEEK_SET)
    out, most = spools.file(), max_size + HEADER
    try:
        with out.written_by_another(most) as room:
            limits = Limits(memory=MEMORY, cpu=CPU, file_size=room, within=WITHIN)
            descriptor = out.fileno()
            arguments = (transfer_syntax_uid, str(descriptor), str(max_size))
            ended = await run_confined(
                _TRANSCODER, *arguments, limits=limits, stdin=file.fileno(), pass_fds=[descriptor]
            )
        if ended.returncode == -signal.SIGXFSZ and room < most:
            raise NoRoom(f"what it decodes to takes more than the {room / 1e6:.0f} MB that there is room for")
        return FileBody(out, _size(ended))
    except TimeoutError as e:
        out.close()
        raise CannotTranscode(f"{_UNCOMPRESSED_ONLY}it did not decode within {WITHIN:.0f} s{_ENABLE}") from e
    except BaseException:
        out.close()
        raise


def _size(ended: Ended) -> int:
    """Bytes that the transcoder wrote. Raises CannotTranscode."""
    if ended.returncode == 0:
        told = json.loads(ended.printed)
        if "size" in told:
            return int(told["size"])
        reason = told["refused"]
    elif ended.returncode == -signal.SIGXCPU:
        reason = "it takes longer to decode than an image does"
    elif ended.returncode == -signal.SIGXFSZ:
        reason = "it decodes to more than its attributes say"
    else:
        reason = "what decodes it crashes"
    raise CannotTranscode(f"{_UNCOMPRESSED_ONLY}{reason}{_ENABLE}")
