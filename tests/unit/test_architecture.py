"""The house keeps its shape: imports go one way, and what is on disk is what is packaged."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

FLOORS = (
    "corpus",
    "scoring",
    "vision",
    "captioner",
    "training",
    "ratings",
    "evaluation",
    "feedback",
    "registry",
    "serving",
)

FOUNDATION = (
    "errors",
    "hardware",
    "preprocessing",
    "image_header",
    "images",
    "image_metadata",
    "paths",
    "files",
    "languages",
    "tokenizer",
    "photos",
    "progress",
    "workspaces",
    "leases",
    "conf_loader",
    "conf_checks",
    "config",
)
"""Modules beneath all parts, each of which imports only those before it."""


def imported_parts(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("captionloop."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("captionloop."):
                    yield alias.name.split(".")[1]


@pytest.mark.parametrize("part", FLOORS)
def test_a_part_imports_only_from_the_floors_below(project_root: Path, part: str) -> None:
    allowed = {*FLOORS[: FLOORS.index(part) + 1], *FOUNDATION}
    modules = sorted((project_root / "src/captionloop" / part).rglob("*.py"))
    upward = {
        f"{module.relative_to(project_root)} -> {target}"
        for module in modules
        for target in imported_parts(module)
        if target not in allowed
    }
    assert not upward


def test_nothing_above_the_captioner_knows_of_which_family_one_is(project_root: Path) -> None:
    """But for the pipeline that opens a pre-trained one, which is where it comes in."""
    package = project_root / "src/captionloop"
    above = [path for path in package.rglob("*.py") if "captioner" not in path.relative_to(package).parts]
    assert not [path for path in above if "captioner.pretrained" in path.read_text()]


@pytest.mark.parametrize("name", FOUNDATION)
def test_the_foundation_imports_only_itself_from_the_ground_up(project_root: Path, name: str) -> None:
    imported = set(imported_parts(project_root / f"src/captionloop/{name}.py"))
    assert imported <= set(FOUNDATION[: FOUNDATION.index(name)])


def test_dags_import_nothing_of_the_project(project_root: Path) -> None:
    assert not [dag for dag in (project_root / "dags").glob("**/*.py") if any(imported_parts(dag))]


def test_every_package_on_disk_is_packaged(project_root: Path) -> None:
    pyproject = tomllib.loads((project_root / "pyproject.toml").read_text())
    roots = {
        "captionloop": project_root / "src/captionloop",
        "captionloop.pipelines": project_root / "pipelines",
    }
    on_disk = {
        ".".join([name, *init.parent.relative_to(root).parts])
        for name, root in roots.items()
        for init in root.rglob("__init__.py")
    }
    assert on_disk == set(pyproject["tool"]["setuptools"]["packages"])


def test_no_lock_file_names_a_download_address(project_root: Path) -> None:
    pinned = (project_root / "requirements").glob("*.txt")
    assert not [lock.name for lock in pinned if "://" in lock.read_text()]
    frontend = project_root / "frontend/package-lock.json"
    assert not frontend.exists() or '"resolved"' not in frontend.read_text()


def modules_of_src(project_root: Path) -> list[Path]:
    return sorted((project_root / "src/captionloop").rglob("*.py"))


def test_no_module_is_longer_than_one_sitting_or_too_short_to_be_one(project_root: Path) -> None:
    migrations = project_root / "src/captionloop/ratings/migrations"  # as long as what they change
    lines = {
        str(module.relative_to(project_root)): len(module.read_text().splitlines())
        for module in modules_of_src(project_root)
        if module.name != "__init__.py" and migrations not in module.parents
    }
    assert not {name: count for name, count in lines.items() if not 30 <= count <= 400}


def test_no_file_name_stands_twice(project_root: Path) -> None:
    names = [module.name for module in modules_of_src(project_root) if module.name != "__init__.py"]
    assert sorted(names) == sorted(set(names))


def test_the_house_does_not_grow(project_root: Path) -> None:
    assert len(modules_of_src(project_root)) <= 222
