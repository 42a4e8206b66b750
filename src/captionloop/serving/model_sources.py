"""Sources of the model to serve: a folder, the registry's champion, or a version on trial."""

import json
import os
import shutil
import threading
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import structlog

from captionloop.config import project_folder, registered_model, tracking_uri
from captionloop.errors import BundleError, reason_of
from captionloop.paths import anchored
from captionloop.registry.signing import Signing, signature_of
from captionloop.serving.service_settings import PACKAGED_MODEL, Settings

if TYPE_CHECKING:
    from captionloop.registry.model_registry import ModelRegistry
    from captionloop.registry.trials import Plan

logger = structlog.get_logger(__name__)

KEPT_BUNDLES = 3
"""The champion, the one before it, and one that is being fetched."""
SERVED_FILE = "served.json"
"""Among the fetched bundles: which of them was served last."""
VERSION_FILE = "model.json"
"""Beside a packaged bundle: its name and version in the registry it came from."""


@dataclass(frozen=True, slots=True)
class ModelReference:
    """A model that could be served. `mark` changes whenever its content does."""

    name: str
    version: str
    mark: str


class ModelSource(Protocol):
    """Gives the model that should be served, and its bundle."""

    def newest(self) -> ModelReference | None:
        """The model to serve, or `None` if there is none yet. Raises `CaptionloopError` if it cannot tell."""
        ...

    def fetch(self, reference: ModelReference) -> Path:
        """Its bundle, as a folder on this machine. Raises `CaptionloopError`."""
        ...

    def last_served(self) -> ModelReference | None:
        """What was served here last and can be had though nobody says what should be; its bundle is
        fetched by `cached_bundle`.
        """
        ...

    def cached_bundle(self, reference: ModelReference) -> Path:
        """The bundle of what was served last."""
        ...

    def record_served(self, reference: ModelReference) -> None:
        """Note what is being served."""
        ...


class FolderSource:
    """A bundle in a folder.
    Replacing the folder (or what a link points to) is how another model takes over.
    """

    def __init__(self, folder: Path, signing: Signing) -> None:
        self._folder = folder
        self._signing = signing

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
        packaged = _packaged_version(folder.with_name(VERSION_FILE))
        if packaged is not None:
            return ModelReference(packaged[0], packaged[1], mark)
        name, fingerprint = _config_identity(folder)
        return ModelReference(name, fingerprint, mark)

    def fetch(self, reference: ModelReference) -> Path:
        """The folder itself; where signatures are asked for, its own must lie beside it."""
        folder = self._folder.resolve()
        self._signing.check(folder, signature_of(folder), f"{reference.name} in {folder}")
        return folder

    def last_served(self) -> ModelReference | None:
        """Nothing: the folder alone says what there is."""
        return None

    cached_bundle = fetch

    def record_served(self, reference: ModelReference) -> None:
        """Nothing needs to be noted."""


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
        newest = self._registry.newest()
        return newest.created if newest else None

    def last_ended(self) -> datetime | None:
        """When a retraining last ended, whatever came of it. Raises as `last_registered` does."""
        from captionloop.registry.heartbeat import last_end

        return last_end(self._registry)

    def fetch(self, reference: ModelReference) -> Path:
        """The champion's bundle, checked file by file. Only the last few are kept."""
        self._cache.mkdir(parents=True, exist_ok=True)
        place = self._place(reference)
        folder = self._registry.fetch(reference.version, place)
        os.utime(folder)  # the champion is young, however long ago it was fetched
        by_age = sorted(
            (entry for entry in self._cache.iterdir() if entry.is_dir() and entry != place),
            key=lambda entry: entry.stat().st_mtime,
            reverse=True,
        )
        for old in by_age[KEPT_BUNDLES - 1 :]:
            shutil.rmtree(old, ignore_errors=True)
            signature_of(old).unlink(missing_ok=True)
        return folder

    def last_served(self) -> ModelReference | None:
        """What was served before this process started, if its bundle still lies in the cache."""
        try:
            record = json.loads((self._cache / SERVED_FILE).read_text(encoding="utf-8"))
            reference = ModelReference(str(record["name"]), str(record["version"]), str(record["mark"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return reference if self._place(reference).is_dir() else None

    def cached_bundle(self, reference: ModelReference) -> Path:
        """Its bundle, as it was fetched; whoever loads it checks it file by file, and here its signature is,
        where one is asked for.
        """
        folder = self._place(reference)
        called = f"{reference.name} version {reference.version} in {self._cache}"
        self._registry.signing.check(folder, signature_of(folder), called)
        return folder

    def _place(self, reference: ModelReference) -> Path:
        return self._cache / f"{reference.name}-{reference.version}-{reference.mark[:12]}"

    def record_served(self, reference: ModelReference) -> None:
        """Note it beside the bundles."""
        temporary = self._cache / f".{SERVED_FILE}.{uuid.uuid4().hex}"
        try:
            temporary.write_text(json.dumps(asdict(reference)), encoding="utf-8")
            temporary.replace(self._cache / SERVED_FILE)
        except OSError as error:  # it is served all the same
            logger.warning("not noted what is served", reason=reason_of(error))
            temporary.unlink(missing_ok=True)


class TrialSource(RegistrySource):
    """The version of a registry that is tried beside the champion; its bundles lie in a folder of their own,
    so that they push none of the champions out.
    """

    def current_trial(self) -> "tuple[ModelReference, Plan] | None":
        """Which, and by which plan; None where none is, or its days are over. Raises as `newest`."""
        trial = self._registry.trial()
        if trial is None or trial.is_void or trial.plan.is_over(datetime.now(UTC)):
            return None
        version = trial.version
        return ModelReference(version.name, str(version.version), version.fingerprint), trial.plan


def trial_source(settings: Settings) -> TrialSource | None:
    """Where a version that is tried is found: None where the model is no registry's, or none shall be."""
    source = choose_source(settings) if settings.trials else None
    if not isinstance(source, RegistrySource):
        return None
    return TrialSource(source._registry, settings.state.absolute() / "trial-bundles")


def choose_source(settings: Settings) -> ModelSource:
    """`CAPTIONLOOP_MODEL` or `CAPTIONLOOP_REGISTRY` if set, else the packaged model, else the project's
    registry.

    Raises:
        RegistryError: no registry is configured.
    """
    signing = Signing(trust_store=settings.trust_store)
    if settings.model:
        return FolderSource(Path(settings.model), signing)
    registry = settings.registry.get_secret_value()
    if PACKAGED_MODEL.is_dir() and not registry:
        return FolderSource(PACKAGED_MODEL, signing)
    from captionloop.registry.model_registry import ModelRegistry

    project = project_folder()
    uri = anchored(registry, project) if registry else tracking_uri(project)
    name = settings.registry_name or registered_model(project)
    return RegistrySource(ModelRegistry(uri, name, signing=signing), settings.state.absolute() / "bundles")


def poll_in_thread(action: Callable[[], None], seconds: float, stopped: threading.Event, name: str) -> None:
    """Call `action` every `seconds`, in a thread of that name, until `stopped` is set."""

    def run() -> None:
        while not stopped.is_set():
            try:
                action()
            except Exception:
                logger.exception("not looked at", thread=name)
            stopped.wait(seconds)

    threading.Thread(target=run, name=name, daemon=True).start()


def _packaged_version(file: Path) -> tuple[str, str] | None:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        return str(document["name"]), str(document["version"])
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
