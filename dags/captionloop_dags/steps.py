"""Airflow tasks that run a command of the project, with its own interpreter here, or in a pod.

A DAG imports Airflow and nothing of the project: each step is one `kedro run` or `captionloop` command.
"""

import hashlib
import json
import re
import shlex
from typing import Any

from captionloop_dags import settings
from captionloop_dags.failures import send_failure_alert

DEFAULT_ARGS = {
    "owner": settings.OWNER,
    "pool": settings.POOL,
    "retries": 2,
    "retry_delay": settings.RETRY,
    "retry_exponential_backoff": 2,
    "max_retry_delay": settings.LONGEST_RETRY,
    "execution_timeout": settings.STEP,
}
"""A step that is tried again goes on where it stopped: what is there, and still right, stays."""

WORKSPACE = f"{settings.WORKSPACE}/runs/{{{{ folder(run_id) }}}}"
REMOTE = "://" in WORKSPACE
"""Whether runs are in object storage, and steps share no folder."""
SKIPPED = 99
"""The exit code of a command that found nothing to do."""
NOT_YET = 75
"""The exit code of a command that shall be asked again later."""
POKE_SECONDS = 60
LONGEST_WAIT = settings.LONGEST_RUN * 0.9
"""Of a step that waits: it is ended before the run is."""
LONGEST_NAME = 80
_ENVIRONMENT = """set -euo pipefail
export DO_NOT_TRACK=1 KEDRO_DISABLE_TELEMETRY=1 GX_ANALYTICS_ENABLED=false
export CAPTIONLOOP_ACTOR={{ quoted('airflow:' ~ dag.dag_id ~ '/' ~ run_id ~ '/' ~ task.task_id) }}"""
# Where a worker is killed, what it had started may live on for a while. The next try waits for it to end, so
# that no two processes ever write to one folder; but not for ever, for the loop would stand still in silence.
#
# What a step says on stderr is kept beside the lock until it succeeds: the last line is why it failed.
_IN_FOLDER = f"""mkdir -p {WORKSPACE}
own={WORKSPACE}/.{{{{ task.task_id }}}}.{{{{ ti.map_index }}}}
exec 8>&2 9> "$own.lock"
exec 2> >(exec tee "$own.stderr" >&8 9>&-)
telling=$!
trap 'code=$?; exec 2>&8; wait "$telling" || true; [ "$code" -ne 0 ] || rm -f "$own.stderr"' EXIT
flock -w {settings.LOCK_SECONDS} 9 || {{
  echo "An earlier try holds $own.lock for {settings.LOCK_SECONDS} s now: end its processes" >&2
  exit 1
}}"""
# There, `kedro run` itself holds a lease in the storage, and what a step said goes there when it has failed.
_IN_STORAGE = f"""own=$(mktemp -d)/.{{{{ task.task_id }}}}.{{{{ ti.map_index }}}}
exec 8>&2
exec 2> >(exec tee "$own.stderr" >&8)
telling=$!
trap 'code=$?; exec 2>&8; wait "$telling" || true
captionloop step-ended "$own.stderr" --workspace {WORKSPACE} --code "$code" > "$own.ended" 2>&1 ||
  [ "$code" -eq 0 ] || cat "$own.ended" >&2' EXIT"""
_IN_WORKSPACE = _IN_STORAGE if REMOTE else _IN_FOLDER


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


def dag_options(**own: Any) -> dict[str, Any]:
    """What is the same for all of our DAGs."""
    return {
        "catchup": False,
        "max_active_runs": 1,
        "default_args": DEFAULT_ARGS,
        "user_defined_macros": {"folder": folder_name, "quoted": shlex.quote, "numbers": numbers},
        "tags": ["captionloop"],
        "on_failure_callback": send_failure_alert,
        **own,
    }


def kedro(pipeline: str, **parameters: str) -> str:
    """`kedro run` of a pipeline in the run's own folder, as part of the run's one MLflow run."""
    given = {"workspace": WORKSPACE, "mlflow_run": "{{ folder(run_id) }}", **parameters}
    listed = ",".join(f"{name}={value}" for name, value in given.items())
    return (
        "kedro run --env {{ quoted(params.environment) }} "
        f"--pipelines {pipeline} --only-missing-outputs --params {listed}{{{{ numbers(params) }}}}"
    )


def report_command(what: str) -> str:
    """The command that prints the report of a step, as one line of JSON."""
    return (
        f"captionloop outcome {what} --workspace {WORKSPACE} "
        "--mlflow-run {{ folder(run_id) }} --env {{ quoted(params.environment) }}"
    )


def cleanup_task(*commands: str, **options: Any) -> Any:
    """The task that removes erased data from features and runs, and old folders of runs.

    That it finds something amiss, or cannot, is in its log, and no failure of what the run is for. It tells
    why steps failed, as far as they said so.
    """
    reconcile = f"captionloop reconcile --workspace {WORKSPACE} --env {{{{ quoted(params.environment) }}}}"
    attempts = [
        f"{command} || echo 'Not everything is in order: see above'" for command in (reconcile, *commands)
    ]
    return cli_task(
        "tidy", *attempts, result_command=f"{report_command('failures')} || echo '{{}}'", **options
    )


