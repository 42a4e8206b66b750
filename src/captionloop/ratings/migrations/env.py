"""Run by Alembic; `captionloop.ratings.database.upgrade` hands in the connection and its transaction."""

from alembic import context

from captionloop.ratings.rating_tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
