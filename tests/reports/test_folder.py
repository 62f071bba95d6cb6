"""The folder that a RIS watches: whole files or none, wherever we are killed or fail; the sidecar last. A real file
system and real kills; full and read-only disks are played. Not here: a share that hangs."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.reports.folder.write import STALE, UNFINISHED, FolderUnavailable, file_stem, write_report
from tests.reports.conftest import STUDY_UID, a_report, a_study

STEM = "rep_0123456789abcdef0123456789abcdef_v1"


def names(directory):
    return sorted(p.name for p in directory.iterdir())


def test_a_report_is_written_with_its_text_and_a_sidecar_that_tells_of_both(tmp_path):
    report = a_report(plain_text="Größe: 5 mm\r\n≥ 3")
    assert write_report(tmp_path, report, a_study()).names == (f"{STEM}.pdf", f"{STEM}.txt", f"{STEM}.json")
    assert (tmp_path / f"{STEM}.pdf").read_bytes() == report.pdf
    assert (tmp_path / f"{STEM}.txt").read_bytes() == report.plain_text.encode()
    sidecar = json.loads((tmp_path / f"{STEM}.json").read_bytes())
    assert sidecar == {
        "reportId": report.report_id, "version": 1, "isCritical": False, "isAddendum": False,
        "received": "2026-11-24T06:00:00+00:00",
        "studyId": report.study_id, "studyInstanceUid": STUDY_UID, "accessionNumber": "ACC0001",
        "patientId": "MRN0001", "issuerOfPatientId": "HOSP",
        "documentSeriesInstanceUid": report.series_instance_uid, "documentSopInstanceUid": report.document_uid,
        "files": [
            {"name": f"{STEM}.{kind}", "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for kind, content in (("pdf", report.pdf), ("txt", report.plain_text.encode()))
        ],
    }  # fmt: skip


def test_what_a_report_does_not_have_is_not_written(tmp_path):
    assert write_report(tmp_path, a_report(pdf=None), a_study()).names == (f"{STEM}.txt", f"{STEM}.json")
    assert write_report(tmp_path, a_report(plain_text=None, version=2), a_study()).names[0].endswith("_v2.pdf")
    assert not [n for n in names(tmp_path) if n.endswith(("_v1.pdf", "_v2.txt"))]


def test_a_retry_leaves_the_same_bytes_and_is_no_second_signal(tmp_path):
    report, study = a_report(), a_study()
    write_report(tmp_path, report, study)
    before = {p.name: (p.read_bytes(), p.stat().st_ino, p.stat().st_mtime_ns) for p in tmp_path.iterdir()}
    write_report(tmp_path, report, study)
    assert {p.name: (p.read_bytes(), p.stat().st_ino, p.stat().st_mtime_ns) for p in tmp_path.iterdir()} == before


def test_what_is_there_with_other_bytes_is_replaced_and_a_link_is_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(a_report().pdf)
    share = tmp_path / "share"
    share.mkdir()
    (share / f"{STEM}.pdf").symlink_to(outside)
    (share / f"{STEM}.txt").write_text("torn")
    os.mkfifo(share / f"{STEM}.json")
    write_report(share, a_report(), a_study())
    assert all((share / n).is_file() and not (share / n).is_symlink() for n in names(share))
    assert (share / f"{STEM}.txt").read_text() == a_report().plain_text


def test_files_have_the_mode_that_is_configured_whatever_the_umask(tmp_path):
    former = os.umask(0o077)
    try:
        write_report(tmp_path, a_report(), a_study(), mode=0o664)
    finally:
        os.umask(former)
    assert {p.stat().st_mode & 0o777 for p in tmp_path.iterdir()} == {0o664}


@given(st.text(max_size=80))
def test_no_id_leads_out_of_the_folder_or_to_a_name_that_a_share_refuses(report_id):
    stem = file_stem(a_report(report_id=report_id))
    assert set(stem) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.")
    assert not stem.startswith(".")
    assert ".." not in stem
    assert len(stem) < 80


@given(st.lists(st.text(max_size=20), min_size=2, max_size=8, unique=True), st.integers(1, 3), st.integers(1, 3))
def test_two_reports_never_share_a_name_even_where_case_is_ignored(report_ids, one, other):
    stems = {file_stem(a_report(report_id=i, version=v)).lower() for i in report_ids for v in {one, other}}
    assert len(stems) == len(report_ids) * len({one, other})


def test_an_id_that_looks_like_anothers_hash_or_version_is_another_name():
    hashed = file_stem(a_report(report_id="A"))
    assert file_stem(a_report(report_id=hashed.removesuffix("_v1"))) != hashed
    assert file_stem(a_report(report_id="../../etc/passwd")).startswith("sha256.")
    assert file_stem(a_report(report_id="rep_A")) != file_stem(a_report(report_id="rep_a"))


def test_a_missing_folder_is_named_with_its_fix_and_never_created(tmp_path):
    with pytest.raises(FolderUnavailable, match=r"mount the share.*reports\.folder") as caught:
        write_report(tmp_path / "share", a_report(), a_study())
    assert caught.value.transient
    assert not (tmp_path / "share").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderUnavailable, match=r"mount the share"):
        write_report(tmp_path / "file", a_report(), a_study())


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "is full"),
        (errno.EDQUOT, "is full"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "the right to create"),
        (errno.EIO, "look at the disk"),
        (errno.ESTALE, "look at the disk"),
    ],
)
@pytest.mark.parametrize("step", ["open", "fsync", "rename"])
def test_a_disk_that_fails_is_transient_leaves_no_half_file_and_no_sidecar(tmp_path, monkeypatch, number, said, step):
    real = getattr(os, step)
    calls = 0

    def fails(*args, **options):
        nonlocal calls
        if step == "open" and (len(args) < 2 or not args[1] & os.O_CREAT):
            return real(*args, **options)
        calls += 1
        if calls > 1:
            raise OSError(number, os.strerror(number))
        return real(*args, **options)

    monkeypatch.setattr(os, step, fails)
    with pytest.raises(FolderUnavailable, match=said):
        write_report(tmp_path, a_report(), a_study())
    monkeypatch.undo()
    assert set(names(tmp_path)) <= {f"{STEM}.pdf", f"{STEM}.txt"}
    write_report(tmp_path, a_report(), a_study())
    assert names(tmp_path) == [f"{STEM}.json", f"{STEM}.pdf", f"{STEM}.txt"]


def test_a_share_whose_folders_have_no_fsync_is_written_to(tmp_path, monkeypatch):
    real = os.fsync

    def fsync(file):
        if Path(f"/proc/self/fd/{file}").is_dir():
            raise OSError(errno.EINVAL, "Invalid argument")
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    assert len(write_report(tmp_path, a_report(), a_study()).names) == 3


def test_unfinished_files_that_were_left_are_removed_and_nobody_elses(tmp_path):
    old, new, foreign = (tmp_path / n for n in (f".a.json.1{UNFINISHED}", f".b.json.2{UNFINISHED}", ".old.tmp"))
    ours = tmp_path / f".{STEM}.pdf.3{UNFINISHED}"
    for path in (old, new, foreign, ours):
        path.write_text("half")
    long_ago = time.time() - STALE - 60
    os.utime(old, (long_ago, long_ago))
    os.utime(foreign, (long_ago, long_ago))
    write_report(tmp_path, a_report(), a_study())
    assert not old.exists()
    assert not ours.exists()
    assert new.exists()
    assert foreign.exists()


def test_every_file_is_on_disk_before_it_has_its_name_and_its_name_before_the_sidecars(tmp_path, monkeypatch):
    """As a power cut would ask, which no test here can have."""
    done = []

    def noted(name):
        real = getattr(os, name)

        def call(*args, **options):
            if name == "rename":
                done.append(f"rename {args[1].rpartition('.')[2]}")
            else:
                done.append(f"{name} {'folder' if Path(f'/proc/self/fd/{args[0]}').is_dir() else 'file'}")
            return real(*args, **options)

        return call

    for name in ("fsync", "rename"):
        monkeypatch.setattr(os, name, noted(name))
    write_report(tmp_path, a_report(), a_study())
    steps = [step for kind in ("pdf", "txt", "json") for step in ("fsync file", f"rename {kind}", "fsync folder")]
    assert done[: len(steps)] == steps


DIES_AT = """
import os, signal, sys
from pathlib import Path
from tests.reports.conftest import a_report, a_study
from gateway.reports.folder import write as folder

