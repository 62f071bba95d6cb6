"""The log: each line says what it is about, in both forms; what repeats is counted, and never drowns the rest."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import logging
import sys

import pytest

from gateway.admin import logs
from gateway.admin.logs import ALL_TRACEBACKS, LINES, TRACEBACKS, JsonFormatter, LogHandler, Repeats, TextFormatter
from gateway.demo.sample import sample_study
from gateway.journal import Jobs, Journal
from gateway.journal.handling import JobDone, Kind
from gateway.journal.worker import Worker
from gateway.runtime.log_ids import bind, bound, current, step
from gateway.runtime.supervise import Supervisor
from tests.rig.journal import with_journal
from tests.untyped import Untyped

_numbers = itertools.count()


class Log:
    """A log of its own, whose minutes pass when they are told to."""

    def __init__(self, formatter):
        self.time = 0.0
        self.stream = io.StringIO()
        self.handler = LogHandler(Repeats(lambda: self.time))
        self.handler.setStream(self.stream)
        self.handler.setFormatter(formatter)
        self.log = logging.getLogger(f"test.{next(_numbers)}")
        self.log.setLevel(logging.DEBUG)
        self.log.propagate = False
        self.log.addHandler(self.handler)

    @property
    def lines(self):
        return self.stream.getvalue().splitlines()


@pytest.fixture
def text():
    return Log(TextFormatter())


@pytest.fixture
def machine():
    return Log(JsonFormatter())


def refuse(log):
    try:
        raise OSError("out of descriptors")
    except OSError:
        log.exception("a connection from %s failed", "10.1.2.3")


# -- ids


def test_a_line_carries_what_it_is_about_in_the_order_from_question_to_work(text):
    with bound(job=7), bound(webhook="msg_1", study="1.2.3"):
        text.log.info("a line")
    text.log.info("another")
    assert text.lines[0].endswith("INFO    a line [webhook=msg_1 study=1.2.3 job=7]")
    assert text.lines[1].endswith("INFO    another")


def test_machines_get_the_ids_as_fields(machine):
    with bound(webhook="msg_1", association=3):
        machine.log.warning("a line")
    line = json.loads(machine.lines[0])
    assert (line["webhook"], line["association"], line["message"]) == ("msg_1", "3", "a line")


def test_ids_stand_before_the_traceback(text):
    with bound(study="1.2.3"):
        refuse(text.log)
    assert text.lines[0].endswith("failed [study=1.2.3]")
    assert text.lines[1].startswith("    Traceback")


def test_an_id_from_outside_makes_no_second_line(text, machine):
    with bound(webhook="a\n2026-01-01 CRITICAL forged"):
        text.log.info("x")
        machine.log.info("x")
    assert len(text.lines) == len(machine.lines) == 1


async def test_a_task_takes_over_what_is_bound_where_it_begins_and_gives_nothing_back():
    async def fetch():
        bind(study="1.2.3")
        await asyncio.sleep(0)
        return current()

    with bound(webhook="msg_1"):
        assert await asyncio.create_task(fetch()) == {"webhook": "msg_1", "study": "1.2.3"}
        assert current() == {"webhook": "msg_1"}
    assert current() == {}


def test_a_step_is_told_at_debug_only_with_its_time_and_how_it_ended(text):
    with step(text.log, "find %s", "1.2.3"):
        pass
    with pytest.raises(ValueError, match="no"), step(text.log, "list"):
        raise ValueError("no")
    assert [line.split("DEBUG   ")[1].split(" ms")[0].rstrip("0123456789") for line in text.lines] == [
        "find 1.2.3: begins", "find 1.2.3: took ", "list: begins", "list: ValueError after ",
    ]  # fmt: skip
    text.log.setLevel(logging.INFO)
    with step(text.log, "quiet"):
        pass
    assert len(text.lines) == 4


# -- what repeats


def test_a_thousand_lines_of_one_kind_are_some_and_a_number(text):
    for n in range(1000):
        text.log.warning("refused a connection from %s", f"10.1.2.{n}")
    assert len(text.lines) == LINES
    text.time = 61
    text.log.info("something else")
    assert len(text.lines) == LINES + 2
    assert f"… {1000 - LINES} more like this in the last minute: refused a connection from 10.1.2.0" in text.lines[-2]
    assert "WARNING" in text.lines[-2]
    text.log.warning("refused a connection from %s", "10.1.2.3")
    assert text.lines[-1].endswith("10.1.2.3")


def test_one_kind_that_repeats_leaves_the_others_their_lines(text):
    for _ in range(1000):
        text.log.warning("refused a connection from %s", "10.1.2.3")
    text.log.error("the journal cannot be used")
    assert "the journal cannot be used" in text.lines[-1]


def test_tracebacks_are_few_also_where_the_lines_are_not(text):
    for _ in range(LINES):
        refuse(text.log)
    assert sum("Traceback" in line for line in text.lines) == TRACEBACKS
    assert sum("a connection from" in line for line in text.lines) == LINES


def test_tracebacks_of_a_thousand_kinds_are_few(text):
    for n in range(1000):
        try:
            raise OSError("out of descriptors")
        except OSError:
            text.log.error(f"kind {n}", exc_info=True)  # noqa: G004, G201  (a kind of its own each)
    assert sum("Traceback" in line for line in text.lines) == ALL_TRACEBACKS


def test_what_a_library_tells_with_its_objects_in_it_is_one_kind(text):
    for n in range(1000):
        text.log.error(f"socket.accept() out of system resource\nsocket: <socket fd={n}>")  # noqa: G004
    assert len([line for line in text.lines if "out of system" in line]) == LINES


def test_as_many_kinds_as_anybody_can_make_up_take_bounded_memory(text):
    for n in range(5000):
        text.log.warning(f"kind {n}")  # noqa: G004
    assert len(text.handler._repeats._seen) <= logs.KINDS + 1


def test_debug_is_told_whole(text):
    for _ in range(LINES * 2):
        text.log.debug("a step")
    assert len(text.lines) == LINES * 2


def test_what_was_left_out_is_told_at_the_end(text):
    for _ in range(LINES + 3):
        text.log.warning("again")
    text.handler.close()
    assert "… 3 more like this" in text.lines[-1]


async def test_what_was_left_out_is_told_though_nothing_more_comes(text, monkeypatch):
    monkeypatch.setattr(logs, "TELLS_EVERY", 0.01)
    for _ in range(LINES + 3):
        text.log.warning("again")
    text.time = 61
    running = asyncio.create_task(text.handler.run())
    async with asyncio.timeout(5):
        while "… 3 more like this" not in text.lines[-1]:
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


FORGED = "MAIN\n2026-01-01 00:00:00,000 INFO    stopped\r\x1b[2K\x9b1A\u2028stopped\x00"


def test_what_a_stranger_says_forges_no_line_and_moves_no_cursor(text):
    text.log.warning("rejected an association from %s", FORGED)
    try:
        raise OSError(FORGED)
    except OSError:
        text.log.exception("an association from %s failed", FORGED)
    logging.getLogger("pynetdicom.test").addHandler(text.handler)
    logging.getLogger("pynetdicom.test").error("%s", FORGED)
    logging.getLogger("pynetdicom.test").removeHandler(text.handler)
    for line in text.stream.getvalue().split("\n")[:-1]:
        assert line.isprintable()
        assert " stopped" not in line or line.startswith("    ") or " WARNING " in line or " ERROR " in line
    assert len([line for line in text.lines if not line.startswith("    ")]) == 3
    assert "association from MAIN\\n2026" in text.lines[0]
    assert "M\u00fcller".isprintable()


def test_the_log_is_set_up_with_both(monkeypatch):
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        handler = logs.set_up_logging("info", "json")
        assert isinstance(handler.formatter, JsonFormatter)
        assert handler.stream is sys.stderr
        assert isinstance(logs.set_up_logging("debug", "text").formatter, TextFormatter)
    finally:
        root.handlers[:], root.level = before[0], before[1]
        root.setLevel(before[1])


# -- the whole way


@pytest.fixture
def everything():
    """All that a gateway tells at DEBUG, as its log would have it."""
    log = Log(TextFormatter())
    root = logging.getLogger()
    gateways, level = logging.getLogger("gateway"), logging.getLogger("gateway").level
    root.addHandler(log.handler)
    gateways.setLevel(logging.DEBUG)
    yield log
    gateways.setLevel(level)
    root.removeHandler(log.handler)


async def test_each_step_of_a_study_is_told_with_who_asked_for_it_and_no_patient(simulator, start, everything):
    study, sample = sample_study()
    simulator.add(*(i.content for i in sample))
    gateway = await start(simulator)
    event = {"id": "whe_1", "type": "study.access_requested", "data": {"studyId": "stu_1", "studyInstanceUid": study}}
    await gateway.post(event, webhook_id="msg_1")
    await gateway.quiet()
    asked = f"webhook=msg_1 event=whe_1 study={study}"
    stored = [line for line in everything.lines if "is in the store" in line]
    assert len(stored) == len(sample)
    assert all(f"[{asked} association=" in line for line in stored)
    for said in (f"study {study} is complete", "study.access_requested whe_1", "associated with"):
        assert any(asked in line for line in everything.lines if said in line), said
    for patient in ("M\u00fcller", "DEMO-001"):
        assert patient not in everything.stream.getvalue()


async def test_each_line_of_a_job_carries_its_number(tmp_path, everything):
    journal = await Journal.open(f"sqlite:///{with_journal(tmp_path) / 'journal.db'}")
    ended = asyncio.Event()

    async def handler(job):
        logging.getLogger("gateway.test").info("at work")
        ended.set()
        return JobDone("well done")

    job, _ = await Jobs(journal).add("test", "a", Untyped())
    worker = Worker(journal)
    worker.register("test", Kind(handler, 1, 60))
    await worker.start()
    async with Supervisor() as loops:
        loops.add("jobs", worker.run)
        async with asyncio.timeout(10):
            while not any("is done" in line for line in everything.lines):
                await asyncio.sleep(0.01)
    await worker.stop()
    await journal.close()
    for said in ("at work", "is done: well done", "attempt 1: begins"):
        assert any(f"job={job.id}]" in line for line in everything.lines if said in line), said


async def test_each_line_of_a_job_carries_the_webhook_that_began_it_also_after_a_restart(tmp_path, everything):
    url = f"sqlite:///{tmp_path / 'journal.db'}"

    async def fetch(job):
        logging.getLogger("gateway.test").info("at work")
        await Jobs(journal).add("delivery", "a", Untyped())
        return JobDone("well done")

    async def deliver(job):
        logging.getLogger("gateway.test").info("on its way")
        return JobDone("delivered")

    journal = await Journal.open(url)
    with bound(webhook="msg_1", event="whe_1", association=7):
        await Jobs(journal).add("fetch", "a", Untyped())
    await journal.close()
    journal = await Journal.open(url)
    worker = Worker(journal)
    worker.register("fetch", Kind(fetch, 1, 60))
    worker.register("delivery", Kind(deliver, 1, 60))
    await worker.start()
    async with Supervisor() as loops:
        loops.add("jobs", worker.run)
        async with asyncio.timeout(10):
            while not any("delivered" in line for line in everything.lines):
                await asyncio.sleep(0.01)
    await worker.stop()
    await journal.close()
    for said in ("at work", "is done: well done", "attempt 1: begins", "on its way", "is done: delivered"):
        assert any("[webhook=msg_1 event=whe_1 job=" in line for line in everything.lines if said in line), said
