"""Python files as statements with what each of them mentions; `code_versions` puts them together."""

import ast
import copy
import hashlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from captionloop.files import write_file

Name = tuple[str, ...]
"""A dotted name: `nodes.watch` is ("nodes", "watch")."""
Import = tuple[str, str | None]
"""The module that is imported, and what of it; None for the module itself."""

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_BLOCKS = (ast.If, ast.Try, ast.With)
_ALIAS: Any = getattr(ast, "TypeAlias", ())  # `type X = ...`, of Python 3.12
_ASSIGNMENTS = (ast.Assign, ast.AnnAssign, ast.AugAssign, *([_ALIAS] if _ALIAS else []))


@dataclass(frozen=True, eq=False)
class Unit:
    """One statement that defines something (or a class without its methods, or a method).

    Attributes:
        digest: of what it says; not of its comments, docstrings and layout.
        names: every dotted name that it mentions.
        attributes: every attribute that it mentions, of whatever.
        imports: what is imported inside it, by the name it has there.
        bases: of a class.
        methods: of a class.
    """

    digest: str
    names: frozenset[Name]
    attributes: frozenset[str]
    imports: Mapping[str, Import] = field(default_factory=dict)
    bases: tuple[Name, ...] = ()
    methods: "Mapping[str, Unit] | None" = None

    @classmethod
    def none(cls) -> "Unit":
        """A statement that mentions nothing."""
        return cls("", frozenset(), frozenset())

    @classmethod
    def of(cls, node: ast.stmt, module: str) -> "Unit":
        """Reads a statement."""
        methods: dict[str, Unit] | None = None
        bases: tuple[Name, ...] = ()
        if isinstance(node, ast.ClassDef):
            methods = {}
            for each in node.body:
                if isinstance(each, _FUNCTIONS):  # a property and its setter have one name
                    unit = cls.of(each, module)
                    methods[each.name] = _both(methods[each.name], unit) if each.name in methods else unit
            bases = tuple(name for base in node.bases if (name := _dotted(_unsubscripted(base))))
            rest = [each for each in node.body if not isinstance(each, _FUNCTIONS)]
            node = copy.copy(node)
            node.body = rest
        mentions = _Mentions(module)
        mentions.visit(node)
        return cls(
            digest=hashlib.sha256(repr(_plain(node)).encode()).hexdigest(),
            names=frozenset(mentions.names),
            attributes=frozenset(mentions.attributes),
            imports=mentions.imports,
            bases=bases,
            methods=methods,
        )


def _both(first: Unit, second: Unit) -> Unit:
    return Unit(
        digest=first.digest + second.digest,
        names=first.names | second.names,
        attributes=first.attributes | second.attributes,
        imports={**first.imports, **second.imports},
    )


@dataclass
class Module:
    """A module's statements by the names they define.

    Attributes:
        name: dotted.
        imports: what it imports, by the name it has there.
        defined: by name, what defines it; several statements where it depends (`if TYPE_CHECKING`).
        effects: statements that define nothing, and so count for everything in the module.
    """

    name: str
    imports: dict[str, Import] = field(default_factory=dict)
    defined: dict[str, list[Unit]] = field(default_factory=dict)
    effects: list[Unit] = field(default_factory=list)

    @classmethod
    def parse(cls, name: str, source: str, *, package: bool = False) -> "Module":
        """Reads the text of a module."""
        module = cls(name)
        module._read(ast.parse(source).body, within=name if package else name.rpartition(".")[0])
        return module

    def __contains__(self, name: str) -> bool:
        return name in self.defined

    def __iter__(self) -> Iterator[str]:
        return iter(self.defined)

    def units(self, name: str) -> list[Unit]:
        """What defines a name."""
        return self.defined[name]

    def _read(self, body: list[ast.stmt], within: str) -> None:
        for node in body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                self.imports.update(_imported(node, within))
            elif isinstance(node, _BLOCKS):
                for part in _bodies(node):
                    self._read(part, within)
            elif isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
                self.defined.setdefault(node.name, []).append(Unit.of(node, within))
            elif isinstance(node, _ASSIGNMENTS) and (names := _assigned(node)):
                unit = Unit.of(node, within)
                for name in names:
                    self.defined.setdefault(name, []).append(unit)
            elif not _is_docstring(node):
                self.effects.append(Unit.of(node, within))


class ParsedModules:
    """The project's modules as their files are when they are first asked for.

    What was read is kept by the digest of the text: to read it again takes seconds, each time that there is
    nothing to do.
    """

    def __init__(self, file: Path | None = None) -> None:
        """`file` is where it is kept; without one, or where it cannot be read or written: in memory."""
        self._file = file
        self._modules: dict[str, Module | None] = {}
        self._kept = _read_kept(file) if file is not None else {}
        self._written = frozenset(self._kept)
        self._used: dict[str, Module] = {}

    def find(self, name: str) -> Module | None:
        """The module of this name, not imported; None where there is no such file."""
        if name not in self._modules:
            path = _file(name)
            self._modules[name] = None if path is None else self._parsed(name, path)
        return self._modules[name]

    def _parsed(self, name: str, path: Path) -> Module:
        text = path.read_bytes()
        key = hashlib.sha256(b"\0".join((_reader(), name.encode(), path.name.encode(), text))).hexdigest()
        if key not in self._kept:
            package = path.name == "__init__.py"
            self._kept[key] = Module.parse(name, text.decode(), package=package)
        self._used[key] = self._kept[key]
        return self._used[key]

    def save(self) -> None:
        """Writes down what was read, where something of it is new."""
        if self._file is None or self._used.keys() <= self._written:
            return
        content = _KEPT.dump_json(self._used)
        with suppress(OSError):  # it costs time, not a result
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_file(self._file, lambda partial: partial.write_bytes(content))
        self._written = frozenset(self._used)


