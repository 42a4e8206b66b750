#!/usr/bin/env bash
# Airflow beside the project: scheduler, API server with the UI, DAG processor and triggerer on this machine, on SQLite.
# Called by `make airflow`. Processes on several machines: docs/outgrowing/celery.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
. deploy/airflow/environment.sh

printf '\n  Airflow        http://127.0.0.1:%s\n  login          admin, %s\n\nCtrl-C stops it.\n\n' "$airflow_port" "$(airflow_password admin)"
# Airflow's own command stops its processes on Ctrl-C only; asked to end, it would leave them behind.
exec "$airflow_bin/python" -c '
import signal, sys
from airflow.__main__ import main

def stop(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGINT, stop)
signal.signal(signal.SIGTERM, stop)
sys.argv = ["airflow", "standalone"]
main()
'
