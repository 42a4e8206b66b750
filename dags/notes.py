"""A note on a DAG run, where people look first: what it did, why it stopped, where the reports are.

Airflow gives tasks no way to write one but its REST API, so this takes an account: the Airflow connection
`captionloop_airflow` (host, port, login, password). Where there is none, the task's log says the same.
"""

import json
import logging
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from steps import MLFLOW_URL

CONNECTION = "captionloop_airflow"
SECONDS = 20
LONGEST_NOTE = 1000
"""Airflow's own limit."""
logger = logging.getLogger(__name__)

Told = Mapping[str, Any]


def run_note(
    *,
    feedback: Told | None = None,
    examination: Told | None = None,
    registered: Told | None = None,
    failed: Sequence[str] = (),
    rolled_back: bool = False,
    deployed: bool = False,
    dry_run: bool = False,
    rejected: bool = False,
) -> str:
    """Markdown: the outcome in a sentence, then its reasons, then links."""
    lines = [f"**{_headline(registered, failed, rolled_back, deployed, dry_run, rejected)}**", ""]
    said = ((feedback, "sentence"), (examination, "sentence"), (registered, "reason"))
    lines += [told[key] for told, key in said if told]
    last = registered or feedback or {}
    if last.get("mlflow_page"):
        lines.append(f"- [MLflow run]({MLFLOW_URL}{last['mlflow_page']})")
    if registered and registered.get("page"):
        lines.append(f"- gate report: `{registered['page']}`")
    if feedback and feedback.get("page"):
        lines.append(f"- Data Docs of the feedback: `{feedback['page']}`")
    return "\n".join(lines)[:LONGEST_NOTE]


def drift_note(drift: Told) -> str:
    """Markdown: a sentence for each signal, those that drifted first."""
    signals = sorted(drift["signals"], key=lambda signal: not signal["drifted"])
    lines = [f"**{drift['sentence']}**", ""]
    lines += [f"- {'**drifted**: ' if signal['drifted'] else ''}{signal['sentence']}" for signal in signals]
    if drift.get("page"):
        lines.append(f"\nReport: `{drift['page']}`")
    return "\n".join(lines)[:LONGEST_NOTE]


def _headline(  # noqa: PLR0917
    registered: Told | None,
    failed: Sequence[str],
    rolled_back: bool,
    deployed: bool,
    dry_run: bool,
    rejected: bool,
) -> str:
    version = f"Version {registered['version']}" if registered else "No new version"
    if failed:
        back = ": the version before is served again" if rolled_back else ""
        return f"{', '.join(failed)} failed{back}"
    if deployed:
        return f"{version} is served"
    if registered and not registered.get("passed", registered.get("promoted")):
        return f"{version} was refused by the gate"
    if registered and dry_run:
        return f"{version} passed the gate; dry run, nothing promoted"
    if registered and rejected:
        return f"{version} passed the gate and was rejected by a person"
    return f"{version} passed the gate" if registered else version


def write_note(context: Any, text: str) -> None:
    """Replaces the run's note. Never fails: a note is not worth a run."""
    logger.info("Note: %s", text)
    try:
        from airflow.sdk import Connection

        account = Connection.get(CONNECTION)
        base = f"{account.schema or 'http'}://{account.host}:{account.port}"
        login = {"username": account.login, "password": account.password}
        token = _call("POST", f"{base}/auth/token", login)["access_token"]
        dag_id, run_id = context["ti"].dag_id, context["run_id"]
        run = f"{base}/api/v2/dags/{quote(dag_id)}/dagRuns/{quote(run_id, safe='')}?update_mask=note"
        _call("PATCH", run, {"note": text}, token)
    except Exception as error:
        logger.warning("The note could not be written to the run (%s)", error)


def _call(method: str, url: str, body: dict[str, Any], token: str | None = None) -> dict[str, Any]:
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method=method)
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
        return dict(json.load(answer))
