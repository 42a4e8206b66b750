"""`ratings`: looks every quarter of an hour whether enough new ratings have come in for a retraining.

Counted from the newest version or from the last time that it said so, whichever is later: an attempt that the
gate refused is not repeated until as many ratings have come in again.
"""

import os

from airflow.sdk import DAG, CronTriggerTimetable, Param

from assets import ENOUGH_RATINGS
from steps import DEFAULTS, MACROS, step

LAST = (
    "{% set said = inlet_events[task.inlets[0]] %}"
    "{{ said[-1].timestamp.isoformat() if said | length else '' }}"
)

with DAG(
    dag_id="ratings",
    description="Are there enough new ratings for a retraining?",
    doc_md=__doc__,
    schedule=CronTriggerTimetable("*/15 * * * *", timezone="UTC"),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    default_args={**DEFAULTS, "retries": 0},
    user_defined_macros=MACROS,
    tags=["captionloop"],
    params={
        "least_ratings": Param(
            int(os.environ.get("CAPTIONLOOP_LEAST_RATINGS", "50")), type="integer", minimum=1,
            title="Least number of new ratings",
        )
    },
) as dag:  # fmt: skip
    step(
        "count",
        f"captionloop ratings --least {{{{ params.least_ratings }}}} --since '{LAST}' --skip-code 99",
        inlets=[ENOUGH_RATINGS],
        outlets=[ENOUGH_RATINGS],
    )
