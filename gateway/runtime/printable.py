"""Text from outside, made safe to show: what a line says is one line, and moves no cursor.

AE titles, webhook ids and error texts are whatever somebody sent. With a line break in them they would forge a line of
the log, and with escapes they would have an operator's terminal show something other than is there.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """*text* with everything that is not printed written out, as Python writes it: ``\\n``, ``\\x1b``."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
