"""Training is killed with SIGKILL, again and again, and ends in the same weights as when it is left alone."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("training_process.py")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def start(checkpoints: Path, processes: int = 1) -> "subprocess.Popen[str]":
    command = [sys.executable, str(PROGRAM), str(checkpoints), str(processes)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )


def result(process: "subprocess.Popen[str]") -> dict[str, object]:
    output, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors[-3000:]
    return json.loads(output.splitlines()[-1])


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    return result(start(tmp_path_factory.mktemp("unbroken") / "work"))


@pytest.mark.e2e
def test_killed_training_ends_as_if_it_had_not_been_killed(unbroken, tmp_path):
    checkpoints, kills = tmp_path / "work", 0
    for trial in range(4):
        process = start(checkpoints)
        begun = time.monotonic()
        before = checkpoint_time(checkpoints)
        # Killed a little after an epoch was saved: while the next one runs, is examined, or is being saved.
        while process.poll() is None and time.monotonic() - begun < 200:
            if checkpoint_time(checkpoints) != before:
                time.sleep(0.04 * trial)
                break
            time.sleep(0.002)
        if process.poll() is None:
            process.kill()
            kills += 1
        process.communicate()
    assert kills >= 2
    assert result(start(checkpoints)) == unbroken


@pytest.mark.e2e
def test_two_processes_train_one_model_together(tmp_path):
    together = result(start(tmp_path / "work", processes=2))
    curves = together["curves"]
    assert curves["epoch"] == [0, 1, 2, 3, 4]
    assert curves["val_loss"][-1] < 0.8 * curves["val_loss"][0]
    assert result(start(tmp_path / "work", processes=2)) == together  # finished: taken over


def checkpoint_time(checkpoints: Path) -> int | None:
    try:
        return (checkpoints / "last.ckpt").stat().st_mtime_ns
    except FileNotFoundError:
        return None
