"""What this project adds to every Kedro run."""

import logging
import re
from typing import Any

import click
from kedro.framework.hooks import hook_impl
from kedro.io import DatasetError

from captionloop.errors import CaptionloopError, ConfigurationError

logger = logging.getLogger(__name__)


def _for_people(error: Exception) -> str | None:
    """The one line that tells a user what to do; None where the error is ours and keeps its traceback."""
    cause: BaseException | None = error
    while isinstance(cause, DatasetError):  # Kedro wraps what a dataset raises, once or twice
        cause = cause.__cause__
    if isinstance(cause, CaptionloopError) or (cause is not error and isinstance(cause, OSError)):
        return str(cause)
    return None


class OneMlflowRun:
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
        from captionloop.registry.one_run import find_or_begin_run

        tracking = context.mlflow.tracking
        uri = context.mlflow.server.mlflow_tracking_uri
        tracking.run.name = str(name)  # else kedro-mlflow renames the run after each pipeline
        tracking.run.id = find_or_begin_run(uri, tracking.experiment.name, str(name))


class OneLineErrors:
    """Shows a user's mistake as one line with exit code 1, where Kedro would print a traceback."""

    @hook_impl(trylast=True)
    def on_pipeline_error(self, error: Exception) -> None:
        """Raise what click shows as one line; called last, after the MLflow hook has closed its run."""
        message = _for_people(error)
        if message is not None:
            raise click.ClickException(message) from error
