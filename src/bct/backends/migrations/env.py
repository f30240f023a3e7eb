"""Run by alembic: applies the migrations in `versions` on the connection that `database` gives."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
