"""Fits next to each other, each in a process of its own (`run_side_by_side`)."""

import logging
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from captionloop.errors import ConfigurationError, TrainingError
from captionloop.training import processes
from captionloop.training.processes import run_side_by_side

pytestmark = pytest.mark.integration

logger = logging.getLogger("captionloop.test")


def leave(folder: Path, number: int) -> None:
    """What a fit does here: it says who ran it, and with how many threads."""
    logger.info("epoch of %d", number)
    (folder / str(number)).write_text(f"{os.getpid()} {torch.get_num_threads()}")


def refuse() -> None:
    raise ConfigurationError("three eyes are one too many")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for_ever(folder: Path) -> None:
    (folder / "waits").write_text(str(os.getpid()))
    signal.pause()


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "cores", lambda: 2)
    monkeypatch.delenv("RANK", raising=False)


def several(folder: Path, count: int) -> dict[str, Callable[[], object]]:
    return {f"fit {number}": partial(leave, folder, number) for number in range(count)}


def test_three_fits_on_two_cores_have_processes_and_one_thread_each(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        run_side_by_side(several(tmp_path, 3), "it")
    found = [(tmp_path / str(number)).read_text().split() for number in range(3)]
    assert len({process for process, _ in found} | {str(os.getpid())}) == 4
    assert {threads for _, threads in found} == {"1"}
    assert {f"fit {number}: epoch of {number}" for number in range(3)} <= set(caplog.messages)


@pytest.mark.parametrize("cores, count", [(1, 3), (2, 1)])
def test_nothing_is_run_elsewhere_where_that_gains_nothing(
    cores: int, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "cores", lambda: cores)
    run_side_by_side(several(tmp_path, count), "it")
    assert not list(tmp_path.iterdir())


def test_under_torchrun_nothing_is_run_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    run_side_by_side(several(tmp_path, 2), "it")
    assert not list(tmp_path.iterdir())


def test_what_a_fit_refuses_is_said_here_and_the_others_end(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="one too many"):
        run_side_by_side({"good": partial(wait_for_ever, tmp_path), "bad": refuse}, "it")


def test_a_fit_that_is_killed_is_named_and_the_others_end(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"'it': process 2 of 2 was ended by SIGKILL"):
        run_side_by_side({"good": partial(wait_for_ever, tmp_path), "bad": die}, "it")
    waits = tmp_path / "waits"
    if waits.exists():  # else it was ended before it began
        with pytest.raises(ProcessLookupError):
            os.kill(int(waits.read_text()), 0)
