#!/usr/bin/env bash
# Airflow beside the project: scheduler, API server with the UI, DAG processor and triggerer on this machine, on SQLite.
# Called by `make airflow`. Processes on several machines: docs/outgrowing/celery.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
. deploy/airflow/environment.sh

printf '\n  Airflow        http://127.0.0.1:%s\n  login          admin, %s\n\nCtrl-C stops it.\n\n' "$airflow_port" "$(airflow_password admin)"
# Asked for the log of a running step, Airflow looks on the disk, where it is, and then asks a log server, of which there is
# none here (standalone.py): that is no error.
export AIRFLOW__LOGGING__NAMESPACE_LEVELS=${AIRFLOW__LOGGING__NAMESPACE_LEVELS:-airflow.utils.log.file_task_handler=CRITICAL}
exec "$airflow_bin/python" deploy/airflow/standalone.py
