"""Nothing is left out silently: a run ends with what it skipped and why, and fails for what it had no reason to skip.

``pytest_plugins`` of a kind: tests/conftest.py takes these hooks over.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

ALLOWED = (
    "no minio on PATH", "no promtool on PATH", "no sshd on PATH", "atheris has no wheel",
    "no dockerd on PATH", "no docker compose on PATH", "no buildah on PATH", "only root can make a Debian",
)  # fmt: skip
"""How the reasons begin that are none of ours to mend: what ``make test`` cannot install everywhere."""


def _reasons(config: pytest.Config) -> Counter[str]:
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter is not None else []
    reasons = (r.longrepr[2] if isinstance(r.longrepr, tuple) else str(r.longrepr) for r in skipped)
    return Counter(reason.removeprefix("Skipped: ") for reason in reasons)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A run in which something was skipped for no allowed reason has failed."""
    if session.exitstatus == pytest.ExitCode.OK and any(not r.startswith(ALLOWED) for r in _reasons(session.config)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Says what was left out, and why; that nothing was, too."""
    reasons = _reasons(config)
    deselected = len(terminalreporter.stats.get("deselected", []))
    terminalreporter.section("left out")
    for reason, count in sorted(reasons.items()):
        excuse = "" if reason.startswith(ALLOWED) else "  FAILS THE RUN: tests/left_out.py allows no such reason"
        terminalreporter.write_line(f"{count} skipped: {reason}{excuse}", red=bool(excuse), yellow=not excuse)
    if deselected:
        terminalreporter.write_line(f"{deselected} not chosen by -m or -k", yellow=True)
    if not reasons and not deselected:
        terminalreporter.write_line("nothing")
