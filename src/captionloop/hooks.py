"""What this project adds to every Kedro run."""

import logging

import click
from kedro.framework.hooks import hook_impl
from kedro.io import DatasetError

from captionloop.errors import CaptionloopError

logger = logging.getLogger(__name__)


def _for_people(error: Exception) -> str | None:
    """The one line that tells a user what to do; None where the error is ours and keeps its traceback."""
    cause: BaseException | None = error
    while isinstance(cause, DatasetError):  # Kedro wraps what a dataset raises, once or twice
        cause = cause.__cause__
    if isinstance(cause, CaptionloopError) or (cause is not error and isinstance(cause, OSError)):
        return str(cause)
    return None


class OneLineErrors:
    """Shows a user's mistake as one line with exit code 1, where Kedro would print a traceback."""

    @hook_impl(trylast=True)
    def on_pipeline_error(self, error: Exception) -> None:
        """Raise what click shows as one line; called last, after the MLflow hook has closed its run."""
        message = _for_people(error)
        if message is not None:
            raise click.ClickException(message) from error
