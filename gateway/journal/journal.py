"""The journal: a small database beside the gateway, in which what must survive a crash is kept.

It is a file of SQLite's. Calls run one after the other on a thread of their own; a call that has returned is on the
disk. Those that wait when the thread is free are committed together, since it is the disk's word that takes so long.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, bindparam, create_engine, delete, event, insert, select, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from gateway.journal import prefetches, schema
from gateway.journal.errors import JournalError
from gateway.journal.leases import move_times
from gateway.journal.tables import cached_studies, studies
from gateway.journal.transaction import Transaction
from gateway.runtime import SYSTEM_CLOCK, Clock

log = logging.getLogger(__name__)

T = TypeVar("T")

BUSY_TIMEOUT = 10.0
"""Seconds that a call waits for another process's transaction."""

TOGETHER = 32
"""Calls at most that are committed together."""

MOST_WAITING = 10_000
"""Calls that may wait for a disk that hangs."""

JUMP = 1.0
"""Seconds by which a clock that is being set differs from one that drifts."""

FILE_SIZE = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
"""Bytes of the database's file, its log of changes aside."""

WRITTEN_ANEW = 256 * 1024 * 1024
"""Bytes up to which the file is written anew in the night: a hundredth of a second for a million, in which nothing else
is written, and as much memory."""


# What runs for each event is built once.
_STUDY_OF = select(studies.c.study_instance_uid).where(studies.c.study_id == bindparam("avara_id"))
_STUDY_SEEN = update(studies).where(studies.c.study_id == bindparam("avara_id"))
_NEW_STUDY = insert(studies)


class StudyState(enum.Enum):
    """Whether a study in the store is whole."""

    FILLING = "filling"
    """Objects are being written; there may be no index yet."""
    READY = "ready"
    """The index was written."""


@dataclass(frozen=True, slots=True)
class CachedStudy:
    """A study in the object store, as the ledger has it."""

    study_instance_uid: str
    state: StudyState
    size: int
    """Bytes."""
    instances: int
    last_used: float
    """Unix seconds."""
    urls_valid_until: float
    """Unix seconds until which a URL that was handed out works; 0 where there is none."""
    opened: float = 0.0
    """Unix seconds; when an answer last had URLs of it; 0 where none had, since it was fetched for nobody."""


@dataclass(frozen=True, slots=True)
class _Call:
    """What is to be done in a transaction."""

    call: Callable[[Connection], Any]
    context: Context
    """Of who asked for it, for the log."""
    future: Future[Any]


