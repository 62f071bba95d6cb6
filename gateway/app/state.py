"""The folder of what a gateway keeps, and what lies in it. Every command needs it, so it loads little."""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.app.errors import AlreadyRunning, Misconfigured
from gateway.audit import AuditFile
from gateway.config import Config
from gateway.runtime import SYSTEM_CLOCK, Clock

log = logging.getLogger(__name__)


@contextmanager
def state_dir(path: Path) -> Iterator[Path]:
    """*path*, for this process and for its user alone. Raises AlreadyRunning, OSError."""
    before = os.umask(0o077)  # whatever is made meanwhile is nobody else's, also by the libraries
    try:
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise Misconfigured(f"state_dir: {path} is a file, or below one: name a directory") from None
        _close_to_others(path)
        with (path / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise AlreadyRunning(
                    f"a gateway is running with state_dir {path}, or a command is at work with it: wait for that to end"
                ) from None
            yield path
    finally:
        os.umask(before)


def _close_to_others(path: Path) -> None:
    """Makes right what an older version, or whoever made the folder, left open. Raises OSError where that may not be
    done: the folder is another user's."""
    for found in (path, *path.glob("journal.db*"), *path.glob("*.key")):
        mode = stat.S_IMODE(found.stat().st_mode)
        if mode & 0o077:
            found.chmod(mode & 0o700)
            log.warning("%s was open to other users (mode %04o): it is not any more", found, mode)


def journal_file(directory: Path) -> Path:
    """The journal in a ``state_dir``."""
    return directory.absolute() / "journal.db"


def audit_file(config: Config, clock: Clock = SYSTEM_CLOCK) -> AuditFile | None:
    """The trail of a ``state_dir``; None where it is turned off."""
    kept = config.audit
    if not kept.enabled:
        return None
    folder = config.state_dir.absolute() / "audit"
    return AuditFile(folder, keep_for=kept.keep, max_size=kept.max_size, clock=clock)


def kept_secret(path: Path) -> bytes:
    """A random secret that stays the same over restarts, in a file for its owner only."""
    if not path.exists():
        new = path.with_suffix(".new")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(secrets.token_bytes(32))
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    return path.read_bytes()
