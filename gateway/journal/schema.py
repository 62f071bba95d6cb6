"""The journal's schema: brought up to that of this version, and back to that of an earlier one.

Nearly every start and command finds the present one. It is read here by one query, and Alembic, with every migration
there ever was, is loaded only where there is something to migrate.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from gateway.journal.errors import JournalError

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations" / "versions"


class OlderSchema(JournalError):
    """The journal was written by an older version of the gateway, and is not to be migrated here and now."""


def newest() -> str:
    """The schema of this version: the number that the file of the last migration begins with."""
    return max(file.name for file in MIGRATIONS.glob("[0-9]*.py")).partition("_")[0]


def _present(connection: Connection) -> str | None:
    """The schema that the database has; None where it has none yet."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def _migrations(connection: Connection) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "gateway.journal:migrations")
    config.attributes["connection"] = connection
    return config


def roll_back(connection: Connection, revision: str) -> None:
    """Takes it back to an earlier *revision*. Raises JournalError."""
    from alembic import command
    from alembic.script import ScriptDirectory

    config, present = _migrations(connection), _present(connection)
    known = [s.revision for s in ScriptDirectory.from_config(config).walk_revisions()]
    if revision not in known or present not in known or known.index(revision) < known.index(present):
        raise JournalError(f"the journal has schema {present}, and cannot be rolled back to {revision}")
    command.downgrade(config, revision)


def migrate(connection: Connection, wanted: bool) -> None:
    """Brings it to this version's. Raises OlderSchema where that is not *wanted*, JournalError where it is newer."""
    present = _present(connection)
    if present == newest():
        return
    from alembic import command
    from alembic.script import ScriptDirectory

    config = _migrations(connection)
    known = {s.revision for s in ScriptDirectory.from_config(config).walk_revisions()}
    if present is not None and present not in known:
        raise JournalError(
            f"the journal was written by a newer version of the gateway (schema {present}): install that version, "
            f"or with it roll the journal back first: avara-gateway roll-back {newest()}"
        )
    if not wanted:
        raise OlderSchema(f"the journal was written by an older version of the gateway (schema {present})")
    command.upgrade(config, "head")
