"""`monitoring`: every morning, what people send and say compared with what the served version learnt from.

The report is `data/runs/<run>/08_reporting/<corpus>/drift.md`; its sentences are the note on the run. Started
with `retrain`, a run that finds a drift starts `retraining`.
"""

import logging
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, CronTriggerTimetable, Param, TriggerRule, task
from airflow.sdk.exceptions import AirflowSkipException

from captionloop_dags.notes import drift_note, write_note
from captionloop_dags.settings import dag_id, environments
from captionloop_dags.steps import cleanup_task, cli_task, dag_options, kedro, report_command

logger = logging.getLogger(__name__)


@task(task_id="judge", retries=0)
def check_drift(drift: dict[str, Any], **context: Any) -> None:
    """Goes on if there is a drift, and a drift shall lead to a retraining."""
    write_note(context, drift_note(drift))
    found = [signal["sentence"] for signal in drift["signals"] if signal["drifted"]]
    if not found:
        raise AirflowSkipException("No drift: nothing to do")
    if not context["params"]["retrain"]:
        raise AirflowSkipException(f"{' '.join(found)} Start retraining by hand if the cause is known.")
    logger.info(" ".join(found))


with DAG(
    dag_id=dag_id("monitoring"),
    description="Drift and quality of what is served",
    doc_md=__doc__,
    schedule=CronTriggerTimetable("0 6 * * *", timezone="UTC", run_immediately=timedelta()),
    is_paused_upon_creation=False,
    dagrun_timeout=timedelta(hours=20),
    **dag_options(),
    params={
        "environment": Param(
            "base", type="string", enum=environments(), title="Corpus",
            description="Kedro environment: base is the sample scenes.",
        ),
        "retrain": Param(
            False, type="boolean", title="Retrain on drift",
            description="Start retraining if a signal has drifted; ratings must have come in all the same.",
        ),
    },
) as dag:  # fmt: skip
    # Where the service looks for the report elsewhere than here, it is copied to that place.
    publish = '${CAPTIONLOOP_DRIFT_REPORT:+--publish "$CAPTIONLOOP_DRIFT_REPORT"}'
    drift = cli_task("drift", kedro("drift"), result_command=f"{report_command('drift')} {publish}")
    drift_check = check_drift(drift.output)
    retrain = TriggerDagRunOperator(
        task_id="retrain",
        trigger_dag_id=dag_id("retraining"),
        trigger_run_id="drift__{{ run_id }}",
        conf={"environment": "{{ params.environment }}"},
        note="Started by monitoring {{ run_id }}: {{ ti.xcom_pull(task_ids='drift')['sentence'] }}",
        skip_when_already_exists=True,
    )
    drift >> drift_check >> retrain
    drift >> cleanup_task(trigger_rule=TriggerRule.ALL_DONE)
