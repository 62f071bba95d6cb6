"""Statements that run for each job, upload or event: compiled once, and from then on run by the database's driver.

SQLAlchemy takes some ten times as long over a small statement as the database does, most of it to find out anew what
the statement is. It still writes the SQL, so that nothing here is one database's own.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Delete, Dialect, Insert, Select, Update
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.sql.compiler import SQLCompiler

Values = Mapping[str, Any]
"""Of a statement, by the names of its parameters and of the columns that it sets."""


class Prepared:
    """One statement. All values that it takes are given by name each time that it runs."""

    def __init__(self, statement: Select[Any] | Insert | Update | Delete) -> None:
        self._statement = statement
        self._compiled: dict[tuple[str, ...], _Compiled] = {}

    def run(self, cursor: DBAPICursor, dialect: Dialect, values: Values) -> list[Any]:
        """Runs it; the rows that it answers, whose columns are attributes."""
        compiled = self._for(dialect, values)
        cursor.execute(compiled.text, compiled.parameters(values))
        return compiled.read(cursor.fetchall()) if compiled.row is not None else []

    def run_for_each(self, cursor: DBAPICursor, dialect: Dialect, rows: Sequence[Values]) -> None:
        """Runs it once for each of *rows*, all of which have the same names."""
        if rows:
            compiled = self._for(dialect, rows[0])
            cursor.executemany(compiled.text, [compiled.parameters(values) for values in rows])

    def _for(self, dialect: Dialect, values: Values) -> _Compiled:
        key = (dialect.name, *values)
        compiled = self._compiled.get(key)
        if compiled is None:
            compiled = self._compiled[key] = _compile(self._statement, dialect, list(values))
        return compiled


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A statement in one database's SQL, for the values of some names."""

    text: str
    order: tuple[str, ...]
    positional: bool
    constants: Values
    """What it takes beside the values, since it stands in the statement itself."""
    write: Sequence[tuple[str, Callable[[Any], Any]]]
    """By name, how a value is made one that the database has."""
    row: Callable[..., Any] | None
    """What makes a row of its columns; None where it answers none."""
    read_columns: Sequence[tuple[int, Callable[[Any], Any]]]
    """By place in a row, how what the database has is made what the column is."""

    def parameters(self, values: Values) -> Any:
        """As the driver takes them."""
        if self.constants or self.write:
            values = {**self.constants, **values}
            values.update((name, convert(values[name])) for name, convert in self.write)
        return [values[name] for name in self.order] if self.positional else {name: values[name] for name in self.order}

    def read(self, rows: Sequence[Sequence[Any]]) -> list[Any]:
        """What the driver has fetched."""
        assert self.row is not None
        if not self.read_columns:
            return [self.row(*row) for row in rows]
        found = []
        for row in rows:
            columns = list(row)
            for at, convert in self.read_columns:
                columns[at] = convert(columns[at])
            found.append(self.row(*columns))
        return found


def _compile(statement: Select[Any] | Insert | Update | Delete, dialect: Dialect, names: list[str]) -> _Compiled:
    sets = names if isinstance(statement, Insert | Update) else None
    compiled = dialect.statement_compiler(dialect, statement, column_keys=sets)
    assert isinstance(compiled, SQLCompiler)
    order = tuple(compiled.positiontup or () if compiled.positional else compiled.binds)
    binds = {name: compiled.binds[name] for name in order}
    answered = list(statement.exported_columns)
    writes = {name: bind.type.dialect_impl(dialect).bind_processor(dialect) for name, bind in binds.items()}
    reads = [column.type.dialect_impl(dialect).result_processor(dialect, None) for column in answered]
    return _Compiled(
        compiled.string,
        order,
        compiled.positional,
        {name: bind.effective_value for name, bind in binds.items() if not bind.required and name not in names},
        [(name, convert) for name, convert in writes.items() if convert is not None],
        namedtuple("Row", [str(column.key) for column in answered], rename=True) if answered else None,
        [(at, convert) for at, convert in enumerate(reads) if convert is not None],
    )
