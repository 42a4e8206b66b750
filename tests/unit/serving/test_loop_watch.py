import json
import math
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from captionloop.errors import RegistryError
from captionloop.serving.service_settings import Settings
from captionloop.serving.telemetry import read_drift, show_drift, show_retraining


def write_report(file: Path, value: float, *, drifted: bool, model: str | None = None) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    signal = {"name": "confidence", "value": value, "limit": 0.2, "drifted": drifted, "sentence": "so and so"}
    file.write_text(
        json.dumps({"signals": [signal], "drifted": drifted} | ({"model": model} if model else {}))
    )


def test_the_newest_report_of_the_project_is_shown(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path / "data/service")
    assert read_drift(settings) is None
    write_report(tmp_path / "data/08_reporting/scenes/drift.json", 0.1, drifted=False)
    newer = tmp_path / "data/runs/tuesday/08_reporting/scenes/drift.json"
    write_report(newer, 0.4, drifted=True)
    show_drift(read_drift(settings))
    assert REGISTRY.get_sample_value("captionloop_drift_signal", {"signal": "confidence"}) == 0.4
    assert REGISTRY.get_sample_value("captionloop_drifted") == 1


def test_a_young_installation_shows_that_nothing_has_drifted_though_one_signal_is_silent(
    tmp_path: Path,
) -> None:
    """As the drift pipeline writes it where there are few ratings: `"value": null`."""
    silent = {"name": "ratings", "value": None, "limit": 0.5, "drifted": False, "sentence": "Too few ratings"}
    loud = {"name": "photos", "value": 0.9, "limit": 0.65, "drifted": True, "sentence": "not like"}
    file = tmp_path / "data/08_reporting/scenes/drift.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"signals": [silent, loud], "drifted": True}))
    show_drift(read_drift(Settings(state=tmp_path / "data/service")))
    assert REGISTRY.get_sample_value("captionloop_drifted") == 1
    assert REGISTRY.get_sample_value("captionloop_drift_signal", {"signal": "photos"}) == 0.9
    shown = REGISTRY.get_sample_value("captionloop_drift_signal", {"signal": "ratings"})
    assert shown is not None and math.isnan(shown), "no number: neither its last one nor 0"


def test_a_newer_report_about_another_model_is_passed_over(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path / "data/service", registry_name="captioner")
    write_report(tmp_path / "data/08_reporting/scenes/drift.json", 0.1, drifted=False, model="captioner")
    write_report(tmp_path / "data/08_reporting/mine/drift.json", 0.7, drifted=True, model="captioner_mine")
    os.utime(tmp_path / "data/08_reporting/scenes/drift.json", (1, 1))
    report = read_drift(settings)
    assert report is not None and report.signals[0].value == 0.1
    others = read_drift(settings.model_copy(update={"registry_name": "captioner_mine"}))
    assert others is not None and others.signals[0].value == 0.7
    assert read_drift(settings.model_copy(update={"registry_name": "tagger"})) is None


def test_a_report_can_be_named_by_address(tmp_path: Path) -> None:
    file = tmp_path / "elsewhere/drift.json"
    settings = Settings(state=tmp_path, drift_report=file.as_uri())
    assert read_drift(settings) is None, "there is none yet"
    write_report(file, 0.3, drifted=False)
    report = read_drift(settings)
    assert report is not None and report.signals[0].value == 0.3


@pytest.mark.parametrize("content", ["", "[]", '{"signals": 3}', '{"signals": [{"name": 1}]}'])
def test_a_torn_report_is_no_report(tmp_path: Path, content: str) -> None:
    file = tmp_path / "drift.json"
    file.write_text(content)
    assert read_drift(Settings(state=tmp_path, drift_report=str(file))) is None


def test_a_registry_that_is_away_leaves_the_last_known_time() -> None:
    moment = datetime(2026, 11, 1, tzinfo=UTC)
    ended = datetime(2026, 11, 8, tzinfo=UTC)
    show_retraining(lambda: moment, lambda: ended)

    def away() -> datetime:
        raise RegistryError("it does not answer")

    show_retraining(away, away)
    show_retraining(lambda: None, lambda: None)
    name = "captionloop_retraining_last_success_timestamp_seconds"
    assert REGISTRY.get_sample_value(name) == moment.timestamp()
    name = "captionloop_retraining_last_end_timestamp_seconds"
    assert REGISTRY.get_sample_value(name) == ended.timestamp()
