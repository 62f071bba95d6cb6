"""Puts back what a backup holds."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

from gateway.admin.manifest import JOURNAL, TRAIL, Manifest, inside, write_durably
from gateway.journal import Journal
from gateway.objects import ObjectStore, read_file
from gateway.runtime import SYSTEM_CLOCK, in_thread


async def restore_objects(backup: Path, manifest: Manifest, store: ObjectStore) -> None:
    """Puts what was backed up of the store into *store*. Raises StoreError, OSError."""
    for one in manifest.objects:
        with (backup / one.file).open("rb", buffering=0) as file:
            chunks = partial(read_file, file, 0, one.size)
            await store.put_stream(one.name, one.size, chunks, content_type="application/octet-stream")


async def restore_files(backup: Path, manifest: Manifest, state_dir: Path) -> None:
    """Puts files and, last, the journal into *state_dir*, which no gateway uses and which has no journal. Raises
    BackupError, JournalError, OSError."""
    await in_thread(_restore_files, backup, manifest, state_dir)
    made_ready = state_dir / "restored.db"
    await in_thread(shutil.copyfile, backup / JOURNAL, made_ready)
    await (await Journal.open(f"sqlite:///{made_ready}")).close()  # of a schema that this version can bring up to date
    await in_thread(_into_one_file, made_ready)
    content = await in_thread(made_ready.read_bytes)
    await in_thread(write_durably, state_dir / JOURNAL, content)
    made_ready.unlink()


def _restore_files(backup: Path, manifest: Manifest, state_dir: Path) -> None:
    # A trail that is there has what happened since the backup, and none of that may go: it stays, and goes on. Where
    # there is none, that of the backup comes as a whole: half of one, of a restore that was cut off, would stay, too.
    trail, coming = state_dir / TRAIL, state_dir / f"{TRAIL}.restored"
    has_trail = any(trail.glob("audit-*"))
    for one in manifest.files:
        to = inside(state_dir, one.name)
        if to.is_relative_to(trail):
            if has_trail:
                continue
            to = coming / to.relative_to(trail)
        to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(to, (backup / one.file).read_bytes())
    if coming.exists() and not has_trail:
        shutil.rmtree(trail, ignore_errors=True)
        coming.replace(trail)


def _into_one_file(journal: Path) -> None:
    with closing(sqlite3.connect(journal)) as db:
        db.execute("PRAGMA journal_mode=DELETE")
    journal.chmod(0o600)


def set_aside(state_dir: Path) -> Path | None:
    """Moves the journal that *state_dir* has out of the way; where it is then, None where there was none."""
    there = state_dir / JOURNAL
    if not there.exists():
        return None
    _into_one_file(there)
    aside = state_dir / f"{JOURNAL}.before-restore-{SYSTEM_CLOCK.now():.0f}"
    there.replace(aside)
    return aside
