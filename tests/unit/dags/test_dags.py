"""The DAGs as Airflow sees them, in Airflow's own environment."""

import importlib.util
import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

PROGRAM = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
def told(task):
    return {
        "kind": task.task_type, "after": sorted(task.upstream_task_ids),
        "rule": getattr(task.trigger_rule, "value", task.trigger_rule),
        "retries": task.retries, "bash": getattr(task, "bash_command", None),
        "pod": getattr(task, "arguments", None), "mapped": task.is_mapped if hasattr(task, "is_mapped") else
        type(task).__name__ == "MappedOperator",
    }
print(json.dumps({
    "errors": bag.import_errors,
    "seconds": {stat.file: stat.duration.total_seconds() for stat in bag.dagbag_stats},
    "dags": {
        dag_id: {
            "max_active_runs": dag.max_active_runs, "catchup": dag.catchup,
            "params": {name: dag.params.get_param(name).schema for name in dag.params},
            "tasks": {task.task_id: told(task) for task in dag.tasks},
        } for dag_id, dag in bag.dags.items()
    },
}, default=str))
"""


def dags(project_root: Path, home: Path, **variables: str) -> dict:
    python = project_root / ".venv-airflow/bin/python"
    if not python.exists():
        pytest.skip("Airflow's environment is not installed (make install-airflow)")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "CAPTIONLOOP_"))
    }
    folder = project_root / "dags"
    found = subprocess.run(
        [python, "-c", PROGRAM, folder],
        env={
            **environment, "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(folder), "PYTHONPATH": str(folder), **variables,
        },
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def bag(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    return dags(project_root, tmp_path_factory.mktemp("airflow"))


@pytest.fixture(scope="module")
def retraining(bag: dict) -> dict:
    return bag["dags"]["retraining"]


def test_every_dag_file_is_imported(bag: dict) -> None:
    assert bag["errors"] == {}
    assert set(bag["dags"]) == {"retraining", "monitoring", "ratings"}
    print("seconds to import:", bag["seconds"])


def test_one_run_at_a_time_and_none_for_the_past(bag: dict) -> None:
    assert all(dag["max_active_runs"] == 1 and not dag["catchup"] for dag in bag["dags"].values())


def test_retraining_goes_through_its_steps_in_order(retraining: dict) -> None:
    order = [
        "feedback", "enough", "encoder", "caching", "training", "evaluation", "registration", "gate",
        "approval", "package", "deploy", "verify",
    ]  # fmt: skip
    for before, after in pairwise(order):
        assert before in retraining["tasks"][after]["after"], after
    assert retraining["tasks"]["caching"]["mapped"]


def test_what_failed_is_taken_back_and_the_run_does_not_pass_for_good(retraining: dict) -> None:
    rollback, close = retraining["tasks"]["rollback"], retraining["tasks"]["close"]
    assert (rollback["rule"], rollback["after"]) == ("one_failed", ["deploy", "verify"])
    assert close["rule"] == "all_done" and "rollback" in close["after"]
    assert "--after-verify" in rollback["bash"], "what could not be verified is not held against the version"
    for name in ("registration", "deploy", "verify", "rollback"):
        assert "export CAPTIONLOOP_ACTOR={{ quoted('airflow:'" in retraining["tasks"][name]["bash"]


def test_what_was_erased_goes_whatever_came_of_the_run(bag: dict) -> None:
    for dag, before in (("retraining", {"gate", "verify", "rollback"}), ("monitoring", {"drift"})):
        tidy = bag["dags"][dag]["tasks"]["tidy"]
        assert (set(tidy["after"]), tidy["rule"]) == (before, "all_done")
        assert "captionloop reconcile --workspace data/runs/" in tidy["bash"]
    assert "tidy" in bag["dags"]["retraining"]["tasks"]["close"]["after"]


def test_steps_are_commands_of_the_project_that_resume(retraining: dict) -> None:
    for name in ("feedback", "encoder", "training", "evaluation", "registration"):
        bash = retraining["tasks"][name]["bash"]
        assert "kedro run" in bash and "--only-missing-outputs" in bash and "flock" in bash
        assert "mlflow_run={{ folder(run_id) }}" in bash
        assert retraining["tasks"][name]["retries"] == 2
    assert "models promote" in retraining["tasks"]["deploy"]["bash"]
    assert "--gated" in retraining["tasks"]["deploy"]["bash"]


def test_nothing_that_people_type_reaches_the_shell_unchecked(retraining: dict) -> None:
    for name, schema in retraining["params"].items():
        assert "enum" in schema or schema["type"] != "string", name
    assert retraining["params"]["environment"]["enum"][0] == "base"


@pytest.mark.e2e
@pytest.mark.named_use
def test_steps_become_pods_by_configuration(project_root: Path, tmp_path: Path) -> None:
    variables = {"CAPTIONLOOP_POD_IMAGE": "captionloop/pipelines:1"}
    found = dags(project_root, tmp_path, **variables)
    assert found["errors"] == {}
    tasks = found["dags"]["retraining"]["tasks"]
    pods = {name for name, task in tasks.items() if task["kind"] == "KubernetesPodOperator"}
    assert pods == {
        "feedback", "encoder", "caching", "training", "evaluation", "registration", "package", "deploy",
        "verify", "rollback", "tidy",
    }  # fmt: skip
    assert "/airflow/xcom/return.json" in tasks["registration"]["pod"][0]


@pytest.fixture(scope="module")
def folder_name(project_root: Path):
    spec = importlib.util.spec_from_file_location("steps", project_root / "dags/steps.py")
    steps = importlib.util.module_from_spec(spec)
    sys.modules["steps"] = steps
    spec.loader.exec_module(steps)
    return steps.folder_name


def test_a_runs_id_becomes_a_folder(folder_name) -> None:
    assert folder_name("nightly_7") == "nightly_7"
    assert folder_name("manual__2026-11-24T18:56:32+00:00").startswith("manual__2026-11-24T18-56-32-00-00-")
    assert folder_name("a/b") != folder_name("a:b")
    assert "/" not in folder_name("../../etc") and not folder_name("../../etc").startswith(".")
    assert len(folder_name("x" * 250)) < 100
