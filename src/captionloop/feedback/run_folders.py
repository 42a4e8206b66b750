"""Folders of runs (`data/runs/<run>`): what people said lies in them, and so they are not kept for ever.

A run that is under way holds a lock (`dags/steps.py`), and is left alone. What a finished run has made is
read by people alone, and a run that is begun again makes what is missing: so a file may go that names
somebody who asked to be forgotten.
"""

import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from captionloop.vision.feature_store import FeatureStore
from captionloop.workspaces import display_path, is_remote, modified, working_copy

MODELS: Final = "06_models"
STORE: Final = "04_feature/store"
_TEXT_SUFFIXES: Final = (".parquet", ".json", ".html", ".md", ".csv")
_NAME: Final = re.compile(r"(?:person|key):[0-9a-z]+|[0-9a-f]{64}")
IDLE_SECONDS: Final = 6 * 3600
"""A run that has written nothing for so long waits for no next step, but perhaps for somebody's approval."""


@dataclass(frozen=True)
class Run:
    """A folder of a run."""

    folder: Path

    @property
    def name(self) -> str:
        """The run's name, which its MLflow run has as well."""
        return self.folder.name

    @property
    def has_model(self) -> bool:
        """Whether a model was made: a retraining that went as far."""
        return (self.folder / MODELS).is_dir()

    @property
    def store(self) -> FeatureStore:
        """The features of this run alone."""
        return FeatureStore(self.folder / STORE)

    def started_at(self) -> datetime:
        """When the oldest of its files was written."""
        return datetime.fromtimestamp(min(self._modified(), default=self.folder.stat().st_mtime), UTC)

    def is_active(self) -> bool:
        """Whether a step of it runs, or may follow soon."""
        if max(self._modified(), default=0.0) > time.time() - IDLE_SECONDS:
            return True
        return self._is_held()

    def _is_held(self) -> bool:
        for path in self.folder.glob(".*.lock"):
            handle = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
            finally:
                os.close(handle)
        return False

    def files_naming(self, names: Collection[str]) -> dict[str, list[Path]]:
        """The files that name one of these people and photos; models and features aside."""
        found: dict[str, list[Path]] = {}
        for path in self._text_files():
            for name in _names_in(path).intersection(names):
                found.setdefault(name, []).append(path)
        return found

    def versions(self) -> list[tuple[str, int]]:
        """The registered models, name and version, that this run has made."""
        versions = []
        for path in self.folder.glob("08_reporting/*/registered_version.json"):
            try:
                document = json.loads(path.read_bytes())
                versions.append((str(document["name"]), int(document["version"])))
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return versions

    def size(self) -> int:
        """Bytes of all its files; what goes meanwhile counts as nothing."""
        total = 0
        for path in self.folder.rglob("*"):
            with suppress(OSError):
                total += path.stat().st_size if path.is_file() else 0
        return total

    def remove(self) -> None:
        """The whole folder."""
        shutil.rmtree(self.folder)

    def remove_file(self, path: Path) -> None:
        """Remove one of its files."""
        path.unlink(missing_ok=True)

    def _modified(self) -> Iterator[float]:
        """Modification times of its files; features aside, of which erased ones are removed now and then."""
        store = self.folder / STORE
        for path in self.folder.rglob("*"):
            if path.is_file() and store not in path.parents:
                yield path.stat().st_mtime

    def _text_files(self) -> Iterator[Path]:
        for path in sorted(self.folder.rglob("*")):
            if self._may_name_people(path) and path.is_file():
                yield path

    def _may_name_people(self, path: Path) -> bool:
        return (
            path.relative_to(self.folder).parts[0] not in {MODELS, "bento"} and path.suffix in _TEXT_SUFFIXES
        )


@dataclass(frozen=True)
class RemoteRun(Run):
    """A run in object storage; `folder` is where a copy of it lies, as far as it was fetched.

    It goes by what the storage lists: little of it has to be read.
    """

    @cached_property
    def _objects(self) -> dict[Path, dict[str, Any]]:
        return working_copy().objects(self.folder)

    @property
    def has_model(self) -> bool:
        """As of any run."""
        return any(self.folder / MODELS in path.parents for path in self._objects)

    @property
    def store(self) -> FeatureStore:
        """The store in the storage itself."""
        return FeatureStore(display_path(self.folder / STORE))

    def started_at(self) -> datetime:
        """When the oldest of its objects was written."""
        return datetime.fromtimestamp(min(self._modified(), default=time.time()), UTC)

    def versions(self) -> list[tuple[str, int]]:
        """As of any run."""
        working_copy().fetch([path for path in self._objects if path.name == "registered_version.json"])
        return super().versions()

    def size(self) -> int:
        """Bytes of all its objects."""
        return sum(int(about.get("size") or 0) for about in self._objects.values())

    def remove(self) -> None:
        """Every object of it."""
        working_copy().remove_folder(self.folder)

    def remove_file(self, path: Path) -> None:
        """Remove one of its objects."""
        working_copy().remove(path)

    def _is_held(self) -> bool:
        return False  # its lease is one of its objects, and written every few seconds

    def _modified(self) -> Iterator[float]:
        store = self.folder / STORE
        for path, about in self._objects.items():
            if store not in path.parents:
                yield modified(about) or time.time()

    def _text_files(self) -> Iterator[Path]:
        found = sorted(path for path in self._objects if self._may_name_people(path))
        working_copy().fetch(found)
        return (path for path in found if path.is_file())


def runs_in(folder: Path | str) -> list[Run]:
    """The runs of a folder, a path or URI, that which was begun last first."""
    runs: list[Run] = []
    if is_remote(folder):
        copy = working_copy()
        place = copy.path_of(str(folder))
        runs += [RemoteRun(place / name) for name in copy.folders(place)]
    elif Path(folder).is_dir():
        runs += [Run(each) for each in Path(folder).iterdir() if each.is_dir()]
    return sorted(runs, key=lambda run: run.started_at(), reverse=True)


def removable_runs(
    runs: Collection[Run], keep: int, needed: Collection[tuple[str, int]], own: Path | None = None
) -> list[Run]:
    """The runs to remove: all but the newest `keep` of those with a model and of those without.

    Args:
        runs: the newest first.
        keep: how many of either kind stay.
        needed: registered versions, name and number, whose runs stay however old they are.
        own: folder of the run that asks, which stays.
    """
    beyond = [
        run for kind in (True, False) for run in [each for each in runs if each.has_model is kind][keep:]
    ]
    return [
        run
        for run in beyond
        if run.folder != own and not run.is_active() and not set(run.versions()).intersection(needed)
    ]


def _names_in(path: Path) -> set[str]:
    """People and photos that a file names; of one that cannot be read, none."""
    if path.suffix == ".parquet":
        import pandas as pd  # a packaged service has none, and no runs either

        try:
            table = pd.read_parquet(path)
        except (OSError, ValueError):
            return set()
        texts = table.select_dtypes(exclude=["number", "bool", "datetime", "datetimetz"])
        return set(_NAME.findall(texts.to_csv(index=False)))
    return set(_NAME.findall(path.read_text(encoding="utf-8", errors="replace")))
