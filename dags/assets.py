"""What one DAG tells another."""

from airflow.sdk import Asset

ENOUGH_RATINGS = Asset(name="enough_ratings", uri="x-captionloop://ratings/enough")
"""Updated by `ratings` whenever enough new ratings have come in; `retraining` waits for it."""
