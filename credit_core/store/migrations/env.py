"""Alembic's entry: runs on the connection that :mod:`credit_core.store.migrate` opened, in its transaction."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=False)
context.run_migrations()
