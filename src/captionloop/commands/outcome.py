"""`captionloop outcome`: what came of a step of a retraining run, as one line of JSON for an orchestrator."""

import json
from pathlib import Path
from typing import Any

import click

from captionloop.commands.project import WrittenPath
from captionloop.config import project_folder, tracking_uri
from captionloop.errors import ConfigurationError

REPORTS = {
    "feedback": "feedback_report.json",
    "examination": "examination.json",
    "gate": "registered_version.json",
    "drift": "drift.json",
}
PAGES = {"feedback": "feedback_data_docs/index.html", "gate": "gate.md", "drift": "drift.md"}
LONGEST_PAGE = 20_000
"""Characters of a page that go into the outcome: orchestrators keep it in their database."""


@click.command()
@click.argument("what", type=click.Choice(list(REPORTS)))
@click.option(
    "--workspace",
    default="data",
    show_default=True,
    type=WrittenPath(path_type=Path, file_okay=False),
    help="Where the run wrote.",
)
@click.option("--mlflow-run", help="Name of the MLflow run that the pipelines were given.")
@click.option("--env", help="Kedro environment whose mlflow.yml names the MLflow store.")
def outcome(what: str, workspace: Path, mlflow_run: str | None, env: str | None) -> None:
    """Print what came of WHAT: feedback (is it enough), examination (what of it is doubted), gate, drift.

    The report itself, with the path of the page for people, its Markdown, and the id of the MLflow run added;
    the references that are doubted stay in their report.
    """
    project = project_folder()
    report = find_report(project / workspace, REPORTS[what])
    told = read_report(report)
    told.pop("references", None)
    page = report.parent / PAGES[what] if what in PAGES else None
    if page is not None and page.exists():
        told["page"] = str(page)
        if page.suffix == ".md":
            told["markdown"] = page.read_text(encoding="utf-8")[:LONGEST_PAGE]
    if mlflow_run is not None:
        from captionloop.registry.one_run import find_run

        found = find_run(tracking_uri(project, env), mlflow_run)
        if found is not None:
            told |= {"mlflow_run": found.run_id, "mlflow_page": found.page}
    click.echo(json.dumps(told, ensure_ascii=False))


def find_report(workspace: Path, name: str) -> Path:
    """The report of the one corpus that a run was about. Raises `ConfigurationError` where there is none."""
    found = sorted(workspace.glob(f"08_reporting/*/{name}"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise ConfigurationError(
            f"There is no {name} in {workspace}/08_reporting: run the pipeline that makes it"
        )
    return found[-1]


def read_report(report: Path) -> dict[str, Any]:
    """A report, which is a JSON object. Raises `ConfigurationError` where it is not."""
    try:
        told = json.loads(report.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{report} cannot be read ({error}): run the pipeline again") from error
    if not isinstance(told, dict):
        raise ConfigurationError(f"{report} is not a report: run the pipeline again")
    return told
