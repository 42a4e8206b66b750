"""Loads `conf/` for Kedro and all other parts; a file that cannot be read is a one-line `ConfigurationError`.

Kedro accepts an environment that is not there. Here it is told with the nearest one that is; names and
values within the files are checked by `conf_checks`.
"""

import logging
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from kedro.config import MissingConfigException, OmegaConfigLoader
from kedro.utils import find_kedro_project
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from captionloop.errors import ConfigurationError, first_line
from captionloop.paths import (
    SAMPLE_CORPUS,
    anchored,
    environment_registered_model,
    environment_tracking_uri,
    environment_workspace,
    expanded,
    expanded_everywhere,
    model_of_corpus,
    nearest,
    renamed,
)
from captionloop.workspaces import in_working_copy

logger = logging.getLogger(__name__)

# Kedro uses a name that OmegaConf is giving up.
warnings.filterwarnings("ignore", message=r"\s*register_new_resolver\(\)", category=UserWarning)

LOADER_ARGS: dict[str, Any] = {
    "base_env": "base",
    "default_run_env": "local",
    "merge_strategy": {"parameters": "soft"},
}
"""Of Kedro's settings, and of whoever else reads the configuration."""
FILES = ("*.yml", "*.yaml", "*.json")
"""How Kedro's configuration files are called."""
_WARNED: set[tuple[Path, str]] = set()


