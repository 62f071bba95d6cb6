"""The journal on real SQLite files: what was acknowledged is there after a kill, and the ledger's rules hold.

What older versions wrote is in test_migrations.py.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import traceback

import pytest
from sqlalchemy import Engine, event, text

from gateway.journal import Journal, JournalError, StudyState
from gateway.journal.facts import remember_study, study_of


async def known(journal, study_id):
    return await journal.run(lambda c: study_of(c, study_id))


@pytest.fixture
async def url(tmp_path):
    return f"sqlite:///{tmp_path / 'journal.db'}"


@pytest.fixture
async def journal(url):
    opened = await Journal.open(url)
    yield opened
    await opened.close()


async def test_a_studys_two_names_outlive_the_process(url):
    first = await Journal.open(url)
    await first.remember_study("stu_1", "1.2.3")
    await first.close()
    second = await Journal.open(url)
    assert await known(second, "stu_1") == "1.2.3"
    assert await known(second, "stu_2") is None
    await second.close()


def files_with(marker, folder):
    """The files in which it stands, whichever these are."""
    return [path.name for path in folder.iterdir() if marker in path.read_bytes()]


@pytest.fixture
def careless_sqlite():
    """An SQLite that was built without SQLITE_SECURE_DELETE; Debian's has it."""

    def made(connection, _):
        connection.execute("PRAGMA secure_delete=OFF")

    event.listen(Engine, "connect", made)
    yield
    event.remove(Engine, "connect", made)


@pytest.mark.slow
async def test_what_is_deleted_is_overwritten_whatever_sqlite_does_by_itself(careless_sqlite, journal, tmp_path):
    for n in range(20):
        await journal.remember_study(f"stu_{n} " + "private" * 2000, "1.2.3")
    await journal.run(lambda c: c.execute(text("DELETE FROM studies WHERE study_id NOT LIKE 'stu_1%'")))
    await journal.run(lambda c: c.execute(text("UPDATE studies SET study_id = substr(study_id, 1, 6)")))
    assert files_with(b"private", tmp_path)
    await journal.tidy(written_anew=0)
    assert files_with(b"private", tmp_path) == []


@pytest.mark.slow
async def test_after_the_night_nothing_is_left_of_what_moved_in_the_file_before_it_was_deleted(journal, tmp_path):
    dice = random.Random(1)

    def work(c):
        for n in range(3000):
            remember_study(c, f"private {n} " * dice.choice((1, 3, 10, 50)), "1.2.3", c.now)
            if n % 2:
                c.execute(text("DELETE FROM studies WHERE rowid = :n"), {"n": dice.randrange(n)})
        c.execute(text("UPDATE studies SET study_id = rowid"))

    await journal.run(work)
    assert files_with(b"private", tmp_path)
    await journal.tidy()
    assert files_with(b"private", tmp_path) == []


async def test_the_latest_word_on_a_study_counts(journal):
    await journal.remember_study("stu_1", "1.2.3")
    await journal.remember_study("stu_1", "1.2.4")
    assert await known(journal, "stu_1") == "1.2.4"


async def test_the_ledger_follows_a_study_from_its_first_object_to_its_end(journal):
    await journal.filling("1.2")
    assert (await journal.cached_study("1.2")).state is StudyState.FILLING
    await journal.filled("1.2", size=10, instances=2)
    study = await journal.cached_study("1.2")
    assert (study.state, study.size, study.instances) == (StudyState.READY, 10, 2)
    await journal.forgotten("1.2")
    assert await journal.cached_study("1.2") is None


async def test_a_study_that_grows_keeps_its_size_until_it_is_known_anew(journal):
    await journal.filled("1.2", size=10, instances=2)
    await journal.filling("1.2")
    assert (await journal.cached_study("1.2")).size == 10


async def test_an_answer_never_shortens_the_life_of_urls_that_are_out(journal):
    await journal.filled("1.2", size=10, instances=2)
    await journal.access("stu_1", "1.2", urls_valid_until=2000.0)
    await journal.access("stu_1", "1.2", urls_valid_until=1000.0)
    assert (await journal.cached_study("1.2")).urls_valid_until == 2000.0


async def test_the_least_recently_used_comes_first(journal):
    for uid in ("1.1", "1.2", "1.3"):
        await journal.filled(uid, size=1, instances=1)
    await journal.access("stu", "1.1", urls_valid_until=1.0)
    assert [s.study_instance_uid for s in await journal.cached_studies()] == ["1.2", "1.3", "1.1"]


@pytest.fixture
async def commits(journal):
    """How often something was committed, as a list that grows."""
    seen = []
    event.listen(journal._commits._engine, "commit", lambda connection: seen.append(connection))
    return seen


async def test_calls_that_wait_are_committed_together_and_end_only_then(journal, commits):
    waiting = []

    def call(n):
        return lambda c: remember_study(c, f"stu_{n}", f"1.2.{n}", c.now)

    # Of what is not committed yet, nothing is told: asked at each commit, before it is on the disk.
    event.listen(journal._commits._engine, "commit", lambda _: waiting.append(sum(not b.done() for b in begun)))
    begun = [asyncio.ensure_future(journal.run(call(n))) for n in range(100)]
    await asyncio.gather(*begun)
    assert len(commits) < 20
    assert waiting[0] == 100
    assert [await known(journal, f"stu_{n}") for n in range(100)] == [f"1.2.{n}" for n in range(100)]


