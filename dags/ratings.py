"""`ratings`: looks every quarter of an hour whether enough new ratings have come in for a retraining.

Counted from those that the champion has learnt from, or from the last time that it said so, whichever is
later: an attempt that the gate refused is not repeated until as many ratings have come in again.
"""

from datetime import timedelta

from airflow.sdk import DAG, CronTriggerTimetable, Param

from captionloop_dags.assets import ENOUGH_RATINGS
from captionloop_dags.settings import LEAST_RATINGS, dag_id
from captionloop_dags.steps import DEFAULT_ARGS, SKIPPED, cli_task, dag_options

LAST = (
    "{% set said = inlet_events[task.inlets[0]] %}"
    "{{ said[-1].timestamp.isoformat() if said | length else '' }}"
)

with DAG(
    dag_id=dag_id("ratings"),
    description="Are there enough new ratings for a retraining?",
    doc_md=__doc__,
    schedule=CronTriggerTimetable("*/15 * * * *", timezone="UTC"),
    is_paused_upon_creation=False,
    dagrun_timeout=timedelta(minutes=30),
    params={
        "least_ratings": Param(
            LEAST_RATINGS, type="integer", minimum=1, title="Least number of new ratings",
        )
    },
    **dag_options(
        default_args={**DEFAULT_ARGS, "retries": 0, "execution_timeout": timedelta(minutes=10)},
        # It looks again soon, and nobody wants to hear of it each time: `monitoring` asks the same database.
        on_failure_callback=None,
    ),
) as dag:  # fmt: skip
    cli_task(
        "count",
        f"captionloop ratings --least {{{{ params.least_ratings }}}} --since '{LAST}' --skip-code {SKIPPED}",
        in_workspace=False,
        inlets=[ENOUGH_RATINGS],
        outlets=[ENOUGH_RATINGS],
    )