class ProjectConfigLoader(OmegaConfigLoader):
    """Kedro's loader, with what this project settles in one place.

    - An environment states differences only: its parameters are merged into those of `base`, value by value.
      Where it changes a block's `kind` or `objective`, it replaces the block.
    - A model of `models` is called as its block is; one that is `null` is none.
    - `~`, `~user` and `$VARIABLE/` at the beginning of a path are spelled out, in `--params` and files alike.
    - What it says of a dataset `raw_photos` or `images` holds for what retraining reads as `base_photos` or
      `base_images`.
    - Parameters may be called as they were before (`paths.RENAMED`), which is told.
    - `globals: workspace` is what `CAPTIONLOOP_WORKSPACE` or the file says. Files of a workspace in object
      storage get paths in a working copy (`workspaces`).
    - `globals: registered_model` is always there; `mlflow: server: mlflow_tracking_uri` is what
      `--params tracking_uri`, `MLFLOW_TRACKING_URI` or the file says, in this order.

    Raises `ConfigurationError`: one line that names the file or the environment.
    """

    def __init__(
        self,
        conf_source: str,
        env: str | None = None,
        runtime_params: dict[str, Any] | None = None,
        **arguments: Any,
    ) -> None:
        patterns = {"mlflow": ["mlflow*", "mlflow*/**", "**/mlflow*"], **arguments.pop("config_patterns", {})}
        self._folder = Path(conf_source)
        self._written: dict[tuple[str, str], dict[Path, Any]] = {}
        _check_environment(self._folder, env)
        given = renamed(runtime_params or {}, "--params", self._warn_once)
        super().__init__(conf_source, env, given, config_patterns=patterns, **arguments)

    @property
    def project(self) -> Path:
        """The folder to which relative paths belong."""
        beside = self._folder.resolve().parent
        if (beside / "pyproject.toml").is_file():
            return beside
        found = find_kedro_project(Path.cwd())
        return Path(found) if found else beside

    @property
    def folder(self) -> Path:
        """`conf/` itself."""
        return self._folder

    def __getitem__(self, key: str) -> dict[str, Any]:
        """One kind of configuration: parameters, catalog, globals, mlflow, credentials."""
        with _resolving(f"the {key} in {self._folder}"):
            found = super().__getitem__(key)
        if key != "credentials":  # there, what looks like a path may be a password
            found = expanded_everywhere(found)
        if key == "parameters":
            found = _with_named_models(found)
        if key == "catalog":
            found = in_working_copy(_with_present_types(found))
        if key == "globals":
            corpus = str(found.get("corpus", SAMPLE_CORPUS))
            named = environment_registered_model() or found.get("registered_model") or model_of_corpus(corpus)
            # YAML reads the code of Norwegian as "no, false".
            norwegian = {"language": "no"} if found.get("language") is False else {}
            return {**found, **norwegian, **environment_workspace(), "registered_model": named}
        if key == "mlflow":
            return self._with_store(found)
        return found

    def tracking_uri(self) -> str | None:
        """The MLflow store, or None where nothing names one."""
        try:
            uri = self["mlflow"].get("server", {}).get("mlflow_tracking_uri")
        except MissingConfigException:
            return None
        return str(uri) if uri else None

    def base_files(self, key: str) -> dict[Path, Any]:
        """Each file of one kind in `base`, as it is written: to be looked at, not to be changed."""
        return self._as_written(str(self.base_env), key)

    def environment_files(self, key: str) -> dict[Path, Any]:
        """Those of the environment; none where it is `base`."""
        env = self.env or self.default_run_env
        return {} if env == self.base_env else self._as_written(str(env), key)

    def unread_files(self) -> Iterator[tuple[Path, str]]:
        """The environment's files that no kind of configuration is read from, although they look like it.

        Each with the ending that it lacks (Kedro reads `.yml` in small letters only); "" where its name is
        another.
        """
        folder = Path(self._get_conf_env_path(str(self.env or self.default_run_env)))
        patterns = [pattern for several in self.config_patterns.values() for pattern in several]
        for file in sorted(folder.rglob("*")):
            name = file.relative_to(folder).as_posix()
            meant = file.name.lower().removesuffix(".txt")  # which editors add, and file managers hide
            ending = next((each[1:] for each in FILES if meant.endswith(each[1:])), "")
            is_hidden = any(part.startswith(".") for part in name.split("/"))
            if not ending or is_hidden or not file.is_file():
                continue
            if file.suffix not in {each[1:] for each in FILES}:
                yield file, ending
            elif not any(fnmatch(name, pattern) for pattern in patterns):
                yield file, ""

    def _as_written(self, env: str, key: str) -> dict[Path, Any]:
        if (env, key) not in self._written:
            folder = self._get_conf_env_path(env)
            self._written[env, key] = self._read_dir_configs(folder, self.config_patterns[key], key, set())
        return self._written[env, key]

    def _with_store(self, found: dict[str, Any]) -> dict[str, Any]:
        server = found.get("server") or {}
        if not isinstance(server, Mapping):
            raise ConfigurationError(
                f"mlflow.yml: server is {server!r}, and must be a block of values:"
                " write server: {mlflow_tracking_uri: <address>}"
            )
        given = (
            self.runtime_params.get("tracking_uri")
            or environment_tracking_uri()
            or server.get("mlflow_tracking_uri")
        )
        if not given:
            return found
        return {
            **found,
            "server": {**server, "mlflow_tracking_uri": anchored(expanded(str(given)), self.project)},
        }

    def _read_dir_configs(
        self,
        conf_path: str,
        patterns: Iterable[str],
        key: str,
        processed_files: set[Path],
        read_environment_variables: bool | None = False,
    ) -> dict[Path, Any]:
        folder = Path(conf_path)
        if folder.name == self.default_run_env and not folder.exists() and self._protocol == "file":
            return {}  # nobody has to keep an empty conf/local
        try:
            found = super()._read_dir_configs(
                conf_path, patterns, key, processed_files, read_environment_variables
            )
            if key == "parameters":
                found = self._with_present_names(found)
        except (MissingConfigException, ConfigurationError):
            raise
        except Exception as error:  # whatever a file that people write by hand brings about
            raise ConfigurationError(_unreadable(folder, error)) from error
        return dict(found)

    def _with_present_names(self, files: dict[Path, Any]) -> dict[Path, Any]:
        """The parameters of each file by their present names."""
        present = dict(files)
        for file, config in files.items():
            where = file.relative_to(self._folder.parent) if file.is_relative_to(self._folder) else file
            present[file] = OmegaConf.create(renamed(plain(config), str(where), self._warn_once))
        self._check_duplicates("parameters", present)
        return present

    def _warn_once(self, line: str) -> None:
        """A command reads its configuration several times."""
        if (self._folder, line) not in _WARNED:
            _WARNED.add((self._folder, line))
            logger.warning("%s", line)

    def _merge_configs(
        self, config: dict[str, Any], env_config: dict[str, Any], key: str, env_path: str
    ) -> dict[str, Any]:
        merged = dict(super()._merge_configs(config, env_config, key, env_path))
        if key != "catalog":
            return merged
        for name, entry in env_config.items():
            retraining = f"base_{name.removeprefix('raw_')}"
            if retraining in config and retraining not in env_config:
                merged[retraining] = entry
        return merged

    def _merge_and_resolve(self, key: str, config_per_file: dict[Path, Any]) -> dict[str, Any]:
        if key != "parameters" or not config_per_file:
            return dict(super()._merge_and_resolve(key, config_per_file))
        written: dict[str, Any] = {}
        for config in (*config_per_file.values(), OmegaConf.create(dict(self.runtime_params or {}))):
            written = _merged(written, plain(config))
        resolved = plain(OmegaConf.create(written), resolve=True)
        return renamed(resolved, str(self._folder), self._warn_once)  # what a reference brought in

    @staticmethod
    def _soft_merge(
        config: dict[str, Any], env_config: dict[str, Any], env_path: str | None = None
    ) -> dict[str, Any]:
        del env_path
        return _merged(config, env_config)


