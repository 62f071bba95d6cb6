"""The journal: a small database beside the gateway, in which what must survive a crash is kept.

It is a file of SQLite's. How calls get to it is in :mod:`gateway.journal.commits`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, bindparam, create_engine, delete, event, insert, select, update
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPICursor

from gateway.journal import prefetches, schema
from gateway.journal.commits import Commits
from gateway.journal.facts import remember_study
from gateway.journal.prepared import Prepared
from gateway.journal.tables import cached_studies
from gateway.journal.transaction import Transaction
from gateway.runtime import SYSTEM_CLOCK, Clock

T = TypeVar("T")

BUSY_TIMEOUT = 10.0
"""Seconds that a call waits for another process's transaction."""

FILE_SIZE = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
"""Bytes of the database's file, its log of changes aside."""

WRITTEN_ANEW = 256 * 1024 * 1024
"""Bytes up to which the file is written anew in the night: a hundredth of a second for a million, in which nothing else
is written, and as much memory."""


_STUDY = cached_studies.c.study_instance_uid == bindparam("study")
_ACCESSED = Prepared(update(cached_studies).where(_STUDY))
_URLS_OUT = Prepared(update(cached_studies).where(_STUDY, cached_studies.c.urls_valid_until < bindparam("until")))


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


class Journal:
    """Durable facts. Every method raises JournalError where the database fails."""

    def __init__(self, engine: Engine, where: str, clock: Clock) -> None:
        """*where* names the database, for errors."""
        self.clock = clock
        self._commits = Commits(engine, where, clock)

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
        engine = create_engine(parsed, connect_args=connect, hide_parameters=True)
        if parsed.get_backend_name() == "sqlite":
            event.listen(engine, "connect", _durable)
            event.listen(engine, "begin", _immediate)
        return cls(engine, parsed.render_as_string(hide_password=True), clock)

    async def migrate(self, *, wanted: bool = True) -> None:
        """Brings the database to the present schema; raises OlderSchema instead where it is not *wanted*."""
        await self._commits.run_alone(lambda connection: schema.migrate(connection, wanted))

    async def roll_back(self, revision: str) -> None:
        """Brings the database to an older schema, for the version of the gateway that had it. Raises JournalError."""
        await self._commits.run_alone(lambda connection: schema.roll_back(connection, revision))

    async def tidy(self, *, written_anew: int = WRITTEN_ANEW) -> None:
        """Lets the database keep what it knows for its queries up to date, and rids its files of what was deleted:
        writes the file anew, if it is no larger than *written_anew* (bytes), and empties its log of changes. Raises
        JournalError."""

        def tidy(cursor: DBAPICursor) -> None:
            cursor.execute("PRAGMA optimize")
            cursor.fetchall()
            cursor.execute(FILE_SIZE)
            [(size,)] = cursor.fetchall()
            if size <= written_anew:
                cursor.execute("VACUUM")
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            cursor.fetchall()

        await self._commits.outside(tidy)

    async def close(self) -> None:
        """Closes it; calls that have begun end first."""
        await self._commits.close()

    async def run(self, call: Callable[[Transaction], T]) -> T:
        """What *call* returns, as one transaction: all of it is on the disk afterwards, or none."""
        return await self._commits.run(call)

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
            c.change(_ACCESSED, {"study": study_instance_uid, "last_used": c.now, "opened": c.now})
            prefetches.opened(c, study_instance_uid)
            c.change(
                _URLS_OUT,
                {"study": study_instance_uid, "until": urls_valid_until, "urls_valid_until": urls_valid_until},
            )

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
