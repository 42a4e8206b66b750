#!/bin/sh
# What the service's image can be: `gateway`, `model-server`, `migrate`; `keys ...` looks after API keys.
set -eu
cd /opt/captionloop
# Metrics of processes that are gone would be summed up with those that live.
export PROMETHEUS_MULTIPROC_DIR="${PROMETHEUS_MULTIPROC_DIR:-/tmp/metrics}"
command="${1:-gateway}"
[ $# -eq 0 ] || shift
serve() {
  rm -rf "$PROMETHEUS_MULTIPROC_DIR"
  mkdir -p "$PROMETHEUS_MULTIPROC_DIR"
  exec python -m bentoml serve "captionloop.serving.service:$1" --host 0.0.0.0 --port 3000
}
run() {
  unset PROMETHEUS_MULTIPROC_DIR
  group="$1"
  shift
  exec python -c "from captionloop.commands.$group import $group; $group(prog_name='captionloop $group')" "$@"
}
case "$command" in
  gateway) serve Gateway ;;
  model-server) serve ModelServer ;;
  migrate) run database upgrade ;;
  keys) run keys "$@" ;;
  *) echo "captionloop: '$command' is none of gateway, model-server, migrate, keys" >&2; exit 2 ;;
esac
