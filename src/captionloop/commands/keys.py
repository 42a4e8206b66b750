"""`captionloop keys`: who may use the service."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from captionloop.errors import ConfigurationError
from captionloop.serving.assembly import open_store
from captionloop.serving.keys import SCOPES, KeyRing, check_key
from captionloop.serving.settings import Settings


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
def create(name: str, scopes: tuple[str, ...]) -> None:
    """Make a key and show it, this once."""
    check_key(name, scopes)
    with _key_ring() as ring:
        record, key = ring.create(name, scopes)
    click.echo(key)
    click.echo(f"Key {record.key_id}; keep it now, it cannot be shown again.", err=True)


@keys.command("list")
def list_keys() -> None:
    """List all keys, the oldest first."""
    records = []
    if Settings.from_environment().has_database:
        with _key_ring() as ring:
            records = ring.all()
    if not records:
        click.echo("There are no keys: make one with captionloop keys create NAME.")
    for record in records:
        state = f"revoked {record.revoked_at:%Y-%m-%d}" if record.revoked_at else "valid"
        scopes = ",".join(scope for scope in SCOPES if scope in record.scopes)
        click.echo(f"{record.key_id}  {record.created_at:%Y-%m-%d}  {state:<18}  {scopes:<18}  {record.name}")


@keys.command()
@click.argument("key_id")
def rotate(key_id: str) -> None:
    """Give a key another secret and show it, this once; the old one stops working within two seconds.

    Captions and ratings that were made with the key stay its own.
    """
    if not Settings.from_environment().has_database:
        raise ConfigurationError(f"there is no valid key {key_id!r}; see captionloop keys list")
    with _key_ring() as ring:
        record, key = ring.rotate(key_id)
    click.echo(key)
    click.echo(f"Key {record.key_id}; keep it now, it cannot be shown again.", err=True)


@keys.command()
@click.argument("key_id")
def revoke(key_id: str) -> None:
    """End a key; it stops working within two seconds."""
    if not Settings.from_environment().has_database:
        raise ConfigurationError(f"there is no key {key_id!r}; see captionloop keys list")
    with _key_ring() as ring:
        record = ring.revoke(key_id)
    click.echo(f"Key {record.key_id} ({record.name}) is revoked.")


@contextmanager
def _key_ring() -> Iterator[KeyRing]:
    store = open_store(Settings.from_environment())
    try:
        yield KeyRing(store)
    finally:
        store.close()
