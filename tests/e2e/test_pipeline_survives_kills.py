"""A run killed in every stage, one after the other, ends as one that was left alone."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from small_project import TINY

pytestmark = pytest.mark.e2e

# A node of every stage, in the order in which they run; each dies while it is at work.
KILLED_IN = (
    "inspect_corpus",
    "adapt_encoder",
    "cache",
    "teach_by_words",
    "teach_by_reward",
    "score_captions",
    "register_candidate",
)


def kedro(project: Path, workspace: Path) -> list[str]:
    place = {"workspace": workspace, "tracking_uri": f"sqlite:///{workspace}/mlflow.db"}
    given = ",".join(f"{name}={value}" for name, value in (place | TINY).items())
    return [sys.executable, "-m", "kedro", "run", "--only-missing-outputs", "--params", given]


def run_until(project: Path, workspace: Path, function: str | None) -> bool:
    """Runs, and kills the whole group of processes when `function` is begun; whether it came to that."""
    workspace.mkdir(exist_ok=True)
    environment = {**os.environ, "COLUMNS": "400"}  # one line of the log is one message
    with subprocess.Popen(
        kedro(project, workspace), cwd=project, env=environment, start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        said = []
        for line in process.stdout:
            said.append(line)
            if function and re.search(rf"Running node: .*\b{function}\(", line):
                time.sleep(0.5)  # in the midst of it, not before
                os.killpg(process.pid, signal.SIGKILL)
                return True
    assert process.returncode == 0, "".join(said[-40:])
    return False


def outcome(workspace: Path) -> dict[str, Any]:
    """What does not depend on the clock."""
    reports = workspace / "08_reporting" / "sample_scenes"
    version = json.loads((reports / "registered_version.json").read_text())
    return {
        "evaluation": json.loads((reports / "evaluation.json").read_text()),
        "version": version["version"],
        "gate": json.loads((reports / "gate.json").read_text())["promoted"],
        "hypotheses": (
            workspace / "07_model_output/sample_scenes/show_attend_tell/hypotheses.json"
        ).read_text(),
    }


def test_a_run_killed_in_every_stage_ends_as_one_left_alone(project_root: Path, tmp_path: Path) -> None:
    run_until(project_root, tmp_path / "unbroken", None)
    for function in KILLED_IN:
        assert run_until(project_root, tmp_path / "broken", function), f"{function} was never begun"
    run_until(project_root, tmp_path / "broken", None)
    assert outcome(tmp_path / "broken") == outcome(tmp_path / "unbroken")
