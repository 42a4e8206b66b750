#!/usr/bin/env bash
# Airflow beside the project: scheduler, API server with the UI, DAG processor and triggerer on this machine, on SQLite.
# Everything it keeps lies in .airflow/ (AIRFLOW_HOME). What is set outside stays as it is. Called by `make airflow`.
set -euo pipefail
project=$(cd "$(dirname "$0")/../.." && pwd)
cd "$project"
bin=$project/.venv-airflow/bin
export CAPTIONLOOP_PROJECT=${CAPTIONLOOP_PROJECT:-$project}
export AIRFLOW_HOME=${AIRFLOW_HOME:-$CAPTIONLOOP_PROJECT/.airflow}
export PATH=$bin:$PATH # its commands start each other by name
port=${AIRFLOW_PORT:-8080}

export AIRFLOW__CORE__DAGS_FOLDER=${AIRFLOW__CORE__DAGS_FOLDER:-$project/dags}
export AIRFLOW__CORE__LOAD_EXAMPLES=False
export AIRFLOW__CORE__PARALLELISM=${AIRFLOW__CORE__PARALLELISM:-4}
export AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS=admin:admin,captionloop:user
export AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE=$AIRFLOW_HOME/passwords.json
export AIRFLOW__CORE__EXECUTION_API_SERVER_URL=http://127.0.0.1:$port/execution/
export AIRFLOW__API__HOST=127.0.0.1 AIRFLOW__API__PORT=$port AIRFLOW__API__BASE_URL=http://127.0.0.1:$port
export AIRFLOW__API__WORKERS=1 AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES=1
export AIRFLOW__USAGE_DATA_COLLECTION__ENABLED=False

mkdir -p "$AIRFLOW_HOME"
if [ ! -s "$AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE" ]; then
  (umask 077 && "$bin/python" - > "$AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE" <<'PYTHON'
import json, secrets
print(json.dumps({name: secrets.token_urlsafe(12) for name in ("admin", "captionloop")}))
PYTHON
  )
fi
password() { "$bin/python" -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE" "$1"; }

# With this account the DAGs write notes on their runs (dags/notes.py).
export AIRFLOW_CONN_CAPTIONLOOP_AIRFLOW="http://captionloop:$(password captionloop)@127.0.0.1:$port"

printf '\n  Airflow        http://127.0.0.1:%s\n  login          admin, %s\n\nCtrl-C stops it.\n\n' "$port" "$(password admin)"
# Airflow's own command stops its processes on Ctrl-C only; asked to end, it would leave them behind.
exec "$bin/python" -c '
import signal, sys
from airflow.__main__ import main

def stop(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGINT, stop)
signal.signal(signal.SIGTERM, stop)
sys.argv = ["airflow", "standalone"]
main()
'
