"""Packaging a model and the service as one Bento, as `bentofile.yaml` says.

The Bento holds the bundle as plain files beside the package: what is in it can be looked at, and is verified
by the same checksums as everywhere. It needs no registry, no project folder and no training packages.
"""

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
from captionloop.errors import BundleError
from captionloop.serving.sources import VERSION_FILE

PARTS = ("captioner", "feedback", "language", "serving", "vision")
MODULES = (
    "__init__.py", "config.py", "errors.py", "client.py", "py.typed",
    "commands/__init__.py", "commands/database.py", "commands/keys.py",
    "registry/__init__.py", "registry/artifacts.py", "registry/connection.py", "registry/contents.py",
    "registry/model_registry.py", "registry/model_version.py",
)  # fmt: skip
"""What of our package serving needs: of the registry, what it takes to follow it."""
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
    if output is not None and output.exists():
        raise BundleError(f"{output} is there already; give --output a folder that is not")
    recipe = project / "bentofile.yaml"
    if not recipe.is_file():
        raise BundleError(f"there is no bentofile.yaml in {project}: run the command inside the project")
    with tempfile.TemporaryDirectory(prefix="captionloop-bento-") as folder:
        stage = Path(folder)
        _stage(stage, bundle, version, project)
        build = yaml.safe_load(recipe.read_text(encoding="utf-8"))
        build["python"]["packages"] = pinned(build["python"]["packages"])
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
    waiting = [Requirement(name) for name in names]
    while waiting:
        requirement = waiting.pop()
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
        waiting += [each for each in needed if _applies(each, requirement.extras)]
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def _applies(requirement: Requirement, extras: Iterable[str]) -> bool:
    if requirement.marker is None:
        return True
    return any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras))


def _slug(version: str) -> str:
    """What BentoML takes as (part of) a version."""
    return re.sub(r"[^a-z0-9]+", "-", version.lower()).strip("-")[-40:] or "model"


def _stage(stage: Path, bundle: Path, version: str, project: Path) -> None:
    package = Path(captionloop.__file__).parent
    target = stage / "captionloop"
    target.mkdir()
    for module in MODULES:
        (target / module).parent.mkdir(exist_ok=True)
        shutil.copy2(package / module, target / module)
    for part in PARTS:
        shutil.copytree(package / part, target / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(bundle, stage / "model", ignore=shutil.ignore_patterns(".*"))
    # Weights may be their owner's alone where they were written; in an image another user reads them.
    for file in (stage / "model").rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    named = {"name": read_config(bundle).name, "version": version}
    (stage / VERSION_FILE).write_text(json.dumps(named), encoding="utf-8")
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
