import math

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient

from captionloop.datasets.mlflow_datasets import TrackedCurvesDataset, TrackedMetricsDataset, histories

CURVES = pd.DataFrame({"epoch": [0, 1], "loss": [3.0, 2.0], "map": [math.nan, 0.5], "cider": [math.nan] * 2})


def test_metrics_of_an_earlier_run_do_not_make_its_work_look_unfinished() -> None:
    assert TrackedMetricsDataset(prefix="encoder").exists()
    assert TrackedCurvesDataset(prefix="encoder").exists()


def test_curves_become_histories_without_values_that_are_none() -> None:
    assert histories(CURVES) == {
        "loss": [{"value": 3.0, "step": 0}, {"value": 2.0, "step": 1}],
        "map": [{"value": 0.5, "step": 1}],
    }
    assert histories(CURVES.head(0)) == {}


def test_curves_are_in_mlflow_by_epoch(mlflow_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_store)
    mlflow.set_tracking_uri(mlflow_store)
    mlflow.set_experiment("curves")
    try:
        with mlflow.start_run() as run:
            TrackedCurvesDataset(prefix="retraining.encoder").save(CURVES)
    finally:
        mlflow.set_tracking_uri(None)
    history = MlflowClient(mlflow_store).get_metric_history(run.info.run_id, "retraining.encoder.loss")
    assert [(point.step, point.value) for point in history] == [(0, 3.0), (1, 2.0)]