def _with_named_models(parameters: dict[str, Any]) -> dict[str, Any]:
    models = parameters.get("models")
    if not isinstance(models, Mapping):
        return parameters
    named = {
        name: {"name": name, **block} if isinstance(block, Mapping) else block
        for name, block in models.items()
        if block is not None
    }
    return {**parameters, "models": named}


_FORMER_TYPE = re.compile(
    r"captionloop\.datasets\.(?:(?:atomic|captioner|corpus|encoder|features|metrics|photos|ratings|registry|site|workbench)"
    r"\.)?(\w+)"
)
_FORMER_CLASSES = {
    "RunCurvesDataset": "TrackedCurvesDataset",
    "RunMetricsDataset": "TrackedMetricsDataset",
    "WorkbenchDataset": "CheckpointFolderDataset",
}


def _with_present_types(catalog: dict[str, Any]) -> dict[str, Any]:
    """The catalog; a type as it was called in version 0.1 becomes what it is called now."""
    present = dict(catalog)
    for name, entry in catalog.items():
        former = entry.get("type") if isinstance(entry, Mapping) else None
        if isinstance(former, str) and (match := _FORMER_TYPE.fullmatch(former)):
            now = f"captionloop.datasets.{_FORMER_CLASSES.get(match[1], match[1])}"
            if now == former:
                continue
            logger.warning("Dataset %s: its type %s is called %s now; change it in conf/", name, former, now)
            present[name] = {**entry, "type": now}
    return present


def _check_environment(conf: Path, env: str | None) -> None:
    if "://" in str(conf) or str(conf).endswith((".tar.gz", ".zip")):  # Kedro looks itself
        return
    if not (conf / "base").is_dir():
        raise ConfigurationError(
            f"There is no configuration in {conf}: run the command inside the project's folder"
        )
    known = [each.name for each in conf.iterdir() if each.is_dir() and not each.name.startswith(".")]
    if env and env not in {*known, "local"}:
        raise ConfigurationError(f"There is no Kedro environment {env} in {conf}: {nearest(env, known)}")


@contextmanager
def _resolving(what: str) -> Iterator[None]:
    try:
        yield
    except OmegaConfBaseException as error:
        raise ConfigurationError(f"Cannot resolve {what}: {first_line(error)}") from error


def read(file: Path) -> str:
    """The text of a configuration file. Raises `ConfigurationError` where it is not UTF-8."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{file} is not UTF-8 text (byte {error.start}): save it as UTF-8"
        ) from error


def _unreadable(folder: Path, error: Exception) -> str:
    """What is wrong, with the file: Kedro names it for some mistakes only."""
    for pattern in FILES:
        for file in sorted(each for each in folder.rglob(pattern) if each.is_file()):
            try:
                read(file)
                content = OmegaConf.load(file)
            except ConfigurationError as cause:
                return str(cause)
            except Exception as cause:
                place = getattr(cause, "problem_mark", None)
                where = f"{file}, line {place.line + 1}" if place else f"{file}"
                problem = getattr(cause, "problem", None) or first_line(cause)
                return f"{where} cannot be read ({problem}): correct it"
            if not OmegaConf.is_dict(content):
                return f"{file} cannot be read: it must hold `name: value` pairs"
    return f"{folder} cannot be read: {' '.join(str(error).split())}"


def plain(config: Any, *, resolve: bool = False) -> dict[str, Any]:
    """What OmegaConf has read as a dictionary of plain values; empty where it is none."""
    content = OmegaConf.to_container(config, resolve=resolve)
    return {str(name): value for name, value in content.items()} if isinstance(content, dict) else {}


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with what `own` says, block by block."""
    merged = dict(base)
    for name, value in own.items():
        before = merged.get(name)
        merged[name] = value
        if isinstance(before, Mapping) and isinstance(value, Mapping) and _is_of_same_kind(before, value):
            merged[name] = _merged(before, value)
    return merged


def _is_of_same_kind(before: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    return all(value.get(kind, before.get(kind)) == before.get(kind) for kind in ("kind", "objective"))
