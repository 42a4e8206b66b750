"""`python -m benchmarks.verification_simulation`, with few trials: one for each fault."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

TRIALS = 8


@pytest.fixture(scope="module")
def rows(project_root: Path) -> list[list[str]]:
    """Model servers, gateways; passed / not verified / rolled back: good before, now; faulty before, now."""
    command = [sys.executable, "-m", "benchmarks.verification_simulation", "--trials", str(TRIALS)]
    printed = subprocess.run(command, cwd=project_root, check=True, capture_output=True, text=True).stdout
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in printed.splitlines()
        if line.startswith("|")
    ][2:]


def test_a_good_version_passes_however_its_servers_switch_and_strangers_are_turned_away(rows) -> None:
    assert [row[:2] for row in rows] == [[m, g] for m in "123" for g in "12"]
    assert {row[3] for row in rows} == {f"{TRIALS} / 0 / 0"}


def test_a_version_with_any_fault_is_taken_back(rows) -> None:
    # One that makes its model server hang cannot be told from a server that is gone: no verdict, no champion.
    assert {row[5] for row in rows} == {f"0 / 1 / {TRIALS - 1}"}


def test_what_stood_for_all_before_rolled_good_versions_back(rows) -> None:
    assert sum(int(row[2].rpartition("/")[2]) for row in rows) > TRIALS * len(rows) // 2
