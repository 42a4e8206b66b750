"""Where the command line finds the project's models and its registry."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from captionloop.config import project_folder, registered_model, tracking_uri
from captionloop.errors import BundleError, RegistryError
from captionloop.paths import expanded

if TYPE_CHECKING:
    from captionloop.registry import ModelRegistry

MODELS = "data/06_models"
FETCHED = ".registry"

__all__ = ["WrittenPath", "bundle_folder", "newest_bundle", "open_registry", "project_folder"]


class WrittenPath(click.Path):
    """A path as an option or argument: `--output=~/x` means what `--output ~/x` does, in every shell."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Spelled out, then as click takes paths."""
        return super().convert(expanded(value) if isinstance(value, str) else value, param, ctx)


def open_registry(project: Path, env: str | None = None) -> "ModelRegistry":
    """The registry of an environment: its MLflow store, and the registered model of its corpus."""
    from captionloop.registry import ModelRegistry

    return ModelRegistry(tracking_uri(project, env), registered_model(project, env))


def bundle_folder(project: Path, model: str | None, env: str | None = None) -> tuple[Path, str]:
    """The bundle that `--model` means, and its name for people.

    A path is taken as it is; a number or alias is fetched from the registry. Without either it is the
    champion, else the newest bundle of the project. Raises `BundleError` or `RegistryError` where there is
    none.
    """
    model = None if model is None else expanded(model)
    if model is not None and ("/" in model or Path(model).is_dir()):
        return Path(model), model
    if model is not None:
        return _fetched(project, model, env)
    try:
        return _fetched(project, "champion", env)
    except RegistryError:
        newest = newest_bundle(project / MODELS)
        if newest is None:
            raise BundleError(
                f"There is no model to caption with in {project}: make one with make demo, or give --model"
            ) from None
        return newest, str(newest.relative_to(project))


def _fetched(project: Path, version_or_alias: str, env: str | None) -> tuple[Path, str]:
    registry = open_registry(project, env)
    version = registry.version(version_or_alias)
    place = project / MODELS / FETCHED / f"{version.name}-{version.version}-{version.fingerprint[:12]}"
    return registry.fetch(version.version, place), str(version.version)


def newest_bundle(models: Path) -> Path | None:
    """The bundle that was written last below a folder."""
    configs = [
        config
        for config in models.glob("**/config.json")
        if (config.parent / "model.safetensors").is_file()
        and not any(part.startswith(".") for part in config.relative_to(models).parts)
    ]
    newest = max(configs, key=lambda config: config.stat().st_mtime, default=None)
    return newest.parent if newest else None
