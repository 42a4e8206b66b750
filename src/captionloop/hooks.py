"""What this project adds to every Kedro run."""

import errno
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from kedro.framework.hooks import hook_impl
from kedro.io import DatasetError
from pydantic import ValidationError

from captionloop.conf_checks import check_configuration
from captionloop.conf_loader import ProjectConfigLoader
from captionloop.errors import CaptionloopError, ConfigurationError, in_a_line, without_passwords

logger = logging.getLogger(__name__)

_SAID_OF_A_FULL_DISK = (  # by the system, SQLite, and PyTorch
    "No space left on device",
    "database or disk is full",
    "PytorchStreamWriter failed writing",
    "basic_ios::clear: iostream error",
)
_FULL_DISK = (
    "The disk is full: free some space, and run the same command again with --only-missing-outputs;"
    " what had been finished is kept"
)


_STORES = {"mlflow.MlflowException", "requests.RequestException", "sqlalchemy.OperationalError"}
"""What is raised where MLflow or a database goes away while a run is under way; none is imported here."""


def _for_people(error: BaseException) -> str | None:
    """The one line that tells a user what to do; None where the error is ours and keeps its traceback."""
    chain = list(_causes(error))
    # Kedro wraps what a dataset raises, once or twice.
    cause = next((each for each in chain if not isinstance(each, DatasetError)), None)
    if isinstance(cause, CaptionloopError):
        return str(cause)
    if isinstance(cause, ValidationError) and cause.title == "KedroMlflowConfig":
        first = cause.errors()[0]
        return f"mlflow.yml: {'.'.join(map(str, first['loc']))} cannot be used: {first['msg']}"
    if any(_is_full_disk(each) for each in chain):
        return _FULL_DISK
    # Of a file that is named in it: missing, of another user, on a disk that can only be read.
    if isinstance(cause, OSError) and (cause is not error or cause.filename is not None):
        return str(cause)
    kinds = {f"{kind.__module__.split('.')[0]}.{kind.__name__}" for kind in type(cause).__mro__}
    if cause is not None and kinds & _STORES:
        said = without_passwords(in_a_line(cause))
        return (
            f"A store that the run uses does not do what is asked of it ({said}): mend that, and"
            " run the same command again with --only-missing-outputs; what had been finished is kept"
        )
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_full_disk(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(words in str(error) for words in _SAID_OF_A_FULL_DISK)


@contextmanager
def one_line() -> Iterator[None]:
    """What is raised within, as click shows it: one line, exit code 1."""
    try:
        yield
    except Exception as error:
        message = _for_people(error)
        if message is None:
            raise
        raise click.ClickException(message) from error


class OneLineConfigLoader(ProjectConfigLoader):
    """The project's loader for Kedro's own commands: what is wrong in `conf/` is one line there too."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        with one_line():
            super().__init__(*arguments, **options)

    def __getitem__(self, key: str) -> dict[str, Any]:
        """As the project's loader."""
        with one_line():
            return super().__getitem__(key)


class CheckedConfiguration:
    """Refuses what no pipeline can use, before anything is made or opened."""

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: Any) -> None:
        """Called before the MLflow store is made."""
        from captionloop.pipeline_registry import register_pipelines
        from captionloop.serving.service_settings import Settings

        for line in Settings.misspelt():
            logger.warning("%s", line)
        check_configuration(context.config_loader, register_pipelines())


class OneCorpusPerModel:
    """Refuses a run that would register, or read, models of another corpus: before it computes for hours."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Any, catalog: Any) -> None:
        """Called before kedro-mlflow begins its run."""
        for name in {"model_registry", "base_model_registry"} & set(pipeline.inputs()):
            catalog.load(name).refuse_other_corpus()


class SharedMlflowRun:
    """Lets pipeline runs that belong together be one MLflow run: `--params mlflow_run=<name>`.

    kedro-mlflow begins a run at every `kedro run`; given the id of one that exists, it goes on with that.
    """

    @hook_impl(trylast=True)
    def after_context_created(self, context: Any) -> None:
        """Called after kedro-mlflow has read its configuration, and before it begins a run."""
        name = (context.config_loader.runtime_params or {}).get("mlflow_run")
        if not name:
            return
        if re.fullmatch(r"[\w.:+-]+", str(name)) is None:
            raise ConfigurationError(
                f"mlflow_run={name!r} cannot be used: letters, digits and . : + - _ only"
            )
        from captionloop.registry.tracking import find_or_begin_run

        tracking = context.mlflow.tracking
        uri = context.mlflow.server.mlflow_tracking_uri
        tracking.run.name = str(name)  # else kedro-mlflow renames the run after each pipeline
        tracking.run.id = find_or_begin_run(uri, tracking.experiment.name, str(name))


class OnePipelineRun:
    """Runs the pipeline once where `torchrun` has started several processes: the others help to train."""

    @hook_impl(tryfirst=True)
    def after_context_created(self) -> None:
        """Called before anything is made or written."""
        if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "RANK" not in os.environ:
            return
        from captionloop.training.processes import follow, release_followers

        if os.environ["RANK"] == "0":
            release_followers()
            return
        follow()
        raise SystemExit(0)


class CreateMlflowStore:
    """Makes the project's MLflow store where there is none, so that a run killed meanwhile spoils nothing.

    One that is there is asked first, for MLflow would go on trying a server that is away for minutes.
    """

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: Any) -> None:
        """Called before kedro-mlflow looks for the store."""
        from captionloop.registry import tracking

        uri = context.config_loader.tracking_uri()
        if uri is not None:
            tracking.check(uri)


class UserErrorHook:
    """Shows a user's mistake as one line with exit code 1, where Kedro would print a traceback.

    Round all other hooks, for what kedro-mlflow cannot write raises in them.
    """

    @hook_impl(wrapper=True)
    def after_context_created(self) -> Any:
        """Round the making of the MLflow store."""
        with one_line():
            return (yield)

    @hook_impl(wrapper=True)
    def before_pipeline_run(self) -> Any:
        """Round the beginning of the MLflow run."""
        with one_line():
            return (yield)

    @hook_impl(wrapper=True)
    def after_pipeline_run(self) -> Any:
        """Round its end."""
        with one_line():
            return (yield)

    @hook_impl(wrapper=True)
    def on_pipeline_error(self, error: Exception) -> Any:
        """Raise what stopped the pipeline as one line, once MLflow's hook has closed its run or failed to."""
        message = _for_people(error)
        if message == _FULL_DISK:
            # MLflow will not be able to write that its run failed, and says so at length.
            logging.getLogger("mlflow").setLevel(logging.CRITICAL)
        try:
            return (yield)
        finally:
            if message is not None:
                raise click.ClickException(message) from error
