"""A project of a few small nodes in files of its own, which tests can edit, run again, and edit again."""

import importlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from captionloop.datasets.atomic_datasets import AtomicJSONDataset, AtomicTextDataset, CheckpointFolderDataset
from captionloop.provenance.code_versions import CodeVersions
from captionloop.provenance.incremental import IncrementalRunner
from captionloop.provenance.recording import ProvenanceRecorder

SOURCES = {
    "__init__.py": "",
    "parameters.py": """
from pydantic import BaseModel

class Counting(BaseModel):
    smallest: int = 2
    marks: int = 1

class Report(BaseModel):
    title: str = "Words"
    width: int = 40

class Settings(BaseModel):
    counting: Counting = Counting()
    report: Report = Report()
""",
    "counting.py": '''
"""Counts words."""
import numpy as np
from toy_project.parameters import Counting

def count(words: list, settings: Counting) -> dict:
    """How often each word is there."""
    long = [word for word in words if len(word) >= settings.smallest]
    return {word: int(np.sum(np.array(long) == word)) for word in sorted(set(long))}

def unrelated() -> int:
    return 1
''',
    "nodes.py": '''
from toy_project.counting import count
from toy_project.parameters import Settings

def split(text: str) -> list:
    """Words of a text."""
    return text.lower().split()

def tally(words: list, settings: Settings) -> tuple[dict, int]:
    return count(words, settings.counting), len(words)

def report(counts: dict, settings: Settings) -> str:
    from toy_project import pages
    return pages.page(counts, settings.report)

def learn(counts: dict, settings: Settings, bench) -> dict:
    """Works in a folder, and goes on from what it finds there."""
    done = bench / "done.txt"
    before = int(done.read_text()) if done.exists() else 0
    done.write_text(str(before + 1))
    return {"words": len(counts), "smallest": settings.counting.smallest}
''',
    "pages.py": """
def page(counts: dict, settings) -> str:
    return settings.title + ": " + ", ".join(f"{word} {count}" for word, count in counts.items())
""",
}


class ToyProject:
    """Text -> words (in memory) -> counts, total -> page; and something learnt from the counts."""

    def __init__(self, folder: Path) -> None:
        self.package = folder / "source" / "toy_project"
        self.data = folder / "data"
        self.package.mkdir(parents=True)
        self.data.mkdir()
        for name, source in SOURCES.items():
            (self.package / name).write_text(source)
        (self.data / "text.txt").write_text("a bird and a bird sing")
        self.settings: dict[str, Any] = {}
        self.reasons: dict[str, str] = {}

    def edit(self, module: str, old: str, new: str) -> None:
        """Changes the code on the disk."""
        path = self.package / module
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def pipeline(self) -> Pipeline:
        for name in [name for name in sys.modules if name.split(".")[0] == "toy_project"]:
            del sys.modules[name]
        importlib.invalidate_caches()
        nodes = importlib.import_module("toy_project.nodes")
        return Pipeline(
            [
                Node(nodes.split, "text", "words", name="split"),
                Node(nodes.tally, ["words", "params:settings"], ["counts", "total"], name="tally"),
                Node(nodes.report, ["counts", "params:settings"], "page", name="report"),
                Node(nodes.learn, ["counts", "params:settings", "bench"], "learnt", name="learn"),
            ]
        )

    def catalog(self) -> DataCatalog:
        parameters = importlib.import_module("toy_project.parameters")
        settings = parameters.Settings.model_validate(self.settings)
        return DataCatalog(
            {
                "text": AtomicTextDataset(filepath=str(self.data / "text.txt")),
                "words": MemoryDataset(),
                "counts": AtomicJSONDataset(filepath=str(self.data / "counts.json")),
                "total": AtomicJSONDataset(filepath=str(self.data / "total.json")),
                "page": AtomicTextDataset(filepath=str(self.data / "page.txt")),
                "learnt": AtomicJSONDataset(filepath=str(self.data / "learnt.json")),
                "bench": CheckpointFolderDataset(filepath=str(self.data / "bench")),
                "params:settings": MemoryDataset(settings, copy_mode="assign"),
            }
        )

    def run(self, runner: Any = None, **filters: Any) -> list[str]:
        """The names of the nodes that ran, in their order; `reasons` then holds why."""
        pipeline = self.pipeline().filter(**filters)
        catalog = self.catalog()
        recorder = ProvenanceRecorder(CodeVersions({"toy_project"}))
        hooks = _create_hook_manager()
        hooks.register(recorder)
        catalog_hooks = {"run_params": {"project_path": self.data.parent}, "pipeline": pipeline}
        hooks.hook.before_pipeline_run(**catalog_hooks, catalog=catalog)
        log_lines = LogLines()
        log = logging.getLogger("captionloop.provenance.incremental")
        log.addHandler(log_lines)
        log.setLevel(logging.INFO)
        try:
            (runner or IncrementalRunner()).run(pipeline, catalog, hooks, only_missing_outputs=runner is None)
        finally:
            log.removeHandler(log_lines)
        self.lines = log_lines.lines
        names = [node.name for node in pipeline.nodes]
        self.reasons = dict(line.split(": ", 1) for line in log_lines.lines if line.split(": ")[0] in names)
        return [line.removeprefix("Completed node: ") for line in log_lines.lines if "Completed node" in line]


class LogLines(logging.Handler):
    """What was said."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ToyProject]:
    toy = ToyProject(tmp_path)
    monkeypatch.syspath_prepend(str(toy.package.parent))
    yield toy
    for name in [name for name in sys.modules if name.split(".")[0] == "toy_project"]:
        del sys.modules[name]
