"""`captionloop keys` and `database`: who may use the service, and its database's schema."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import click

from captionloop.commands.option_types import LIFETIME
from captionloop.errors import ConfigurationError
from captionloop.ratings.api_keys import SCOPES, ApiKeyStore, KeyRecord, check_key
from captionloop.ratings.database import upgrade as upgrade_schema
from captionloop.ratings.rating_store import open_store
from captionloop.serving.logs import by_command
from captionloop.serving.service_settings import Settings


@click.group()
def keys() -> None:
    """Make, list, rotate and revoke API keys, in the database that CAPTIONLOOP_DATABASE names."""


@keys.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(SCOPES),
    default=("caption", "rate"),
    show_default=True,
    help="What the key may do; may be given several times.",
)
@click.option("--expires", type=LIFETIME, help="After how long it ends: 12h, 90d, 52w. [default: never]")
def create(name: str, scopes: tuple[str, ...], expires: timedelta | None) -> None:
    """Make a key and show it, this once."""
    check_key(name, scopes)
    with _open_key_store() as key_store, by_command("keys.create", "") as entry:
        record, key = key_store.create(name, scopes, expires)
        entry.subject = record.key_id
    click.echo(key)
    until = f", until {record.expires_at:%Y-%m-%d %H:%M} UTC" if record.expires_at else ""
    click.echo(f"Key {record.key_id}{until}; keep it now, it cannot be shown again.", err=True)


@keys.command("list")
def list_keys() -> None:
    """List all keys, the oldest first: until when they hold, and when they were used last, to the minute."""
    records = []
    if Settings.from_environment().has_database:
        with _open_key_store() as key_store:
            records = key_store.all()
    if not records:
        click.echo("There are no keys: make one with captionloop keys create NAME.")
    for record in records:
        scopes = ",".join(scope for scope in SCOPES if scope in record.scopes)
        used = f"used {record.last_used_at:%Y-%m-%d %H:%M}" if record.last_used_at else "never used"
        click.echo(
            f"{record.key_id}  {record.created_at:%Y-%m-%d}  {_state(record):<18}  {used:<21}  {scopes:<18}  "
            f"{record.name}"
        )


@keys.command()
@click.argument("key_id")
def rotate(key_id: str) -> None:
    """Give a key another secret and show it, this once; the old one stops working within two seconds.

    Captions and ratings that were made with the key stay its own.
    """
    if not Settings.from_environment().has_database:
        raise ConfigurationError(f"there is no valid key {key_id!r}; see captionloop keys list")
    with _open_key_store() as key_store, by_command("keys.rotate", key_id):
        record, key = key_store.rotate(key_id)
    click.echo(key)
    click.echo(f"Key {record.key_id}; keep it now, it cannot be shown again.", err=True)


@keys.command()
@click.argument("key_id")
def revoke(key_id: str) -> None:
    """End a key; it stops working within two seconds."""
    if not Settings.from_environment().has_database:
        raise ConfigurationError(f"there is no key {key_id!r}; see captionloop keys list")
    with _open_key_store() as key_store, by_command("keys.revoke", key_id):
        record = key_store.revoke(key_id)
    click.echo(f"Key {record.key_id} ({record.name}) is revoked.")


def _state(record: KeyRecord) -> str:
    if record.revoked_at:
        return f"revoked {record.revoked_at:%Y-%m-%d}"
    if record.expires_at is None:
        return "valid"
    return f"{'expired' if record.has_expired else 'until'} {record.expires_at:%Y-%m-%d}"


@contextmanager
def _open_key_store() -> Iterator[ApiKeyStore]:
    settings = Settings.from_environment()
    store = open_store(settings.database_url, is_embedded=settings.embedded_database)
    try:
        yield ApiKeyStore(store)
    finally:
        store.close()


@click.group()
def database() -> None:
    """Look after the ratings database that CAPTIONLOOP_DATABASE names."""


@database.command()
def upgrade() -> None:
    """Bring its schema to this version. SQLite files are brought up to date without this."""
    with by_command("database.upgrade", "ratings"):
        upgrade_schema(Settings.from_environment().database_url)
    click.echo("The ratings database is up to date.")
