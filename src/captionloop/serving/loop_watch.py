"""What monitoring should know of the loop behind the service: does its input drift, does it still retrain.

Nobody scrapes a pipeline that runs for minutes. So the gateway shows the newest drift report, and the model
server, which asks the registry anyway, when a retraining last came through.
"""

import json
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import fsspec
import structlog
from pydantic import BaseModel, ValidationError

from captionloop.errors import CaptionloopError, without_passwords
from captionloop.serving import metrics
from captionloop.serving.settings import Settings

logger = structlog.get_logger(__name__)

LOOK_SECONDS = 60.0
REPORTS = ("08_reporting/*/drift.json", "runs/*/08_reporting/*/drift.json")
"""Where pipelines leave drift reports, below the project's `data/`."""


class DriftSignal(BaseModel):
    """One thing that is compared with the training data."""

    name: str
    value: float


class DriftReport(BaseModel):
    """What the drift pipeline writes, as far as it is shown here."""

    signals: list[DriftSignal]
    drifted: bool
    model: str | None = None
    """The registered model whose photos were looked at; older reports do not say."""


def read_drift(settings: Settings) -> DriftReport | None:
    """The newest drift report, or `None` where there is none yet, or it cannot be read.

    Of the project's reports it is the newest that is not about another registered model than ours.
    """
    where = settings.drift_report.get_secret_value()
    if where:
        return _read(where)
    for file in _reports(settings.state.absolute().parent):
        report = _read(str(file))
        if report is None or not settings.registry_name or report.model in {None, settings.registry_name}:
            return report
    return None


def _read(where: str) -> DriftReport | None:
    try:
        with fsspec.open(where, "rt", encoding="utf-8") as file:
            return DriftReport.model_validate(json.load(file))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, ValidationError) as error:
        logger.warning("drift report not read", where=without_passwords(where), reason=type(error).__name__)
        return None


def show_drift(report: DriftReport | None) -> None:
    """Set the metrics to what the report says."""
    if report is None:
        return
    metrics.DRIFTED.set(report.drifted)
    for signal in report.signals:
        metrics.DRIFT_SIGNAL.labels(signal.name).set(signal.value)


def show_retraining(last_registered: Callable[[], datetime | None]) -> None:
    """Set the metric to when the newest version was registered."""
    try:
        moment = last_registered()
    except CaptionloopError as error:
        logger.debug("registry not asked", reason=str(error))
        return
    if moment is not None:
        metrics.RETRAINED.set(moment.timestamp())


def regularly(action: Callable[[], None], seconds: float = LOOK_SECONDS) -> threading.Event:
    """Call it now and then, in a thread of its own, until the event that is returned is set."""
    stopped = threading.Event()

    def run() -> None:
        while not stopped.is_set():
            try:
                action()
            except Exception:
                logger.exception("not looked at; tried again in a minute")
            stopped.wait(seconds)

    threading.Thread(target=run, name="loop-watch", daemon=True).start()
    return stopped


def _reports(data: Path) -> list[Path]:
    """All drift reports of a project, the newest first."""
    found = [file for pattern in REPORTS for file in data.glob(pattern)]
    return sorted(found, key=lambda file: file.stat().st_mtime, reverse=True)
