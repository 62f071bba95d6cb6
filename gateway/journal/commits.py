"""Runs what is done to the journal, one call after the other on a thread of its own, each as one transaction.

A call that has returned is on the disk. Those that wait when the thread is free are committed together, since it is the
disk's word that takes so long; and who waits for them is told together, since that is what takes this process's time.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import Context, copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import SQLAlchemyError

from gateway.journal.errors import JournalError
from gateway.journal.leases import move_times
from gateway.journal.transaction import Transaction
from gateway.runtime import Clock

log = logging.getLogger(__name__)

T = TypeVar("T")

TOGETHER = 32
"""Calls at most that are committed together."""

MOST_WAITING = 10_000
"""Calls that may wait for a disk that hangs."""

JUMP = 1.0
"""Seconds by which a clock that is being set differs from one that drifts."""


@dataclass(frozen=True, slots=True)
class _Call:
    """What is to be done in a transaction."""

    call: Callable[[Transaction], Any]
    context: Context
    """Of who asked for it, for the log."""
    future: asyncio.Future[Any]


_Ended = tuple[_Call, Any, BaseException | None]
"""A call, with what it returned, or what it failed at."""


class Commits:
    """The thread, and the connection that it keeps."""

    def __init__(self, engine: Engine, where: str, clock: Clock) -> None:
        """*where* names the database, for errors."""
        self.clock = clock
        self._engine = engine
        self._where = where
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._connection: Connection | None = None
        driver = engine.dialect.loaded_dbapi
        self._failures: tuple[type[Exception], ...] = (SQLAlchemyError, driver.Error)
        self._ahead = clock.now() - clock.monotonic()
        self._waiting: deque[_Call] = deque()
        self._asked = False

    async def run(self, call: Callable[[Transaction], T]) -> T:
        """What *call* returns, as one transaction: all of it is on the disk afterwards, or none. Raises JournalError
        where the database fails, and what *call* raises."""
        if len(self._waiting) >= MOST_WAITING:
            raise JournalError(f"the journal {self._where} does not answer: {MOST_WAITING} calls wait for its disk")
        mine = _Call(call, copy_context(), asyncio.get_running_loop().create_future())
        self._waiting.append(mine)
        self._ask()
        result: T = await mine.future
        return result

    async def run_alone(self, call: Callable[[Connection], None]) -> None:
        """The same of what is no call of the gateway's work, but one to the database's schema."""

        def alone() -> None:
            with self._transaction() as connection:
                call(connection)

        await self._on_thread(alone, "used")

    async def outside(self, call: Callable[[DBAPICursor], None]) -> None:
        """Lets *call* work outside of any transaction. Raises JournalError."""

        def work() -> None:
            cursor = self._kept().connection.cursor()
            try:
                call(cursor)
            finally:
                cursor.close()

        await self._on_thread(work, "tidied")

    async def close(self) -> None:
        """Closes it; calls that have begun end first."""

        def close() -> None:
            self._give_up_connection()
            self._engine.dispose()

        await asyncio.get_running_loop().run_in_executor(self._thread, close)
        self._thread.shutdown()

    async def _on_thread(self, work: Callable[[], None], what: str) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, partial(copy_context().run, work))
        except self._failures as e:
            raise self._failure(e, what) from e

    def _ask(self) -> None:
        """Has the thread work off what waits; once for all that came before it begins to."""
        if not self._asked:
            self._asked = True
            self._thread.submit(self._work_off)

    def _work_off(self) -> None:
        """Does what waits, on the thread. There may be nothing left to do."""
        self._asked = False
        batch: list[_Call] = []
        while self._waiting and len(batch) < TOGETHER:
            one = self._waiting.popleft()
            if not one.future.done():  # else nobody waits for it any more
                batch.append(one)
        if self._waiting:
            self._ask()
        if batch:
            ended = self._together(batch) if len(batch) > 1 else None
            _tell(ended if ended is not None else [self._alone(one) for one in batch])

    def _together(self, batch: Sequence[_Call]) -> list[_Ended] | None:
        """Commits them in one transaction, and what one of them fails at is undone by itself. None where the database
        failed at any: then nothing of it has happened, and each is to be done alone."""
        ended: list[_Ended] = []
        ahead = self._ahead
        try:
            with self._transaction() as connection:
                # By statements: begin_nested() costs more than what most calls do in it.
                cursor = connection.connection.cursor()
                for one in batch:
                    cursor.execute("SAVEPOINT one_call")
                    try:
                        ended.append((one, one.context.run(self._call, one.call, connection), None))
                    except self._failures:
                        raise
                    except BaseException as e:
                        cursor.execute("ROLLBACK TO one_call")
                        ended.append((one, None, e))
                    cursor.execute("RELEASE one_call")
        except Exception:
            self._ahead = ahead
            return None
        return ended

    def _alone(self, one: _Call) -> _Ended:
        ahead = self._ahead
        try:
            with self._transaction() as connection:
                result = one.context.run(self._call, one.call, connection)
        except self._failures as e:
            self._ahead = ahead
            return one, None, self._failure(e, "used")
        except BaseException as e:
            self._ahead = ahead
            return one, None, e
        return one, result, None

    def _call(self, call: Callable[[Transaction], T], connection: Connection) -> T:
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

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """A transaction on the connection that is kept; where the database fails, the next one gets a new one."""
        try:
            with (connection := self._kept()).begin():
                yield connection
        except self._failures:
            self._give_up_connection()
            raise

    def _kept(self) -> Connection:
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._connection

    def _give_up_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*self._failures):
                connection.invalidate()
                connection.close()

    def _failure(self, e: Exception, what: str) -> JournalError:
        cause = getattr(e, "orig", None) or e
        failure = JournalError(
            f"the journal {self._where} cannot be {what} ({cause}): is its disk full or read-only, or the file another "
            "user's?"
        )
        failure.__cause__ = e
        return failure


def _tell(ended: Sequence[_Ended]) -> None:
    """Tells those who wait, each in their own time."""
    with suppress(RuntimeError):  # the loop is closed: the process ends
        ended[0][0].future.get_loop().call_soon_threadsafe(_settle, ended)


def _settle(ended: Sequence[_Ended]) -> None:
    for one, result, failure in ended:
        if one.future.done():  # cancelled, after it had begun
            continue
        if failure is not None:
            one.future.set_exception(failure)
        else:
            one.future.set_result(result)
