"""The assets by which one DAG starts another."""

from airflow.sdk import Asset

from captionloop_dags.settings import dag_id

ENOUGH_RATINGS = Asset(name=dag_id("enough_ratings"), uri=f"x-captionloop://ratings/{dag_id('enough')}")
"""Updated by `ratings` whenever enough new ratings have come in; `retraining` waits for it."""
