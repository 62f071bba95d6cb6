"""Backups: of a gateway at work, whole or none, and what comes back is what was there. Not here: the commands, beside a
running gateway and without one (tests/cli/test_backup.py)."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import asynccontextmanager, closing

import pytest

from gateway.admin import backup
from gateway.admin.backup import back_up
from gateway.admin.manifest import BackupError, read_manifest
from gateway.admin.restore import restore_files, restore_objects, set_aside
from gateway.audit import AuditFile
from gateway.audit.chain import Entry
from gateway.journal import Jobs, Journal, jobs
from gateway.objects import ObjectNotFound
from gateway.studies import keys as studies
from tests.rig.journal import with_journal


class Objects(dict):
    """A store's objects, in memory; *then* is called before each is read."""

    then = staticmethod(lambda key: None)

    async def sizes(self):
        return {key: len(body) for key, body in self.items()}

    @asynccontextmanager
    async def read(self, key):
        self.then(key)
        if key not in self:
            raise ObjectNotFound("gone")

        async def chunks():
            for at in range(0, len(self[key]), 1000):
                yield self[key][at : at + 1000]

        yield chunks()

    async def put_stream(self, key, size, chunks, *, content_type):
        body = b"".join([chunk async for chunk in chunks()])
        assert len(body) == size
        self[key] = body


@pytest.fixture
async def state_dir(tmp_path):
    """Of a gateway with a job that needs an object; its journal is open, as that of one that runs."""
    folder = tmp_path / "state"
    (folder / "spool").mkdir(parents=True)
    (folder / "spool" / "left").write_bytes(b"no")
    (folder / "deferred.key").write_bytes(b"secret")
    (folder / "storage.key").write_bytes(b"not the store's folder")
    (folder / "audit").mkdir()
    (folder / "audit" / "2026.jsonl").write_bytes(b"{}\n")
    journal = await Journal.open(f"sqlite:///{with_journal(folder) / 'journal.db'}")
    await journal.run(lambda c: jobs.add(c, "object.clean", "it", jobs.CleanObject("outbox/1")))
    await journal.run(lambda c: jobs.objects.use(c, 1, ["outbox/1"]))
    yield folder
    await journal.close()


STORE = {"outbox/1": b"x" * 2500, "inbox/a b/../c": b"upload", "reports/1/2.pdf": b""}


@pytest.mark.slow
async def test_what_was_there_comes_back_byte_by_byte_and_nothing_else(state_dir, tmp_path):
    manifest = await back_up(state_dir, Objects(STORE), tmp_path / "backup")
    assert manifest.missing == ()
    new, store = tmp_path / "new", Objects()
    new.mkdir()
    read = read_manifest(tmp_path / "backup")
    assert read == manifest
    await restore_objects(tmp_path / "backup", read, store)
    await restore_files(tmp_path / "backup", read, new)
    assert store == STORE
    assert sorted(p.relative_to(new).as_posix() for p in new.rglob("*") if p.is_file()) == [
        "audit/2026.jsonl", "deferred.key", "journal.db", "storage.key",
    ]  # fmt: skip
    assert (new / "deferred.key").read_bytes() == b"secret"
    journal = await Journal.open(f"sqlite:///{new / 'journal.db'}", migrate=False)
    assert [job.subject for job in await Jobs(journal).list()] == ["it"]
    await journal.close()


async def test_the_audit_trail_that_is_there_is_not_put_back_to_what_it_was(state_dir, tmp_path):
    trail = AuditFile(state_dir / "audit", keep_for=86400.0, max_size=10**9)
    (state_dir / "audit" / "2026.jsonl").unlink()
    trail.append([Entry(1.0, "opened", {"key": "a"})])
    await back_up(state_dir, Objects(STORE), tmp_path / "backup")
    trail.append([Entry(2.0, "opened", {"key": "b"})])
    read = read_manifest(tmp_path / "backup")
    there, new = tmp_path / "there", tmp_path / "new"
    shutil.copytree(state_dir / "audit", there / "audit")
    await restore_files(tmp_path / "backup", read, there)
    assert AuditFile(there / "audit", keep_for=86400.0, max_size=10**9).verify(known=trail.head).problems == []
    (new / "audit").mkdir(parents=True)
    await restore_files(tmp_path / "backup", read, new)
    verdict = AuditFile(new / "audit", keep_for=86400.0, max_size=10**9).verify()
    assert (verdict.entries, verdict.problems) == (1, [])
    assert not (new / "audit.restored").exists()


