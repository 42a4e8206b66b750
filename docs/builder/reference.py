"""The reference pages that are generated: from click, from the pydantic models, from the catalog."""

import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from pydantic import BaseModel

from captionloop.cli import main
from captionloop.config import read_configuration
from captionloop.pipeline_registry import register_pipelines
from captionloop.serving.service_settings import describe_settings

ROOT: Final = Path(__file__).resolve().parents[2]
LAYERS: Final = (
    "raw",
    "intermediate",
    "primary",
    "feature",
    "model_input",
    "models",
    "model_output",
    "reporting",
    "registry",
)


# --- the command line


def command_line() -> str:
    """Every `captionloop` command with its help and options."""
    page = [
        "# The command line",
        "",
        "Generated from the commands themselves; `captionloop --help` says the same.",
    ]
    return "\n".join([*page, *_command(main, "captionloop", None, 2)]) + "\n"


def _command(command: click.Command, name: str, parent: click.Context | None, level: int) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent)
    path = context.command_path
    yield from ("", f"{'#' * level} `{path}`", "")
    yield inspect.cleandoc((command.help or "").replace("\b", "")).replace("<", "&lt;")
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            if found is not None and not found.hidden:
                yield from _command(found, child, context, level + 1)
        return
    yield from ("", "```text", " ".join([path, *command.collect_usage_pieces(context)]), "```", "")
    records = [record for one in command.get_params(context) if (record := one.get_help_record(context))]
    if records:
        yield from ("| option | |", "|---|---|")
        yield from (f"| `{_cell(names)}` | {_cell(text)} |" for names, text in records)


# --- the configuration


def configuration() -> str:
    """Every parameter of `conf/base`, with its type, default and meaning; and the service's settings."""
    page = [
        "# Configuration",
        "",
        "Generated from the models that check it. *Default* is what holds where no file says anything; the",
        "last column is what `conf/base` says. `conf/<environment>/` goes before `conf/base/`, and",
        "`kedro run --params feature_caching.shard=1/4` before both. An unknown name is an error.",
    ]
    given = _base("parameters")
    for key, model in sorted(_parameter_models().items()):
        values: Any = given
        for part in key.split("."):
            values = values[part]
        page += ["", f"## `{key}`", "", _summary(model)]
        page += ["", "| name | type | default | meaning | `conf/base` |", "|---|---|---|---|---|"]
        page += _rows(model, values, "")
    page += [
        "",
        "## The service",
        "",
        "Environment variables, or `captionloop serve`.",
        "",
        describe_settings(),
    ]
    return "\n".join(page) + "\n"


def _parameter_models() -> dict[str, type[BaseModel]]:
    """Which model checks which parameters: the type hints of the nodes say it, as they do to Kedro."""
    found: dict[str, type[BaseModel]] = {}
    for node in _nodes():
        hints = typing.get_type_hints(node.func)
        for argument, dataset in _arguments(node):
            hint = hints.get(argument)
            if dataset.startswith("params:") and isinstance(hint, type) and issubclass(hint, BaseModel):
                found[dataset.removeprefix("params:")] = hint
    return found


def _arguments(node: Node) -> Iterator[tuple[str, str]]:
    given = node._inputs
    if isinstance(given, dict):
        yield from given.items()
    elif given:
        names = inspect.signature(node.func).parameters
        yield from zip(names, [given] if isinstance(given, str) else given, strict=False)


def _rows(model: type[BaseModel], values: Any, prefix: str) -> Iterator[str]:
    meanings = attribute_docs(model)
    for name, field in model.model_fields.items():
        value = values.get(name) if isinstance(values, Mapping) else None
        inner = _models_in(field.annotation)
        if len(inner) == 1 and field.annotation is inner[0]:
            yield from _rows(inner[0], value, f"{prefix}{name}.")
            continue
        meaning = field.description or meanings.get(name, "")
        default = (
            "*required*" if field.is_required() else _value(field.get_default(call_default_factory=True))
        )
        said = "" if value is None else _value(value)
        yield f"| `{prefix}{name}` | {_type(field.annotation)} | {default} | {_cell(meaning)} | {said} |"
        for each in inner:
            chosen = value if isinstance(value, Mapping) and value.get("kind") == _kind(each) else None
            yield from _rows(each, chosen, f"{prefix}{name}.{_kind(each)}:") if _kind(each) else ()


