"""A full disk: whatever step it stops says so in one line, and once there is space the run goes on."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiny_run import outcome, tiny_run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A folder on a disk of its own, whose size in KiB is what it was last called with."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(size: int) -> Path:
        again = ["-o", f"remount,size={size}k", str(folder)]
        first = ["-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(folder)]
        subprocess.run(
            ["mount", *(again if folder.is_mount() else first)], check=True, capture_output=True, timeout=60
        )
        return folder

    try:
        mount(64)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no disk can be mounted here (that takes root)")
    yield mount
    subprocess.run(["umount", "--lazy", str(folder)], check=False, timeout=60)


def run(project: Path, workspace: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        tiny_run(workspace), cwd=project, env={**os.environ, "COLUMNS": "400"}, capture_output=True,
        text=True, timeout=600, check=False,
    )  # fmt: skip


def test_wherever_the_disk_fills_up_a_run_with_more_space_goes_on(
    project_root: Path, tmp_path: Path, small_disk: Callable[[int], Path]
) -> None:
    size, stopped = 600, set()
    while (finished := run(project_root, small_disk(size))).returncode:
        told = [line for line in finished.stderr.splitlines() if line.startswith("Error: ")]
        assert len(told) == 1 and "full" in told[0], finished.stdout + finished.stderr
        assert "Traceback" not in finished.stdout + finished.stderr
        stopped.add(last_node(finished.stdout))
        size = size * 3 // 2
        assert size < 1_000_000, "it would need a gigabyte"
    assert len(stopped) >= 4, f"stopped in {stopped} only"

    plenty = tmp_path / "plenty"
    plenty.mkdir()
    assert run(project_root, plenty).returncode == 0
    assert outcome(small_disk(size)) == outcome(plenty)


def last_node(log: str) -> str:
    """The node that was running when the log ended; nothing where none was begun."""
    begun = [line.partition("Running node: ")[2] for line in log.splitlines() if "Running node: " in line]
    return begun[-1].partition(":")[0] if begun else ""
