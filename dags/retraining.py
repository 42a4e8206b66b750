"""`retraining`: people's ratings become a new version, which is served only if it is no worse.

Triggered by hand (the form), every Monday, or when enough ratings have come in (`dags/ratings.py`). One run
at a time, each in its own folder `data/runs/<run>`; until `deploy`, nothing of it can be seen from outside.
"""

import logging
import shlex
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG, AssetOrTimeSchedule, CronTriggerTimetable, Param, TaskGroup, TriggerRule, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from captionloop_dags.assets import ENOUGH_RATINGS
from captionloop_dags.notes import gate_passed, run_note, running_note, skipped_note, verdict, write_note
from captionloop_dags.settings import (
    LEAST_RATINGS,
    LONGEST_RUN,
    SERVICE_URL,
    TRAINING,
    dag_id,
    environments,
)
from captionloop_dags.steps import (
    REMOTE,
    SKIPPED,
    WORKSPACE,
    cleanup_task,
    cli_task,
    dag_options,
    kedro,
    mapped_cli_task,
    report_command,
    waiting_cli_task,
)

VERSION = "{{ (ti.xcom_pull(task_ids='registration') or {}).get('version') | int }}"
A_WEEK = timedelta(days=7)
ENV = "--env {{ quoted(params.environment) }}"
SHADOW, CANARY = f"captionloop models shadow {VERSION}", f"captionloop models canary {VERSION}"
ENDED = "{ code=$?; [ $code = 3 ] || [ $code = 4 ] || exit $code; }"
"""After `||`: that a canary ended in another way than well is an answer, and no failure."""

logger = logging.getLogger(__name__)


class OptionalApproval(ApprovalOperator):
    """Asks a person, if the run was started with `approval`."""

    def execute(self, context: Any) -> Any:
        """Waits in *Required Actions* for an answer; what is not approved within a week is rejected."""
        if not context["params"]["approval"]:
            logger.info("Nobody asked for an approval: the gate's decision is enough")
            return None
        return super().execute(context)


@task(task_id="enough", retries=0)
def check_rating_count(feedback: dict[str, Any], **context: Any) -> None:
    """Goes on if enough new ratings have come in."""
    if not feedback["enough"]:
        write_note(context, skipped_note(feedback))
        raise AirflowSkipException(feedback["sentence"])
    write_note(context, running_note("learning from people's ratings", feedback=feedback))
    logger.info(feedback["sentence"])


@task(task_id="shards", retries=0)
def list_shards(params: dict[str, Any] | None = None) -> list[str]:
    """The shares of the photos that are encoded side by side."""
    count = (params or {})["shards"]
    return [f"{number}/{count}" for number in range(1, count + 1)]


@task(retries=0)
def gate(feedback: dict[str, Any], registered: dict[str, Any], **context: Any) -> None:
    """Goes on if the new version passed the gate, and this is not a dry run."""
    version, params = f"version {registered['version']}", context["params"]
    if not gate_passed(registered):
        write_note(context, run_note(feedback=feedback, registered=registered))
        raise AirflowSkipException(verdict(registered))
    if params["dry_run"]:
        write_note(context, run_note(feedback=feedback, registered=registered, dry_run=True))
        raise AirflowSkipException(f"Dry run: {version} passed the gate and stays challenger")
    next_step = "waits for a person's approval" if params["approval"] else "is brought into service"
    doing = f"{version} passed the gate and {next_step}"
    write_note(context, running_note(doing, feedback=feedback, registered=registered))
    logger.info(verdict(registered))


@task(task_id="close", retries=0, trigger_rule=TriggerRule.ALL_DONE)
def write_summary(feedback: Any, label_noise: Any, registered: Any, cleaned_up: Any, **context: Any) -> None:
    """Writes the run's note, and lets the run fail where a step did: a rollback that worked is no success."""
    ti, run = context["ti"], context["run_id"]
    states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[run])[run]
    failed = sorted(name for name, state in states.items() if state == "failed")
    note = run_note(
        feedback=feedback,
        label_noise=label_noise,
        registered=registered,
        failed=failed,
        reasons=(cleaned_up or {}).get("failures"),
        rolled_back=states.get("deploy") == states.get("rollback") == "success",
        deployed=states.get("verify") == "success",
        dry_run=context["params"]["dry_run"],
        rejected=context["params"]["approval"] and states.get("package") == "skipped",
        not_preferred=states.get("canary_verdict") == "skipped" and states.get("package") == "success",
    )
    write_note(context, note)
    if failed:
        raise AirflowFailException(f"{', '.join(failed)} failed; the log of the step says why")