def attribute_docs(model: type[BaseModel]) -> dict[str, str]:
    """What the `Attributes:` sections of a model and its bases say about each field."""
    said: dict[str, str] = {}
    for each in reversed(model.__mro__):
        section = inspect.cleandoc(each.__doc__ or "").partition("Attributes:\n")[2]
        for entry in re.split(r"\n(?=\S)", textwrap.dedent(section)):
            names, _, meaning = entry.partition(":")
            for name in names.split(","):
                said[name.strip()] = " ".join(meaning.split())
    return said


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in {typing.Union, types.UnionType, typing.Annotated}:
        return [model for each in typing.get_args(annotation) for model in _models_in(each)]
    return []


def _kind(model: type[BaseModel]) -> str:
    field = model.model_fields.get("kind")
    return str(field.default) if field else ""


def _type(annotation: Any) -> str:
    if typing.get_origin(annotation) is typing.Literal:
        return " or ".join(f"`{each}`" for each in typing.get_args(annotation))
    text = (
        annotation.__name__
        if isinstance(annotation, type) and not typing.get_args(annotation)
        else str(annotation)
    )
    return f"`{_cell(re.sub(r'(typing|captionloop[.a-z_]*)[.]', '', text))}`"


def _summary(model: type[BaseModel]) -> str:
    return inspect.cleandoc(model.__doc__ or "").partition("Attributes:")[0].strip()


# --- the pipelines and the catalog


def pipelines() -> str:
    """Every pipeline with its nodes, and every dataset by its layer."""
    page = [
        "# Pipelines and catalog",
        "",
        "Generated from the pipelines and `conf/base`. `kedro run --pipelines NAME` runs one;",
        "[the lineage view](../lineage.md) draws them.",
    ]
    for name, pipeline in register_pipelines().items():
        page += ["", f"## `{name}`", ""]
        if name in _WHOLE:
            page.append(_contents(name, pipeline))
            continue
        page += ["| node | does | from | makes |", "|---|---|---|---|"]
        for node in pipeline.nodes:
            does = (inspect.getdoc(node.func) or "").partition("\n")[0]
            page.append(f"| `{node.name}` | {_cell(does)} | {_names(node.inputs)} | {_names(node.outputs)} |")
    catalog = _base("catalog")
    entries = {name: entry for name, entry in catalog.items() if not name.startswith("_")}
    page += ["", "## The catalog", "", "By layer, from the raw data to the registry."]
    for layer in _layers(entries.values()):
        page += ["", f"### {layer}", "", "| dataset | kind | where |", "|---|---|---|"]
        for name, entry in sorted(entries.items()):
            if entry.get("metadata", {}).get("kedro-viz", {}).get("layer") == layer:
                kind = entry["type"].rpartition(".")[2]
                where = entry.get("filepath") or entry.get("root") or entry.get("source") or ""
                page.append(f"| `{name}` | `{kind}` | {f'`{where}`' if where else ''} |")
    return "\n".join(page) + "\n"


def _layers(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    found = {entry.get("metadata", {}).get("kedro-viz", {}).get("layer") for entry in entries} - {None}
    return [*(layer for layer in LAYERS if layer in found), *sorted(found - set(LAYERS))]


_WHOLE = {
    "__default__": "`sample_scenes`, then all of `from_corpus`",
    "demo": "As `__default__`, with one captioner instead of five",
    "from_corpus": "All stages after a corpus",
}
"""What the pipelines are made of whose nodes stand under others."""


def _contents(name: str, pipeline: Pipeline) -> str:
    return f"{_WHOLE[name]}: {len(pipeline.nodes)} nodes."


def _nodes() -> list[Node]:
    return [node for pipeline in register_pipelines().values() for node in pipeline.nodes]


def _names(datasets: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in datasets)


def _base(kind: str) -> Mapping[str, Any]:
    return read_configuration(ROOT, "base")[kind]


def _value(value: Any) -> str:
    if isinstance(value, BaseModel):
        return ""
    if isinstance(value, tuple):
        value = list(value)
    text = "none" if value is None else str(value)
    return f"`{_cell(text)}`" if len(text) < 60 else "(see the file)"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
