#!/usr/bin/env bash
# One of Airflow's processes, where they are not all on one machine (docs/outgrowing/celery.md):
#   process.sh db migrate | api-server | scheduler | dag-processor | triggerer | celery worker
set -euo pipefail
. "$(dirname "$0")/environment.sh"
exec "$airflow_bin/airflow" "$@"
