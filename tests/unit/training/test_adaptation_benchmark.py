"""What `benchmarks.adaptation` teaches with: all captions of what was sent, or one for some of it."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def benchmark(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(project_root)
    return importlib.import_module("benchmarks.adaptation")


def pictures(benchmark: ModuleType) -> list:
    return [benchmark.Picture(f"p{n}", b"", (f"one of {n}", f"two of {n}")) for n in range(40)]


def test_all_captions_are_each_there_once(benchmark: ModuleType) -> None:
    said = benchmark.all_captions(pictures(benchmark))
    assert len(said) == said["caption_id"].nunique() == 80
    assert (said["text"].str.split(" of ").str[1] == said["image_id"].str[1:]).all()


def test_corrections_are_one_a_picture_and_some_of_another(benchmark: ModuleType) -> None:
    said = benchmark.corrections(pictures(benchmark), 30, 0.3)
    assert said["image_id"].is_unique and len(said) == 30
    own = said["text"].str.split(" of ").str[1] == said["image_id"].str[1:]
    assert 15 <= own.sum() < 30
    right = benchmark.corrections(pictures(benchmark), 30, 0.0)
    assert (right["text"].str.split(" of ").str[1] == right["image_id"].str[1:]).all()
