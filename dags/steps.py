"""How a step of our DAGs runs: a command of the project, with its own interpreter here, or in a pod.

A DAG imports Airflow and nothing of the project: each step is one `kedro run` or `captionloop` command. What
is set here comes from the environment of Airflow's processes, read when a DAG file is parsed:

| variable | default | is |
|---|---|---|
| `CAPTIONLOOP_PROJECT` | the folder above `dags/` | where commands run |
| `CAPTIONLOOP_BIN` | `<project>/.venv/bin` | where `kedro` and `captionloop` are |
| `CAPTIONLOOP_POD_IMAGE` | | the pipelines' image; if set, every step is a pod |
| `CAPTIONLOOP_POD_TEMPLATE` | | a pod manifest with the volume of `data/`, secrets and resources |
| `CAPTIONLOOP_POD_NAMESPACE` | `default` | |
| `CAPTIONLOOP_RETRY_SECONDS` | 60 | before a step that failed is tried again |
| `CAPTIONLOOP_URL` | `http://127.0.0.1:3000` | the service that is verified |
| `CAPTIONLOOP_MLFLOW_URL` | `http://127.0.0.1:5000` | where people find MLflow's pages |
"""

import hashlib
import json
import os
import re
import shlex
from datetime import timedelta
from pathlib import Path
from typing import Any

PROJECT = Path(os.environ.get("CAPTIONLOOP_PROJECT") or Path(__file__).resolve().parents[1])
BIN = os.environ.get("CAPTIONLOOP_BIN") or str(PROJECT / ".venv/bin")
POD_IMAGE = os.environ.get("CAPTIONLOOP_POD_IMAGE", "")
SERVICE_URL = shlex.quote(os.environ.get("CAPTIONLOOP_URL", "http://127.0.0.1:3000"))
MLFLOW_URL = os.environ.get("CAPTIONLOOP_MLFLOW_URL", "http://127.0.0.1:5000")

DEFAULTS = {
    "retries": 2,
    "retry_delay": timedelta(seconds=float(os.environ.get("CAPTIONLOOP_RETRY_SECONDS", "60"))),
}
"""A step that is tried again goes on where it stopped: what is there, and still right, stays."""

WORKSPACE = "data/runs/{{ folder(run_id) }}"
LONGEST_NAME = 80
# Where a worker is killed, what it had started may live on for a while. The next try waits for it to end, so
# that no two processes ever write to one folder.
_PRELUDE = f"""set -euo pipefail
export DO_NOT_TRACK=1 KEDRO_DISABLE_TELEMETRY=1 GX_ANALYTICS_ENABLED=false
export CAPTIONLOOP_ACTOR={{{{ quoted('airflow:' ~ dag.dag_id ~ '/' ~ run_id ~ '/' ~ task.task_id) }}}}
mkdir -p {WORKSPACE}
exec 9> {WORKSPACE}/.{{{{ task.task_id }}}}.{{{{ ti.map_index }}}}.lock
flock 9"""


def folder_name(run_id: str) -> str:
    """A DAG run's id as the name of a folder and of an MLflow run.

    Runs that an asset triggers have no logical date, so nothing but the id tells runs apart; a piece of its
    hash keeps those apart that differ only in characters no folder should have.
    """
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", run_id).strip("-")[:LONGEST_NAME]
    return plain if plain == run_id else f"{plain}-{hashlib.sha256(run_id.encode()).hexdigest()[:8]}"


def numbers(params: Any) -> str:
    """The form's numbers as Kedro's runtime parameters; what was left empty stays as in the environment."""
    given = {name: params.get(name) for name in ("least_ratings", "epochs", "encoder_epochs", "margin")}
    return "".join(f",{name}={value}" for name, value in given.items() if value is not None)


MACROS = {"folder": folder_name, "quoted": shlex.quote, "numbers": numbers}
"""For `DAG(user_defined_macros=...)`."""


def environments() -> list[str]:
    """The Kedro environments to choose from, `base` first; where `conf/` is not at hand, that alone."""
    folder = PROJECT / "conf"
    found = sorted(each.name for each in folder.iterdir() if each.is_dir()) if folder.is_dir() else []
    return ["base", *(name for name in found if name not in {"base", "local"})]


def kedro(pipeline: str, **parameters: str) -> str:
    """`kedro run` of a pipeline in the run's own folder, as part of the run's one MLflow run."""
    given = {"workspace": WORKSPACE, "mlflow_run": "{{ folder(run_id) }}", **parameters}
    listed = ",".join(f"{name}={value}" for name, value in given.items())
    return (
        "kedro run --env {{ quoted(params.environment) }} "
        f"--pipelines {pipeline} --only-missing-outputs --params {listed}{{{{ numbers(params) }}}}"
    )


def outcome(what: str) -> str:
    """The command that prints what came of a step, as one line of JSON."""
    return (
        f"captionloop outcome {what} --workspace {WORKSPACE} "
        "--mlflow-run {{ folder(run_id) }} --env {{ quoted(params.environment) }}"
    )


def tidy(**options: Any) -> Any:
    """The step that takes what people erased out of features and runs, and removes runs that are not kept.

    That it finds something amiss, or cannot, is in its log, and no failure of what the run is for.
    """
    command = f"captionloop reconcile --workspace {WORKSPACE} --env {{{{ quoted(params.environment) }}}}"
    return step("tidy", f"{command} || echo 'Not everything is in order: see above'", **options)


def step(task_id: str, *commands: str, tells: str | None = None, **options: Any) -> Any:
    """A step of a DAG.

    Args:
        task_id: its name.
        commands: what it runs, in order, stopping at the first that fails. Templates.
        tells: the command whose one line of JSON the step returns.
        options: of the operator.
    """
    kind, settings = _operator(task_id, commands, tells)
    return kind(**settings, **options)


def mapped_step(task_id: str, *commands: str, each: Any, variable: str, **options: Any) -> Any:
    """A step that runs once for each value of `each`, found in the environment variable `variable`."""
    kind, settings = _operator(task_id, commands, None)
    field = "env_vars" if POD_IMAGE else "env"
    values = each.map(lambda value: {variable: value})
    return kind.partial(**settings, **options).expand(**{field: values})


def _operator(task_id: str, commands: tuple[str, ...], tells: str | None) -> tuple[Any, dict[str, Any]]:
    """The operator's class and settings."""
    common = {"task_id": task_id, "do_xcom_push": tells is not None}
    if POD_IMAGE:
        from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

        told = f"{tells} > /airflow/xcom/return.json" if tells else ""
        return KubernetesPodOperator, {
            **common,
            "name": f"captionloop-{task_id}",
            "image": POD_IMAGE,
            "namespace": os.environ.get("CAPTIONLOOP_POD_NAMESPACE", "default"),
            "pod_template_file": os.environ.get("CAPTIONLOOP_POD_TEMPLATE") or None,
            "cmds": ["bash", "-c"],
            "arguments": ["\n".join([_PRELUDE, *commands, told])],
            "get_logs": True,
        }
    from airflow.providers.standard.operators.bash import BashOperator

    # Whoever is being served on this machine goes first.
    here = f"export PATH={shlex.quote(BIN)}:$PATH\nrenice -n 10 $$ > /dev/null || true"
    return BashOperator, {
        **common,
        "bash_command": "\n".join([_PRELUDE, here, *commands, tells or ""]),
        "cwd": str(PROJECT),
        "append_env": True,
        "output_processor": json.loads if tells else str,
    }
