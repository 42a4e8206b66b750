"""Training in several processes: the pipeline is run once, and what comes of it is what one process makes."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from test_training_survives_kill import result
from tiny_run import tiny_run

from captionloop.registry.model_registry import ModelRegistry

pytestmark = pytest.mark.e2e

PROGRAM = Path(__file__).with_name("training_process.py")
ENVIRONMENT = {**os.environ, "COLUMNS": "400", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
TWO = {
    f"{model}.training.processes.{name}": value
    for model in ("show_attend_tell", "self_critical")
    for name, value in {"devices": 2, "accelerator": "cpu"}.items()
}


def start(project: Path, command: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command, cwd=project, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def check_one_run(workspace: Path, said: str) -> None:
    """Everything happened once: every node, every epoch, one version."""
    for node in ("teach_by_words", "teach_by_reward", "score_captions", "register_candidate"):
        began = [line for line in said.splitlines() if "Running node" in line and f"{node}(" in line]
        assert len(began) == len({line.split("Running node")[1] for line in began}), began
    assert said.count("Running node: register_candidate") == 1
    assert said.count("epoch 2/2") == 1
    versions = ModelRegistry(f"sqlite:///{workspace}/mlflow.db").versions()
    assert [version.version for version in versions] == [1]
    assert json.loads((workspace / "08_reporting/sample_scenes/evaluation.json").read_text())["photos"] == 8
    assert not list(workspace.rglob("fit.pickle"))


def test_kedro_run_with_two_processes_is_one_run(project_root, tmp_path):
    process = start(project_root, tiny_run(tmp_path, **TWO))
    said, _ = process.communicate(timeout=900)
    assert process.returncode == 0, said[-4000:]
    check_one_run(tmp_path, said)


def test_a_run_that_loses_a_process_says_so_in_a_line_and_goes_on_when_run_again(project_root, tmp_path):
    longer = {**TWO, "show_attend_tell.training.epochs": 8}
    command = tiny_run(tmp_path, **longer)
    process = start(project_root, [*command, "--to-nodes", "show_attend_tell.teach_by_words"])
    said = []
    for line in process.stdout:
        said.append(line)
        if "epoch 2/8" in line:
            helpers = [
                one
                for one in psutil.Process(process.pid).children()
                if "spawn_main" in " ".join(one.cmdline())
            ]
            assert len(helpers) == 2
            helpers[-1].kill()
    assert process.wait(timeout=60) == 1
    assert "was ended by SIGKILL" in said[-1] or "was ended by SIGKILL" in "".join(said[-4:])
    assert "Traceback" not in "".join(said)
    deadline = time.monotonic() + 20
    while any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in helpers):
        assert time.monotonic() < deadline, "a process of the training has outlived it"
        time.sleep(0.1)
    again = start(project_root, [*command, "--to-nodes", "show_attend_tell.teach_by_words"])
    more, _ = again.communicate(timeout=600)
    assert again.returncode == 0, more[-4000:]
    assert "Training goes on from" in more
    assert "epoch 1/8" not in more
    assert "epoch 8/8" in more


def test_processes_that_torchrun_has_started_run_the_pipeline_once(project_root, tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--no-python"]
    process = start(project_root, [*torchrun, *tiny_run(tmp_path, **TWO)])
    said, _ = process.communicate(timeout=900)
    assert process.returncode == 0, said[-4000:]
    check_one_run(tmp_path, said)


def test_two_processes_take_the_steps_that_one_takes_with_batches_twice_as_large(tmp_path):
    def train(processes: int, batch: int) -> dict:
        folder = str(tmp_path / f"{processes}_processes")
        command = [sys.executable, str(PROGRAM), folder, str(processes), str(batch)]
        return result(
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
            )
        )["curves"]

    one, two = train(1, 30), train(2, 15)
    assert two["learning_rate"] == pytest.approx(one["learning_rate"])
    assert two["train_loss"] == pytest.approx(one["train_loss"], rel=1e-3)
    assert two["val_loss"] == pytest.approx(one["val_loss"], rel=1e-3)