def cli_task(
    task_id: str,
    *commands: str,
    result_command: str | None = None,
    in_workspace: bool = True,
    only_if: str | None = None,
    **options: Any,
) -> Any:
    """A step of a DAG.

    Args:
        task_id: its name.
        commands: what it runs, in order, stopping at the first that fails. Templates.
        result_command: the command whose one line of JSON the step returns.
        in_workspace: whether the run has a folder, in which the step holds a lock.
        only_if: a parameter of the run; where it is empty or 0, the step does nothing.
        options: of the operator.
    """
    kind, arguments = _operator(task_id, commands, result_command, in_workspace=in_workspace)
    return _optional(kind, only_if)(**arguments, **options)


def waiting_cli_task(task_id: str, command: str, *, only_if: str | None = None, **options: Any) -> Any:
    """A step that asks a command again each minute, as long as its exit code is `NOT_YET`.

    Here it holds no worker between two looks; in a pod it is the pod that waits, and none does either.
    """
    if settings.POD_IMAGE:
        again = f"code=$?; [ $code = {NOT_YET} ] || exit $code; sleep {POKE_SECONDS}"
        waiting = f"until ( {command} ); do {again}; done"
        kind, arguments = _operator(task_id, (waiting,), None, in_workspace=False)
        return _optional(kind, only_if)(**arguments, **{"execution_timeout": LONGEST_WAIT, **options})
    from airflow.providers.standard.sensors.bash import BashSensor

    return _optional(BashSensor, only_if)(
        task_id=task_id,
        bash_command="\n".join([_ENVIRONMENT, f"cd {shlex.quote(str(settings.PROJECT))}", _here(), command]),
        retry_exit_code=NOT_YET,
        mode="reschedule",
        poke_interval=POKE_SECONDS,
        timeout=LONGEST_WAIT.total_seconds(),
        **options,
    )


def _optional(kind: Any, only_if: str | None) -> Any:
    """The operator's class, which does nothing where a run was not started with that parameter."""
    if only_if is None:
        return kind

    class Optional(kind):  # type: ignore[misc]
        def execute(self, context: Any) -> Any:
            if not context["params"][only_if]:
                self.log.info("The run was started without %s: nothing to do", only_if)
                return None
            return super().execute(context)

    Optional.__name__ = Optional.__qualname__ = f"Optional{kind.__name__}"
    return Optional


def mapped_cli_task(task_id: str, *commands: str, each: Any, variable: str, **options: Any) -> Any:
    """A step that runs once for each value of `each`, found in the environment variable `variable`."""
    kind, arguments = _operator(task_id, commands, None, in_workspace=True)
    field = "env_vars" if settings.POD_IMAGE else "env"
    values = each.map(lambda value: {variable: value})
    return kind.partial(**arguments, **options).expand(**{field: values})


def _operator(
    task_id: str, commands: tuple[str, ...], result_command: str | None, *, in_workspace: bool
) -> tuple[Any, dict[str, Any]]:
    """The operator's class and settings."""
    common = {"task_id": task_id, "do_xcom_push": result_command is not None, "skip_on_exit_code": SKIPPED}
    before = [_ENVIRONMENT, _IN_WORKSPACE] if in_workspace else [_ENVIRONMENT]
    if settings.POD_IMAGE:
        from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

        result_lines = [f"{{ {result_command}; }} > /airflow/xcom/return.json"] if result_command else []
        return KubernetesPodOperator, {
            **common,
            "name": f"captionloop-{task_id}",
            "image": settings.POD_IMAGE,
            "namespace": settings.POD_NAMESPACE,
            "pod_template_file": settings.POD_TEMPLATE,
            "cmds": ["bash", "-c"],
            "arguments": ["\n".join([*before, *commands, *result_lines])],
            "get_logs": True,
            "deferrable": settings.POD_DEFERRABLE,
            # The image is large: pulled onto a new node, it takes longer than the default of two minutes.
            "startup_timeout_seconds": 1800,
        }
    from airflow.providers.standard.operators.bash import BashOperator

    # The last line of the output is what the step returns: nothing that was said before may come after it.
    result_lines = (
        (['exec 2>&8; wait "$telling" || true'] if in_workspace else []) + [result_command]
        if result_command
        else []
    )
    return BashOperator, {
        **common,
        "bash_command": "\n".join([*before, _here(), *commands, *result_lines]),
        "cwd": str(settings.PROJECT),
        "append_env": True,
        "output_processor": json.loads if result_command else str,
    }


def _here() -> str:
    """Finds the project's commands. Whoever is being served on this machine goes first."""
    return f"export PATH={shlex.quote(settings.BIN)}:$PATH\nrenice -n 10 $$ > /dev/null || true"
