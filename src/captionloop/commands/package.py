"""`captionloop package`: the champion as a Bento that needs neither registry nor project."""

from pathlib import Path

import click

from captionloop.commands.project import WrittenPath, bundle_folder, project_folder
from captionloop.errors import ConfigurationError
from captionloop.serving.packaging import package_bento


@click.command()
@click.option("--model", help="A bundle's folder, or a version or alias of the registry. [default: champion]")
@click.option("--version", help="A version of the registry; the same as --model with a number.")
@click.option("--env", help="Kedro environment whose model is meant.")
@click.option(
    "--output", type=WrittenPath(path_type=Path, file_okay=False), help="Also copy the Bento to this folder."
)
def package(model: str | None, version: str | None, env: str | None, output: Path | None) -> None:
    """Package a model with the service as a Bento, and print its tag."""
    if model is not None and version is not None:
        raise ConfigurationError("--model and --version both name the model: give one of them")
    project = project_folder()
    bundle, name = bundle_folder(project, version or model, env)
    tag = package_bento(bundle, version=name, project=project, output=output)
    click.echo(tag)
    click.echo(f"Serve it with: bentoml serve {output or tag}", err=True)
