# What all of Airflow's processes are told, to be sourced by bash. Everything they keep lies in .airflow/ (AIRFLOW_HOME) of
# the project; what is set outside stays as it is.
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
airflow_bin=$project/.venv-airflow/bin
export CAPTIONLOOP_PROJECT=${CAPTIONLOOP_PROJECT:-$project}
export AIRFLOW_HOME=${AIRFLOW_HOME:-$CAPTIONLOOP_PROJECT/.airflow}
export PATH=$airflow_bin:$PATH # its commands start each other by name
airflow_port=${AIRFLOW_PORT:-8080}

export AIRFLOW__CORE__DAGS_FOLDER=${AIRFLOW__CORE__DAGS_FOLDER:-$project/dags}
export AIRFLOW__CORE__LOAD_EXAMPLES=False
export AIRFLOW__CORE__PARALLELISM=${AIRFLOW__CORE__PARALLELISM:-4}
export AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS=admin:admin,captionloop:user
export AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE=$AIRFLOW_HOME/passwords.json
export AIRFLOW__CORE__EXECUTION_API_SERVER_URL=${AIRFLOW__CORE__EXECUTION_API_SERVER_URL:-http://127.0.0.1:$airflow_port/execution/}
export AIRFLOW__API__HOST=${AIRFLOW__API__HOST:-127.0.0.1} AIRFLOW__API__PORT=$airflow_port
export AIRFLOW__API__BASE_URL=${AIRFLOW__API__BASE_URL:-http://127.0.0.1:$airflow_port}
export AIRFLOW__API__WORKERS=1 AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES=1
export AIRFLOW__USAGE_DATA_COLLECTION__ENABLED=False

mkdir -p "$AIRFLOW_HOME"
if [ ! -s "$AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE" ]; then
  (umask 077 && "$airflow_bin/python" - > "$AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE" <<'PYTHON'
import json, secrets
print(json.dumps({name: secrets.token_urlsafe(12) for name in ("admin", "captionloop")}))
PYTHON
  )
fi
airflow_password() { "$airflow_bin/python" -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE" "$1"; }

# With this account the DAGs write notes on their runs (dags/notes.py).
export AIRFLOW_CONN_CAPTIONLOOP_AIRFLOW="${AIRFLOW_CONN_CAPTIONLOOP_AIRFLOW:-http://captionloop:$(airflow_password captionloop)@127.0.0.1:$airflow_port}"
