"""The DAGs as Airflow sees them, in Airflow's own environment."""

import json
import os
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration


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
        "seconds": task.execution_timeout and task.execution_timeout.total_seconds(),
        "backoff": task.retry_exponential_backoff, "owner": task.owner, "pool": task.pool,
        "group": task.task_group.group_id if task.task_group else None,
        "deferrable": getattr(task, "deferrable", None),
        "skip": list(getattr(task, "skip_on_exit_code", None) or []),
    }
print(json.dumps({
    "errors": bag.import_errors,
    "seconds": {stat.file: stat.duration.total_seconds() for stat in bag.dagbag_stats},
    "dags": {
        dag_id: {
            "max_active_runs": dag.max_active_runs, "catchup": dag.catchup,
            "seconds": dag.dagrun_timeout and dag.dagrun_timeout.total_seconds(),
            "tells": getattr(dag.on_failure_callback, "__name__", None),
            "assets": [asset.name for task in dag.tasks for asset in task.outlets],
            "params": {name: dag.params.get_param(name).schema for name in dag.params},
            "tasks": {task.task_id: told(task) for task in dag.tasks},
        } for dag_id, dag in bag.dags.items()
    },
}, default=str))
"""


def dags(project_root: Path, home: Path, **variables: str) -> dict:
    """The project's DAGs with these variables set."""
    return python(project_root, home, PROGRAM, **variables)


