"""Sends an alert when a run fails, if there is an Airflow connection `captionloop_alerts`.

It is an address that takes JSON with a `text`, as the incoming webhooks of chats do: the host with its scheme
(`https://chat.example.org/hooks`), and, as the password, what of the path is secret. Without such a
connection nobody is told, and nothing is said about it: the run is red in any case.
"""

import json
import logging
import urllib.request
from typing import Any
from urllib.parse import quote

CONNECTION = "captionloop_alerts"
SECONDS = 20
logger = logging.getLogger(__name__)


def send_failure_alert(context: Any) -> None:
    """For `DAG(on_failure_callback=...)`: one message for a run that failed or took too long. Never fails."""
    try:
        address = _address()
        if address is None:
            return
        body = json.dumps({"text": message(context)}).encode()
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=SECONDS):
            pass
    except Exception as error:  # its address may be a secret, and some errors show it
        logger.warning("Nobody could be told that the run failed (%s)", type(error).__name__)


def message(context: Any) -> str:
    """What is said: which run, why as far as Airflow knows it, and where to look."""
    run = context["dag_run"]
    reason = context.get("reason") or "failed"
    where = f"/dags/{quote(run.dag_id)}/runs/{quote(run.run_id, safe='')}"
    return f"{run.dag_id}, run {run.run_id}: {str(reason).replace('_', ' ')}. {_base_url()}{where}"


def _base_url() -> str:
    from airflow.configuration import conf

    return str(conf.get("api", "base_url", fallback="") or "").rstrip("/")


def _address() -> str | None:
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        found = Connection.get(CONNECTION)
    except AirflowNotFoundException:
        return None
    host = found.host or ""
    if "://" not in host:
        host = f"{found.schema or 'https'}://{host}" + (f":{found.port}" if found.port else "")
    return f"{host.rstrip('/')}/{found.password.lstrip('/')}" if found.password else host
