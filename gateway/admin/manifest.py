"""What a backup is: its manifest, which is written last and names each file with its checksum.

A backup without one is none, and one that differs from it is not restored.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from gateway.runtime import GatewayError

MANIFEST, JOURNAL, TRAIL = "manifest.json", "journal.db", "audit"

FORMAT = 1


class BackupError(GatewayError):
    """A backup cannot be made, or not be restored; the text names the fix."""


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


def write_manifest(backup: Path, manifest: Manifest) -> None:
    """Makes a folder a backup. Raises OSError."""
    write_durably(backup / MANIFEST, json.dumps({"format": FORMAT} | asdict(manifest), indent=1).encode())


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
            inside(Path("/"), one.name)
    except (KeyError, TypeError, AttributeError):
        raise BackupError(f"{backup / MANIFEST} is no manifest of a backup: take another backup") from None
    return manifest


def _prove(backup: Path, copied: Copied) -> None:
    try:
        found = described(backup, inside(backup, copied.file), copied.name)
    except OSError as e:
        raise BackupError(f"{backup / copied.file} cannot be read ({e.strerror}): take another backup") from None
    if (found.size, found.sha256) != (copied.size, copied.sha256):
        raise BackupError(f"{backup / copied.file} is not as it was when the backup was made: take another backup")


def inside(folder: Path, name: str) -> Path:
    """The path *name* in *folder*. Raises BackupError where it leads out of it."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise BackupError(f"a manifest that names {name!r} is not one of ours")
    return folder / path


def described(to: Path, copy: Path, name: str) -> Copied:
    """*copy*, a file in the backup *to*, as its manifest has it; it is on the disk then. Raises OSError."""
    with copy.open("rb") as file:
        os.fsync(file.fileno())
        return Copied(
            copy.relative_to(to).as_posix(),
            name,
            os.fstat(file.fileno()).st_size,
            hashlib.file_digest(file, "sha256").hexdigest(),
        )


def write_durably(path: Path, content: bytes) -> None:
    """Writes a whole file or none, whatever ends the process or the machine. Raises OSError."""
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