def python(project_root: Path, home: Path, program: str, *arguments: str, **variables: str) -> Any:
    """What a program in Airflow's environment prints in its last line; it is given the DAGs' folder first."""
    interpreter = project_root / ".venv-airflow/bin/python"
    if not interpreter.exists():
        pytest.skip("Airflow's environment is not installed (make install-airflow)")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "CAPTIONLOOP_"))
    }
    folder = project_root / "dags"
    found = subprocess.run(
        [interpreter, "-c", program, folder, *arguments],
        env={
            **environment, "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",  # a busy machine is no broken DAG
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
        "approval", "package", "shadow", "shadow_watch", "canary", "canary_watch", "canary_verdict", "deploy",
        "verify",
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
    assert retraining["params"]["least_ratings"]["minimum"] == 1, "from none, nothing can be learnt"


def test_shadow_and_canary_are_left_out_unless_they_are_asked_for(retraining: dict) -> None:
    tasks, params = retraining["tasks"], retraining["params"]
    kinds = {name: task["kind"] for name, task in tasks.items() if name.startswith(("shadow", "canary"))}
    assert kinds == {
        "shadow": "OptionalBashOperator", "shadow_watch": "OptionalBashSensor",
        "canary": "OptionalBashOperator",
        "canary_watch": "OptionalBashSensor", "canary_verdict": "OptionalBashOperator",
    }  # fmt: skip
    assert params["shadow_share"]["maximum"] == 1 and params["canary_share"]["maximum"] == 0.5
    assert tasks["deploy"]["after"] == ["canary_verdict", "package"]
    assert "--stop" in tasks["tidy"]["bash"], "a run that is ended ends what it tries"


@pytest.mark.e2e
@pytest.mark.named_use
def test_steps_become_pods_by_configuration(project_root: Path, tmp_path: Path) -> None:
    variables = {"CAPTIONLOOP_POD_IMAGE": "captionloop/pipelines:1"}
    found = dags(project_root, tmp_path, **variables)
    assert found["errors"] == {}
    tasks = found["dags"]["retraining"]["tasks"]
    pods = {name for name, task in tasks.items() if task["kind"].endswith("KubernetesPodOperator")}
    assert pods == {
        "feedback", "encoder", "caching", "training", "evaluation", "registration", "package", "deploy",
        "verify", "rollback", "tidy", "shadow", "shadow_watch", "canary", "canary_watch", "canary_verdict",
    }  # fmt: skip
    assert "/airflow/xcom/return.json" in tasks["registration"]["pod"][0]
    values = [tasks[name] for name in pods if not tasks[name]["mapped"]]
    assert all(task["deferrable"] and task["skip"] == [99] for task in values)
    assert found["dags"]["ratings"]["tasks"]["count"]["skip"] == [99], "too few ratings are no failure"


PURE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from captionloop_dags.steps import folder_name
print(json.dumps([folder_name(each) for each in json.loads(sys.argv[2])]))
"""


@pytest.fixture(scope="module")
def folder_name(project_root: Path, tmp_path_factory: pytest.TempPathFactory):
    def names(*run_ids: str) -> list[str]:
        return python(project_root, tmp_path_factory.mktemp("home"), PURE, json.dumps(run_ids))

    return names


def test_a_runs_id_becomes_a_folder(folder_name) -> None:
    plain, moment, slash, colon, above, long = folder_name(
        "nightly_7", "manual__2026-11-24T18:56:32+00:00", "a/b", "a:b", "../../etc", "x" * 250
    )
    assert plain == "nightly_7" and moment.startswith("manual__2026-11-24T18-56-32-00-00-")
    assert slash != colon
    assert "/" not in above and not above.startswith(".")
    assert len(long) < 100


def test_nothing_waits_for_ever(bag: dict) -> None:
    """With one run at a time, a run that hangs would stop the loop, and nobody would hear of it."""
    for name, dag in bag["dags"].items():
        assert dag["seconds"], name
        for task_id, task in dag["tasks"].items():
            waits_for_a_person = task_id == "approval"  # a week at most: response_timeout
            assert waits_for_a_person or 0 < task["seconds"] < dag["seconds"], (name, task_id)
            for flock in (line for line in (task["bash"] or "").splitlines() if line.startswith("flock")):
                assert float(flock.split()[2]) < task["seconds"], "the lock's own line comes first"
    assert bag["dags"]["retraining"]["seconds"] > 7 * 86400


def test_tries_are_further_and_further_apart_and_every_task_has_an_owner_and_a_pool(bag: dict) -> None:
    values = {name: dag["tells"] for name, dag in bag["dags"].items()}
    assert values == {"retraining": "send_failure_alert", "monitoring": "send_failure_alert", "ratings": None}
    for dag in bag["dags"].values():
        for task in dag["tasks"].values():
            assert task["backoff"] == 2 and (task["owner"], task["pool"]) == ("captionloop", "default_pool")


def test_groups_leave_the_ids_as_they_were(retraining: dict) -> None:
    groups = {name: task["group"] for name, task in retraining["tasks"].items()}
    assert {groups[name] for name in ("encoder", "caching", "training")} == {"learning"}
    assert {groups[name] for name in ("shadow", "canary_watch", "canary_verdict")} == {"release"}
    assert {groups[name] for name in ("package", "deploy", "verify", "rollback")} == {"release"}
    assert groups["close"] is None


def test_a_look_at_the_ratings_leaves_no_folder(bag: dict) -> None:
    """Every quarter of an hour one, they would push the runs out that are kept."""
    bash = bag["dags"]["ratings"]["tasks"]["count"]["bash"]
    assert "mkdir" not in bash and "data/runs" not in bash


def test_in_an_airflow_of_others_ids_have_a_prefix_and_helpers_one_name(
    project_root: Path, tmp_path: Path
) -> None:
    variables = {"CAPTIONLOOP_DAG_PREFIX": "photos_", "CAPTIONLOOP_OWNER": "ann", "CAPTIONLOOP_POOL": "small"}
    others = {"CAPTIONLOOP_LEAST_RATINGS": "20"}
    found = dags(project_root, tmp_path, **variables, **others)
    assert found["errors"] == {}
    assert set(found["dags"]) == {"photos_retraining", "photos_monitoring", "photos_ratings"}
    count = found["dags"]["photos_ratings"]
    assert count["assets"] == ["photos_enough_ratings"]
    assert (count["tasks"]["count"]["owner"], count["tasks"]["count"]["pool"]) == ("ann", "small")
    modules = {
        path.name for path in (project_root / "dags").iterdir() if not path.name.startswith((".", "__"))
    }
    assert modules == {"captionloop_dags", "retraining.py", "monitoring.py", "ratings.py"}


@pytest.mark.parametrize(
    ("name", "value"), [("LEAST_RATINGS", "0"), ("LEAST_RATINGS", "many"), ("DAG_PREFIX", "a b")]
)
def test_a_setting_that_cannot_be_used_is_one_line(
    project_root: Path, tmp_path: Path, name: str, value: str
) -> None:
    errors = dags(project_root, tmp_path, **{f"CAPTIONLOOP_{name}": value})["errors"]
    assert len(errors) == 3
    for error in errors.values():
        last = error.strip().splitlines()[-1]
        assert f"CAPTIONLOOP_{name}=" in last and "cannot be used" in last
