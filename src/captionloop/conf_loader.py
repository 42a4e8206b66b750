"""Reads `conf/` as every part of the project does, and says in one line what in it cannot be meant.

Kedro accepts what it does not know: a parameter that nothing reads, an environment that is not there. Here
a name that exists nowhere is told with the nearest one that does.
"""

import logging
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from kedro.config import MissingConfigException, OmegaConfigLoader
from kedro.utils import find_kedro_project
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, TypeAdapter, ValidationError

from captionloop.config import (
    SAMPLE_CORPUS,
    anchored,
    environment_registered_model,
    environment_tracking_uri,
    model_of_corpus,
    nearest,
)
from captionloop.errors import ConfigurationError
from captionloop.paths import expanded, expanded_everywhere

if TYPE_CHECKING:
    from kedro.pipeline import Pipeline

logger = logging.getLogger(__name__)
# Kedro uses a name that OmegaConf is giving up.
warnings.filterwarnings("ignore", message=r"\s*register_new_resolver\(\)", category=UserWarning)

LOADER_ARGS: dict[str, Any] = {
    "base_env": "base",
    "default_run_env": "local",
    "merge_strategy": {"parameters": "soft"},
}
"""Of Kedro's settings, and of whoever else reads the configuration."""
HOOK_PARAMETERS = frozenset({"mlflow_run", "tracking_uri"})
"""Runtime parameters that are read by code, not by a file in `conf/`."""
_RUNTIME = re.compile(r"\$\{runtime_params:\s*([\w.]+)")
_GLOBAL = re.compile(r"\$\{globals:\s*([\w.]+)")
_FILES = ("*.yml", "*.yaml", "*.json")
_MISSING = object()


class ProjectConfigLoader(OmegaConfigLoader):
    """Kedro's loader, with what this project settles in one place.

    - An environment states differences only: its parameters are merged into those of `base`, value by value.
      Where it changes a block's `kind`, it replaces the block.
    - `~`, `~user` and `$VARIABLE/` at the beginning of a path are spelled out, in `--params` and files alike.
    - What it says of a dataset `raw_photos` or `images` holds for what retraining reads as `base_photos` or
      `base_images`.
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
        _check_environment(self._folder, env)
        super().__init__(conf_source, env, runtime_params, config_patterns=patterns, **arguments)

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
        with _told_of(f"the {key} in {self._folder}"):
            found = super().__getitem__(key)
        if key != "credentials":  # there, what looks like a path may be a password
            found = expanded_everywhere(found)
        if key == "globals":
            corpus = str(found.get("corpus", SAMPLE_CORPUS))
            named = environment_registered_model() or found.get("registered_model") or model_of_corpus(corpus)
            return {**found, "registered_model": named}
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

    def files(self, key: str) -> dict[Path, Any]:
        """Each file of one kind, as it is written: base first, the environment's after it."""
        base, env, *_ = self._read_raw_config(key)
        return {**base, **env}

    def environment_files(self, key: str) -> dict[Path, Any]:
        """Those of the environment alone; none where it is `base`."""
        return dict(self._read_raw_config(key)[1])

    def _with_store(self, found: dict[str, Any]) -> dict[str, Any]:
        server = dict(found.get("server") or {})
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
        except MissingConfigException:
            raise
        except Exception as error:  # whatever a file that people write by hand brings about
            raise ConfigurationError(_unreadable(folder, error)) from error
        return dict(found)

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
            written = _merged(written, _plain(config))
        return _plain(OmegaConf.create(written), resolve=True)

    @staticmethod
    def _soft_merge(
        config: dict[str, Any], env_config: dict[str, Any], env_path: str | None = None
    ) -> dict[str, Any]:
        del env_path
        return _merged(config, env_config)


def check_configuration(loader: OmegaConfigLoader, pipelines: Mapping[str, "Pipeline"]) -> None:
    """Raises `ConfigurationError` at the first name or value in `conf/` or `--params` that is of no use."""
    if not isinstance(loader, ProjectConfigLoader) or not loader.folder.is_dir():
        return
    texts = [file.read_text(encoding="utf-8") for pattern in _FILES for file in loader.folder.rglob(pattern)]
    runtime = {*HOOK_PARAMETERS, *(name for text in texts for name in _RUNTIME.findall(text))}
    _check_globals(loader, {name for text in texts for name in _GLOBAL.findall(text)})
    _check_parameters(loader, pipelines, runtime)
    _check_catalog(loader, pipelines)


def _check_environment(conf: Path, env: str | None) -> None:
    if "://" in str(conf) or conf.is_file():  # an archive, or far away: Kedro looks itself
        return
    if not (conf / "base").is_dir():
        raise ConfigurationError(
            f"There is no configuration in {conf}: run the command inside the project's folder"
        )
    if env and env != "local" and not (conf / env).is_dir():
        known = [each.name for each in conf.iterdir() if each.is_dir() and not each.name.startswith(".")]
        raise ConfigurationError(f"There is no Kedro environment {env} in {conf}: {nearest(env, known)}")


