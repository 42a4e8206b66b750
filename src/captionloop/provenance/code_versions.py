"""A function in; a digest for each module that its result depends on, and the parameters it reads, out.

A node is handed a model of the parameters that looks and behaves as the one it asked for, and writes down
which fields are read. Whoever takes the model as a whole (writes it out, copies it) has read all of it.

A field with `json_schema_extra={"affects_result": False}` never counts: it says how, not what.

Python files are read, never run. From the function on, every name that its code mentions is followed to the
statement that defines it, in the project's own modules; what is defined beside it and not mentioned does not
count. Imports inside functions and names in annotations are followed as well: a node's hints say whose
methods it calls. Of a class, those methods count whose names are mentioned somewhere on the way; all of them
where it has a base from outside, which may call any. Comments, docstrings and layout never count.

`parsed_code` knows what a single statement mentions; here the statements are put together.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib import metadata
from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from captionloop.provenance.parsed_code import Module, Name, ParsedModules, Unit

WHOLE: Final = ""
_NOTHING: Final = object()
Json = Any


def tracked_parameters(parameters: BaseModel, read: Callable[[str], None], prefix: str = "") -> BaseModel:
    """The same parameters, which call `read` with the path of every field that is read."""
    kind = type(parameters)
    inner = {
        name: tracked_parameters(value, read, f"{prefix}{name}.")
        for name in kind.model_fields
        if isinstance(value := getattr(parameters, name), BaseModel)
    }

    def read_field(self: BaseModel, name: str) -> Any:
        if name in inner:
            return inner[name]
        if name in kind.model_fields:
            read(f"{prefix}{name}")
        elif name == "__dict__":  # all that takes the whole goes through it
            read(prefix.removesuffix("."))
        return object.__getattribute__(self, name)

    tracking_class = type(
        kind.__name__,
        (kind,),
        {
            "__module__": kind.__module__,
            "__doc__": kind.__doc__,
            "__getattribute__": read_field,
            "__eq__": lambda self, other: _plain(self) == _plain(other),
            "__hash__": lambda self: hash(_plain(self)),
            "__reduce_ex__": lambda self, _: (_itself, (_plain(self),)),
            "__watched__": kind,
        },
    )
    new: Any = object.__new__(tracking_class)
    for slot in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"):
        object.__setattr__(new, slot, getattr(parameters, slot))
    assert isinstance(new, BaseModel)
    return new


def _plain(model: Any) -> Any:
    """The model without tracking."""
    kind = getattr(type(model), "__watched__", None)
    if kind is None:
        return model
    new = object.__new__(kind)
    for slot in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"):
        object.__setattr__(new, slot, getattr(model, slot))
    return new


def _itself(model: BaseModel) -> BaseModel:
    """The model itself: a pickled tracking model is restored as the plain one."""
    return model


def result_affecting(value: Any) -> Json:
    """Parameters as JSON, without fields that affect no result."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return {name: result_affecting(getattr(value, name)) for name in fields if _counts(value, name)}
    if isinstance(value, Mapping):
        return {str(name): result_affecting(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [result_affecting(each) for each in value]
    return to_jsonable_python(value, fallback=repr)


def values_at(parameters: Any, paths: frozenset[str]) -> dict[str, Json]:
    """The values at these paths; absent ones, and those that affect no result, are left out."""
    if WHOLE in paths:
        return flat(result_affecting(parameters))
    found: dict[str, Json] = {}
    for path in paths:
        value = parameters
        for name in path.split("."):
            value = _field(value, name)
        if value is not _NOTHING:
            found |= flat(result_affecting(value), path)
    return found


def _field(value: Any, name: str) -> Any:
    if isinstance(value, BaseModel):
        is_field = name in type(value).model_fields and _counts(value, name)
        return getattr(value, name) if is_field else _NOTHING
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


DO_NOT_COMPUTE: Final = frozenset(
    {
        "click",
        "fsspec",
        "kedro",
        "kedro_datasets",
        "kedro_mlflow",
        "mlflow",
        "pydantic",
        "requests",
        "rich",
        "sqlalchemy",
        "typing_extensions",
    }
)
"""Packages from outside that carry data or show it: another version of them changes no result."""

_DISTRIBUTIONS: Final = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml"}


@dataclass(frozen=True)
class CodeVersion:
    """The code and packages that a function or class depends on.

    Attributes:
        modules: a digest of the statements that count, by the module they stand in.
        packages: exact versions by distribution, without what marks a build for some hardware (`+cpu`).
    """

    modules: Mapping[str, str]
    packages: Mapping[str, str]


class CodeVersions:
    """Versions of functions and classes, as their files are when this is made."""

    def __init__(self, own: Iterable[str] = ("captionloop",), parsed: ParsedModules | None = None) -> None:
        """`own` are the top-level packages whose code is followed; all others count by their version."""
        self._own = frozenset(own)
        self._parsed = parsed or ParsedModules()
        self._of: dict[tuple[tuple[str, str], ...], CodeVersion] = {}

    def of(self, *parts: Callable[..., Any]) -> CodeVersion:
        """The version of all that these functions and classes depend on."""
        starts = tuple(sorted({_origin(part) for part in parts}))
        if starts not in self._of:
            walk = _Walk(self._parsed.find, self._own | {module.split(".")[0] for module, _ in starts})
            for module, name in starts:
                walk.start(module, name)
            self._of[starts] = walk.version()
        return self._of[starts]

    def save(self) -> None:
        """Saves the parsed files for the next run."""
        self._parsed.save()


def _origin(part: Callable[..., Any]) -> tuple[str, str]:
    """Module and name of a function or class; the name is empty where only the whole module will do."""
    while isinstance(part, partial):
        part = part.func
    named = part if hasattr(part, "__qualname__") else type(part)
    name = named.__qualname__
    return named.__module__, "" if "<" in name else name.split(".")[0]


class _Walk:
    """Collects all statements and packages that given statements depend on."""

    def __init__(self, module: Callable[[str], Module | None], own: frozenset[str]) -> None:
        self._module, self._own = module, own
        self._digests: dict[str, set[str]] = defaultdict(set)
        self._packages: set[str] = set()
        self._seen: set[object] = set()
        self._todo: list[tuple[Module, Unit]] = []
        self._mentioned: set[str] = set()
        self._waiting: dict[str, list[tuple[Module, Unit]]] = defaultdict(list)

    def start(self, module: str, name: str) -> None:
        self._follow(module, name or None)

    def version(self) -> CodeVersion:
        while self._todo:
            module, unit = self._todo.pop()
            self._digests[module.name].add(unit.digest)
            self._visit(module, unit)
        modules = {
            name: hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()[:16]
            for name, digests in sorted(self._digests.items())
        }
        return CodeVersion(modules, _versions(self._packages))

    def _visit(self, module: Module, unit: Unit) -> None:
        for attribute in unit.attributes - self._mentioned:
            self._mentioned.add(attribute)
            self._todo += self._waiting.pop(attribute, [])
        for name in unit.names:
            self._resolve(module, unit, name)
        if unit.methods:
            self._choose_methods(module, unit, unit.methods)

    def _choose_methods(self, module: Module, unit: Unit, methods: Mapping[str, Unit]) -> None:
        everything = self._has_outside_base(module, unit)
        for name, method in methods.items():
            if everything or name in self._mentioned or (name.startswith("__") and name.endswith("__")):
                self._add(module, method)
            else:
                self._waiting[name].append((module, method))

    def _has_outside_base(self, module: Module, unit: Unit) -> bool:
        for base in unit.bases:
            found = self._find(module, unit, base)
            if found is None:
                if base[-1] not in _HARMLESS_BASES:
                    return True
            elif any(self._has_outside_base(found[0], each) for each in found[1]):
                return True
        return False

    def _find(self, module: Module, unit: Unit, name: Name) -> tuple[Module, list[Unit]] | None:
        """The own module and statements that a dotted name stands for; None where it is from outside."""
        first, *rest = name
        target = unit.imports.get(first) or module.imports.get(first)
        if target is None:
            return (module, module.units(first)) if first in module else None
        place, attribute = target
        path = [*([attribute] if attribute else []), *rest]
        while path and (inner := f"{place}.{path[0]}") and self._is_own(place) and self._module(inner):
            place, path = inner, path[1:]
        found = self._module(place) if self._is_own(place) else None
        if found is None or not path:
            return None
        if path[0] in found:
            return found, found.units(path[0])
        return self._find(found, Unit.none(), tuple(path[:1])) if path[0] in found.imports else None

    def _resolve(self, module: Module, unit: Unit, name: Name) -> None:
        first, *rest = name
        target = unit.imports.get(first)
        if target is None and first in module:
            for defined in module.units(first):
                self._add(module, defined)
        target = target or module.imports.get(first)
        if target is not None:
            place, attribute = target
            self._follow(place, *([attribute] if attribute else []), *rest)

    def _follow(self, place: str, *path: str | None) -> None:
        """Adds what `place.path` is: a name in an own module, a module, or a package from outside."""
        if not self._is_own(place):
            self._packages.add(place.split(".", maxsplit=1)[0])
            return
        names = [name for name in path if name]
        while names and self._module(f"{place}.{names[0]}") is not None:
            place = f"{place}.{names.pop(0)}"
        module = self._module(place)
        if module is None:
            return
        if not names:
            self._whole(module)
        elif names[0] in module:
            for unit in module.units(names[0]):
                self._add(module, unit)
        elif names[0] in module.imports:
            onward, attribute = module.imports[names[0]]
            self._follow(onward, attribute, *names[1:])
        else:  # made in some other way, perhaps by a module's __getattr__
            self._whole(module)

    def _whole(self, module: Module) -> None:
        if ("whole", module.name) in self._seen:
            return
        self._seen.add(("whole", module.name))
        for name in module:
            for unit in module.units(name):
                self._add(module, unit)
        for place, attribute in module.imports.values():
            self._follow(place, attribute)

    def _add(self, module: Module, unit: Unit) -> None:
        for each in (unit, *module.effects):
            if (module.name, id(each)) not in self._seen:
                self._seen.add((module.name, id(each)))
                self._todo.append((module, each))

    def _is_own(self, module: str) -> bool:
        return module.split(".", maxsplit=1)[0] in self._own


_HARMLESS_BASES: Final = frozenset(
    {
        "object",
        "Protocol",
        "ABC",
        "Generic",
        "NamedTuple",
        "TypedDict",
        "Enum",
        "StrEnum",
        "IntEnum",
        "Exception",
        "ValueError",
        "RuntimeError",
        "OSError",
        "Mapping",
        "Sequence",
        "Iterator",
    }
)
"""From outside, but calling none of a class's methods but those with underscores."""


def _versions(packages: set[str]) -> dict[str, str]:
    found = {}
    for package in sorted(packages - DO_NOT_COMPUTE):
        name = _DISTRIBUTIONS.get(package, package)
        version = _version(name)
        if version is not None:
            found[name] = version
    return found


@cache
def _version(distribution: str) -> str | None:
    """None for what belongs to Python itself."""
    try:
        return re.sub(r"\+.*", "", metadata.version(distribution))
    except metadata.PackageNotFoundError:
        return None
