"""A journal of the present schema, made once a process: to bring one up through every migration takes longer than all
else that a gateway does at its start. That a gateway makes its own is shown where it is started without (tests/cli)."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from sqlalchemy import create_engine

from gateway.journal import schema


@functools.cache
def _empty() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "journal.db"
        engine = create_engine(f"sqlite:///{file}")
        with engine.begin() as connection:
            schema.migrate(connection, wanted=True)
        engine.dispose()
        return file.read_bytes()


def with_journal(state_dir: Path) -> Path:
    """*state_dir*, with an empty journal in it where it has none."""
    file = state_dir / "journal.db"
    if not file.exists():
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.write_bytes(_empty())
    return state_dir
