"""Runs the migrations on the connection that the journal hands over (Alembic's entry point)."""

from alembic import context

from gateway.journal.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
