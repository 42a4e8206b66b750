"""Metrics in MLflow, without making finished work look unfinished."""

import math

import pandas as pd
from kedro_mlflow.io.metrics import MlflowMetricsHistoryDataset


class TrackedMetricsDataset(MlflowMetricsHistoryDataset):  # type: ignore[misc]
    """Metrics that belong to the MLflow run which computes them; they cannot be missing from another.

    kedro-mlflow looks for them in the run that has just begun, so that `kedro run --only-missing-outputs`
    would do again every stage that logs one. The prefix is needed: kedro-mlflow puts its own class in place
    of a dataset without one.
    """

    def __init__(self, *, prefix: str, metadata: dict[str, object] | None = None) -> None:
        super().__init__(prefix=prefix, metadata=metadata)

    def _exists(self) -> bool:
        return True


class TrackedCurvesDataset(TrackedMetricsDataset):
    """Curves, one row for each `epoch`, as metrics of the MLflow run: each column by epoch."""

    def _save(self, data: pd.DataFrame) -> None:
        super()._save(histories(data))  # MLflow takes no metric without a value


def histories(curves: pd.DataFrame) -> dict[str, list[dict[str, float]]]:
    """Each measure's values and steps, as kedro-mlflow wants them."""
    points = {
        str(name): [
            {"value": float(value), "step": int(epoch)}
            for epoch, value in zip(curves["epoch"], curves[name], strict=True)
            if math.isfinite(value)
        ]
        for name in curves.columns.drop("epoch")
    }
    return {name: values for name, values in points.items() if values}
