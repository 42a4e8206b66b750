"""What is set about our DAGs: variables of the environment of Airflow's processes, read at each parsing.

| variable | default | is |
|---|---|---|
| `CAPTIONLOOP_PROJECT` | the folder above `dags/` | where commands run |
| `CAPTIONLOOP_BIN` | `<project>/.venv/bin` | where `kedro` and `captionloop` are |
| `CAPTIONLOOP_WORKSPACE` | `data` | where everything lies, runs too: in the project, or `s3://` |
| `CAPTIONLOOP_DAG_PREFIX` | | before the ids of our DAGs and assets, in an Airflow that has others |
| `CAPTIONLOOP_OWNER` | `captionloop` | whom Airflow names as the owner of the tasks |
| `CAPTIONLOOP_POOL` | `default_pool` | the pool that the tasks take slots of; it must exist |
| `CAPTIONLOOP_RETRY_SECONDS` | 60 | before a step is tried again; twice as long each further time |
| `CAPTIONLOOP_LOCK_SECONDS` | 3600 | how long a step waits for an earlier try of it to end |
| `CAPTIONLOOP_STEP_HOURS` | 6 | after which a step is ended, and tried again |
| `CAPTIONLOOP_TEACHING_HOURS` | 24 | the same for the steps that teach |
| `CAPTIONLOOP_RUN_DAYS` | 10 | after which a run of `retraining` is ended, for the next one to begin |
| `CAPTIONLOOP_LEAST_RATINGS` | 50 | new ratings for which a retraining is worth while |
| `CAPTIONLOOP_POD_IMAGE` | | the pipelines' image; if set, every step is a pod |
| `CAPTIONLOOP_POD_TEMPLATE` | | a pod manifest with the volume of `data/`, secrets and resources |
| `CAPTIONLOOP_POD_NAMESPACE` | `default` | |
| `CAPTIONLOOP_POD_DEFERRABLE` | `true` | pods are waited for by the triggerer, and hold no worker |
| `CAPTIONLOOP_URL` | `http://127.0.0.1:3000` | the service that is verified |
| `CAPTIONLOOP_MLFLOW_URL` | `http://127.0.0.1:5000` | where people find MLflow's pages |
"""

import os
import re
from datetime import timedelta
from pathlib import Path

PREFIX = "CAPTIONLOOP_"


def text(name: str, default: str = "") -> str:
    """What is set; an empty variable counts as not set."""
    return os.environ.get(PREFIX + name) or default


def number(name: str, default: float, least: float) -> float:
    """A number. Raises `ValueError` in one line, which Airflow shows as the DAG's import error."""
    given = text(name, str(default))
    try:
        found = float(given)
    except ValueError:
        found = float("nan")
    if not found >= least:
        raise ValueError(f"{PREFIX}{name}={given} cannot be used: it must be a number from {least:g} upwards")
    return found


PROJECT = Path(text("PROJECT") or Path(__file__).resolve().parents[2])
BIN = text("BIN") or str(PROJECT / ".venv/bin")
WORKSPACE = text("WORKSPACE", "data").rstrip("/")
DAG_PREFIX = text("DAG_PREFIX")
OWNER = text("OWNER", "captionloop")
POOL = text("POOL", "default_pool")
RETRY = timedelta(seconds=number("RETRY_SECONDS", 60, 0))
LONGEST_RETRY = timedelta(minutes=30)
LOCK_SECONDS = int(number("LOCK_SECONDS", 3600, 1))
STEP = timedelta(hours=number("STEP_HOURS", 6, 0.01))
TRAINING = timedelta(hours=number("TEACHING_HOURS", 24, 0.01))
LONGEST_RUN = timedelta(days=number("RUN_DAYS", 10, 0.01))
LEAST_RATINGS = int(number("LEAST_RATINGS", 50, 1))
POD_IMAGE = text("POD_IMAGE")
POD_TEMPLATE = text("POD_TEMPLATE") or None
POD_NAMESPACE = text("POD_NAMESPACE", "default")
POD_DEFERRABLE = text("POD_DEFERRABLE", "true").lower() not in {"false", "0", "no"}
SERVICE_URL = text("URL", "http://127.0.0.1:3000")
MLFLOW_URL = text("MLFLOW_URL", "http://127.0.0.1:5000")

if not re.fullmatch(r"[A-Za-z0-9_.-]*", DAG_PREFIX):
    raise ValueError(
        f"{PREFIX}DAG_PREFIX={DAG_PREFIX!r} cannot be used: letters, digits, _, . and - may stand in it"
    )


def dag_id(name: str) -> str:
    """The id of one of our DAGs (or assets) in this Airflow."""
    return DAG_PREFIX + name


def environments() -> list[str]:
    """The Kedro environments to choose from, `base` first; where `conf/` is not at hand, that alone."""
    folder = PROJECT / "conf"
    found = sorted(each.name for each in folder.iterdir() if each.is_dir()) if folder.is_dir() else []
    return ["base", *(name for name in found if name not in {"base", "local"})]
