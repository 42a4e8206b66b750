"""The smallest run of all pipelines, for tests that stop it half-way and look whether it ends the same."""

import json
import sys
from pathlib import Path
from typing import Any

from small_project import TINY


def tiny_run(workspace: Path, **changes: object) -> list[str]:
    """All pipelines in this folder, made so small that they take a minute; what is there already is kept.

    `changes`: parameters by their dotted names, beside those.
    """
    place = {"workspace": workspace, "tracking_uri": f"sqlite:///{workspace}/mlflow.db"}
    given = ",".join(f"{name}={value}" for name, value in (place | TINY | changes).items())
    return [sys.executable, "-m", "kedro", "run", "--only-missing-outputs", "--params", given]


def run_results(workspace: Path) -> dict[str, Any]:
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
