"""Alembic runs this file; the connection comes from ``ingather.adapters.sql.migrate``."""

from alembic import context

from ingather.adapters.sql.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, compare_type=True)
with context.begin_transaction():
    context.run_migrations()