_KEPT: Final = TypeAdapter(dict[str, Module])


def _read_kept(file: Path) -> dict[str, Module]:
    try:
        return _KEPT.validate_json(file.read_bytes())
    except (OSError, ValueError):
        return {}


@cache
def _reader() -> bytes:
    """What else than the text decides how it is read: this module, and Python's grammar."""
    return Path(__file__).read_bytes() + repr(sys.version_info[:2]).encode()


def _bodies(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    for name in ("body", "orelse", "finalbody"):
        yield getattr(node, name, [])
    for handler in getattr(node, "handlers", []):
        yield handler.body


def _assigned(node: Any) -> list[str]:
    if isinstance(node, _ALIAS):
        return [node.name.id]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    found = [each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)]
    plain = all(isinstance(target, ast.Name | ast.Tuple | ast.List) for target in targets)
    return found if plain else []


def _file(name: str) -> Path | None:
    """Where a module lies. Nothing is imported to find that out, for some modules take seconds."""
    parts = name.split(".")
    known = next((cut for cut in range(len(parts), 0, -1) if ".".join(parts[:cut]) in sys.modules), 0)
    loaded = sys.modules.get(".".join(parts[:known]))
    path, folders = getattr(loaded, "__file__", None), list(getattr(loaded, "__path__", ()))
    for number in range(known, len(parts)):
        inside = [Path(folder, parts[number]) for folder in folders]
        package = next((each for each in inside if (each / "__init__.py").is_file()), None)
        plain = next((each.with_name(f"{each.name}.py") for each in inside), None)
        if package is not None:
            path, folders = str(package / "__init__.py"), [str(package)]
        elif plain is not None and plain.is_file():
            path, folders = str(plain), []
        elif number == known:
            try:
                spec = importlib.util.find_spec(".".join(parts[: number + 1]))
            except (ImportError, ValueError):
                return None
            if spec is None:
                return None
            path, folders = spec.origin, list(spec.submodule_search_locations or ())
        else:
            return None
    return Path(path) if path and path.endswith(".py") else None


def _imported(node: ast.Import | ast.ImportFrom, within: str) -> Iterator[tuple[str, Import]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            top = alias.name.split(".")[0]
            yield (alias.asname, (alias.name, None)) if alias.asname else (top, (top, None))
        return
    above = within.split(".")
    base = ".".join(above[: len(above) - node.level + 1]) if node.level else ""
    module = ".".join(part for part in (base, node.module) if part)
    for alias in node.names:
        yield alias.asname or alias.name, (module, alias.name)


class _Mentions(ast.NodeVisitor):
    """Collects what a statement mentions."""

    def __init__(self, within: str) -> None:
        self._within = within
        self.names: set[Name] = set()
        self.attributes: set[str] = set()
        self.imports: dict[str, Import] = {}

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.names.add((node.id,))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.attributes.add(node.attr)
        name = _dotted(node)
        if name:
            self.names.add(name)
            self.attributes.update(name[1:])
        else:
            self.visit(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in {
            "getattr",
            "hasattr",
            "attrgetter",
            "methodcaller",
        }:
            self.attributes.update(
                each.value
                for each in node.args
                if isinstance(each, ast.Constant) and isinstance(each.value, str)
            )
        self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.imports.update(_imported(node, self._within))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.imports.update(_imported(node, self._within))
        self.names.update((alias.asname or alias.name,) for alias in node.names)

    def visit_arg(self, node: ast.arg) -> None:
        self._annotation(node.annotation)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._annotation(node.annotation)
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._annotation(node.returns)
        self.generic_visit(node)

    def _annotation(self, node: ast.expr | None) -> None:
        """Names in hints, those in quotation marks too."""
        if node is None:
            return
        self.visit(node)
        for each in ast.walk(node):
            if isinstance(each, ast.Constant) and isinstance(each.value, str):
                try:
                    self.visit(ast.parse(each.value, mode="eval"))
                except SyntaxError:
                    continue  # a Literal's word


def _dotted(node: ast.expr) -> Name:
    """`a.b.c` as a name; empty for everything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return (node.id, *reversed(parts)) if isinstance(node, ast.Name) else ()


def _unsubscripted(node: ast.expr) -> ast.expr:
    return node.value if isinstance(node, ast.Subscript) else node


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _plain(node: object) -> object:
    """A statement as nested tuples, the same in every version of Python that reads it the same way."""
    if isinstance(node, ast.AST):
        fields = ((name, _plain(value)) for name, value in ast.iter_fields(node) if name != "type_comment")
        return (type(node).__name__, *((name, value) for name, value in fields if value not in (None, ())))
    if isinstance(node, list):
        return tuple(
            _plain(each) for each in node if not (isinstance(each, ast.stmt) and _is_docstring(each))
        )
    return node
