"""A full disk: whatever step it stops says so in one line, and once there is space the run goes on."""

import os
import subprocess
from pathlib import Path

import pytest
from small_disk import small_disk
from tiny_run import run_results, tiny_run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]
KIB, PLENTY = 600, 1_000_000


def run(project: Path, workspace: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        tiny_run(workspace), cwd=project, env={**os.environ, "COLUMNS": "400"}, capture_output=True,
        text=True, timeout=600, check=False,
    )  # fmt: skip


def last_node(log: str) -> str:
    """The node that was running when the log ended; nothing where none was begun."""
    begun = [line.partition("Running node: ")[2] for line in log.splitlines() if "Running node: " in line]
    return begun[-1].partition(":")[0] if begun else ""


def test_wherever_the_disk_fills_up_a_run_with_more_space_goes_on(project_root: Path, tmp_path: Path) -> None:
    size, stopped = KIB, set()
    with small_disk(tmp_path / "disk", KIB) as disk:
        while (finished := run(project_root, disk.folder)).returncode:
            errors = [line for line in finished.stderr.splitlines() if line.startswith("Error: ")]
            assert len(errors) == 1 and "full" in errors[0], finished.stdout + finished.stderr
            assert "Traceback" not in finished.stdout + finished.stderr
            stopped.add(last_node(finished.stdout))
            size = size * 3 // 2
            assert size < PLENTY, "it would need a gigabyte"
            disk.resize(size)
        found = run_results(disk.folder)
    assert len(stopped) >= 4, f"stopped in {stopped} only"

    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    assert run(project_root, undisturbed).returncode == 0
    assert found == run_results(undisturbed)
