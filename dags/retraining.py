"""`retraining`: people's ratings become a new version, which is served only if it is no worse.

Triggered by hand (the form), every Monday, or when enough ratings have come in (`dags/ratings.py`). One run
at a time, each in its own folder `data/runs/<run>`; until `deploy`, nothing of it can be seen from outside.
"""

import logging
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG, AssetOrTimeSchedule, CronTriggerTimetable, Param, TriggerRule, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from assets import ENOUGH_RATINGS
from notes import run_note, write_note
from steps import (
    DEFAULTS,
    MACROS,
    SERVICE_URL,
    WORKSPACE,
    environments,
    kedro,
    mapped_step,
    outcome,
    step,
    tidy,
)

VERSION = "{{ (ti.xcom_pull(task_ids='registration') or {}).get('version') | int }}"
A_WEEK = timedelta(days=7)
REJECTED = "A person rejected it"

logger = logging.getLogger(__name__)


class OptionalApproval(ApprovalOperator):
    """Asks a person, if the run was started with `approval`."""

    def execute(self, context: Any) -> Any:
        """Waits in *Required Actions* for an answer; what is not approved within a week is rejected."""
        if not context["params"]["approval"]:
            logger.info("Nobody asked for an approval: the gate's decision is enough")
            return None
        return super().execute(context)


@task(retries=0)
def enough(feedback: dict[str, Any], **context: Any) -> None:
    """Goes on if enough new ratings have come in."""
    write_note(context, run_note(feedback=feedback))
    if not feedback["enough"]:
        raise AirflowSkipException(feedback["sentence"])
    logger.info(feedback["sentence"])


@task(retries=0)
def shards(params: dict[str, Any] | None = None) -> list[str]:
    """The shares of the photos that are encoded side by side."""
    count = (params or {})["shards"]
    return [f"{number}/{count}" for number in range(1, count + 1)]


@task(retries=0)
def gate(feedback: dict[str, Any], registered: dict[str, Any], **context: Any) -> None:
    """Goes on if the new version passed the gate, and this is not a dry run."""
    write_note(context, run_note(feedback=feedback, registered=registered))
    if not registered.get("passed", registered.get("promoted")):
        raise AirflowSkipException(registered["reason"])
    if context["params"]["dry_run"]:
        raise AirflowSkipException(
            f"Dry run: version {registered['version']} passed the gate and stays challenger"
        )
    logger.info(registered["reason"])


@task(retries=0, trigger_rule=TriggerRule.ALL_DONE)
def close(feedback: Any, examination: Any, registered: Any, **context: Any) -> None:
    """Writes the run's note, and lets the run fail where a step did: a rollback that worked is no success."""
    ti, run = context["ti"], context["run_id"]
    states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[run])[run]
    failed = sorted(name for name, state in states.items() if state == "failed")
    note = run_note(
        feedback=feedback,
        examination=examination,
        registered=registered,
        failed=failed,
        rolled_back=states.get("deploy") == states.get("rollback") == "success",
        deployed=states.get("verify") == "success",
        dry_run=context["params"]["dry_run"],
        rejected=states.get("package") == "skipped",
    )
    write_note(context, note)
    if failed:
        raise AirflowFailException(f"{', '.join(failed)} failed; the log of the step says why")