async def test_a_call_that_fails_among_others_undoes_what_it_did_and_nothing_else(journal, commits):
    def fails(c):
        remember_study(c, "stu_bad", "1.2.666", c.now)
        raise LookupError("of the caller's own")

    calls = [journal.remember_study(f"stu_{n}", f"1.2.{n}") for n in range(10)]
    calls.insert(5, journal.run(fails))
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(e) for e in ended if e is not None] == [LookupError]
    assert len(commits) < 10
    assert await known(journal, "stu_bad") is None
    assert [await known(journal, f"stu_{n}") for n in range(10)] == [f"1.2.{n}" for n in range(10)]


async def test_a_call_that_the_database_refuses_does_not_take_others_with_it(journal):
    def refused(c):
        remember_study(c, "stu_bad", "1.2.666", c.now)
        c.execute(text("insert into no_such_table values (1)"))

    calls = [journal.remember_study(f"stu_{n}", f"1.2.{n}") for n in range(10)]
    calls.insert(5, journal.run(refused))
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(e) for e in ended if e is not None] == [JournalError]
    assert await known(journal, "stu_bad") is None
    assert [await known(journal, f"stu_{n}") for n in range(10)] == [f"1.2.{n}" for n in range(10)]


async def test_a_call_that_nobody_waits_for_any_more_and_that_has_not_begun_is_not_done(journal):
    begin = threading.Event()
    first = asyncio.ensure_future(journal.run(lambda c: begin.wait(10)))
    await asyncio.sleep(0.05)
    left, kept = (asyncio.ensure_future(journal.remember_study(f"stu_{n}", "1.2")) for n in range(2))
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.sleep(0)
    begin.set()
    await asyncio.gather(first, kept)
    assert [await known(journal, f"stu_{n}") for n in range(2)] == [None, "1.2"]


@pytest.mark.slow
async def test_what_was_acknowledged_before_a_kill_is_there(tmp_path, url):
    script = """
import asyncio, sys
from gateway.journal import Journal
async def main():
    journal = await Journal.open(sys.argv[1])
    for n in range(100000):
        await journal.remember_study(f"stu_{n}", f"1.2.{n}")
        print(n, flush=True)
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, url, stdout=subprocess.PIPE)
    acknowledged = -1
    while acknowledged < 50:
        acknowledged = int(await process.stdout.readline())
    os.kill(process.pid, signal.SIGKILL)
    rest = await process.stdout.read()
    acknowledged = max([acknowledged, *map(int, rest.split(b"\n")[:-1])])
    await process.wait()
    journal = await Journal.open(url)
    for n in range(acknowledged + 1):
        assert await known(journal, f"stu_{n}") == f"1.2.{n}"
    await journal.close()


@pytest.mark.slow
async def test_several_processes_may_open_a_new_journal_at_once(url):
    script = "import asyncio, sys; from gateway.journal import Journal; asyncio.run(Journal.open(sys.argv[1]))"
    started = [await asyncio.create_subprocess_exec(sys.executable, "-c", script, url) for _ in range(3)]
    assert [await p.wait() for p in started] == [0, 0, 0]


async def test_a_journal_of_a_newer_version_is_left_alone(tmp_path, url):
    await (await Journal.open(url)).close()
    with sqlite3.connect(tmp_path / "journal.db") as db:
        db.execute("UPDATE alembic_version SET version_num = '9999'")
    db.close()
    with pytest.raises(JournalError, match="newer version"):
        await Journal.open(url)


async def test_a_journal_that_cannot_be_opened_says_why(tmp_path):
    with pytest.raises(JournalError, match="unable to open database file"):
        await Journal.open(f"sqlite:///{tmp_path}/absent/journal.db")
    (tmp_path / "broken.db").write_bytes(b"no database" * 1000)
    with pytest.raises(JournalError, match="not a database"):
        await Journal.open(f"sqlite:///{tmp_path}/broken.db")


async def test_the_migrations_make_the_tables_that_the_code_uses(tmp_path, url):
    from sqlalchemy import create_engine, inspect

    from gateway.journal.tables import metadata

    await (await Journal.open(url)).close()
    engine = create_engine(url)
    found = inspect(engine)
    for table in metadata.sorted_tables:
        assert {c["name"] for c in found.get_columns(table.name)} == {c.name for c in table.columns}
        assert {i["name"] for i in found.get_indexes(table.name)} == {i.name for i in table.indexes}
    engine.dispose()


async def test_an_error_of_the_database_quotes_no_value(journal):
    value = "^".join(("Doe", "Jane"))  # a traceback quotes the source
    with pytest.raises(JournalError) as caught:
        await journal.run(
            lambda c: c.execute(text("INSERT INTO studies (study_id) VALUES (:name)").bindparams(name=value))
        )
    told = "".join(traceback.format_exception(caught.value))
    assert "NOT NULL" in told
    assert value not in told


async def test_calls_that_wait_for_a_disk_that_hangs_are_not_without_end(journal, monkeypatch):
    monkeypatch.setattr("gateway.journal.commits.MOST_WAITING", 3)
    goes_on = threading.Event()
    journal._commits._thread.submit(goes_on.wait, 60)
    waiting = [asyncio.ensure_future(known(journal, "stu_1")) for _ in range(3)]
    await asyncio.sleep(0)
    try:
        with pytest.raises(JournalError, match="does not answer"):
            await known(journal, "stu_1")
    finally:
        goes_on.set()
    assert await asyncio.gather(*waiting) == [None] * 3
