"""What an output was made from, written beside it, and what has changed since, in words."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, Union

from pydantic import BaseModel, ConfigDict, ValidationError

FOLDER: Final = ".provenance"
_LONGEST_VALUE = 60
_GONE = object()


class Made(BaseModel):
    """What a node made its outputs from.

    Attributes:
        node: its name.
        code: digests of the code that it used, by module.
        packages: exact versions, by distribution.
        reads: which paths of its parameters it read; the empty one is all of them.
        parameters: their values, by dataset and path.
        settings: of its datasets, where they change what is written or read (`gallery.save_args.dpi`).
        inputs: a digest of each input, None where it does not count; of what was handed on in memory, what
            that was made from.
    """

    model_config = ConfigDict(frozen=True)

    node: str
    code: dict[str, str] = {}
    packages: dict[str, str] = {}
    reads: dict[str, frozenset[str]] = {}
    parameters: dict[str, dict[str, Any]] = {}
    settings: dict[str, Any] = {}
    inputs: dict[str, Union["Made", str, None]] = {}


class Record(BaseModel):
    """An output's record: what it was made from, and the digest that it had then."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    made: Made
    output: str | None


def record_path(output: Path) -> Path:
    """Where the record of an output lies: with it, so that both move together."""
    return output.parent / FOLDER / f"{output.name}.json"


def read_record(output: Path) -> Record | None:
    """The record of an output; None where there is none that can be read."""
    try:
        return Record.model_validate_json(record_path(output).read_bytes())
    except (OSError, ValidationError):
        return None


def write_record(output: Path, record: Record) -> None:
    """Puts the record beside its output."""
    write_beside(record_path(output), record.model_dump_json(indent=1))


def write_beside(path: Path, text: str) -> None:
    """Writes a text, then renames it into its place; several workers may write the same at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def differences(before: Made, now: Made, names: Mapping[str, str]) -> list[str]:
    """What is not as it was, for people. `names` are those of datasets that people know by another name."""
    return list(dict.fromkeys(_differences(before, now, names)))


def _differences(before: Made, now: Made, names: Mapping[str, str]) -> Iterator[str]:
    if before.node != now.node:
        yield f"it was made by {before.node}"
        return
    namespace = f"{now.node.rpartition('.')[0]}."
    for block in sorted({*before.parameters, *now.parameters}):
        old, new = before.parameters.get(block, {}), now.parameters.get(block, {})
        for path, was, is_now in _changed(old, new):
            name = f"{block}.{path}" if path else block
            yield f"{name.removeprefix(namespace)} {_shown(was)} -> {_shown(is_now)}"
    for path, was, is_now in _changed(before.settings, now.settings):
        yield f"{path} {_shown(was)} -> {_shown(is_now)}"
    for name in sorted({*before.inputs, *now.inputs}):
        title = names.get(name, name)
        if name not in before.inputs:
            yield f"{title} is a new input"
        elif name not in now.inputs:
            yield f"{title} is no input any more"
        else:
            old_input, new_input = before.inputs[name], now.inputs[name]
            if isinstance(old_input, Made) and isinstance(new_input, Made):
                yield from _differences(old_input, new_input, names)
            elif old_input != new_input:
                yield f"{title} changed"
    for package, was, is_now in _changed(before.packages, now.packages):
        yield f"{package} {_shown(was)} -> {_shown(is_now)}"
    changed = [module for module, _, _ in _changed(before.code, now.code)]
    if changed:
        yield f"code of {_some(changed)} changed"


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for key in sorted({*old, *new}):
        was, is_now = old.get(key, _GONE), new.get(key, _GONE)
        if was is _GONE or is_now is _GONE or was != is_now:
            yield key, was, is_now


def _shown(value: Any) -> str:
    text = "(nothing)" if value is _GONE else str(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
