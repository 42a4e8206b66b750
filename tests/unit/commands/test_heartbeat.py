from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from captionloop.cli import main
from captionloop.registry.heartbeat import last_end, note_end
from captionloop.registry.model_registry import ModelRegistry

pytestmark = pytest.mark.integration


@pytest.fixture
def registry(mlflow_store, request) -> ModelRegistry:
    from mlflow import MlflowClient

    name = f"heartbeat {request.node.name}"[:80]
    MlflowClient(mlflow_store).create_registered_model(name)
    return ModelRegistry(mlflow_store, name, "tests")


def test_the_end_of_a_run_is_remembered_in_the_registry(registry: ModelRegistry) -> None:
    assert last_end(registry) is None
    noted = note_end(registry)
    assert last_end(registry) == noted and datetime.now(UTC) - noted < timedelta(minutes=1)
    later = note_end(registry, noted + timedelta(days=7))
    assert last_end(registry) == later


def test_of_a_model_that_is_not_there_nothing_ended(mlflow_store) -> None:
    assert last_end(ModelRegistry(mlflow_store, "nobody's", "tests")) is None


def test_a_registry_without_our_model_is_one_line(tmp_path, monkeypatch, project_root) -> None:
    monkeypatch.setenv("CAPTIONLOOP_PROJECT", str(project_root))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    result = CliRunner().invoke(main, ["heartbeat"])
    assert result.exit_code == 1 and result.stderr.count("\n") == 1 and result.stdout == ""
