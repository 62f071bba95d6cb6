"""Backups: what cannot be had again, in a folder that is whole or is none.

That is the journal, the files beside it (secrets, whatever else is kept there), and of the store what is not cache:
uploads, and what is on its way. Studies are fetched again. The manifest is written last, and names each file with its
checksum: a backup without one is none, and one that differs from it is not restored.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import stat
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from gateway import __version__
from gateway.journal import Journal
from gateway.objects import ObjectNotFound, ObjectStore, read_file
from gateway.runtime import SYSTEM_CLOCK, GatewayError, in_thread

MANIFEST, JOURNAL, TRAIL = "manifest.json", "journal.db", "audit"

CACHE = frozenset({"studies/", "probe/"})
"""Folders of the store whose objects are had again; every other one is backed up, whoever keeps something there."""

NOT_KEPT = frozenset({"lock", "control.sock", "probe", "store", "spool"})
"""What lies in ``state_dir`` and is made anew; the journal, and what begins with its name, is copied otherwise."""

TRIES = 3
"""Snapshots, until one is found whose objects are all there: they move while the gateway runs."""

FORMAT = 1


class BackupError(GatewayError):
    """A backup cannot be made, or not be restored; the text names the fix."""


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


@dataclass(frozen=True, slots=True)
class Copied:
    """A file of a backup."""

    file: str
    """Its path in the backup."""
    name: str
    """What it is a copy of: a key of the store, or a path in ``state_dir``."""
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds."""

    made: float
    """Unix seconds."""
    version: str
    """Of the gateway that made it."""
    journal: Copied
    files: tuple[Copied, ...]
    objects: tuple[Copied, ...]
    missing: tuple[str, ...]
    """Keys of objects that unfinished work names and the store did not have."""

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(one.size for one in (self.journal, *self.files, *self.objects))


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
        await in_thread(_described, to, to / JOURNAL, JOURNAL),
        tuple(await in_thread(_copy_files, state_dir, to)),
        tuple(copies.values()),
        missing,
    )
    await in_thread(_write_durably, to / MANIFEST, json.dumps({"format": FORMAT} | asdict(manifest), indent=1).encode())
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
        found.append(_described(to, copy, name))
    return found


def _described(to: Path, copy: Path, name: str) -> Copied:
    with copy.open("rb") as file:
        os.fsync(file.fileno())
        return Copied(
            copy.relative_to(to).as_posix(),
            name,
            os.fstat(file.fileno()).st_size,
            hashlib.file_digest(file, "sha256").hexdigest(),
        )


def _write_durably(path: Path, content: bytes) -> None:
    """A whole file or none, whatever ends the process or the machine."""
    new = path.with_name(path.name + ".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_manifest(backup: Path) -> Manifest:
    """What a backup holds, each file of it proven to be as it was. Raises BackupError."""
    try:
        written: dict[str, Any] = json.loads((backup / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise BackupError(f"{backup} is not a backup, or one that was never finished: it has no {MANIFEST}") from None
    except (OSError, ValueError) as e:
        raise BackupError(f"{backup / MANIFEST} cannot be read ({type(e).__name__}): take another backup") from None
    try:
        if written.pop("format") != FORMAT:
            raise BackupError(f"{backup} was made by another version of the gateway: restore it with that one")
        manifest = Manifest(
            written["made"],
            written["version"],
            Copied(**written["journal"]),
            tuple(Copied(**one) for one in written["files"]),
            tuple(Copied(**one) for one in written["objects"]),
            tuple(written["missing"]),
        )
        for one in (manifest.journal, *manifest.files, *manifest.objects):
            _prove(backup, one)
        for one in manifest.files:
            _inside(Path("/"), one.name)
    except (KeyError, TypeError, AttributeError):
        raise BackupError(f"{backup / MANIFEST} is no manifest of a backup: take another backup") from None
    return manifest


def _prove(backup: Path, copied: Copied) -> None:
    try:
        found = _described(backup, _inside(backup, copied.file), copied.name)
    except OSError as e:
        raise BackupError(f"{backup / copied.file} cannot be read ({e.strerror}): take another backup") from None
    if (found.size, found.sha256) != (copied.size, copied.sha256):
        raise BackupError(f"{backup / copied.file} is not as it was when the backup was made: take another backup")


def _inside(folder: Path, name: str) -> Path:
    """The path *name* in *folder*. Raises BackupError where it leads out of it."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise BackupError(f"a manifest that names {name!r} is not one of ours")
    return folder / path


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
    await in_thread(_write_durably, state_dir / JOURNAL, content)
    made_ready.unlink()


def _restore_files(backup: Path, manifest: Manifest, state_dir: Path) -> None:
    # A trail that is there has what happened since the backup, and none of that may go: it stays, and goes on. Where
    # there is none, that of the backup comes as a whole: half of one, of a restore that was cut off, would stay, too.
    trail, coming = state_dir / TRAIL, state_dir / f"{TRAIL}.restored"
    has_trail = any(trail.glob("audit-*"))
    for one in manifest.files:
        to = _inside(state_dir, one.name)
        if to.is_relative_to(trail):
            if has_trail:
                continue
            to = coming / to.relative_to(trail)
        to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_durably(to, (backup / one.file).read_bytes())
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
