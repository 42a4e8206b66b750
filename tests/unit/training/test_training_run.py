"""The folder of one training: what is torn in it is not gone on from."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from captionloop.training.training_run import TrainingCurves, TrainingRun

Damage = Callable[[Path], object]


def cut(name: str, to: int = 40) -> Damage:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:to])


DAMAGES: dict[str, Damage] = {
    "a checkpoint that was cut off": cut("last.ckpt"),
    "an empty checkpoint": cut("last.ckpt", 0),
    "another checkpoint": lambda folder: torch.save({"weights": 1}, folder / "last.ckpt"),
    "weights that were cut off": cut("best.safetensors"),
    "curves that were cut off": cut("finished.json", 9),
    "curves of another kind": lambda folder: (folder / "finished.json").write_text("[]"),
    "no weights": lambda folder: (folder / "best.safetensors").unlink(),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A training with a checkpoint, best weights and curves."""
    run = TrainingRun(tmp_path / "work", "digest")
    run.save_best({"weight": torch.ones(3)})
    torch.save({"average": {"average": {"weight": torch.ones(3)}}}, run.folder / "last.ckpt")
    (run.folder / "finished.json").write_text(json.dumps(asdict(TrainingCurves())))
    return run.folder


def test_what_is_whole_is_kept(folder: Path) -> None:
    run = TrainingRun(folder, "digest")
    assert run.has_best and run.checkpoint is not None and run.finished() == TrainingCurves()


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_torn_is_begun_anew_in_one_line(
    folder: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    DAMAGES[damage](folder)
    run = TrainingRun(folder, "digest")
    assert not run.has_best and run.checkpoint is None and run.finished() is None
    (message,) = [record.getMessage() for record in caplog.records]
    assert "training begins anew there" in message and "\n" not in message
