"""`captionloop serve`: the whole service on this machine; `captionloop package`: the champion as a Bento."""

import fcntl
import os
import socket
import sys
from pathlib import Path

import click

from captionloop.captioner.model_memory import refuse_too_large
from captionloop.commands.model_lookup import bundle_folder
from captionloop.commands.option_types import WrittenPlace
from captionloop.config import project_folder, registered_model
from captionloop.errors import BundleError, ConfigurationError
from captionloop.paths import how_to_make, make_room_for_sockets
from captionloop.ratings.api_keys import ApiKeyStore
from captionloop.ratings.rating_store import RatingsStore, open_store
from captionloop.serving.bento import package_bento
from captionloop.serving.logs import by_command
from captionloop.serving.model_sources import choose_source
from captionloop.serving.service_settings import Settings
from captionloop.workspaces import is_remote, working_copy

KEY_NAME = "captionloop serve"


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=3000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--env", help="Kedro environment whose model is served. [default: KEDRO_ENV]")
def serve(host: str, port: int, env: str | None) -> None:
    """Start the REST API and the web page, with the champion of the registry.

    Prints the address and a fresh API key; the key of the last start at this address is revoked. Settings are
    environment variables, see docs/how-to/serve.md.
    """
    make_room_for_sockets()
    os.chdir(project_folder())
    if env is not None:
        os.environ["KEDRO_ENV"] = env
    settings = Settings.from_environment()
    check_start(settings, host, port)
    hold_address(settings.state, host, port)
    # Only now is anything changed: a start that fails leaves a service that runs already as it is.
    store = open_store(settings.database_url, is_embedded=settings.embedded_database)
    with by_command("keys.create", "") as entry:
        key = fresh_key(store, f"{KEY_NAME} {host}:{port}")
        entry.subject = key.split("_")[1]
    store.close()
    click.echo(f"\n  captionloop     http://{host}:{port}\n  its API         http://{host}:{port}/docs")
    click.echo(f"  an API key      {key}\n\nCtrl-C stops it.\n")
    sys.stdout.flush()
    environment = {
        **os.environ,
        "CAPTIONLOOP_STATE": str(settings.state.absolute()),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    if not settings.model:  # the gateway, too, shows what is about this model only
        environment["CAPTIONLOOP_REGISTRY_NAME"] = settings.registry_name or registered_model(
            project_folder()
        )
    service = "captionloop.serving.service:Gateway"
    command = [sys.executable, "-m", "bentoml", "serve", service, "--host", host, "--port", str(port)]
    os.execve(sys.executable, command, environment)  # noqa: S606 - our own interpreter, no shell


def check_start(settings: Settings, host: str, port: int) -> None:
    """Raises `CaptionloopError` where the service could not start; makes nothing but a copy of the model."""
    check_address(host, port, "--port")
    if settings.metrics_port:
        check_address(host, settings.metrics_port, "CAPTIONLOOP_METRICS_PORT")
    if settings.page_folder is None:
        click.echo("captionloop: the web page is not built, only the API is served: make page", err=True)
    source = choose_source(settings)
    model = source.newest()
    if model is None:
        named = settings.registry_name or registered_model(project_folder())
        raise BundleError(
            f"There is no model to serve yet: make one with {how_to_make(named)}, or set CAPTIONLOOP_MODEL"
        )
    refuse_too_large(source.fetch(model), batch=settings.max_batch)


def check_address(host: str, port: int, option: str) -> None:
    """Raises `ConfigurationError` where nobody can listen on a port, or somebody does."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except OSError as error:
        raise ConfigurationError(
            f"Nothing can listen on {host}:{port} ({error.strerror or error}): "
            f"stop what does, or give {option} another"
        ) from error


def hold_address(state: Path, host: str, port: int) -> None:
    """Takes an address for as long as this process lives, also as the program that it becomes.

    Of two that start at the same moment both find the port free; one of them would revoke the other's key.
    Raises `ConfigurationError` where somebody holds it.
    """
    state.mkdir(parents=True, exist_ok=True)
    file = os.open(state / f"serve-{host.replace('/', '_')}-{port}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConfigurationError(
            f"Another `captionloop serve` holds {host}:{port}: stop it, or give --port another"
        ) from error
    os.set_inheritable(file, True)


def fresh_key(store: RatingsStore, name: str) -> str:
    """A new key of this name; those of the name are revoked, for whoever had them runs no more."""
    ring = ApiKeyStore(store)
    for record in ring.all():
        if record.name == name and record.revoked_at is None:
            ring.revoke(record.key_id)
    return ring.create(name, ("caption", "rate"))[1]


@click.command()
@click.option("--model", help="A bundle's folder, or a version or alias of the registry. [default: champion]")
@click.option("--version", help="A version of the registry; the same as --model with a number.")
@click.option("--env", help="Kedro environment whose model is meant.")
@click.option(
    "--output",
    type=WrittenPlace(path_type=Path, file_okay=False),
    help="Also copy the Bento to this folder, or s3://.",
)
def package(model: str | None, version: str | None, env: str | None, output: Path | str | None) -> None:
    """Package a model with the service as a Bento, and print its tag."""
    if model is not None and version is not None:
        raise ConfigurationError("--model and --version both name the model: give one of them")
    project = project_folder()
    bundle, name = bundle_folder(project, version or model, env)
    folder = working_copy().path_of(str(output)) if is_remote(output) else output and Path(output)
    tag = package_bento(bundle, version=name, project=project, output=folder or None)
    if folder and is_remote(output):
        working_copy().replace(folder)
    click.echo(tag)
    click.echo(f"Serve it with: bentoml serve {output or tag}", err=True)
