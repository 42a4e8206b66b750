"""Where the command line finds models and their registry; kinds of options that commands share."""

import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from captionloop.config import is_project, project_folder, read_configuration, registered_model, tracking_uri
from captionloop.errors import BundleError, ConfigurationError, RegistryError
from captionloop.paths import expanded, how_to_make
from captionloop.workspaces import below, fetched, is_copy, is_remote, shown, working_copy

if TYPE_CHECKING:
    from captionloop.registry.model_registry import ModelRegistry

FETCHED = ".registry"
_WRITTEN = re.compile(r"(?P<number>[1-9]\d{0,5})(?P<unit>[hdw])")
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_LONGEST = timedelta(days=36_500)

__all__ = ["Catalog", "WrittenPath", "bundle_folder", "newest_bundle", "open_registry", "project_folder"]


SERVICE_URL = click.option(
    "--url",
    default="http://127.0.0.1:3000",
    show_default=True,
    envvar="CAPTIONLOOP_URL",
    help="Where the service answers. [env: CAPTIONLOOP_URL]",
)
SERVICE_KEY = click.option("--key", envvar="CAPTIONLOOP_KEY", help="API key. [env: CAPTIONLOOP_KEY]")


class WrittenPath(click.Path):
    """A path as an option or argument: `--output=~/x` means what `--output ~/x` does, in every shell."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Spelled out, then as click takes paths."""
        return super().convert(expanded(value) if isinstance(value, str) else value, param, ctx)


class WrittenPlace(WrittenPath):
    """The same of a folder that may be in object storage: a path, or a URI as text."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As it is, or as click takes paths."""
        place = expanded(value) if isinstance(value, str) else value
        return place if is_remote(place) else super().convert(place, param, ctx)


class Lifetime(click.ParamType[timedelta]):
    """A number of hours, days or weeks, at most a hundred years."""

    name = "lifetime"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """`90d` as a `timedelta`."""
        found = _WRITTEN.fullmatch(str(value).strip().lower())
        lifetime = int(found["number"]) * _UNITS[found["unit"]] if found else None
        if lifetime is None or lifetime > _LONGEST:
            self.fail(f"{value!r} is no lifetime: write 12h, 90d or 52w", param, ctx)
        return lifetime


LIFETIME = Lifetime()


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
            there = dataset.exists() if "://" in place else fetched(Path(place)).exists()
            return dataset.load() if there else None
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
    return newest, shown(newest) if is_copy(newest) else str(newest.relative_to(project))


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
