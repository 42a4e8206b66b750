"""Leases in object storage, before a real server that speaks S3."""

import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from captionloop.leases import Lease, machine_place, process_is_gone
from captionloop.workspaces import WorkspaceError

pytestmark = pytest.mark.integration


@pytest.fixture
def uri(s3_server: str) -> str:
    return f"s3://captionloop/{uuid.uuid4().hex}/.locks/training.json"


def test_one_at_a_time(uri: str) -> None:
    """Eight who want it at once, each of which looks whether it is alone."""
    within: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        with Lease(uri, f"worker {number}", patience=60).held() as lease:
            within.append(number)
            most.append(len(within))
            time.sleep(0.05)
            lease.check()
            within.remove(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert most == [1] * 8


def test_who_waits_too_long_is_told_by_whom_it_is_held(uri: str) -> None:
    with (
        Lease(uri, "anna", patience=1).held(),
        pytest.raises(WorkspaceError, match=r"held by anna for 1 s now: end its processes, or wait longer"),
    ):
        Lease(uri, "ben", patience=1).take()


def test_a_lease_that_is_renewed_is_not_taken_over(uri: str) -> None:
    with Lease(uri, "anna", seconds=2, patience=1).held() as lease:
        with pytest.raises(WorkspaceError, match="held by anna"):
            Lease(uri, "ben", seconds=2, patience=6).take()
        lease.check()


def test_a_lease_that_was_left_behind_is_taken_over_and_its_holder_is_told(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = Lease(uri, "a machine that was cut off", seconds=1, patience=1)
    monkeypatch.setattr(silent, "_renew_until_ended", lambda: None)
    silent.take()
    with Lease(uri, "ben", seconds=1, patience=30).held():
        with pytest.raises(WorkspaceError, match="run the same command again"):
            silent.check()
        silent.release()
        found = Lease(uri, "somebody").holder()
        assert found is not None and (found.by, found.free) == ("ben", False), "it gave back what it had not"


def test_a_process_that_was_killed_on_this_machine_holds_nobody_up(uri: str) -> None:
    program = (
        "import sys, time; from captionloop.leases import Lease; "
        "Lease(sys.argv[1], 'killed').take(); print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", program, uri], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    holder.kill()
    holder.wait()
    began = time.monotonic()
    with Lease(uri, "next", patience=20).held():
        assert time.monotonic() - began < 20


def test_a_bucket_that_is_not_there_is_one_line(s3_server: str) -> None:
    with pytest.raises(WorkspaceError, match="s3://no-such-bucket/lock cannot be written"):
        Lease("s3://no-such-bucket/lock", "anna").take()
    with pytest.raises(WorkspaceError, match="must be s3:// or local"):
        Lease("memory://lock", "anna").take()


def test_processes_are_judged_on_their_own_machine_alone() -> None:
    assert not process_is_gone("", 1) and not process_is_gone("elsewhere", 1)
    assert not process_is_gone(machine_place(), 1)