async def test_nobody_else_can_read_a_backup_or_what_came_back(state_dir, tmp_path):
    await back_up(state_dir, Objects(STORE), tmp_path / "backup")
    assert (tmp_path / "backup").stat().st_mode & 0o077 == 0
    new = tmp_path / "new"
    new.mkdir()
    await restore_files(tmp_path / "backup", read_manifest(tmp_path / "backup"), new)
    assert [p.name for p in new.rglob("*") if p.is_file() and p.stat().st_mode & 0o077] == []


async def test_an_object_that_a_job_of_the_snapshot_needs_is_in_it_whenever_it_came(state_dir, tmp_path):
    objects = Objects({"inbox/1": b"upload"})

    def moves(key):
        # Between the first look and the snapshot, what was in the inbox moves to the outbox.
        objects.then = lambda key: None
        objects["outbox/1"] = objects.pop("inbox/1")

    objects.then = moves
    manifest = await back_up(state_dir, objects, tmp_path / "backup")
    assert [one.name for one in manifest.objects] == ["outbox/1"]
    assert manifest.missing == ()


async def test_what_unfinished_work_names_and_the_store_lacks_is_told(state_dir, tmp_path):
    manifest = await back_up(state_dir, Objects(), tmp_path / "backup")
    assert manifest.missing == ("outbox/1",)


async def test_a_backup_that_was_not_ended_is_none(state_dir, tmp_path):
    objects = Objects(STORE)

    def dies(key):
        raise KeyboardInterrupt

    objects.then = dies
    with pytest.raises(KeyboardInterrupt):
        await back_up(state_dir, objects, tmp_path / "backup")
    with pytest.raises(BackupError, match="never finished"):
        read_manifest(tmp_path / "backup")
    with pytest.raises(BackupError, match="not empty"):
        await back_up(state_dir, Objects(), tmp_path / "backup")


@pytest.mark.parametrize("what", ["journal.db", "objects/000000", "files/000001"])
@pytest.mark.parametrize("harm", ["changed", "cut", "gone"])
async def test_a_backup_that_is_not_as_it_was_is_refused_by_the_file(state_dir, tmp_path, what, harm):
    await back_up(state_dir, Objects(STORE), tmp_path / "backup")
    path = tmp_path / "backup" / what
    content = path.read_bytes()
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-1] + (bytes([content[-1] ^ 1]) if harm == "changed" else b""))
    with pytest.raises(BackupError, match=what):
        read_manifest(tmp_path / "backup")


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "a/../../out", ""])
async def test_a_manifest_that_leads_out_of_its_folder_is_refused(state_dir, tmp_path, name):
    await back_up(state_dir, Objects(STORE), tmp_path / "backup")
    path = tmp_path / "backup" / "manifest.json"
    written = json.loads(path.read_text())
    for field in ("file", "name"):
        harmed = json.loads(json.dumps(written))
        harmed["files"][0][field] = name
        path.write_text(json.dumps(harmed))
        with pytest.raises(BackupError, match=r"not one of ours|cannot be read"):
            read_manifest(tmp_path / "backup")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"format": 1}', b'{"format": 9}', b"\xff"])
async def test_what_is_no_manifest_is_refused_in_words(tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(BackupError, match=r"take another backup|another version"):
        read_manifest(tmp_path)


async def test_a_damaged_journal_is_not_taken_for_a_good_backup(state_dir, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    with closing(sqlite3.connect(other / "journal.db")) as db:
        db.execute("CREATE TABLE t (a TEXT)")
        db.executemany("INSERT INTO t VALUES (?)", [("x" * 500,) for _ in range(500)])
        db.commit()
    with (other / "journal.db").open("r+b") as file:
        file.seek(4096 * 3)
        file.write(os.urandom(8192))
    with pytest.raises(BackupError, match=r"damaged|cannot be copied"):
        await back_up(other, Objects(), tmp_path / "backup")


async def test_a_journal_that_is_there_is_kept_beside_the_one_that_comes_back(state_dir, tmp_path):
    await back_up(state_dir, Objects(STORE), tmp_path / "backup")
    old = tmp_path / "old"
    old.mkdir()
    journal = await Journal.open(f"sqlite:///{old / 'journal.db'}")
    await journal.remember_study("stu_1", "1.2.3")
    await journal.close()
    aside = set_aside(old)
    await restore_files(tmp_path / "backup", read_manifest(tmp_path / "backup"), old)
    assert set_aside(tmp_path / "backup" / "files") is None
    with closing(sqlite3.connect(aside)) as db:
        assert db.execute("SELECT study_id FROM studies").fetchall() == [("stu_1",)]


def test_the_cache_is_what_is_not_backed_up():
    assert studies.ROOT in backup.CACHE
