"""One transaction of the journal: what is done in it is done as one, and at one moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, CursorResult, Executable

from gateway.journal.prepared import Prepared, Values


class Transaction:
    """What the functions of this room's tables take, so that a use case can join them with facts of its own.

    What runs for each job, upload or event is :class:`Prepared`, once, and run by :meth:`rows`, :meth:`row`,
    :meth:`value` and :meth:`change`; whatever is asked now and then, by :meth:`execute`."""

    def __init__(self, connection: Connection, now: float) -> None:
        self.connection = connection
        self.now = now
        """Unix seconds: the moment at which everything in it happens."""
        self.jobs_due = False
        """Whether a job was added in it that is due at once."""
        self._cursor = connection.connection.cursor()
        self._dialect = connection.dialect

    def execute(
        self, statement: Executable, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
    ) -> CursorResult[Any]:
        """What the database answers to a statement that is made for the occasion, or that is of no fixed form. Of
        several *parameters* it is run for each."""
        return self.connection.execute(statement, parameters)

    def rows(self, statement: Prepared, values: Values) -> list[Any]:
        """Every row that *statement* answers."""
        return statement.run(self._cursor, self._dialect, values)

    def row(self, statement: Prepared, values: Values) -> Any | None:
        """The row that it answers; None where there is none."""
        found = statement.run(self._cursor, self._dialect, values)
        return found[0] if found else None

    def value(self, statement: Prepared, values: Values) -> Any | None:
        """The first column of that row; None where there is none."""
        found = statement.run(self._cursor, self._dialect, values)
        return found[0][0] if found else None

    def change(self, statement: Prepared, values: Values) -> int:
        """How many rows it has changed."""
        statement.run(self._cursor, self._dialect, values)
        return self._cursor.rowcount

    def for_each(self, statement: Prepared, rows: Sequence[Values]) -> None:
        """Runs it once for each of *rows*."""
        statement.run_for_each(self._cursor, self._dialect, rows)
