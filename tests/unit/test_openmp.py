"""How threads wait is in force wherever something computes, and whoever sets it otherwise keeps it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from captionloop import OPENMP

ENTRANCES = {
    "the library": "import captionloop, torch",
    # What `kedro run` loads before our first node does: its commands with all plugins, and the pipelines.
    "kedro run": (
        "from pathlib import Path\n"
        "from kedro.framework.cli.cli import KedroCLI\n"
        "from kedro.framework.project import pipelines\n"
        "KedroCLI(project_path=Path.cwd()).list_commands(None)\n"
        "assert len(dict(pipelines))\n"
        "import torch"
    ),
    "the service": "import captionloop.serving.service, captionloop.captioner.beam_search",
}


def reported(program: str, folder: Path, **settings: str) -> list[dict[str, str]]:
    """What each OpenMP runtime that is loaded says of itself."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))
    }
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=kept | {"OMP_DISPLAY_ENV": "verbose"} | settings,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    blocks = re.findall(r"DISPLAY ENVIRONMENT BEGIN(.*?)DISPLAY ENVIRONMENT END", done.stderr, re.DOTALL)
    assert blocks, done.stdout[-1000:] + done.stderr[-2000:]
    return [dict(re.findall(r"(\w+) = '(.*?)'", block)) for block in blocks]


@pytest.mark.e2e
@pytest.mark.named_use
@pytest.mark.parametrize("entrance", ENTRANCES)
def test_the_policy_is_in_force(entrance: str, project_root: Path) -> None:
    for runtime in reported(ENTRANCES[entrance], project_root):
        assert runtime.items() >= OPENMP.items()


@pytest.mark.e2e
@pytest.mark.named_use
def test_whoever_sets_it_otherwise_keeps_it(project_root: Path) -> None:
    (runtime, *_) = reported(ENTRANCES["the library"], project_root, OMP_WAIT_POLICY="active")
    assert runtime["OMP_WAIT_POLICY"] == "ACTIVE"
