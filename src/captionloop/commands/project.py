"""Where the command line finds the project, its models and its registry."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from captionloop.errors import BundleError, RegistryError

if TYPE_CHECKING:
    from captionloop.registry import ModelRegistry

MODELS = "data/06_models"
FETCHED = ".registry"


def project_folder(start: Path | None = None) -> Path:
    """The project that the current folder lies in, else the current folder itself.

    `CAPTIONLOOP_PROJECT` overrides.
    """
    given = os.environ.get("CAPTIONLOOP_PROJECT")
    if given:
        return Path(given).resolve()
    here = (start or Path.cwd()).resolve()
    return next(
        (folder for folder in (here, *here.parents) if (folder / "conf/base/mlflow.yml").is_file()), here
    )


def open_registry(project: Path, env: str | None = None) -> "ModelRegistry":
    """The registry that the project's configuration, or `MLFLOW_TRACKING_URI`, names."""
    from captionloop.registry import ModelRegistry
    from captionloop.registry.connection import project_tracking_uri

    return ModelRegistry(project_tracking_uri(project, env))


def bundle_folder(project: Path, model: str | None) -> tuple[Path, str]:
    """The bundle that `--model` means, and its name for people.

    A path is taken as it is; a number or alias is fetched from the registry. Without either it is the
    champion, else the newest bundle of the project. Raises `BundleError` or `RegistryError` where there is
    none.
    """
    if model is not None and ("/" in model or Path(model).is_dir()):
        return Path(model), model
    if model is not None:
        return _fetched(project, model)
    try:
        return _fetched(project, "champion")
    except RegistryError:
        newest = newest_bundle(project / MODELS)
        if newest is None:
            raise BundleError(
                f"There is no model to caption with in {project}: make one with make demo, or give --model"
            ) from None
        return newest, str(newest.relative_to(project))


def _fetched(project: Path, version_or_alias: str) -> tuple[Path, str]:
    registry = open_registry(project)
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
