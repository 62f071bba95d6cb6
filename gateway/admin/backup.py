"""Backups: what cannot be had again, in a folder that is whole or is none.

That is the journal, the files beside it (secrets, whatever else is kept there), and of the store what is not cache:
uploads, and what is on its way. Studies are fetched again. The manifest is written last, and names each file with its
checksum: a backup without one is none, and one that differs from it is not restored.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import stat
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path
from typing import Protocol

from gateway import __version__
from gateway.admin.manifest import JOURNAL, BackupError, Copied, Manifest, described, write_manifest
from gateway.objects import ObjectNotFound, ObjectStore
from gateway.runtime import SYSTEM_CLOCK, in_thread

CACHE = frozenset({"studies/", "probe/"})
"""Folders of the store whose objects are had again; every other one is backed up, whoever keeps something there."""

NOT_KEPT = frozenset({"lock", "control.sock", "probe", "store", "spool"})
"""What lies in ``state_dir`` and is made anew; the journal, and what begins with its name, is copied otherwise."""

TRIES = 3
"""Snapshots, until one is found whose objects are all there: they move while the gateway runs."""


class KeptObjects(Protocol):
    """What of the store is backed up."""

    async def sizes(self) -> dict[str, int]:
        """Bytes of each object, by key. Raises GatewayError."""

    def read(self, key: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """An object's bytes. Raises ObjectNotFound, GatewayError."""


class InStore:
    """The objects of a store that this process has open."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def sizes(self) -> dict[str, int]:
        """As :class:`KeptObjects` has it."""
        folders = [folder async for folder in self._store.list_folders("") if folder not in CACHE]
        return {info.key: info.size for folder in folders async for info in self._store.list(folder)}

    def read(self, key: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """As :class:`KeptObjects` has it."""
        return self._store.read(key)


async def back_up(state_dir: Path, objects: KeptObjects, to: Path) -> Manifest:
    """Backs up what lies in *state_dir* and *objects* to *to*, a new or empty folder; also beside a running gateway.
    Raises BackupError, GatewayError, OSError."""
    if to.exists() and any(to.iterdir()):
        raise BackupError(f"{to} is not empty: name a new folder for each backup")
    for folder in (to, to / "files", to / "objects"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    copies: dict[str, Copied] = {}
    missing: tuple[str, ...] = ()
    # Objects first and again behind the journal: between the two they move on, and none that it names may be left out.
    await _copy_objects(objects, to, copies)
    for _ in range(TRIES):
        await in_thread(_snapshot, state_dir / JOURNAL, to / JOURNAL)
        await _copy_objects(objects, to, copies)
        needed = await in_thread(_needed, to / JOURNAL)
        missing = tuple(sorted(needed - copies.keys()))
        if not missing:
            break
    manifest = Manifest(
        SYSTEM_CLOCK.now(),
        __version__,
        await in_thread(described, to, to / JOURNAL, JOURNAL),
        tuple(await in_thread(_copy_files, state_dir, to)),
        tuple(copies.values()),
        missing,
    )
    await in_thread(write_manifest, to, manifest)
    return manifest


async def _copy_objects(objects: KeptObjects, to: Path, copies: dict[str, Copied]) -> None:
    for key, size in (await objects.sizes()).items():
        if key in copies and copies[key].size == size:
            continue
        number = copies[key].file if key in copies else f"objects/{len(copies):06d}"
        digest, written = hashlib.sha256(), 0
        try:
            with (to / number).open("wb") as file:
                async with objects.read(key) as chunks:
                    async for chunk in chunks:
                        digest.update(chunk)
                        written += len(chunk)
                        await in_thread(file.write, chunk)
                file.flush()
                await in_thread(os.fsync, file.fileno())
        except ObjectNotFound:  # what it was for is done
            (to / number).unlink(missing_ok=True)
            continue
        copies[key] = Copied(number, key, written, digest.hexdigest())


def _snapshot(journal: Path, to: Path) -> None:
    """A copy of a journal that others may be writing to, as one of its transactions left it (SQLite's backup API)."""
    to.unlink(missing_ok=True)
    try:
        with (
            closing(sqlite3.connect(f"{journal.absolute().as_uri()}?mode=ro", uri=True, timeout=10)) as source,
            closing(sqlite3.connect(to)) as copy,
        ):
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, not three
            ((verdict,),) = copy.execute("PRAGMA integrity_check(1)").fetchall()
    except sqlite3.Error as e:
        raise BackupError(
            f"the journal {journal} cannot be copied ({e}): is it there, and may this user read it?"
        ) from e
    if verdict != "ok":
        raise BackupError(f"the journal {journal} is damaged ({verdict}): is its disk failing? Restore an older backup")
    to.chmod(0o600)


def _needed(journal: Path) -> set[str]:
    """Keys of the objects that jobs of this journal need; an older one does not say."""
    with closing(sqlite3.connect(journal)) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'job_objects'").fetchall():
            return set()
        return {key for (key,) in db.execute("SELECT key FROM job_objects")}


def _copy_files(state_dir: Path, to: Path) -> list[Copied]:
    found: list[Copied] = []
    for path in sorted(state_dir.rglob("*")):
        name = path.relative_to(state_dir).as_posix()
        if name.partition("/")[0] in NOT_KEPT or name.startswith(JOURNAL) or not stat.S_ISREG(path.lstat().st_mode):
            continue
        copy = to / "files" / f"{len(found):06d}"
        shutil.copyfile(path, copy)
        copy.chmod(0o600)
        found.append(described(to, copy, name))
    return found
