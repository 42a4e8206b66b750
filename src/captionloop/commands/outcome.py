"""`captionloop outcome`: what came of a step of a retraining run, as one line of JSON for an orchestrator."""

import json
from pathlib import Path
from typing import Any

import click

from captionloop.commands.project import Catalog, WrittenPath
from captionloop.config import project_folder, tracking_uri
from captionloop.errors import ConfigurationError

REPORTS = {
    "feedback": "feedback_report",
    "examination": "retraining_examination",
    "gate": "retraining_registered_version",
    "drift": "drift_report",
}
PAGES = {"feedback": "feedback_data_docs", "gate": "retraining_gate_report", "drift": "drift_page"}
"""The datasets of the reports, and of the pages for people."""
LONGEST_PAGE = 20_000
"""Characters of a page that go into the outcome: orchestrators keep it in their database."""


@click.command()
@click.argument("what", type=click.Choice(list(REPORTS)))
@click.option(
    "--workspace",
    type=WrittenPath(path_type=Path, file_okay=False),
    help="Where the run wrote: what it was given as workspace.",
)
@click.option("--mlflow-run", help="Name of the MLflow run that the pipelines were given.")
@click.option("--env", help="Kedro environment whose mlflow.yml names the MLflow store.")
def outcome(what: str, workspace: Path | None, mlflow_run: str | None, env: str | None) -> None:
    """Print what came of WHAT: feedback (is it enough), examination (what of it is doubted), gate, drift.

    The report itself, with the path of the page for people, its Markdown, and the id of the MLflow run added;
    the references that are doubted stay in their report.
    """
    project = project_folder()
    catalog = Catalog(project, env, workspace)
    told = read_report(catalog, REPORTS[what])
    told.pop("references", None)
    page = catalog.location(PAGES[what]) if what in PAGES else None
    if page is not None and page.is_dir():
        page /= "index.html"
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


def read_report(catalog: Catalog, name: str) -> dict[str, Any]:
    """A report, which is a JSON object. Raises `ConfigurationError` where there is none."""
    told = catalog.load(name)
    if not isinstance(told, dict):
        raise ConfigurationError(
            f"There is no report in {catalog.location(name)}: run the pipeline that makes it"
        )
    return dict(told)
