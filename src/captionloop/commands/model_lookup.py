"""Looks up the project's models, registry and datasets for commands."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from captionloop.config import is_project, project_folder, read_configuration, registered_model, tracking_uri
from captionloop.errors import BundleError, ConfigurationError, RegistryError
from captionloop.paths import expanded, how_to_make
from captionloop.workspaces import below, display_path, fetched, is_copy, is_remote, working_copy

if TYPE_CHECKING:
    from captionloop.registry.model_registry import ModelRegistry

FETCHED = ".registry"

__all__ = ["Catalog", "bundle_folder", "newest_bundle", "open_registry", "project_folder"]


def open_registry(project: Path, env: str | None = None) -> "ModelRegistry":
    """The registry of an environment: its MLflow store, and the registered model of its corpus."""
    from captionloop.registry.model_registry import ModelRegistry

    return ModelRegistry(tracking_uri(project, env), registered_model(project, env))


class Catalog:
    """The datasets of an environment, as `kedro run --env <env> --params workspace=<workspace>` finds them.

    Raises `ConfigurationError` where there is no such environment, or no such dataset.
    """

    def __init__(self, project: Path, env: str | None = None, workspace: Path | str | None = None) -> None:
        parameters = {} if workspace is None else {"workspace": str(workspace)}
        self._project = project.resolve()
        self._where = project / "conf"
        entries = read_configuration(project, env, parameters)["catalog"]
        self._entries = {name: _anchored(entry, project.resolve()) for name, entry in entries.items()}

    def location(self, name: str) -> Path:
        """Where the file or folder of a dataset lies: of one in object storage, a copy that is up to date."""
        return fetched(Path(str(self._entry(name)["filepath"])))

    def root(self, name: str) -> str:
        """Where a store lies: a path or URI."""
        root = str(self._entry(name)["root"])
        return root if "://" in root else str(self._project / root)

    def load(self, name: str) -> Any:
        """The dataset, None where it was not made yet. Raises `ConfigurationError` where it is unreadable."""
        from kedro.io import AbstractDataset, DatasetError

        try:
            entry = self._entry(name)
            dataset = AbstractDataset.from_config(name, entry)
            place = str(entry.get("filepath", "://"))
            # A file is read as it is; what a run would ask beyond that, of a registry, is not asked here.
            exists = dataset.exists() if "://" in place else fetched(Path(place)).exists()
            return dataset.load() if exists else None
        except (DatasetError, OSError, ValueError) as error:
            cause = error.__cause__ or error
            raise ConfigurationError(
                f"{name} in {self._entry(name).get('filepath', self._where)} cannot be read "
                f"({' '.join(str(cause).split())}): run kedro again to make it anew"
            ) from error

    def _entry(self, name: str) -> dict[str, Any]:
        try:
            return dict(self._entries[name])
        except KeyError:
            raise ConfigurationError(f"There is no dataset {name} in {self._where}: add it there") from None


def _anchored(entry: dict[str, Any], project: Path) -> dict[str, Any]:
    """A dataset's path as Kedro takes it: relative to the project."""
    place = str(entry.get("filepath", ""))
    return entry if not place or "://" in place else {**entry, "filepath": str(project / place)}


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
    if _has_champion(project, env):
        return _fetched(project, "champion", env)
    newest = newest_bundle(fetched(models_folder(project, env)))
    if newest is None:
        raise BundleError(
            f"There is no model to caption with in {project}: "
            f"make one with {how_to_make(registered_model(project, env))}, or give --model"
        )
    return newest, display_path(newest) if is_copy(newest) else str(newest.relative_to(project))


def _has_champion(project: Path, env: str | None) -> bool:
    """Whether there is a champion. Raises `RegistryError` where the registry cannot be asked: another model
    in the place of one that is there would be taken for it.
    """
    try:
        registry = open_registry(project, env)
    except RegistryError:  # no store is configured
        return False
    return registry.champion() is not None


def _fetched(project: Path, version_or_alias: str, env: str | None) -> tuple[Path, str]:
    registry = open_registry(project, env)
    version = registry.version(version_or_alias)
    place = (
        models_folder(project, env) / FETCHED / f"{version.name}-{version.version}-{version.fingerprint[:12]}"
    )
    return registry.fetch(version.version, place), str(version.version)


def models_folder(project: Path, env: str | None = None) -> Path:
    """Where an environment's workspace keeps models, of all its corpora; of a remote one, where a copy
    would lie.
    """
    place = below(workspace_of(project, env), "06_models")
    return working_copy().path_of(place) if is_remote(place) else project / place


def workspace_of(project: Path, env: str | None = None) -> str:
    """The workspace of an environment, a path or URI."""
    if not is_project(project):
        return "data"
    return str(read_configuration(project, env)["globals"].get("workspace", "data"))


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