with DAG(
    dag_id=dag_id("retraining"),
    description="Learn from people's ratings, and serve what is no worse",
    doc_md=__doc__,
    schedule=AssetOrTimeSchedule(
        # Switched on, it waits for the next Monday and does not make up for the last one.
        timetable=CronTriggerTimetable("0 3 * * 1", timezone="UTC", run_immediately=timedelta()),
        assets=[ENOUGH_RATINGS],
    ),
    is_paused_upon_creation=True,
    # A person has a week to approve. What takes longer than this holds up every run after it.
    dagrun_timeout=LONGEST_RUN,
    **dag_options(),
    params={
        "environment": Param(
            "base", type="string", enum=environments(), title="Corpus",
            description="Kedro environment: base is the sample scenes.",
        ),
        "least_ratings": Param(
            LEAST_RATINGS, type="integer", minimum=1, title="Least number of new ratings",
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
        "shadow_share": Param(
            0, type="number", minimum=0, maximum=1, title="Shadow: share of the photos",
            description="Which the new version captions once more, unseen, before it is served. 0: none.",
        ),
        "shadow_hours": Param(
            6, type="number", minimum=0.01, maximum=240, title="Shadow: hours at most",
            description="It ends with 100 photos, or after these hours.",
        ),
        "canary_share": Param(
            0, type="number", minimum=0, maximum=0.5, title="Canary: share of the people",
            description="The new version answers them first, and all only if they rate it higher. 0: none.",
        ),
        "canary_days": Param(
            7, type="number", minimum=0.001, maximum=60, title="Canary: days at most",
            description="Without a difference by then, the new version is not served.",
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
    feedback = cli_task("feedback", kedro("feedback"), result_command=report_command("feedback"))
    is_enough = check_rating_count(feedback.output)
    with TaskGroup("learning", prefix_group_id=False, tooltip="The candidate is taught"):
        encoder = cli_task(
            "encoder",
            kedro("retraining_encoder"),
            result_command=report_command("examination"),
            execution_timeout=TRAINING,
        )
        caching = mapped_cli_task(
            "caching", kedro("retraining_caching", shard="$SHARD"), each=list_shards(), variable="SHARD"
        )
        training = cli_task("training", kedro("retraining_training"), execution_timeout=TRAINING)
    with TaskGroup("judging", prefix_group_id=False, tooltip="Candidate against champion"):
        evaluation = cli_task("evaluation", kedro("retraining_evaluation"))
        registration = cli_task(
            "registration", kedro("retraining_registration"), result_command=report_command("gate")
        )
        passed = gate(feedback.output, registration.output)
        approval = OptionalApproval(
            task_id="approval",
            subject=f"Shall version {VERSION} be served?",
            body="{{ ti.xcom_pull(task_ids='registration')['markdown'] }}",
            defaults="Reject",
            response_timeout=A_WEEK,
        )
    with TaskGroup("release", prefix_group_id=False, tooltip="It is served, or taken back"):
        package = cli_task(
            "package",
            "true" if REMOTE else f"rm -rf {WORKSPACE}/bento",
            # BentoML keeps what it builds in a store of its own; the copy in the run's folder is enough.
            "(BENTOML_HOME=$(mktemp -d) && export BENTOML_HOME && trap 'rm -rf \"$BENTOML_HOME\"' EXIT && "
            f"captionloop package --version {VERSION} --output {WORKSPACE}/bento "
            "--env {{ quoted(params.environment) }})",
        )
        shadow = cli_task(
            "shadow",
            f"{SHADOW} --share {{{{ params.shadow_share }}}} --days {{{{ params.shadow_hours / 24 }}}} {ENV}",
            only_if="shadow_share",
        )
        shadow_watch = waiting_cli_task(
            "shadow_watch",
            f"{SHADOW} --status --url {shlex.quote(SERVICE_URL)} {ENV} || "
            "{ code=$?; [ $code = 4 ] || exit $code; }",
            only_if="shadow_share",
        )
        canary = cli_task(
            "canary",
            f"{CANARY} --share {{{{ params.canary_share }}}} --days {{{{ params.canary_days }}}} {ENV}",
            only_if="canary_share",
        )
        canary_watch = waiting_cli_task(
            "canary_watch", f"{CANARY} --status {ENV} || {ENDED}", only_if="canary_share"
        )
        canary_verdict = cli_task(
            "canary_verdict",
            f"{CANARY} --decide {ENV} || {{ {ENDED}; exit {SKIPPED}; }}",
            only_if="canary_share",
        )
        deploy = cli_task(
            "deploy",
            f"captionloop models promote {VERSION} --gated --env {{{{ quoted(params.environment) }}}}",
        )
        verify = cli_task(
            "verify",
            f"captionloop verify --url {shlex.quote(SERVICE_URL)} --version {VERSION} "
            "--for {{ params.verify_seconds }} --env {{ quoted(params.environment) }}",
            retries=0,
        )
        rollback = cli_task(
            "rollback",
            # It also runs where a step before the registration failed: then there is nothing to take back.
            "[ -n \"{{ (ti.xcom_pull(task_ids='registration') or {}).get('version', '') }}\" ] "
            f"|| exit {SKIPPED}",
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
    approval >> package >> shadow >> shadow_watch >> canary >> canary_watch >> canary_verdict
    [package, canary_verdict] >> deploy >> verify
    [deploy, verify] >> rollback
    cleaned_up = cleanup_task(
        # For the alert that no run comes to its end any more, whatever came of this one.
        "captionloop heartbeat --env {{ quoted(params.environment) }}",
        # Where the run was ended before its shadow or canary was.
        "{% if params.shadow_share or params.canary_share %}"
        f"[ {VERSION} = 0 ] || {{ {SHADOW} --stop {ENV} && {CANARY} --stop {ENV}; }}"
        "{% else %}true{% endif %}",
        trigger_rule=TriggerRule.ALL_DONE,
    )
    summary = write_summary(feedback.output, encoder.output, registration.output, cleaned_up.output)
    [passed, verify, rollback] >> cleaned_up >> summary
    [passed, verify, rollback] >> summary
