"""`captionloop database`: looking after the ratings database."""

import click

from captionloop.feedback.database import upgrade as upgrade_schema
from captionloop.serving.audit import by_command
from captionloop.serving.settings import Settings


@click.group()
def database() -> None:
    """Look after the ratings database that CAPTIONLOOP_DATABASE names."""


@database.command()
def upgrade() -> None:
    """Bring its schema to this version. SQLite files are brought up to date without this."""
    with by_command("database.upgrade", "ratings"):
        upgrade_schema(Settings.from_environment().database_url)
    click.echo("The ratings database is up to date.")