@contextmanager
def _told_of(what: str) -> Iterator[None]:
    try:
        yield
    except OmegaConfBaseException as error:
        raise ConfigurationError(f"Cannot resolve {what}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _unreadable(folder: Path, error: Exception) -> str:
    """What is wrong, with the file: Kedro names it for some mistakes only."""
    for pattern in _FILES:
        for file in sorted(folder.rglob(pattern)):
            try:
                content = OmegaConf.load(file)
            except Exception as cause:
                place = getattr(cause, "problem_mark", None)
                where = f"{file}, line {place.line + 1}" if place else f"{file}"
                said = getattr(cause, "problem", None) or _first_line(cause)
                return f"{where} cannot be read ({said}): correct it"
            if not OmegaConf.is_dict(content):
                return f"{file} cannot be read: it must hold `name: value` pairs"
    return f"{folder} cannot be read: {' '.join(str(error).split())}"


def _plain(config: Any, *, resolve: bool = False) -> dict[str, Any]:
    content = OmegaConf.to_container(config, resolve=resolve)
    return {str(name): value for name, value in content.items()} if isinstance(content, dict) else {}


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with what `own` says, block by block."""
    merged = dict(base)
    for name, value in own.items():
        before = merged.get(name)
        merged[name] = value
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            kind = before.get("kind")
            if value.get("kind", kind) == kind:
                merged[name] = _merged(before, value)
    return merged


def _check_globals(loader: ProjectConfigLoader, read: set[str]) -> None:
    base, own, *_ = loader._read_raw_config("globals")
    known = {*read, "registered_model", *(name for config in base.values() for name in _plain(config))}
    for file, config in own.items():
        for name in _plain(config):
            if name not in known:
                raise ConfigurationError(f"Unknown entry {name} in {file}: {nearest(name, known)}")


def _check_parameters(
    loader: ProjectConfigLoader, pipelines: Mapping[str, "Pipeline"], runtime: set[str]
) -> None:
    from kedro.validation.type_extractor import TypeExtractor

    given = loader.runtime_params or {}
    try:
        parameters = loader["parameters"]
    except MissingConfigException:
        return
    types = TypeExtractor(dict(pipelines)).extract_types_from_pipelines()
    read = {
        name.removeprefix("params:")
        for pipeline in pipelines.values()
        for name in pipeline.inputs()
        if name.startswith("params:")
    }
    fields = {dotted for path, kind in types.items() for dotted in _fields(kind, path)} | read
    for name in _names(given):
        whole = next((each for each in runtime if name.startswith(f"{each}.")), None)
        if whole is not None:
            raise ConfigurationError(f"--params {name}: {whole} is one value and has no parts")
    stated = {name: value for name, value in parameters.items() if not (name in runtime and name in given)}
    for name in _unknown(stated, read):
        known = _siblings(name, fields)
        if "." not in name:
            known |= runtime if name.split(".")[0] in given else set()
        raise ConfigurationError(
            f"Unknown parameter {name} in {_origin(loader, name)}: {_suggestion(name, known, fields)}"
        )
    for path, kind in types.items():
        _check_values(loader, parameters, path, kind, fields)
    _check_candidate(loader, parameters, pipelines)


def _check_candidate(
    loader: ProjectConfigLoader, parameters: Mapping[str, Any], pipelines: Mapping[str, "Pipeline"]
) -> None:
    """The model that is registered at the end is one that is trained."""
    chosen = (parameters.get("registration") or {}).get("model")
    made = {name for pipeline in pipelines.values() for name in pipeline.datasets()}
    trained = {name.removesuffix(".captioner") for name in made if name.endswith(".captioner")}
    if chosen is not None and trained and chosen not in trained:
        where = _origin(loader, "registration.model")
        raise ConfigurationError(
            f"Parameter registration.model={chosen!r} in {where} is not trained here: "
            f"{nearest(str(chosen), trained)}"
        )


def _check_values(
    loader: ProjectConfigLoader, parameters: dict[str, Any], path: str, kind: Any, fields: set[str]
) -> None:
    value: Any = parameters
    for part in path.split("."):
        value = value.get(part, _MISSING) if isinstance(value, Mapping) else _MISSING
    if value is _MISSING:
        return
    if not isinstance(value, Mapping):
        said = "is empty" if value is None else f"is {value!r}"
        raise ConfigurationError(
            f"Parameter {path} in {_origin(loader, path)} {said}, and must be a block of values: "
            f"write {path}.<name>: <value>, or leave it out"
        )
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join([path, *_location(value, first["loc"])])
        where = _origin(loader, name)
        if first["type"] == "extra_forbidden" and name in fields:
            raise ConfigurationError(
                f"Parameter {name} in {where} is none of this kind of block: leave it out, or check kind"
            ) from None
        if first["type"] == "extra_forbidden":
            raise ConfigurationError(
                f"Unknown parameter {name} in {where}: {_suggestion(name, _siblings(name, fields), fields)}"
            ) from None
        said = first["msg"].removeprefix("Value error, ")
        shown = "" if isinstance(first["input"], Mapping) else f"={first['input']!r}"
        raise ConfigurationError(
            f"Parameter {name}{shown} in {where} cannot be used: {' '.join(said.split())}"
        ) from None


def _location(value: Any, location: tuple[int | str, ...]) -> list[str]:
    """Where in the value an error is, without the names of alternatives that pydantic tried."""
    parts: list[str] = []
    for place, part in enumerate(location):
        if isinstance(value, Mapping):
            if part not in value and place < len(location) - 1:
                continue
            value = value.get(part)
        parts.append(str(part))
    return parts


def _check_catalog(loader: ProjectConfigLoader, pipelines: Mapping[str, "Pipeline"]) -> None:
    own = loader.environment_files("catalog")
    base = {str(name) for file in loader._read_raw_config("catalog")[0].values() for name in file}
    used = {name for pipeline in pipelines.values() for name in pipeline.datasets()}
    texts = "".join(file.read_text(encoding="utf-8") for file in own)
    for file, config in own.items():
        for name in map(str, config):
            if name.startswith("_"):
                if f"${{{name}" not in texts:
                    raise ConfigurationError(
                        f"Nothing in {file.parent} uses {name} of {file.name}, and base stays as it is: "
                        "write the entries that shall differ, or set workspace or corpus in globals.yml"
                    )
            elif name not in base | used and not _matches(name, used):
                told = nearest(name, {each for each in base | used if not each.startswith("_")})
                if told.startswith("did you mean"):
                    raise ConfigurationError(f"No pipeline uses the dataset {name} of {file}: {told}")
                logger.warning("No pipeline uses the dataset %s of %s", name, file)


def _matches(pattern: str, names: Iterable[str]) -> bool:
    """Whether a dataset factory stands for any of the names."""
    if "{" not in pattern:
        return False
    written = re.sub(r"\\\{[^}]*\\\}", ".+", re.escape(pattern))
    return any(re.fullmatch(written, name) for name in names)


def _names(block: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted name of every value in a block."""
    for name, value in block.items():
        if isinstance(value, Mapping) and value:
            yield from _names(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _unknown(block: Mapping[str, Any], read: set[str], prefix: str = "") -> Iterator[str]:
    """The dotted names that lead to no parameter that a node reads."""
    for key, value in block.items():
        name = f"{prefix}{key}"
        if name in read:
            continue
        if not any(each.startswith(f"{name}.") for each in read):
            yield name
        elif isinstance(value, Mapping):
            yield from _unknown(value, read, f"{name}.")


def _fields(kind: Any, prefix: str) -> Iterator[str]:
    """The dotted names of a pydantic model's fields; of several alternatives, those of all."""
    origin = get_origin(kind)
    if origin in {Union, UnionType, Annotated}:
        for each in get_args(kind):
            yield from _fields(each, prefix)
    elif isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            yield f"{prefix}.{name}"
            yield from _fields(field.annotation, f"{prefix}.{name}")


def _siblings(name: str, fields: set[str]) -> set[str]:
    """The names that stand in the same block, from the top."""
    depth, parent = name.count("."), name.rpartition(".")[0]
    starts = {".".join(field.split(".")[: depth + 1]) for field in fields if field.count(".") >= depth}
    return {each for each in starts if each.rpartition(".")[0] == parent}


def _suggestion(name: str, known: set[str], fields: set[str]) -> str:
    last = name.rpartition(".")[2]
    told = nearest(last, {each.rpartition(".")[2] for each in known})
    if told.startswith("did you mean"):
        parent = name.rpartition(".")[0]
        return told.replace("did you mean ", f"did you mean {parent}." if parent else "did you mean ")
    elsewhere = sorted(field for field in fields if field.rpartition(".")[2] == last)
    if elsewhere:
        return f"did you mean {' or '.join(elsewhere[:3])}?"
    return told


def _origin(loader: ProjectConfigLoader, name: str) -> str:
    """Where a parameter is said: `--params`, or its file."""
    if any(each == name or each.startswith(f"{name}.") for each in _names(loader.runtime_params or {})):
        return "--params"
    for file, config in reversed(loader.files("parameters").items()):
        value: Any = OmegaConf.to_container(config, resolve=False)
        for part in name.split("."):
            value = value.get(part, _MISSING) if isinstance(value, Mapping) else _MISSING
        if value is not _MISSING:
            return str(file.relative_to(loader.folder.parent))
    return str(loader.folder)
