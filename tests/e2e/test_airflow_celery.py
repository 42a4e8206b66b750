"""Retraining with the Celery executor: PostgreSQL, Redis, two workers, one of which dies while it trains."""

from pathlib import Path

import pytest
from airflow_process import DistributedAirflow
from loop_traffic import rate, running_kedro
from service_process import ServiceProcess
from small_project import ROOT, SmallProject

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(2400)]
DAG = "retraining"


def test_another_worker_finishes_what_a_killed_one_began(tmp_path: Path, postgres: str, redis: str) -> None:
    if not (ROOT / ".venv-airflow/bin/airflow").exists():
        pytest.skip("Airflow's environment is not installed (make install-airflow)")
    project = SmallProject(tmp_path / "project")
    project.crown()
    service = ServiceProcess(
        project.folder / "data/serving",
        CAPTIONLOOP_STATE=str(project.folder / "data/service"),
        CAPTIONLOOP_REGISTRY=f"sqlite:///{project.folder / 'mlflow.db'}",
    )
    airflow = DistributedAirflow(
        tmp_path / "airflow",
        project.folder,
        database=postgres,
        broker=f"{redis}/0",
        CAPTIONLOOP_URL=service.url,
    )
    try:
        rate(service.wait_until_ready(), seed=1)
        airflow.wait_until_ready().switch_on(DAG)
        run_id = airflow.trigger(DAG, least_ratings=10, epochs=1, shards=2, verify_seconds=5)
        airflow.kill_worker_of(running_kedro("retraining_training", project.folder))
        states = airflow.wait_for(DAG, run_id)
        assert {state for name, state in states.items() if name != "rollback"} == {"success"}, states
        assert airflow.tries(DAG, run_id, "training") == 2
        assert project.champion == 2
    finally:
        airflow.stop()
        service.stop()
