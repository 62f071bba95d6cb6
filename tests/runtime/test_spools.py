"""Unnamed files keep to a budget, all together, and leave their disk what it has to keep."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace

import pytest

from gateway.runtime import spools as module
from gateway.runtime.spools import NoRoom, Spools


def test_all_files_together_keep_to_the_budget_and_give_back_what_they_had(tmp_path):
    spools = Spools(tmp_path, most=1000, keeps_free=0)
    first, second = spools.file(), spools.file()
    first.write(bytes(600))
    with pytest.raises(NoRoom, match=r"dicom\.spool_size"):
        second.write(bytes(401))
    second.write(bytes(400))
    assert (spools.taken, spools.room()) == (1000, 0)
    first.close()
    assert spools.taken == 400
    third = spools.file()
    third.write(bytes(600))
    for file in (second, third):
        file.close()
        file.close()
    assert spools.taken == 0
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_several_have_open_counts_once_and_until_the_last_closes_it(tmp_path):
    spools = Spools(tmp_path, keeps_free=0)
    file = spools.file()
    file.write(b"abc")
    with file.share() as shared:
        file.close()
        assert spools.taken == 3
        assert os.pread(shared.fileno(), 3, 0) == b"abc"
    assert spools.taken == 0


def test_the_disk_keeps_what_it_has_to(tmp_path, monkeypatch):
    monkeypatch.setattr(module.os, "statvfs", lambda _: SimpleNamespace(f_bavail=10, f_frsize=100))
    spools = Spools(tmp_path, keeps_free=600)
    with spools.file() as file:
        file.write(bytes(400))
        with pytest.raises(NoRoom, match="free space on it"):
            file.write(bytes(401))
        assert spools.room() == 400


def test_what_was_not_written_is_not_counted(tmp_path, monkeypatch):
    spools = Spools(tmp_path, keeps_free=0)
    file = spools.file()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    os.dup2(writer, file.fileno())
    written = file.write(bytes(1_000_000))
    assert 0 < written < 1_000_000
    assert spools.taken == written
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        file.write(b"x")
    assert spools.taken == written
    os.close(writer)
    file.close()
    assert spools.taken == 0


def test_what_another_process_writes_is_bounded_by_the_room_and_counted(tmp_path):
    spools = Spools(tmp_path, most=1000, keeps_free=0)
    with spools.file() as file:
        with file.written_by_another(5000) as room:
            assert room == 1000
            os.write(file.fileno(), bytes(700))
        assert spools.taken == 700
        with spools.file() as other, other.written_by_another(200) as room:
            assert room == 200
        other = spools.file()
        other.write(bytes(300))
        with pytest.raises(NoRoom), spools.file() as full, full.written_by_another(1):
            pass
        other.close()


def test_a_refusal_is_trouble_for_a_while(tmp_path, monkeypatch):
    spools = Spools(tmp_path, most=10, keeps_free=0)
    assert spools.trouble() is None
    with spools.file() as file, pytest.raises(NoRoom) as refused:
        file.write(bytes(11))
    assert refused.value.errno == errno.ENOSPC
    assert "raise the setting" in spools.trouble()
    monkeypatch.setattr(module, "TOLD_FOR", -1)
    assert spools.trouble() is None
