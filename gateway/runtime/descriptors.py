"""File descriptors: how many there are, and for what they are kept.

A process that runs out of them can accept no connection, open no file and ask no PACS. So what strangers can take of
them is bounded by what the gateway itself does not need.
"""

from __future__ import annotations

import resource

ENOUGH = 65536
"""More than any setting here uses; a limit of a billion makes some libraries close that many one by one."""


def raise_limit() -> int:
    """Raises this process's limit as far as its system lets it, and tells what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (ValueError, OSError):
            return soft
        return wanted
    return ENOUGH if soft == resource.RLIM_INFINITY else soft
