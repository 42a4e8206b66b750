"""Which of its parameters a node reads: only those can change what it makes.

A node is handed a model of the parameters that looks and behaves as the one it asked for, and writes down
which fields are read. Whoever takes the model as a whole (writes it out, copies it) has read all of it.

A field with `json_schema_extra={"affects_result": False}` never counts: it says how, not what.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

WHOLE: Final = ""
_NOTHING: Final = object()
Json = Any


def watched(parameters: BaseModel, read: Callable[[str], None], prefix: str = "") -> BaseModel:
    """The same parameters, which call `read` with the path of every field that is read."""
    kind = type(parameters)
    inner = {
        name: watched(value, read, f"{prefix}{name}.")
        for name in kind.model_fields
        if isinstance(value := getattr(parameters, name), BaseModel)
    }

    def look(self: BaseModel, name: str) -> Any:
        if name in inner:
            return inner[name]
        if name in kind.model_fields:
            read(f"{prefix}{name}")
        elif name == "__dict__":  # all that takes the whole goes through it
            read(prefix.removesuffix("."))
        return object.__getattribute__(self, name)

    watching = type(
        kind.__name__,
        (kind,),
        {
            "__module__": kind.__module__,
            "__doc__": kind.__doc__,
            "__getattribute__": look,
            "__eq__": lambda self, other: _plain(self) == _plain(other),
            "__hash__": lambda self: hash(_plain(self)),
            "__reduce_ex__": lambda self, _: (_itself, (_plain(self),)),
            "__watched__": kind,
        },
    )
    new: Any = object.__new__(watching)
    for slot in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"):
        object.__setattr__(new, slot, getattr(parameters, slot))
    assert isinstance(new, BaseModel)
    return new


def _plain(model: Any) -> Any:
    """The model as it was before it was watched."""
    kind = getattr(type(model), "__watched__", None)
    if kind is None:
        return model
    new = object.__new__(kind)
    for slot in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"):
        object.__setattr__(new, slot, getattr(model, slot))
    return new


def _itself(model: BaseModel) -> BaseModel:
    """What a pickled model comes back as: the one that is not watched."""
    return model


def counted(value: Any) -> Json:
    """Parameters as JSON, without what never counts."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return {name: counted(getattr(value, name)) for name in fields if _counts(value, name)}
    if isinstance(value, Mapping):
        return {str(name): counted(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [counted(each) for each in value]
    return to_jsonable_python(value, fallback=repr)


def values_at(parameters: Any, paths: frozenset[str]) -> dict[str, Json]:
    """What is at these paths now: nothing where there is none, or where it does not count."""
    if WHOLE in paths:
        return flat(counted(parameters))
    found: dict[str, Json] = {}
    for path in paths:
        value = parameters
        for name in path.split("."):
            value = _field(value, name)
        if value is not _NOTHING:
            found |= flat(counted(value), path)
    return found


def _field(value: Any, name: str) -> Any:
    if isinstance(value, BaseModel):
        there = name in type(value).model_fields and _counts(value, name)
        return getattr(value, name) if there else _NOTHING
    return value.get(name, _NOTHING) if isinstance(value, Mapping) else _NOTHING


def flat(value: Json, path: str = "") -> dict[str, Json]:
    """Nested JSON by dotted paths; lists stay whole."""
    if not isinstance(value, dict) or not value:
        return {path: value}
    below = f"{path}." if path else ""
    return {key: each for name, inner in value.items() for key, each in flat(inner, f"{below}{name}").items()}


def _counts(model: BaseModel, field: str) -> bool:
    extra = type(model).model_fields[field].json_schema_extra
    return not (isinstance(extra, dict) and extra.get("affects_result") is False)
