"""Packaging a model and the service as one Bento, as `bentofile.yaml` says.

The Bento holds the bundle as plain files beside the package: what is in it can be looked at, and is verified
by the same checksums as everywhere. It needs no registry, no project folder and no training packages.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import captionloop
from captionloop.captioner.bundle import read_config, verify_bundle
from captionloop.captioner.families import family_of
from captionloop.errors import BundleError
from captionloop.registry.signing import signature_of
from captionloop.serving.model_sources import VERSION_FILE
from captionloop.vision.architectures import is_of_timm

ENTRY_POINTS = (
    "serving/service.py", "client.py", "commands/admin.py",
    "ratings/migrations/env.py", "ratings/migrations/versions/*.py",
)  # fmt: skip
"""What is begun with: the services, what the image's `start.sh` runs, and what Alembic reads by its path."""
EXCLUDED = ("conf_loader.py",)
"""What reads a project's `conf/`, with Kedro: a Bento has a model, or is told `CAPTIONLOOP_REGISTRY`."""
EXTRA_FILES = ("py.typed", "ratings/migrations/script.py.mako")
FOR_GPUS = re.compile(r"(nvidia|cuda)-(?!ml-py$)|triton$")
"""What torch brings along for GPUs; the image's own torch decides about that. nvidia-ml-py is BentoML's."""


def package_bento(bundle: Path, *, version: str, project: Path, output: Path | None = None) -> str:
    """Build the Bento and return its tag.

    Args:
        bundle: the model.
        version: its version in the registry.
        project: the folder with `bentofile.yaml` and, if it is built, `frontend/dist`.
        output: a folder to copy the finished Bento to.

    Raises:
        BundleError: the bundle is damaged, or the Bento cannot be built.
    """
    verify_bundle(bundle)
    config = read_config(bundle)
    family = family_of(config.family)
    if family.carries and not (bundle / family.carries).is_dir():
        raise BundleError(
            f"{bundle} refers to a model that it does not hold: set pretrained.carries_base and make it again"
        )
    if output is not None and output.exists():
        raise BundleError(f"{output} is there already; give --output a folder that is not")
    recipe = project / "bentofile.yaml"
    if not recipe.is_file():
        raise BundleError(f"there is no bentofile.yaml in {project}: run the command inside the project")
    with tempfile.TemporaryDirectory(prefix="captionloop-bento-") as folder:
        stage = Path(folder)
        stage_sources(stage, bundle, version, project)
        build = yaml.safe_load(recipe.read_text(encoding="utf-8"))
        packages = [*build["python"]["packages"], *family.packages]
        packages += ["timm"] if is_of_timm(config.encoder.architecture) else []
        build["python"]["packages"] = pinned(packages)
        build["labels"] = {**build.get("labels", {}), "model_version": version}
        (stage / "bentofile.yaml").write_text(yaml.safe_dump(build, sort_keys=False), encoding="utf-8")
        moment = datetime.now(UTC).strftime("%Y%m%d%H%M%S")
        tag = _bentoml(stage, "build", "--output", "tag", "--version", f"{_slug(version)}-{moment}")
        tag = tag.strip().splitlines()[-1].removeprefix("__tag__:")
        if output is not None:
            _export(stage, tag, output)
    return tag


def pinned(names: Iterable[str]) -> list[str]:
    """The packages and all that they need, at the versions installed here: what the service was tested with.

    Raises:
        BundleError: one of them is not installed.
    """
    found: dict[str, str] = {}
    pending = [Requirement(name) for name in names]
    while pending:
        requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        if name in found or FOR_GPUS.match(name):
            continue
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            raise BundleError(
                f"package {name} is needed for serving and not installed; run make install"
            ) from None
        found[name] = installed.version.partition("+")[0]
        needed = [Requirement(line) for line in installed.requires or []]
        pending += [each for each in needed if _applies(each, requirement.extras)]
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def imported_modules(package: Path) -> list[Path]:
    """The modules of a package that its `ENTRY_POINTS` import, at their start or later, sorted."""
    found: set[Path] = set()
    pending = [module for entry in ENTRY_POINTS for module in package.glob(entry)]
    while pending:
        module = pending.pop()
        if module in found or str(module.relative_to(package)) in EXCLUDED:
            continue
        found.add(module)
        for name in sorted(imports_of(module)):
            first, *rest = name.split(".")
            if first == package.name:
                # `a.b.c` runs a, a.b and a.b.c; the last may be a name inside a.b.
                pending += [
                    file
                    for depth in range(len(rest) + 1)
                    for file in _files_of(package.joinpath(*rest[:depth]))
                ]
    return sorted(found)


def imports_of(module: Path) -> set[str]:
    """The dotted names that a module imports anywhere, but for the type checker's eyes alone."""
    names: set[str] = set()
    pending: list[ast.AST] = [ast.parse(module.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        is_type_checking = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        pending += (
            node.orelse if isinstance(node, ast.If) and is_type_checking else ast.iter_child_nodes(node)
        )
    return names


def _files_of(module: Path) -> list[Path]:
    return [file for file in (module / "__init__.py", module.with_suffix(".py")) if file.is_file()]


def _applies(requirement: Requirement, extras: Iterable[str]) -> bool:
    if requirement.marker is None:
        return True
    return any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras))


def _slug(version: str) -> str:
    """What BentoML takes as (part of) a version."""
    return re.sub(r"[^a-z0-9]+", "-", version.lower()).strip("-")[-40:] or "model"


def stage_sources(stage: Path, bundle: Path, version: str, project: Path) -> None:
    """Lay out in an empty folder what a Bento is built from: modules that serving imports, bundle, page."""
    package = Path(captionloop.__file__).parent
    target = stage / "captionloop"
    target.mkdir()
    for module in [*imported_modules(package), *(package / name for name in EXTRA_FILES)]:
        copy = target / module.relative_to(package)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(module, copy)
    shutil.copytree(bundle, stage / "model", ignore=shutil.ignore_patterns(".*"))
    # Weights may be their owner's alone where they were written; in an image another user reads them.
    for file in (stage / "model").rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    signature = signature_of(bundle)
    if signature.is_file():
        shutil.copy2(signature, signature_of(stage / "model"))
    version_info = {"name": read_config(bundle).name, "version": version}
    (stage / VERSION_FILE).write_text(json.dumps(version_info), encoding="utf-8")
    page = project / "frontend/dist"
    if (page / "index.html").is_file():
        shutil.copytree(page, stage / "page")


def _export(stage: Path, tag: str, output: Path) -> None:
    home = Path(_bentoml(stage, "get", tag, "--output", "path").strip().splitlines()[-1])
    shutil.copytree(home, output)


def _bentoml(stage: Path, *arguments: str) -> str:
    # What is printed is read: a path must not be wrapped where a terminal would end.
    wide = {"BENTOML_DO_NOT_TRACK": "True", "COLUMNS": "10000"}
    environment = {**os.environ, **wide, "PYTHONPATH": str(stage)}
    environment = {name: value for name, value in environment.items() if not name.startswith("CAPTIONLOOP_")}
    command: list[Any] = [sys.executable, "-m", "bentoml", *arguments]
    done = subprocess.run(  # noqa: S603 - our own interpreter, no shell
        command, cwd=stage, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        reason = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no reason given"]
        raise BundleError(f"bentoml {arguments[0]} failed: {reason[0]}")
    return done.stdout
