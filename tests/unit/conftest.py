"""Fixtures that the unit tests of several parts share."""

import pytest


@pytest.fixture(scope="session")
def mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An MLflow store on SQLite. Making its tables takes seconds: tests share it, with names of their own."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    MlflowClient(uri).create_experiment("tests", artifact_location=str(folder / "artifacts"))
    return uri
