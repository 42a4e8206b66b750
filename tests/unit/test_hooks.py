import errno
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
import requests
from kedro.framework.hooks import hook_impl
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import DataCatalog, DatasetError, MemoryDataset
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError

from captionloop.config import read_configuration
from captionloop.errors import ConfigurationError, CorpusError, StoreError
from captionloop.hooks import CreateMlflowStore, OnePipelineRun, TrainedCandidate, UserErrorHook
from captionloop.pipeline_registry import register_pipelines

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def hooks(*others: object) -> Any:
    manager = _create_hook_manager()
    for plugin in (UserErrorHook(), *others):
        manager.register(plugin)
    return manager.hook


def fail(error: Exception, *others: object) -> None:
    hooks(*others).on_pipeline_error(error=error, run_params={}, pipeline=None, catalog=None)


def wrapped(error: Exception) -> Exception:
    """As Kedro has it: what a dataset raised, in an error of the catalog."""
    outer = DatasetError("raw_corpus: Failed while loading data from dataset CorpusDataset(...)")
    outer.__cause__ = DatasetError("Failed while loading data from dataset CorpusDataset(...)")
    outer.__cause__.__cause__ = error
    return outer


def test_a_users_mistake_becomes_one_line() -> None:
    with pytest.raises(click.ClickException, match="photos/ is empty; add some") as raised:
        fail(CorpusError("photos/ is empty; add some"))
    assert raised.value.exit_code == 1


def test_a_mistake_met_while_loading_keeps_its_own_words() -> None:
    with pytest.raises(click.ClickException, match=r"^captions.json, line 3: a comma is missing$"):
        fail(wrapped(CorpusError("captions.json, line 3: a comma is missing")))


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(13, "Permission denied", "/data/photos"),
        FileNotFoundError(2, "No such file or directory", "/proc/x"),
        NotADirectoryError(20, "Not a directory", "/etc/passwd/01_raw"),
        OSError(30, "Read-only file system", "/data/x"),
    ],
)
def test_a_file_that_the_system_refuses_is_one_line(error: OSError) -> None:
    """Kedro wraps some of them and hands others on as they are."""
    for each in (error, wrapped(error)):
        with pytest.raises(click.ClickException, match=re.escape(error.filename)) as raised:
            fail(each)
        assert "\n" not in raised.value.message


@pytest.mark.parametrize(
    "error",
    [
        MlflowException("API request to http://u:secret@mlflow failed with exception\nConnection refused"),
        requests.ConnectionError("refused"),
        OperationalError("SELECT 1", {}, Exception("server closed the connection")),
    ],
)
def test_a_store_that_goes_away_while_a_run_is_under_way_is_one_line(error: Exception) -> None:
    with pytest.raises(click.ClickException, match="does not do what is asked of it") as raised:
        fail(error)
    assert "\n" not in raised.value.message and "secret" not in raised.value.message


def test_a_defect_of_ours_keeps_its_traceback() -> None:
    fail(ZeroDivisionError())


@pytest.mark.parametrize(
    "error",
    [
        FULL,
        wrapped(FULL),
        OperationalError("INSERT INTO runs ...", {}, Exception("database or disk is full")),
        RuntimeError("basic_ios::clear: iostream error"),
        RuntimeError(
            "[enforce fail at inline_container.cc:595] PytorchStreamWriter failed writing file data/3"
        ),
    ],
)
def test_a_full_disk_is_one_line_that_says_how_to_go_on(error: Exception) -> None:
    with pytest.raises(click.ClickException, match=r"^The disk is full: .*--only-missing-outputs") as raised:
        fail(error)
    assert "\n" not in raised.value.message


def test_where_a_full_disk_has_words_of_its_own_these_are_shown() -> None:
    error = StoreError("the store could not be written: No space left on device; the shards before are safe")
    error.__cause__ = FULL
    with pytest.raises(click.ClickException, match="the shards before are safe"):
        fail(error)


class FailsToo:
    """MLflow on the same disk: it cannot even write that the run has failed."""

    @hook_impl
    def on_pipeline_error(self) -> None:
        raise OSError(errno.EIO, "the log cannot be written")


def test_what_stopped_the_pipeline_is_told_though_closing_the_run_fails_as_well() -> None:
    with pytest.raises(click.ClickException, match="The disk is full"):
        fail(FULL, FailsToo())
    with pytest.raises(OSError, match="the log cannot be written"):
        fail(ZeroDivisionError(), FailsToo())


class FailsBefore:
    """MLflow that cannot begin its run."""

    @hook_impl
    def after_context_created(self) -> None:
        raise FULL

    @hook_impl
    def before_pipeline_run(self) -> None:
        raise FULL

    @hook_impl
    def after_pipeline_run(self) -> None:
        raise FULL


@pytest.mark.parametrize(
    "call",
    [
        lambda hook: hook.after_context_created(context=SimpleNamespace()),
        lambda hook: hook.before_pipeline_run(run_params={}, pipeline=None, catalog=None),
        lambda hook: hook.after_pipeline_run(run_params={}, run_result={}, pipeline=None, catalog=None),
    ],
)
def test_what_other_hooks_cannot_write_is_one_line_too(call: Callable[[Any], None]) -> None:
    with pytest.raises(click.ClickException, match="The disk is full"):
        call(hooks(FailsBefore()))


def test_a_project_that_does_not_say_where_its_mlflow_store_is_gets_none_from_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conf/base").mkdir(parents=True)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    loader = read_configuration(tmp_path)
    context = SimpleNamespace(config_loader=loader, project_path=tmp_path)
    CreateMlflowStore().after_context_created(context)
    (tmp_path / "conf/base/mlflow.yml").write_text("tracking: {}")
    CreateMlflowStore().after_context_created(context)
    assert [each.name for each in tmp_path.iterdir()] == ["conf"]


@pytest.mark.parametrize(("rank", "runs"), [("0", True), ("1", False)])
def test_of_the_processes_that_torchrun_has_started_the_first_runs_the_pipeline(monkeypatch, rank, runs):
    from captionloop.training import processes

    did = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr(processes, "follow", lambda: did.append("helped to train"))
    monkeypatch.setattr(processes, "release_followers", lambda: did.append("will release the others"))
    if runs:
        OnePipelineRun().after_context_created()
        assert did == ["will release the others"]
    else:
        with pytest.raises(SystemExit) as ended:
            OnePipelineRun().after_context_created()
        assert not ended.value.code
        assert did == ["helped to train"]


def test_a_process_by_itself_runs_the_pipeline(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")  # of something else
    OnePipelineRun().after_context_created()


def test_a_run_that_registers_what_it_does_not_train_is_refused_before_it_trains() -> None:
    def registers(model: str, pipeline: str) -> None:
        parameters = MemoryDataset(SimpleNamespace(model=model), copy_mode="assign")
        catalog = DataCatalog({"params:registration": parameters})
        TrainedCandidate().before_pipeline_run(register_pipelines()[pipeline], catalog)

    with pytest.raises(ConfigurationError, match="only show_attend_tell: kedro run --only-missing-outputs"):
        registers("ensemble", "demo")
    registers("ensemble", "__default__")  # which is what the message advises
    registers("show_attend_tell", "demo")
    registers("ensemble", "training")
