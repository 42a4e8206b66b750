"""Training in several processes: the pipeline is run once, and what comes of it is what one process makes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from test_training_survives_kill import result
from tiny_run import tiny_run

from captionloop.registry.model_registry import ModelRegistry

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

PROGRAM = Path(__file__).with_name("training_process.py")
ENVIRONMENT = {**os.environ, "COLUMNS": "400", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
TWO = {
    f"models.{model}.processes.{name}": value
    for model in ("show_attend_tell", "self_critical")
    for name, value in {"devices": 2, "accelerator": "cpu"}.items()
}


def start(project: Path, command: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command, cwd=project, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


TAUGHT = ["--to-nodes", "training.show_attend_tell.train_cross_entropy"]


@pytest.fixture(scope="module")
def whole(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A workspace that one `kedro run` has filled, with two processes for training, and what it said."""
    workspace = tmp_path_factory.mktemp("whole")
    process = start(project_root, tiny_run(workspace, **TWO))
    output, _ = process.communicate(timeout=1700)
    assert process.returncode == 0, output[-4000:]
    return workspace, output


@pytest.fixture
def untaught(whole: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of the workspace without the captioner that is trained first."""
    workspace = tmp_path / "workspace"
    shutil.copytree(whole[0], workspace)
    for name in ("show_attend_tell", "show_attend_tell.work"):
        shutil.rmtree(workspace / "06_models/sample_scenes" / name)
    return workspace


def versions(workspace: Path) -> list[int]:
    return [version.version for version in ModelRegistry(f"sqlite:///{workspace}/mlflow.db").versions()]


def test_kedro_run_with_two_processes_is_one_run(whole):
    workspace, output = whole
    for node in ("describe_training_data", "score_captions", "decide_promotion", "register_candidate"):
        assert output.count(f"Running node: {node}:") == 1, node
    assert output.count("epoch 2/2") == 1  # of show_attend_tell, by its first process alone
    assert versions(workspace) == [1]
    assert json.loads((workspace / "08_reporting/sample_scenes/evaluation.json").read_text())["photos"] == 8
    assert not list(workspace.rglob("fit.pickle"))


def test_a_run_that_loses_a_process_says_so_in_a_line_and_goes_on_when_run_again(project_root, untaught):
    command = [*tiny_run(untaught, **TWO, **{"models.show_attend_tell.epochs": 8}), *TAUGHT]
    process = start(project_root, command)
    output, helpers = [], []
    for line in process.stdout:
        output.append(line)
        if "epoch 2/8" in line:
            children = psutil.Process(process.pid).children()
            helpers = [one for one in children if "spawn_main" in " ".join(one.cmdline())]
            assert len(helpers) == 2
            helpers[-1].kill()
    assert process.wait(timeout=60) == 1
    assert "was ended by SIGKILL" in "".join(output[-4:])
    assert "Traceback" not in "".join(output)
    assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in helpers)
    assert not (untaught / "06_models/sample_scenes/show_attend_tell").exists()
    again = start(project_root, command)
    more, _ = again.communicate(timeout=900)
    assert again.returncode == 0, more[-4000:]
    assert "Training goes on from" in more
    assert "epoch 1/8" not in more and "epoch 8/8" in more
    assert versions(untaught) == [1]


def test_processes_that_torchrun_has_started_run_the_pipeline_once(project_root, untaught):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--no-python"]
    process = start(project_root, [*torchrun, *tiny_run(untaught, **TWO), *TAUGHT])
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output[-4000:]
    assert output.count("Running node: train_cross_entropy:") == 1
    assert output.count("epoch 2/2") == 1
    assert (untaught / "06_models/sample_scenes/show_attend_tell/checksums.json").is_file()
    assert not list(untaught.rglob("fit.pickle"))


def test_a_loss_that_is_no_number_stops_all_processes_in_one_line(project_root, untaught):
    blown_up = {"models.show_attend_tell.learning_rate": 1e30, "models.show_attend_tell.warmup": 0}
    process = start(project_root, [*tiny_run(untaught, **TWO, **blown_up), *TAUGHT])
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 1
    assert "Traceback" not in output
    assert "Training 'show_attend_tell' stopped in epoch 1" in " ".join(output.split())
    assert not (untaught / "06_models/sample_scenes/show_attend_tell").exists()


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
