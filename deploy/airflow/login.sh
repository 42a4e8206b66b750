#!/usr/bin/env bash
# Where Airflow is, and how to log in. Called by `make airflow-login`, and by `make airflow` before and after it has started.
# The passwords lie in .airflow/passwords.json, which nobody but its owner can read.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
printf '\n  Airflow        %s\n  login          admin, %s\n\n' "$AIRFLOW__API__BASE_URL" "$(airflow_password admin)"
