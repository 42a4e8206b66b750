"""A note on a DAG run, where people look first: what it does or did, why it stopped, where the reports are.

Airflow gives tasks no way to write one but its REST API, so this takes an account: the Airflow connection
`captionloop_airflow` (host, port, login, password). Where there is none, the task's log says the same.

What is written while a run is under way says "Running"; that a version is served is said at the end alone.
CIDEr is in points, as on the gate's page.
"""

import json
import logging
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from captionloop_dags.settings import MLFLOW_URL

CONNECTION = "captionloop_airflow"
SECONDS = 20
LONGEST_NOTE = 1000
"""Airflow's own limit."""
LONGEST_REASON = 300
logger = logging.getLogger(__name__)

Report = Mapping[str, Any]


def running_note(doing: str, *, feedback: Report | None = None, registered: Report | None = None) -> str:
    """Markdown, for a run that goes on: what it does now, and what is known by now."""
    return _note(f"Running: {doing}", feedback=feedback, registered=registered)


def skipped_note(feedback: Report) -> str:
    """Markdown, for a run that ends here: there is too little to learn from."""
    return _note("No new version: too few new ratings", feedback=feedback)


def run_note(
    *,
    feedback: Report | None = None,
    label_noise: Report | None = None,
    registered: Report | None = None,
    failed: Sequence[str] = (),
    reasons: Mapping[str, str] | None = None,
    rolled_back: bool = False,
    deployed: bool = False,
    dry_run: bool = False,
    rejected: bool = False,
    not_preferred: bool = False,
) -> str:
    """Markdown, for a run that ended: the outcome in a sentence, then its reasons, then links."""
    headline = _headline(feedback, registered, failed, rolled_back, deployed, dry_run, rejected)
    if not_preferred and registered and not failed:
        headline = f"Version {registered['version']} passed the gate, and people's ratings did not prefer it"
    return _note(
        headline,
        feedback=feedback,
        label_noise=label_noise,
        registered=registered,
        reasons={name: (reasons or {}).get(name, "its log says why") for name in failed},
    )


def drift_note(drift: Report) -> str:
    """Markdown: a sentence for each signal, those that drifted first."""
    signals = sorted(drift["signals"], key=lambda signal: not signal["drifted"])
    lines = [f"**{drift['sentence']}**", ""]
    lines += [f"- {'**drifted**: ' if signal['drifted'] else ''}{signal['sentence']}" for signal in signals]
    if drift.get("page"):
        lines.append(f"\nReport: `{drift['page']}`")
    return _fitting(lines)


def gate_passed(registered: Report) -> bool:
    """Whether a version that was registered passed the gate."""
    return bool(registered.get("passed", registered.get("promoted")))


def verdict(registered: Report) -> str:
    """The gate's reason, which does not say whether the version was promoted."""
    return str(registered.get("verdict") or registered["reason"])


def _note(
    headline: str,
    *,
    feedback: Report | None = None,
    label_noise: Report | None = None,
    registered: Report | None = None,
    reasons: Mapping[str, str] | None = None,
) -> str:
    lines = [f"**{headline}**", ""]
    lines += [f"- {name}: {reason[:LONGEST_REASON]}" for name, reason in (reasons or {}).items()]
    sources = ((feedback, "sentence"), (feedback, "believed"), (label_noise, "sentence"))
    lines += [f"- {report[key]}" for report, key in sources if report and report.get(key)]
    if registered:
        lines.append(f"- gate: {verdict(registered)}")
    last = registered or feedback or {}
    if last.get("mlflow_page"):
        lines.append(f"- [MLflow run]({MLFLOW_URL}{last['mlflow_page']})")
    if registered and registered.get("page"):
        lines.append(f"- gate report: `{registered['page']}`")
    if feedback and feedback.get("page"):
        lines.append(f"- Data Docs of the feedback: `{feedback['page']}`")
    return _fitting(lines)


def _fitting(lines: Sequence[str]) -> str:
    """As many whole lines as Airflow takes."""
    kept = list(lines)
    while len("\n".join(kept)) > LONGEST_NOTE and len(kept) > 1:
        kept.pop()
    return "\n".join(kept)[:LONGEST_NOTE]


def _headline(  # noqa: PLR0911, PLR0917
    feedback: Report | None,
    registered: Report | None,
    failed: Sequence[str],
    rolled_back: bool,
    deployed: bool,
    dry_run: bool,
    rejected: bool,
) -> str:
    if failed:
        back = ": the version before is served again" if rolled_back else ""
        return f"{', '.join(failed)} failed{back}"
    if registered is None:
        few = feedback is not None and not feedback["enough"]
        return "No new version: too few new ratings" if few else "No new version"
    version = f"Version {registered['version']}"
    if deployed:
        return f"{version} is served"
    if not gate_passed(registered):
        return f"{version} was refused by the gate"
    if dry_run:
        return f"{version} passed the gate; dry run, nothing promoted"
    if rejected:
        return f"{version} passed the gate and was rejected by a person"
    return f"{version} passed the gate, and is not served"


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
