"""`captionloop serve`: the whole service on this machine."""

import os
import sys

import click

from captionloop.config import project_folder
from captionloop.errors import BundleError
from captionloop.feedback.store import RatingsStore
from captionloop.paths import make_room_for_sockets
from captionloop.serving.assembly import open_store
from captionloop.serving.keys import KeyRing
from captionloop.serving.settings import Settings
from captionloop.serving.sources import choose_source

KEY_NAME = "captionloop serve"


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=3000, show_default=True, type=click.IntRange(1, 65535))
def serve(host: str, port: int) -> None:
    """Start the REST API and the web page, with the champion of the registry.

    Prints the address and a fresh API key; the key of the last start is revoked. Settings are environment
    variables, see docs/how-to/serve.md.
    """
    make_room_for_sockets()
    os.chdir(project_folder())
    settings = Settings.from_environment()
    if choose_source(settings).newest() is None:
        raise BundleError("There is no model to serve yet: make one with make demo, or set CAPTIONLOOP_MODEL")
    store = open_store(settings)
    key = _fresh_key(store)
    store.close()
    click.echo(f"\n  captionloop     http://{host}:{port}\n  its API         http://{host}:{port}/docs")
    click.echo(f"  an API key      {key}\n\nCtrl-C stops it.\n")
    sys.stdout.flush()
    environment = {
        **os.environ,
        "CAPTIONLOOP_STATE": str(settings.state.absolute()),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    service = "captionloop.serving.service:Gateway"
    command = [sys.executable, "-m", "bentoml", "serve", service, "--host", host, "--port", str(port)]
    os.execve(sys.executable, command, environment)  # noqa: S606 - our own interpreter, no shell


def _fresh_key(store: RatingsStore) -> str:
    ring = KeyRing(store)
    for record in ring.all():
        if record.name == KEY_NAME and record.revoked_at is None:
            ring.revoke(record.key_id)
    return ring.create(KEY_NAME, ("caption", "rate"))[1]