with DAG(
    dag_id="retraining",
    description="Learn from people's ratings, and serve what is no worse",
    doc_md=__doc__,
    schedule=AssetOrTimeSchedule(
        # Switched on, it waits for the next Monday and does not make up for the last one.
        timetable=CronTriggerTimetable("0 3 * * 1", timezone="UTC", run_immediately=timedelta()),
        assets=[ENOUGH_RATINGS],
    ),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=True,
    default_args=DEFAULTS,
    user_defined_macros=MACROS,
    tags=["captionloop"],
    params={
        "environment": Param(
            "base", type="string", enum=environments(), title="Corpus",
            description="Kedro environment: base is the sample scenes.",
        ),
        "least_ratings": Param(
            50, type="integer", minimum=1, title="Least number of new ratings",
            description="With fewer, the run stops and says how many there are.",
        ),
        "epochs": Param(
            None, type=["null", "integer"], minimum=1, maximum=1000, title="Epochs",
            description="Empty: as the environment's parameters say.",
        ),
        "encoder_epochs": Param(
            None, type=["null", "integer"], minimum=0, maximum=1000, title="Epochs of the encoder",
            description="0 leaves it as it is. Empty: as the environment's parameters say.",
        ),
        "margin": Param(
            None, type=["null", "number"], minimum=0.0001, maximum=10, title="Margin of the gate",
            description="CIDEr that may be lost unnoticed, 0.03 is 3 points. Empty: as the parameters say.",
        ),
        "shards": Param(
            2, type="integer", minimum=1, maximum=64, title="Shards",
            description="Processes that encode new photos side by side.",
        ),
        "verify_seconds": Param(
            60, type="integer", minimum=0, maximum=3600, title="Watch for (seconds)",
            description="After the deployment; requests that fail meanwhile bring the previous version back.",
        ),
        "dry_run": Param(
            False, type="boolean", title="Dry run", description="Stop after the gate: nothing is promoted.",
        ),
        "approval": Param(
            False, type="boolean", title="Ask a person",
            description="Wait for an approval before the new version is promoted.",
        ),
    },
) as dag:  # fmt: skip
    feedback = step("feedback", kedro("feedback"), tells=outcome("feedback"))
    is_enough = enough(feedback.output)
    encoder = step(
        "encoder",
        kedro("retraining_encoder"),
        tells=outcome("examination"),
        execution_timeout=timedelta(hours=24),
    )
    caching = mapped_step(
        "caching", kedro("retraining_caching", shard="$SHARD"), each=shards(), variable="SHARD"
    )
    training = step("training", kedro("retraining_training"), execution_timeout=timedelta(hours=24))
    evaluation = step("evaluation", kedro("retraining_evaluation"))
    registration = step("registration", kedro("retraining_registration"), tells=outcome("gate"))
    passed = gate(feedback.output, registration.output)
    approval = OptionalApproval(
        task_id="approval",
        subject=f"Shall version {VERSION} be served?",
        body="{{ ti.xcom_pull(task_ids='registration')['markdown'] }}",
        defaults="Reject",
        response_timeout=A_WEEK,
    )
    package = step(
        "package",
        # BentoML keeps what it builds in a store of its own; the copy in the run's folder is enough.
        "BENTOML_HOME=$(mktemp -d) && export BENTOML_HOME && trap 'rm -rf \"$BENTOML_HOME\"' EXIT",
        f"rm -rf {WORKSPACE}/bento",
        f"captionloop package --version {VERSION} --output {WORKSPACE}/bento "
        "--env {{ quoted(params.environment) }}",
    )
    deploy = step(
        "deploy", f"captionloop models promote {VERSION} --gated --env {{{{ quoted(params.environment) }}}}"
    )
    verify = step(
        "verify",
        f"captionloop verify --url {SERVICE_URL} --version {VERSION} --for {{{{ params.verify_seconds }}}} "
        "--env {{ quoted(params.environment) }}",
        retries=0,
    )
    rollback = step(
        "rollback",
        # It also runs where a step before the registration failed: then there is nothing to take back.
        "[ -n \"{{ (ti.xcom_pull(task_ids='registration') or {}).get('version', '') }}\" ] || exit 99",
        f"captionloop models rollback --only-from {VERSION} --after-verify "
        "--env {{ quoted(params.environment) }}",
        trigger_rule=TriggerRule.ONE_FAILED,
    )

    (
        feedback
        >> is_enough
        >> encoder
        >> caching
        >> training
        >> evaluation
        >> registration
        >> passed
        >> approval
    )
    approval >> package >> deploy >> verify
    [deploy, verify] >> rollback
    ended = close(feedback.output, encoder.output, registration.output)
    [passed, verify, rollback] >> tidy(trigger_rule=TriggerRule.ALL_DONE) >> ended
    [passed, verify, rollback] >> ended
