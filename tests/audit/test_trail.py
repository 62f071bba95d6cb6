"""The audit trail: what was written is all there and as it was, or ``audit verify`` says what is not.

Which events of a gateway are noted is in test_gateway.py.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit import AuditFile, AuditTrail, NotWritten, trail
from gateway.audit.chain import BEGINNING, MAX_VALUE, Entry, Head, read, verify, written
from gateway.runtime.supervise import Supervisor
from tests.clock import ManualClock

NOW = time.time()  # files have the times of the system


def lines_of(count):
    lines, head = [], BEGINNING
    for n in range(count):
        line, head = written(Entry(NOW + n, "opened", {"key": f"k{n}", "bytes": n}), head)
        lines.append(line)
    return lines


def judged(lines, known=None):
    return verify(((f"line {n}", line) for n, line in enumerate(lines, 1)), known=known)


@pytest.fixture
def clock():
    return ManualClock(NOW)


def file_in(folder, clock=None, **how):
    kept = {"keep_for": 86400.0, "max_size": 10**9} | how
    return AuditFile(folder / "audit", **kept, **({"clock": clock} if clock else {}))


def entries(count, first=0):
    return [Entry(NOW + n, "opened", {"key": f"k{n}"}) for n in range(first, first + count)]


# -- the chain


@given(
    st.text(), st.dictionaries(st.text(alphabet="xyz", min_size=1), st.text() | st.integers() | st.none(), max_size=4)
)
def test_an_entry_is_one_line_and_says_what_it_was_given(what, fields):
    line, head = written(Entry(NOW, what, fields), BEGINNING)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert all(32 <= byte < 127 for byte in line[:-1])
    found, told = read(line)
    assert (found["what"], told) == (what, head)
    for name, value in fields.items():
        if value not in (None, ""):
            assert found[name] == (value[:MAX_VALUE] if isinstance(value, str) else value)


def test_a_trail_as_it_was_written_is_whole():
    verdict = judged(lines_of(20))
    assert (verdict.entries, verdict.problems, verdict.head.number) == (20, [], 20)
    assert judged([]).problems == []


@given(st.data())
def test_whatever_is_altered_removed_moved_or_put_in_is_found(data):
    lines = lines_of(6)
    how = data.draw(st.sampled_from(["alter", "remove", "swap", "repeat", "insert"]))
    at = data.draw(st.integers(0, 4))
    if how == "alter":
        where = data.draw(st.integers(0, len(lines[at]) - 2))
        byte = data.draw(st.integers(32, 126).filter(lambda b: b != lines[at][where]))
        lines[at] = lines[at][:where] + bytes([byte]) + lines[at][where + 1 :]
    elif how == "remove":
        del lines[at]
    elif how == "swap":
        lines[at], lines[at + 1] = lines[at + 1], lines[at]
    elif how == "repeat":
        lines.insert(at, lines[at])
    else:
        lines.insert(at + 1, data.draw(st.sampled_from([b"{}\n", b"garbage\n", lines_of(9)[8]])))
    assert judged(lines).problems


def test_an_end_that_was_cut_off_is_found_by_a_head_that_was_kept():
    lines = lines_of(9)
    head = judged(lines).head
    assert judged(lines[:5]).problems == []
    assert "cut off" in judged(lines[:5], known=head).problems[0]
    assert judged(lines_of(12), known=head).problems == []
    assert judged(lines, known=Head(9, "0" * 64)).problems


# -- files


def test_what_several_processes_write_is_one_chain(tmp_path):
    first, second = file_in(tmp_path), file_in(tmp_path)
    for n in range(0, 12, 3):
        first.append(entries(2, n))
        second.append(entries(1, n + 2))
    verdict = first.verify()
    assert (verdict.entries, verdict.problems) == (12, [])
    assert (tmp_path / "audit").stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "audit").iterdir())


def test_a_full_file_is_compressed_and_the_chain_goes_on_in_the_next(tmp_path, clock):
    file = file_in(tmp_path, clock, file_size=1000)
    for n in range(10):
        file.append(entries(3, n * 3))
    names = sorted(path.name for path in (tmp_path / "audit").glob("audit-*"))
    assert names[0] == "audit-000000000001.jsonl.gz"
    assert sum(name.endswith(".jsonl") for name in names) == 1
    assert (file.verify().entries, file.verify().problems) == (30, [])
    again = file_in(tmp_path, clock)
    again.append(entries(1, 30))
    assert (again.verify().entries, again.verify().problems) == (31, [])
    (tmp_path / "audit" / names[1]).unlink()
    assert "entries were removed" in again.verify().problems[0]


def test_what_is_too_old_goes_and_the_trail_says_so(tmp_path, clock):
    file = file_in(tmp_path, clock, file_size=1000, keep_for=3600.0)
    for n in range(4):
        file.append(entries(6, 6 * n))
    verdict = file.verify()
    assert (verdict.problems, verdict.entries) == ([], 24)
    for path in sorted((tmp_path / "audit").glob("*.gz"))[:2]:
        os.utime(path, (NOW - 7200, NOW - 7200))
    file.append(entries(6, 24))
    verdict = file.verify()
    assert (verdict.problems, verdict.entries) == ([], 30 - 12 + 1)
    min((tmp_path / "audit").glob("audit-*")).unlink()  # and this one nobody may
    assert "nothing says was removed by the gateway" in file.verify().problems[0]


@pytest.mark.slow
def test_files_keep_to_their_size(tmp_path, clock):
    file = file_in(tmp_path, clock, file_size=2000, max_size=3000)
    for n in range(60):
        file.append(entries(5, n * 5))
    assert sum(path.stat().st_size for path in (tmp_path / "audit").glob("*.gz")) <= 3000
    assert file.verify().problems == []


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_a_line_that_was_half_written_is_told_and_nothing_is_shortened(tmp_path, clock, cut):
    file_in(tmp_path, clock).append(entries(3))
    (path,) = (tmp_path / "audit").glob("*.jsonl")
    path.write_bytes(path.read_bytes()[:-cut])
    before = path.read_bytes()
    assert file_in(tmp_path, clock).verify().problems or cut == 1
    file_in(tmp_path, clock).append(entries(2, 3))
    assert path.read_bytes().startswith(before)
    verdict = file_in(tmp_path, clock).verify()
    assert verdict.problems == []
    keys = [found[0].get("key") for line in path.read_bytes().splitlines() if (found := read(line)) is not None]
    assert keys[-2:] == ["k3", "k4"]


@pytest.mark.slow
def test_a_trail_whose_writer_was_killed_again_and_again_is_whole(tmp_path):
    script = (
        "import sys, pathlib; from tests.audit.test_trail import entries, file_in\n"
        "file = file_in(pathlib.Path(sys.argv[1]), file_size=20_000); print(flush=True)\n"
        "while True: file.append(entries(7))"
    )
    for n in range(6):
        process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
        process.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.05 + 0.03 * n)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    file_in(tmp_path).append(entries(1))
    verdict = file_in(tmp_path).verify()
    assert verdict.entries > 7
    assert verdict.problems == []


def test_a_full_disk_is_told_and_what_was_not_written_can_be_written_later(tmp_path, monkeypatch):
    file = file_in(tmp_path)
    file.append(entries(2))
    write, room = os.write, [600]

    def full(descriptor, data):
        if not room[0]:
            raise OSError(28, "No space left on device")
        count = write(descriptor, bytes(data[: room[0]]))
        room[0] -= count
        return count

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(NotWritten, match="disk full") as caught:
        file.append(entries(4, 2))
    assert 0 < caught.value.done < 4
    monkeypatch.undo()
    file.append(entries(4, 2)[caught.value.done :])
    assert file.verify().problems == []
    with (next((tmp_path / "audit").glob("*.jsonl"))).open("rb") as trail_file:
        keys = [found[0].get("key") for line in trail_file if (found := read(line)) is not None]
    assert [key for key in keys if key] == [f"k{n}" for n in range(6)]


# -- a running gateway's


def said(folder):
    found = []
    for path in sorted((folder / "audit").glob("audit-*")):
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rb") as file:
            found += [json.loads(line) for line in file]
    return found


async def test_what_strangers_repeat_is_told_once_and_counted(tmp_path, clock):
    kept = AuditTrail(file_in(tmp_path), clock=clock)
    for _ in range(5000):
        kept.count("association_rejected", "X 10.0.0.1", calling="X")
    kept.count("association_rejected", "Y 10.0.0.1", calling="Y")
    await kept.flush()
    assert [entry["calling"] for entry in said(tmp_path)] == ["X", "Y"]
    await kept.stop()
    assert [(e["calling"], e["times_more"]) for e in said(tmp_path)[2:]] == [("X", 4999)]


async def test_many_kinds_of_strangers_are_no_memory(tmp_path, clock):
    kept = AuditTrail(file_in(tmp_path), clock=clock)
    for n in range(3 * trail.KINDS):
        kept.count("association_rejected", f"{n}", calling=str(n))
    assert len(kept._counted) <= trail.KINDS
    await kept.stop()


async def test_where_it_cannot_be_written_entries_wait_and_those_that_are_too_many_are_counted(
    tmp_path, clock, caplog, monkeypatch
):
    monkeypatch.setattr(trail, "MOST_WAITING", 10)
    (tmp_path / "audit").write_text("in the way")
    kept = AuditTrail(file_in(tmp_path), clock=clock)
    for n in range(15):
        kept.note("opened", key=f"k{n}")
    await kept.flush()
    assert "cannot be written to" in kept.check()
    assert "cannot be written to" in caplog.text
    (tmp_path / "audit").unlink()
    await kept.stop()
    assert kept.check() == ""
    told = said(tmp_path)
    assert [entry["key"] for entry in told if entry["what"] == "opened"] == [f"k{n}" for n in range(10)]
    assert [entry["times"] for entry in told if entry["what"] == "lost"] == [5]
    assert file_in(tmp_path).verify().problems == []


async def test_its_loop_writes_and_tells_the_head_to_the_log(tmp_path, caplog):
    caplog.set_level("INFO")
    file_in(tmp_path).append(entries(3))
    kept = AuditTrail(file_in(tmp_path))
    kept.note("opened", key="k")
    async with asyncio.timeout(20), Supervisor() as loops:
        loops.add("audit trail", kept.run)
        while "ends with entry" not in caplog.text:
            await asyncio.sleep(0.05)
        assert len(said(tmp_path)) >= 4
    await kept.stop()
    assert f"ends with entry {file_in(tmp_path).verify().head}" in caplog.text
