"""Where the model server finds the model it should be serving: a folder, or the registry's champion."""

import json
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from captionloop.errors import BundleError
from captionloop.serving.settings import PACKAGED_MODEL, Settings

if TYPE_CHECKING:
    from captionloop.registry.model_registry import ModelRegistry

KEPT_BUNDLES = 3
"""The champion, the one before it, and one that is being fetched."""
VERSION_FILE = "model.json"
"""Beside a packaged bundle: its name and version in the registry it came from."""


@dataclass(frozen=True, slots=True)
class ModelReference:
    """A model that could be served. `mark` changes whenever its content does."""

    name: str
    version: str
    mark: str


class ModelSource(Protocol):
    """Knows which model should be served at the moment, and how to get it."""

    def newest(self) -> ModelReference | None:
        """The model to serve, or `None` if there is none yet. Raises `CaptionloopError` if it cannot tell."""
        ...

    def fetch(self, reference: ModelReference) -> Path:
        """Its bundle, as a folder on this machine. Raises `CaptionloopError`."""
        ...


class FolderSource:
    """A bundle in a folder.
    Replacing the folder (or what a link points to) is how another model takes over.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def newest(self) -> ModelReference | None:
        """What is in the folder now."""
        folder = self._folder.resolve()
        try:
            files = [file.stat() for file in sorted(folder.iterdir()) if file.is_file()]
        except OSError:
            return None
        if not files:
            return None
        mark = f"{folder}:" + ",".join(f"{file.st_ino}.{file.st_size}.{file.st_mtime_ns}" for file in files)
        named = _named_version(folder.with_name(VERSION_FILE))
        if named is not None:
            return ModelReference(named[0], named[1], mark)
        name, fingerprint = _config_identity(folder)
        return ModelReference(name, fingerprint, mark)

    def fetch(self, reference: ModelReference) -> Path:
        """The folder itself."""
        del reference
        return self._folder.resolve()


class RegistrySource:
    """The champion of a model registry; bundles are kept in a local folder,
    so that a restart needs no download.
    """

    def __init__(self, registry: "ModelRegistry", cache: Path) -> None:
        self._registry = registry
        self._cache = cache

    def newest(self) -> ModelReference | None:
        """The champion."""
        champion = self._registry.champion()
        if champion is None:
            return None
        return ModelReference(champion.name, str(champion.version), champion.fingerprint)

    def last_registered(self) -> datetime | None:
        """When the newest version came in. Raises `CaptionloopError` where the registry does not answer."""
        versions = self._registry.versions()
        return versions[0].created if versions else None

    def fetch(self, reference: ModelReference) -> Path:
        """The champion's bundle, checked file by file. Only the last few are kept."""
        self._cache.mkdir(parents=True, exist_ok=True)
        place = self._cache / f"{reference.name}-{reference.version}-{reference.mark[:12]}"
        folder = self._registry.fetch(reference.version, place)
        by_age = sorted(
            (entry for entry in self._cache.iterdir() if entry.is_dir() and entry != place),
            key=lambda entry: entry.stat().st_mtime,
            reverse=True,
        )
        for old in by_age[KEPT_BUNDLES - 1 :]:
            shutil.rmtree(old, ignore_errors=True)
        return folder


def choose_source(settings: Settings) -> ModelSource:
    """`CAPTIONLOOP_MODEL` or `CAPTIONLOOP_REGISTRY` if set, else the packaged model, else the project's
    registry.

    Raises:
        RegistryError: no registry is configured.
    """
    if settings.model:
        return FolderSource(Path(settings.model))
    registry = settings.registry.get_secret_value()
    if PACKAGED_MODEL.is_dir() and not registry:
        return FolderSource(PACKAGED_MODEL)
    from captionloop.registry.connection import anchored, project_tracking_uri
    from captionloop.registry.model_registry import ModelRegistry

    here = Path.cwd()
    uri = anchored(registry, here) if registry else project_tracking_uri(here)
    return RegistrySource(ModelRegistry(uri, settings.registry_name), settings.state.absolute() / "bundles")


def _named_version(file: Path) -> tuple[str, str] | None:
    try:
        named = json.loads(file.read_text(encoding="utf-8"))
        return str(named["name"]), str(named["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _config_identity(folder: Path) -> tuple[str, str]:
    """A bundle that no registry has numbered goes by the beginning of its weights' checksum."""
    try:
        name = str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["name"])
        sums = json.loads((folder / "checksums.json").read_text(encoding="utf-8"))
        return name, str(sums["model.safetensors"])[:12]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{folder} is not a bundle ({error}); point CAPTIONLOOP_MODEL at one") from None
