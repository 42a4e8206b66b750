#!/usr/bin/env bash
# Airflow beside the project: scheduler, API server with the UI, DAG processor and triggerer on this machine, on SQLite.
# Called by `make airflow`. Processes on several machines: docs/outgrowing/celery.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
. deploy/airflow/environment.sh

printf '\n  Airflow        http://127.0.0.1:%s\n  login          admin, %s\n\nCtrl-C stops it.\n\n' "$airflow_port" "$(airflow_password admin)"
exec "$airflow_bin/python" deploy/airflow/standalone.py
