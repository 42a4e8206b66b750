"""A run killed in every stage, one after the other, ends as one that was left alone."""

import os
import re
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest
from tiny_run import run_results, tiny_run

pytestmark = pytest.mark.e2e

# A node of every stage, in the order in which they run; each dies while it is at work.
KILLED_IN = (
    "inspect_corpus",
    "finetune_encoder",
    "cache",
    "train_cross_entropy",
    "train_self_critical",
    "score_captions",
    "register_candidate",
)


def run_until(project: Path, workspace: Path, function: str | None) -> bool:
    """Runs, and kills the whole group of processes when `function` is begun; whether it came to that."""
    workspace.mkdir(exist_ok=True)
    environment = {**os.environ, "COLUMNS": "400"}  # one line of the log is one message
    with subprocess.Popen(
        tiny_run(workspace), cwd=project, env=environment, start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        lines = []
        for line in process.stdout:
            lines.append(line)
            if function and re.search(rf"Running node: .*\b{function}\(", line):
                time.sleep(0.5)  # in the midst of it, not before
                os.killpg(process.pid, signal.SIGKILL)
                return True
    assert process.returncode == 0, "".join(lines[-40:])
    return False


def test_a_run_killed_in_every_stage_ends_as_one_left_alone(project_root: Path, tmp_path: Path) -> None:
    run_until(project_root, tmp_path / "unbroken", None)
    for function in KILLED_IN:
        assert run_until(project_root, tmp_path / "broken", function), f"{function} was never begun"
    run_until(project_root, tmp_path / "broken", None)
    assert run_results(tmp_path / "broken") == run_results(tmp_path / "unbroken")

    runs = mlflow_runs(tmp_path / "broken")
    again = subprocess.run(
        [*tiny_run(tmp_path / "broken"), "--report"],
        cwd=project_root,
        text=True,
        capture_output=True,
        check=True,
    )
    assert "Nothing to do" in again.stderr + again.stdout and "Registered: captioner" in again.stdout
    assert mlflow_runs(tmp_path / "broken") == runs, "a run that does nothing is none"


def mlflow_runs(workspace: Path) -> int:
    with closing(sqlite3.connect(workspace / "mlflow.db")) as store:
        return int(store.execute("SELECT count(*) FROM runs").fetchone()[0])
