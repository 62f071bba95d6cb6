"""What the first screen says: a sentence, what is not well, since when, and what to do about it."""

from __future__ import annotations

import dataclasses

import pytest

from gateway.admin.answering import Answer
from gateway.admin.arrivals import Arrivals
from gateway.admin.certificates import CertificateEnd
from gateway.admin.judgement import PARTS, of_certificate, of_disk, of_signatures, of_silence
from gateway.avara.endpoint import Refused
from gateway.journal import PausedLane
from gateway.page.standing import Mark, Memory, Observed, judge
from gateway.runtime.supervise import LoopState
from tests.clock import ManualClock

NOW = 1_800_000_000.0
DAY = 86400.0
WELL = Observed(
    NOW,
    dict.fromkeys(PARTS),
    {},
    [LoopState("jobs", True, NOW - 60)],
    [Answer("main", "ORTHANC at 10.1.2.4:104", "", None, NOW - 5, 12.0)],
    [],
    [],
    0,
    NOW - 60,
    "can be written to, 69.0 GB are free",
    2_000_000_000,
    [CertificateEnd("dicom.tls.certificate_file", NOW + 100 * DAY, NOW + 79 * DAY)],
)


def standing(memory=None, **seen):
    return judge(dataclasses.replace(WELL, **seen), memory or Memory())


def test_all_is_well_where_nothing_is_wrong():
    said = standing()
    assert (said.sentence, said.mark, said.troubles) == ("All is well.", Mark.WELL, ())
    assert {p.mark for p in (*said.pacs, *said.parts)} == {Mark.WELL}


SILENT = Answer("main", "ORTHANC at 10.1.2.4:104", "silent for 9 s", NOW - 9, None, None)
LANE = PausedLane("report.hl7", "ris", NOW - 300, 7, NOW + 60, "connection refused")


def failing(name, why):
    return {"probes": {**WELL.probes, name: why}, "since": {name: NOW - 3}}


def certified(one):
    return {"certificates": [one], "judged": [of_certificate(one, NOW)]}


def refused(times):
    arrivals = Arrivals(ManualClock())
    for _ in range(times):
        arrivals.note(Refused("198.51.100.7", "msg", "its time is 10 min off", unproven=True))
    return {"judged": [of_signatures(arrivals)]}


WRONG = {
    "pacs": ({"pacs": [SILENT]}, "PACS main", "silent for 9 s"),
    "store": (failing("store", ""), "object store", "log has the details"),
    "journal": (failing("journal", "disk I/O error"), "journal", "disk I/O error"),
    "disk": (failing("state_dir", "its disk is full"), "own disk", "its disk is full"),
    "listener": (failing("dicom_listener", "refused"), "DICOM listener", "refused"),
    "loop": ({"loops": [LoopState("inbox", False, NOW - 9, "it ended", "a bug")]}, "“inbox” is not running", "a bug"),
    "lane": ({"paused": [LANE]}, "cannot be brought to ris", "connection refused"),
    "certificate": (
        certified(CertificateEnd("dicom.tls.certificate_file", NOW - DAY, NOW - 22 * DAY)),
        "has expired",
        "connections that need it are refused",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_the_sentence_with_since_when_why_and_what_to_do(wrong):
    seen, what, why = WRONG[wrong]
    said = standing(**seen)
    [trouble] = said.troubles
    assert said.mark is Mark.TROUBLE
    assert what in said.sentence
    assert why in trouble.why
    assert trouble.since is not None
    assert trouble.since <= NOW
    assert len(trouble.mend) > 20
    assert Mark.TROUBLE in {p.mark for p in (*said.pacs, *said.parts)} or wrong == "lane"


WAITS = {
    "job": ({"held": 1}, "All works; one job waits for you."),
    "jobs": ({"held": 3}, "All works; 3 jobs wait for you."),
    "signature": (
        refused(2),
        "All works; the last 2 webhooks were refused.",
    ),
    "silent": ({"judged": [of_silence(3600.0, NOW - DAY)]}, "Avara asks for nothing, where it usually"),
    "certificate": (certified(CertificateEnd("x", NOW + 20 * DAY, NOW - DAY)), "ends in 20 days"),
    "disk": ({"judged": [of_disk(10**9, 2 * 10**9)]}, "All works; the disk of state_dir is nearly full."),
}


@pytest.mark.parametrize("waits", WAITS)
def test_what_can_wait_is_no_alarm_and_is_said(waits):
    seen, sentence = WAITS[waits]
    said = standing(**seen)
    assert said.mark is Mark.WAITS
    assert sentence.removeprefix("Avara")[:40] in said.sentence.replace("avara", "Avara")
    assert [t.mark for t in said.troubles] == [Mark.WAITS]


def test_the_worst_is_told_first_and_the_others_are_counted():
    said = standing(held=2, paused=[LANE], pacs=[SILENT])
    assert said.sentence.endswith(", and 1 more.")
    assert [t.mark for t in said.troubles] == [Mark.TROUBLE, Mark.TROUBLE, Mark.WAITS]


def test_since_when_is_remembered_while_it_lasts_and_begins_anew_when_it_comes_again():
    memory = Memory()
    assert standing(memory, held=1).troubles[0].since == NOW
    assert standing(memory, held=2, at=NOW + 60).troubles[0].since == NOW
    assert standing(memory, at=NOW + 90).troubles == ()
    assert standing(memory, held=1, at=NOW + 99).troubles[0].since == NOW + 99
