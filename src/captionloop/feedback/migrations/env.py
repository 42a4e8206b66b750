"""Run by Alembic; `captionloop.feedback.database.upgrade` hands in the connection and its transaction."""

from alembic import context

from captionloop.feedback.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