class Journal:
    """Durable facts. Every method raises JournalError where the database fails."""

    def __init__(self, engine: Engine, where: str, clock: Clock) -> None:
        self.clock = clock
        self._engine = engine
        self._where = where
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._ahead = clock.now() - clock.monotonic()
        self._waiting: deque[_Call] = deque()

    @classmethod
    async def open(cls, url: str, *, clock: Clock = SYSTEM_CLOCK, migrate: bool = True) -> Journal:
        """Opens the database at *url* (SQLAlchemy's form). Where it has an older schema it is brought to the present
        one, or, unless it is to *migrate*, OlderSchema is raised."""
        journal = cls.at(url, clock=clock)
        try:
            await journal.migrate(wanted=migrate)
        except BaseException:
            await journal.close()
            raise
        return journal

    @classmethod
    def at(cls, url: str, *, clock: Clock = SYSTEM_CLOCK) -> Journal:
        """The database at *url* (SQLAlchemy's form), to be brought to the present schema before anything else."""
        parsed = make_url(url)
        connect = {"timeout": BUSY_TIMEOUT} if parsed.get_backend_name() == "sqlite" else {}
        # Parameters are patient data at times: an error does not quote them.
        engine = create_engine(parsed, connect_args=connect, pool_pre_ping=True, hide_parameters=True)
        if parsed.get_backend_name() == "sqlite":
            event.listen(engine, "connect", _durable)
            event.listen(engine, "begin", _immediate)
        return cls(engine, parsed.render_as_string(hide_password=True), clock)

    async def migrate(self, *, wanted: bool = True) -> None:
        """Brings the database to the present schema; raises OlderSchema instead where it is not *wanted*."""
        await self._run_alone(lambda connection: schema.migrate(connection, wanted))

    async def roll_back(self, revision: str) -> None:
        """Brings the database to an older schema, for the version of the gateway that had it. Raises JournalError."""
        await self._run_alone(lambda connection: schema.roll_back(connection, revision))

    async def tidy(self, *, written_anew: int = WRITTEN_ANEW) -> None:
        """Lets the database keep what it knows for its queries up to date, and rids its files of what was deleted:
        writes the file anew, if it is no larger than *written_anew* (bytes), and empties its log of changes. Raises
        JournalError."""

        def tidy() -> None:
            try:
                with closing(self._engine.raw_connection()) as connection, closing(connection.cursor()) as cursor:
                    cursor.execute("PRAGMA optimize").fetchall()
                    (size,) = cursor.execute(FILE_SIZE).fetchone()
                    if size <= written_anew:
                        cursor.execute("VACUUM")
                    cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            except (SQLAlchemyError, sqlite3.Error) as e:
                raise JournalError(f"the journal {self._where} cannot be tidied ({e})") from e

        await asyncio.get_running_loop().run_in_executor(self._thread, tidy)

    async def close(self) -> None:
        """Closes it; calls that have begun end first."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.dispose)
        self._thread.shutdown()

    async def run(self, call: Callable[[Transaction], T]) -> T:
        """What *call* returns, as one transaction: all of it is on the disk afterwards, or none."""

        def transaction(connection: Connection) -> T:
            c = Transaction(connection, self.clock.now())
            ahead = c.now - self.clock.monotonic()
            jumped = ahead - self._ahead
            if abs(jumped) > JUMP:
                log.warning("the clock was set by %+.0f s: what jobs wait for is moved with it", jumped)
                move_times(c, jumped)
            result = call(c)
            if abs(jumped) > JUMP:
                self._ahead = ahead
            return result

        if len(self._waiting) >= MOST_WAITING:
            raise JournalError(f"the journal {self._where} does not answer: {MOST_WAITING} calls wait for its disk")
        mine = _Call(transaction, copy_context(), Future())
        self._waiting.append(mine)
        self._thread.submit(self._work_off)
        result: T = await asyncio.wrap_future(mine.future)
        return result

    async def _run_alone(self, call: Callable[[Connection], None]) -> None:
        mine = _Call(call, copy_context(), Future())
        await asyncio.get_running_loop().run_in_executor(self._thread, self._alone, mine)
        mine.future.result()

    def _work_off(self) -> None:
        """Does what waits, on the thread. Each call has asked for that, so there may be nothing left to do."""
        batch: list[_Call] = []
        while self._waiting and len(batch) < TOGETHER:
            one = self._waiting.popleft()
            if one.future.set_running_or_notify_cancel():
                batch.append(one)
        if len(batch) > 1 and self._together(batch):
            return
        for one in batch:
            self._alone(one)

    def _together(self, batch: Sequence[_Call]) -> bool:
        """Commits them in one transaction, and what one of them fails at is undone by itself. False where the database
        failed at any: then nothing of it has happened, and each is to be done alone."""
        ended: list[tuple[_Call, Any, BaseException | None]] = []
        ahead = self._ahead
        try:
            with self._engine.begin() as connection:
                for one in batch:
                    # By statements: begin_nested() costs more than what most calls do in it.
                    connection.exec_driver_sql("SAVEPOINT one_call")
                    try:
                        ended.append((one, one.context.run(one.call, connection), None))
                    except SQLAlchemyError:
                        raise
                    except BaseException as e:
                        connection.exec_driver_sql("ROLLBACK TO one_call")
                        ended.append((one, None, e))
                    connection.exec_driver_sql("RELEASE one_call")
        except Exception:
            self._ahead = ahead
            return False
        for one, result, failure in ended:
            if failure is not None:
                one.future.set_exception(failure)
            else:
                one.future.set_result(result)
        return True

    def _alone(self, one: _Call) -> None:
        try:
            with self._engine.begin() as connection:
                result = one.context.run(one.call, connection)
        except SQLAlchemyError as e:
            cause = getattr(e, "orig", None) or e
            failure = JournalError(
                f"the journal {self._where} cannot be used ({cause}): is its disk full or read-only, or the file "
                "another user's?"
            )
            failure.__cause__ = e
            one.future.set_exception(failure)
        except BaseException as e:
            one.future.set_exception(e)
        else:
            one.future.set_result(result)

    # -- facts

    async def remember_study(self, study_id: str, study_instance_uid: str) -> None:
        """Avara's *study_id* is this study. Where it was another one before, the latest word counts."""
        await self.run(lambda c: remember_study(c, study_id, study_instance_uid, c.now))

    # -- the ledger of the cache

    async def filling(self, study_instance_uid: str) -> None:
        """A fetch is about to write its first object."""

        def note(c: Transaction) -> None:
            if not _set(c, study_instance_uid, state=StudyState.FILLING.value):
                _add(c, study_instance_uid, StudyState.FILLING)

        await self.run(note)

    async def filled(self, study_instance_uid: str, *, size: int, instances: int) -> None:
        """The index was written."""

        def note(c: Transaction) -> None:
            if not _set(c, study_instance_uid, state=StudyState.READY.value, size=size, instances=instances):
                _add(c, study_instance_uid, StudyState.READY, size=size, instances=instances)

        await self.run(note)

    async def access(self, study_id: str, study_instance_uid: str, *, urls_valid_until: float) -> None:
        """An answer with URLs of the study is about to leave; its objects stay until those have expired."""

        def note(c: Transaction) -> None:
            remember_study(c, study_id, study_instance_uid, c.now)
            study = cached_studies.c.study_instance_uid == study_instance_uid
            c.execute(update(cached_studies).where(study).values(last_used=c.now, opened=c.now))
            prefetches.opened(c, study_instance_uid)
            longer = study & (cached_studies.c.urls_valid_until < urls_valid_until)
            c.execute(update(cached_studies).where(longer).values(urls_valid_until=urls_valid_until))

        await self.run(note)

    async def forgotten(self, study_instance_uid: str) -> None:
        """The study's objects are gone from the store."""
        await self.run(
            lambda c: c.execute(delete(cached_studies).where(cached_studies.c.study_instance_uid == study_instance_uid))
        )

    async def cached_studies(self) -> list[CachedStudy]:
        """Every study in the ledger, least recently used first."""
        wanted = select(cached_studies).order_by(cached_studies.c.last_used)
        return await self.run(lambda c: [_cached(row) for row in c.execute(wanted)])

    async def cached_study(self, study_instance_uid: str) -> CachedStudy | None:
        """One study of the ledger; None where it is not in it."""
        wanted = select(cached_studies).where(cached_studies.c.study_instance_uid == study_instance_uid)

        def read(c: Transaction) -> CachedStudy | None:
            row = c.execute(wanted).one_or_none()
            return _cached(row) if row is not None else None

        return await self.run(read)