def dying(name):
    real = getattr(os, name)
    def call(*args, **options):
        global left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **options)
    return call

for name in ("open", "fchmod", "fsync", "rename", "close"):
    setattr(os, name, dying(name))
# A process for each step, until one comes to its end.
for step in range(1, 1000):
    directory = Path(sys.argv[1], str(step))
    directory.mkdir()
    if (child := os.fork()) == 0:
        left = step
        folder.write_report(directory, a_report(pdf=bytes(100_000)), a_study())
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == 0:
        print(step)
        break
    assert status == -signal.SIGKILL, status
"""


@pytest.mark.slow
def test_a_kill_at_any_step_leaves_no_half_file_and_the_retry_makes_it_whole(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-c", DIES_AT, str(tmp_path)],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    last = int(ran.stdout)
    assert last > 15
    wanted = {p.name: p.read_bytes() for p in (tmp_path / str(last)).iterdir()}
    assert set(wanted) == {f"{STEM}.json", f"{STEM}.pdf", f"{STEM}.txt"}
    left_behind = 0
    for step in range(1, last):
        share = tmp_path / str(step)
        left_behind += len([n for n in names(share) if n.startswith(".")])
        seen = {p.name: p.read_bytes() for p in share.iterdir() if not p.name.startswith(".")}
        assert seen.items() <= wanted.items()
        if f"{STEM}.json" in seen:
            assert seen == wanted
        write_report(share, a_report(pdf=bytes(100_000)), a_study())
        assert {p.name: p.read_bytes() for p in share.iterdir()} == wanted
    assert left_behind >= 6  # the kills did meet unfinished files
