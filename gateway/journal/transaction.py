"""One transaction of the journal: what is done in it is done as one, and at one moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, CursorResult, Executable


class Transaction:
    """What the functions of this room's tables take, so that a use case can join them with facts of its own."""

    def __init__(self, connection: Connection, now: float) -> None:
        self.connection = connection
        self.now = now
        """Unix seconds: the moment at which everything in it happens."""

    def execute(
        self, statement: Executable, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
    ) -> CursorResult[Any]:
        """What the database answers to a statement. One that runs for each job or upload is built once, with
        *parameters* by name: to build it anew takes several times as long as to run it. Of several it is run for
        each."""
        return self.connection.execute(statement, parameters)
