"""Whether what came for a report is a PDF that opens (ISO 32000-1 §7.5).

The parsing is done in a process of its own. A thread cannot be ended, and a hostile PDF (object bombs, loops in the
page tree, streams that inflate without end) would hold the interpreter, and with it every association and answer,
for as long as it likes. The kernel ends a process by memory and by time; it is forked from one that is warm (warm.py).
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
from dataclasses import dataclass
from pathlib import Path

from gateway.reports.errors import ReportError
from gateway.reports.pdf.warm import NotStarted, WarmPython

WITHIN = 60.0
"""Seconds on the clock, on a machine that is busy with other things; the CPU seconds are bounded more narrowly."""

_HEADER_WITHIN = 1024
"""Bytes within which viewers look for it (PDF Reference 1.7, implementation note 13)."""

_OBJECT = re.compile(rb"\d\s+\d+\s+obj\b")
_TABLE = re.compile(rb"\s*(?:xref\b|\d+\s+\d+\s+obj\b)")
_STARTXREF = re.compile(rb"startxref\s+(\d+)\s*(?:%+E?O?)?\Z")
_LENGTH = re.compile(rb"/Linearized\b[^>]*/L\s+(\d+)|/L\s+(\d+)[^>]*/Linearized\b")

_READER = str(Path(__file__).with_name("reader.py"))

_READERS = WarmPython()


@dataclass(frozen=True, slots=True)
class PdfFacts:
    """What is known of a PDF that opens."""

    pages: int


class Encrypted(ReportError):
    """The PDF is encrypted: nobody in the hospital could read it."""


class Broken(ReportError):
    """It is no PDF, or one that does not open. The text says why, and quotes nothing of it."""


class NotChecked(ReportError):
    """This machine could not look at the PDF; nothing is known of it."""

    transient = True


async def check_pdf(content: bytes) -> PdfFacts:
    """What *content* is as a PDF. Raises Encrypted, Broken, NotChecked."""
    if b"%PDF-" not in content[:_HEADER_WITHIN]:
        raise Broken("the report is no PDF: it does not begin with %PDF-")
    if _is_cut(content):
        raise Broken("the report's PDF is cut off: its end is missing")
    try:
        async with asyncio.timeout(WITHIN):
            returncode, output = await _READERS.run(_READER, content)
    except NotStarted as e:
        raise NotChecked(f"the report's PDF cannot be looked at: {e}") from e
    except TimeoutError:
        raise NotChecked(
            f"the report's PDF was not looked at within {WITHIN:.0f} s: is this machine overloaded?"
        ) from None
    return _facts(returncode, output)


def _is_cut(content: bytes) -> bool:
    """Whether the end of a PDF is missing. Whatever stands behind its %%EOF as padding is not of it, and one that ends
    right after where its cross-reference table is (§7.5.5) has all that a viewer needs."""
    end = content.rfind(b"%%EOF")
    if end < 0:
        last = _STARTXREF.search(content[-1024:].rstrip(b"\0 \r\n\t"))
        if last is None:
            return True
        return not _TABLE.match(content, content.find(b"%PDF-") + int(last[1])) and not _TABLE.match(
            content, int(last[1])
        )
    if _OBJECT.search(content, end):
        return True  # of an update, or of a linearized file's second part, which both have an %%EOF of their own
    # The first part of a linearized file (annex F) ends with a startxref of 0; the file says how long it is.
    stated = _LENGTH.search(content[:_HEADER_WITHIN])
    first_only = re.search(rb"startxref\s+0\s+\Z", content[max(0, end - 40) : end])
    return bool(stated and first_only and int(stated[1] or stated[2]) > len(content))


def _facts(returncode: int, output: bytes) -> PdfFacts:
    if returncode == -signal.SIGXCPU:
        raise Broken("the report's PDF is broken: it takes longer to open than a report does")
    if returncode < 0 and returncode != -signal.SIGKILL:
        raise Broken("the report's PDF is broken: what opens it crashes")
    if returncode != 0:
        raise NotChecked(
            f"the report's PDF was not looked at to its end ({returncode}): is this machine out of memory?"
        )
    found = json.loads(output)
    if found.get("encrypted"):
        raise Encrypted("the report's PDF is encrypted: have Avara give it without a password")
    if "broken" in found:
        raise Broken(f"the report's PDF is broken: {found['broken']}")
    return PdfFacts(pages=found["pages"])
