#!/usr/bin/env bash
# Airflow beside the project: scheduler, API server with the UI, DAG processor and triggerer on this machine, on SQLite.
# Called by `make airflow`. Processes on several machines: docs/outgrowing/celery.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
. deploy/airflow/environment.sh

# Airflow itself finds a taken port only after it has started everything else, and says so at length.
"$airflow_bin/python" - "$AIRFLOW__API__HOST" "$airflow_port" <<'PYTHON'
import socket, sys
host, port = sys.argv[1], sys.argv[2]
try:
    family, kind, protocol, _, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tried.bind(address)
except (OSError, ValueError, OverflowError) as error:
    sys.exit(f"Nothing can listen on {host}:{port} ({error}): stop what does, or set AIRFLOW_PORT to another port")
PYTHON

deploy/airflow/login.sh
printf 'Ctrl-C stops it. It takes a minute to start; the login is shown once more then, and at any time by make airflow-login.\n\n'
# Asked for the log of a running step, Airflow looks on the disk, where it is, and then asks a log server, of which there is
# none here (standalone.py): that is no error.
export AIRFLOW__LOGGING__NAMESPACE_LEVELS=${AIRFLOW__LOGGING__NAMESPACE_LEVELS:-airflow.utils.log.file_task_handler=CRITICAL}
exec "$airflow_bin/python" deploy/airflow/standalone.py
