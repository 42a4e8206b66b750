"""Checks `conf/` and `--params` before a run: what no pipeline can use raises a `ConfigurationError`.

Kedro accepts what it does not know, such as a parameter that nothing reads. Here the message names the
nearest name that exists.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from kedro.config import MissingConfigException, OmegaConfigLoader
from kedro.io import AbstractDataset
from kedro.pipeline import Pipeline
from kedro.validation.type_extractor import TypeExtractor
from pydantic import BaseModel, TypeAdapter, ValidationError

from captionloop.conf_loader import FILES, ProjectConfigLoader, plain, read
from captionloop.errors import CaptionloopError, ConfigurationError, in_a_line
from captionloop.languages import language_of
from captionloop.paths import RENAMED, nearest

logger = logging.getLogger(__name__)

HOOK_PARAMETERS = frozenset({"mlflow_run", "tracking_uri"})
"""Runtime parameters that are read by code, not by a file in `conf/`."""
_RUNTIME = re.compile(r"\$\{runtime_params:\s*([\w.]+)")
_GLOBAL = re.compile(r"\$\{globals:\s*([\w.]+)")
_NO_NAME = re.compile(r"[/\\:\0]")
_KEDROS_WORDS = re.compile(
    r"An exception occurred when parsing config for dataset '[^']*': "
    r"|\.? (Dataset '|Failed to|Make sure|Hint).*"
)
_SEEDS = range(1 << 32)
_MISSING = object()


def check_configuration(loader: OmegaConfigLoader, pipelines: Mapping[str, Pipeline]) -> None:
    """Raises `ConfigurationError` at the first name or value in `conf/` or `--params` that is of no use."""
    if not isinstance(loader, ProjectConfigLoader) or not loader.folder.is_dir():
        return
    texts = [read(file) for pattern in FILES for file in loader.folder.rglob(pattern) if file.is_file()]
    runtime = {*HOOK_PARAMETERS, *(name for text in texts for name in _RUNTIME.findall(text))}
    _check_files(loader)
    _check_globals(loader, {name for text in texts for name in _GLOBAL.findall(text)})
    _check_parameters(loader, pipelines, runtime)
    _check_catalog(loader, pipelines)


def _check_files(loader: ProjectConfigLoader) -> None:
    """Each file of the environment is of a kind that is read: `paramters.yml` would say nothing."""
    for file, ending in loader.unread_files():
        if ending:
            raise ConfigurationError(f"Nothing reads {file}: rename it, its name has to end in {ending}")
        suggestion = nearest(file.stem, loader.config_patterns)
        if suggestion.startswith("did you mean"):
            raise ConfigurationError(f"Nothing reads {file}: {suggestion.removesuffix('?')}{file.suffix}?")
        logger.warning("Nothing reads %s", file)


def _check_globals(loader: ProjectConfigLoader, read: set[str]) -> None:
    own = loader.environment_files("globals")
    base = loader.base_files("globals").values()
    known = {*read, "registered_model", *(name for config in base for name in plain(config))}
    for file, config in own.items():
        for name in plain(config):
            if name not in known:
                raise ConfigurationError(f"Unknown entry {name} in {file}: {nearest(name, known)}")
    if settled := loader["globals"]:
        for name in ("workspace", "corpus", "registered_model"):
            _check_name(name, settled.get(name), "globals.yml", is_path=name == "workspace")


def _check_name(name: str, value: object, where: str, *, is_path: bool) -> None:
    """A folder, or a name that folders and registered models are called by."""
    if value is None or not str(value).strip():
        raise ConfigurationError(f"{name} in {where} is empty: give it a value, or leave it out")
    if not is_path and (_NO_NAME.search(str(value)) or not str(value).strip(". ")):
        raise ConfigurationError(
            f"{name}: {value!r} in {where} cannot be used: folders and registered models are called so,"
            " and no name of theirs may hold a / or : or be made of dots"
        )


def _check_parameters(
    loader: ProjectConfigLoader, pipelines: Mapping[str, Pipeline], runtime: set[str]
) -> None:
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
    for name in runtime & given.keys():
        if given[name] is None or not str(given[name]).strip():
            raise ConfigurationError(f"--params {name}= is empty: give it a value, or leave it out")
    stated = {name: value for name, value in parameters.items() if not (name in runtime and name in given)}
    for name in _unknown(stated, read):
        if name in fields and name in parameters:
            first, _, rest = name.partition(".")
            raise ConfigurationError(
                f"Parameter {name} in {_source(loader, name)} is no name by itself: write it as a block,"
                f" {first}: {{{rest}: ...}}"
            )
        known = _siblings(name, fields)
        if "." not in name:
            known |= runtime if name.split(".")[0] in given else set()
        raise ConfigurationError(
            f"Unknown parameter {name} in {_source(loader, name)}: {_suggestion(name, known, fields)}"
        )
    for path, kind in types.items():
        _check_values(loader, parameters, path, kind, fields)
    _check_candidate(loader, parameters, pipelines)
    for name, value in _values(parameters):
        if name.endswith("seed") and isinstance(value, int) and value not in _SEEDS:
            raise ConfigurationError(
                f"Parameter {name}={value} in {_source(loader, name)} cannot be used: NumPy and PyTorch take"
                " seeds from 0 to 4,294,967,295"
            )
    if "language" in parameters:
        language_of(str(parameters["language"]))


def _check_candidate(
    loader: ProjectConfigLoader, parameters: Mapping[str, Any], pipelines: Mapping[str, Pipeline]
) -> None:
    """The model that is registered at the end is one that is trained."""
    chosen = (parameters.get("registration") or {}).get("model")
    made = {name for pipeline in pipelines.values() for name in pipeline.datasets()}
    trained_models = {name.removesuffix(".captioner") for name in made if name.endswith(".captioner")}
    if chosen is not None and trained_models and chosen not in trained_models:
        where = _source(loader, "registration.model")
        raise ConfigurationError(
            f"Parameter registration.model={chosen!r} in {where} is not trained here: "
            f"{nearest(str(chosen), trained_models)}"
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
        problem = "is empty" if value is None else f"is {value!r}"
        raise ConfigurationError(
            f"Parameter {path} in {_source(loader, path)} {problem}, and must be a block of values: "
            f"write {path}.<name>: <value>, or leave it out"
        )
    try:
        TypeAdapter(kind).validate_python(value)
    except ConfigurationError:
        raise
    except CaptionloopError as error:
        raise ConfigurationError(f"Parameter {path} in {_source(loader, path)}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join([path, *_location(value, first["loc"])])
        where = _source(loader, name)
        if first["type"] == "extra_forbidden" and name in fields:
            raise ConfigurationError(
                f"Parameter {name} in {where} is none of this kind of block: leave it out, or check kind"
            ) from None
        if first["type"] == "extra_forbidden":
            raise ConfigurationError(
                f"Unknown parameter {name} in {where}: {_suggestion(name, _siblings(name, fields), fields)}"
            ) from None
        problem = first["msg"].removeprefix("Value error, ")
        given_value = "" if isinstance(first["input"], Mapping) else f"={first['input']!r}"
        raise ConfigurationError(
            f"Parameter {name}{given_value} in {where} cannot be used: {' '.join(problem.split())}"
        ) from None


def _location(value: Any, location: tuple[int | str, ...]) -> list[str]:
    """Where in the value an error is, without the names of alternatives that pydantic tried."""
    path: list[str] = []
    for place, part in enumerate(location):
        if isinstance(value, Mapping):
            if part not in value and place < len(location) - 1:
                continue
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int):
            value = value[part] if part < len(value) else None
        else:
            continue
        path.append(str(part))
    return path


def _check_catalog(loader: ProjectConfigLoader, pipelines: Mapping[str, Pipeline]) -> None:
    own = loader.environment_files("catalog")
    base = {str(name) for file in loader.base_files("catalog").values() for name in file}
    _check_datasets(loader)
    used = {name for pipeline in pipelines.values() for name in pipeline.datasets()}
    texts = "".join(read(file) for file in own)
    for file, config in own.items():
        for name in map(str, config):
            if name.startswith("_"):
                if f"${{{name}" not in texts:
                    raise ConfigurationError(
                        f"Nothing in {file.parent} uses {name} of {file.name}, and base stays as it is: "
                        "write the entries that shall differ, or set workspace or corpus in globals.yml"
                    )
            elif name not in base | used and not _matches(name, used):
                suggestion = nearest(name, {each for each in base | used if not each.startswith("_")})
                if suggestion.startswith("did you mean"):
                    raise ConfigurationError(f"No pipeline uses the dataset {name} of {file}: {suggestion}")
                logger.warning("No pipeline uses the dataset %s of %s", name, file)


def _check_datasets(loader: ProjectConfigLoader) -> None:
    """Each entry says of which type it is, and what that takes; what needs credentials is left to Kedro."""
    catalog = loader["catalog"]
    own = [str(name) for config in loader.environment_files("catalog").values() for name in config]
    types = {str(entry.get("type")) for entry in catalog.values() if isinstance(entry, Mapping)}
    for name in dict.fromkeys([*own, *catalog]):
        entry = catalog.get(name)
        if "{" in name or name.startswith("_") or entry is None:
            continue
        where = f"Dataset {name} in {_file_of(loader, name)}"
        if not isinstance(entry, Mapping) or "type" not in entry:
            raise ConfigurationError(f"{where} says no type: write {name}: {{type: ..., filepath: ...}}")
        if "credentials" in entry or entry.get("versioned"):
            continue
        try:
            AbstractDataset.from_config(name, dict(entry))
        except Exception as error:  # of whatever class the type is
            problem = _KEDROS_WORDS.sub("", in_a_line(error))
            hint = nearest(str(entry["type"]), types - {str(entry["type"])})
            near = f"; {hint}" if "not found in" in problem and hint.startswith("did you mean") else ""
            raise ConfigurationError(f"{where} cannot be used: {problem}{near}") from error


def _file_of(loader: ProjectConfigLoader, dataset: str) -> str:
    files = {**loader.base_files("catalog"), **loader.environment_files("catalog")}
    found = [file for file, config in files.items() if dataset in config]
    return str(found[-1].relative_to(loader.folder.parent)) if found else str(loader.folder)


def _matches(pattern: str, names: Iterable[str]) -> bool:
    """Whether a dataset factory stands for any of the names."""
    if "{" not in pattern:
        return False
    written = re.sub(r"\\\{[^}]*\\\}", ".+", re.escape(pattern))
    return any(re.fullmatch(written, name) for name in names)


def _names(block: Mapping[str, Any]) -> Iterator[str]:
    """The dotted name of every value in a block."""
    return (name for name, _ in _values(block))


def _values(block: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in a block, with its dotted name."""
    for name, value in block.items():
        if isinstance(value, Mapping) and value:
            yield from _values(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


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
    generic_type = get_origin(kind)
    if generic_type in {Union, UnionType, Annotated}:
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
    parent = name.rpartition(".")[0]
    former = _former_names(parent, fields)
    suggestion = nearest(last, {each.rpartition(".")[2] for each in known} | former.keys())
    if (meant := suggestion.removeprefix("did you mean ").removesuffix("?")) in former:
        return f"did you mean {former[meant]}?"
    if suggestion.startswith("did you mean"):
        return suggestion.replace("did you mean ", f"did you mean {parent}." if parent else "did you mean ")
    elsewhere = sorted(field for field in fields if field.rpartition(".")[2] == last)
    if elsewhere:
        return f"did you mean {' or '.join(elsewhere[:3])}?"
    return suggestion


def _former_names(parent: str, fields: set[str]) -> dict[str, str]:
    """What parameters of a block were called before, each with its present name."""
    found: dict[str, str] = {}
    for old, new in RENAMED.items():
        block, _, last = old.partition("=")[0].rpartition(".")
        present = new.partition("=")[0]
        wild = parent.rpartition(".")[2] if "*" in present else "*"
        present = present.replace("*", wild)
        if parent in {block.replace("*", wild), present.rpartition(".")[0]} and present in fields:
            found[last] = present
    return found


def _source(loader: ProjectConfigLoader, name: str) -> str:
    """Where a parameter is set: `--params`, also by another name that its file refers to, or its file."""
    given = loader.runtime_params or {}
    if any(each == name or each.startswith(f"{name}.") for each in _names(given)):
        return "--params"
    files = {**loader.base_files("parameters"), **loader.environment_files("parameters")}
    for file, config in reversed(files.items()):
        value: Any = plain(config)
        for part in [name] if name in value else name.split("."):
            named = {str(key): each for key, each in value.items()} if isinstance(value, Mapping) else {}
            value = named.get(part, _MISSING)
        if value is _MISSING:
            continue
        runtime_name = _RUNTIME.match(value) if isinstance(value, str) else None
        return (
            f"--params {runtime_name[1]}"
            if runtime_name and runtime_name[1] in given
            else str(file.relative_to(loader.folder.parent))
        )
    return str(loader.folder)
