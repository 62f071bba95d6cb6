"""Opens a PDF from a stranger. Run as a program of its own by :mod:`gateway.reports.pdf.check`, which feeds it.

It imports nothing of the gateway: it starts quickly, and holds no secret that a flaw in a parser could give away.
"""

from __future__ import annotations

import io
import json
import logging
import re
import resource
import sys
from typing import Any

from pypdf import PdfReader
from pypdf.errors import LimitReachedError
from pypdf.generic import DictionaryObject

MEMORY = 1_000_000_000
"""Bytes of address space."""

CPU = 10
"""Seconds; a report of 50 MB takes about one."""


_ENCRYPT = re.compile(rb"/Encrypt(?=[\s<])")
"""The trailer's entry (ISO 32000-1 Table 15), and no other that begins like it."""


def read(content: bytes) -> dict[str, Any]:
    """``{"pages": n}``, ``{"encrypted": true}`` or ``{"broken": reason}``; nothing is raised."""
    try:
        return _by_pypdf(content)
    except MemoryError:
        return {"broken": "it needs more memory to open than a report does"}
    except (LimitReachedError, RecursionError):
        return {"broken": "it is nested deeper, or holds more, than a report does"}
    except Exception:  # pypdf meets a stranger's bytes, and raises whatever they lead it to
        return _by_qpdf(content)


def _by_pypdf(content: bytes) -> dict[str, Any]:
    # Not strict: viewers open what is a little out of order, and so does this.
    reader = PdfReader(io.BytesIO(content), strict=False)
    if reader.is_encrypted:
        if _only_attachments(reader):
            # To a viewer it is not encrypted until one is opened (crypt filter Identity, ISO 32000-1 §7.6.5).
            return read(_ENCRYPT.sub(b"/EncrypT", content))
        return _by_qpdf(content)  # which has every algorithm
    pages = len(reader.pages)
    if pages:
        _ = reader.pages[0].mediabox
    return {"pages": pages} if pages else {"broken": "it has no pages"}


def _by_qpdf(content: bytes) -> dict[str, Any]:
    """Another parser's word on what pypdf does not open; an empty password is what viewers try before they ask."""
    import pikepdf

    try:
        with pikepdf.open(io.BytesIO(content), password="") as pdf:  # the empty one opens it for anybody
            pages = len(pdf.pages)
            if pages:
                _ = pdf.pages[0].mediabox
    except pikepdf.PasswordError:
        return {"encrypted": True}
    except MemoryError:
        return {"broken": "it needs more memory to open than a report does"}
    except Exception as e:  # a stranger's bytes again
        return {"broken": f"it cannot be opened ({type(e).__name__})"}
    return {"pages": pages} if pages else {"broken": "it has no pages"}


def _only_attachments(reader: PdfReader) -> bool:
    """Whether neither streams nor strings are encrypted, but for those of embedded files (EFF)."""
    encryption = reader.trailer["/Encrypt"].get_object()
    if not isinstance(encryption, DictionaryObject):
        return False
    return encryption.get("/V", 0) >= 4 and all(
        encryption.get(name, "/Identity") == "/Identity" for name in ("/StmF", "/StrF")
    )


def main() -> None:
    """Limits itself, then reads."""
    logging.disable()  # what pypdf warns of quotes the document
    content = sys.stdin.buffer.read()
    resource.setrlimit(resource.RLIMIT_CPU, (CPU, CPU + 2))  # the lower one ends it by SIGXCPU, which tells why
    for limit, value in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(limit, (value, value))
    sys.stdout.write(json.dumps(read(content)))


if __name__ == "__main__":
    main()