def _durable(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions begin where _immediate says, not where the driver guesses
    cursor = connection.cursor()
    # WAL with FULL: a transaction that has returned is on the disk, and a reader never blocks the writer. What is
    # deleted is overwritten, and nothing of it goes into other files. What moved from page to page before it was
    # deleted stays where it was, until tidy().
    pragmas = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON", "temp_store=MEMORY")
    for pragma in pragmas:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _immediate(connection: Connection) -> None:
    # The write lock is taken at once: two processes that migrate, or read and then write, take turns.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def remember_study(c: Transaction, study_id: str, study_instance_uid: str, now: float) -> None:
    """As :meth:`Journal.remember_study`, within a transaction; *now* is unix seconds."""
    known = study_of(c, study_id)
    if known is None:
        c.execute(
            _NEW_STUDY,
            {"study_id": study_id, "study_instance_uid": study_instance_uid, "first_seen": now, "last_seen": now},
        )
        return
    if known != study_instance_uid:
        log.warning("study %s was %s and is now %s, as Avara says", study_id, known, study_instance_uid)
    c.execute(_STUDY_SEEN, {"avara_id": study_id, "study_instance_uid": study_instance_uid, "last_seen": now})


def study_of(c: Transaction, study_id: str) -> str | None:
    """The Study Instance UID of what Avara calls *study_id*; None where it never asked for it."""
    found: str | None = c.execute(_STUDY_OF, {"avara_id": study_id}).scalar_one_or_none()
    return found


def _set(c: Transaction, study_instance_uid: str, **values: Any) -> bool:
    changed = c.execute(
        update(cached_studies)
        .where(cached_studies.c.study_instance_uid == study_instance_uid)
        .values(last_used=c.now, **values)
    )
    return changed.rowcount > 0


def _add(c: Transaction, study_instance_uid: str, state: StudyState, *, size: int = 0, instances: int = 0) -> None:
    c.execute(
        insert(cached_studies).values(
            study_instance_uid=study_instance_uid,
            state=state.value,
            size=size,
            instances=instances,
            last_used=c.now,
            urls_valid_until=0.0,
            opened=0.0,
        )
    )


def _cached(row: Any) -> CachedStudy:
    return CachedStudy(
        row.study_instance_uid,
        StudyState(row.state),
        row.size,
        row.instances,
        row.last_used,
        row.urls_valid_until,
        row.opened,
    )
