"""`captionloop report`, `outcome`, `ratings`: what the last run found, as text or as JSON for an
orchestrator.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

import click

from captionloop.commands.model_lookup import Catalog, open_registry
from captionloop.commands.option_types import WrittenPath, WrittenPlace
from captionloop.config import (
    corpus_of,
    environment_of,
    is_project,
    project_folder,
    read_configuration,
    registered_model,
    tracking_uri,
)
from captionloop.errors import (
    ConfigurationError,
    RegistryError,
    in_a_line,
    reason_of,
    without_passwords,
)
from captionloop.paths import how_to_make
from captionloop.workspaces import below, display_path, is_remote, working_copy

if TYPE_CHECKING:
    from rich.table import Table

STEP_REPORTS = {
    "feedback": "feedback_report",
    "examination": "retraining_examination",
    "gate": "retraining_registered_version",
    "drift": "drift_report",
    "failures": None,
}
PAGES = {"feedback": "feedback_data_docs", "gate": "retraining_gate_report", "drift": "drift_page"}
"""The datasets of the reports, and of the pages for people."""
STDERR_FILES = "*.stderr"
"""The stderr of a step lies beside its lock until it succeeds: `.<task>.<index>.stderr`."""
LONGEST_PAGE = 20_000
"""Characters of a page that go into the outcome: orchestrators keep it in their database."""


@click.command()
@click.argument("what", type=click.Choice(list(STEP_REPORTS)))
@click.option(
    "--workspace",
    type=WrittenPlace(path_type=Path, file_okay=False),
    help="Where the run wrote: what it was given as workspace.",
)
@click.option("--mlflow-run", help="Name of the MLflow run that the pipelines were given.")
@click.option("--env", help="Kedro environment whose mlflow.yml names the MLflow store.")
@click.option("--publish", metavar="URI", help="Copy the report there, where the service looks for it.")
def outcome(
    what: str, workspace: Path | str | None, mlflow_run: str | None, env: str | None, publish: str | None
) -> None:
    """Print what came of WHAT: feedback (is it enough), examination (what of it is doubted), gate, drift,
    failures (why steps of the run failed).

    The report itself, with the path of the page for people, its Markdown, and the id of the MLflow run added;
    the references that are doubted stay in their report.
    """
    project = project_folder()
    name = STEP_REPORTS[what]
    if name is None:
        document: dict[str, Any] = {"failures": failures(_local_folder(workspace or ".", project))}
        click.echo(json.dumps(document, ensure_ascii=False))
        return
    catalog = Catalog(project, env, workspace)
    document = read_report(catalog, name)
    if publish is not None:
        write_report(publish, document)
    document.pop("references", None)
    page = catalog.location(PAGES[what]) if what in PAGES else None
    if page is not None and page.is_dir():
        page /= "index.html"
    if page is not None and page.exists():
        document["page"] = display_path(page)
        if page.suffix == ".md":
            document["markdown"] = page.read_text(encoding="utf-8")[:LONGEST_PAGE]
    if mlflow_run is not None:
        from captionloop.registry.tracking import find_run

        found = find_run(tracking_uri(project, env), mlflow_run)
        if found is not None:
            document |= {"mlflow_run": found.run_id, "mlflow_page": found.page}
    click.echo(json.dumps(document, ensure_ascii=False))


def _local_folder(workspace: Path | str, project: Path) -> Path:
    """The folder of a workspace on this machine; of a remote one, with the stderr files of its steps."""
    if not is_remote(workspace):
        return project / workspace
    copy = working_copy()
    folder = copy.path_of(str(workspace))
    stderr_files = [folder / name for name in copy.files(folder) if fnmatch(name, f".{STDERR_FILES}")]
    for old in set(folder.glob(f".{STDERR_FILES}")).difference(stderr_files):  # its step has succeeded since
        old.unlink()
    copy.fetch(stderr_files)
    return folder


@click.command()
@click.argument("stderr_file", metavar="SAID", type=WrittenPath(path_type=Path, exists=True, dir_okay=False))
@click.option("--workspace", required=True, help="Of the run, in object storage.")
@click.option("--code", type=int, required=True, help="Its exit code.")
def step_ended(stderr_file: Path, workspace: str, code: int) -> None:
    """Keep what a step of a run SAID on stderr in the run's workspace, if it failed: `outcome failures` tells
    of it.
    """
    copy = working_copy()
    place = copy.path_of(below(workspace, stderr_file.name))
    if code == 0:
        copy.remove(place)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(stderr_file.read_bytes()[-LONGEST_PAGE:])
    copy.store(place)


def failures(workspace: Path) -> dict[str, str]:
    """The last line on stderr of each step that has not succeeded, by the step's name."""
    found: dict[str, str] = {}
    for path in sorted(workspace.glob(f".{STDERR_FILES}")):
        task, index, _ = path.name.strip(".").rsplit(".", 2)
        lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
        lines_said = [line for line in lines if line]
        if lines_said:
            found[task if index == "-1" else f"{task}_{index}"] = _reason(lines_said[-1])
    return found


def _reason(line: str) -> str:
    """The line without the name of the program that wrote it."""
    return line.removeprefix("Error: ").removeprefix("captionloop: ")


def write_report(where: str, report: dict[str, Any]) -> None:
    """Writes a report to a path or fsspec URI, whole or not at all. Raises `ConfigurationError`."""
    import fsspec

    try:
        files, path = fsspec.core.url_to_fs(where)
        files.makedirs(str(path).rpartition("/")[0], exist_ok=True)
        with files.transaction, files.open(path, "wb") as file:
            file.write(json.dumps(report, indent=2, ensure_ascii=False).encode())
    except Exception as error:  # each storage's driver has errors of its own kind
        raise ConfigurationError(
            f"the report cannot be written to {without_passwords(where)} ({reason_of(error)})"
        ) from error


def read_report(catalog: Catalog, name: str) -> dict[str, Any]:
    """A report, which is a JSON object. Raises `ConfigurationError` where there is none."""
    document = catalog.load(name)
    if not isinstance(document, dict):
        raise ConfigurationError(
            f"There is no report in {display_path(catalog.location(name))}: run the pipeline that makes it"
        )
    return dict(document)


@click.command()
@click.option("--env", help="Kedro environment whose mlflow.yml names the registry.")
def heartbeat(env: str | None) -> None:
    """Note that a retraining has ended, whatever came of it: the alert that none does looks at this."""
    from captionloop.registry.heartbeat import note_end

    registry = open_registry(project_folder(), env)
    click.echo(f"A retraining of {registry.name} ended at {note_end(registry):%Y-%m-%d %H:%M:%S} UTC")


@click.command()
@click.option("--least", default=50, show_default=True, type=click.IntRange(1), help="How many are enough.")
@click.option("--since", default="", help="Count from this moment (ISO 8601), if it is later.")
@click.option("--env", help="Kedro environment whose mlflow.yml names the registry.")
@click.option(
    "--skip-code", default=0, show_default=True, type=click.IntRange(0, 255), help="Exit code if too few."
)
def ratings(least: int, since: str, env: str | None, skip_code: int) -> None:
    """Count the ratings that were given or changed since those that the champion has learnt from.

    Of people who are not known yet none are counted (`gold_items` in the environment's parameters).
    """
    from captionloop.ratings.rating_store import open_store
    from captionloop.ratings.usage_statistics import count_ratings
    from captionloop.serving.service_settings import Settings

    champion = open_registry(project_folder(), env).champion()
    moments = [_moment(since)] if since else []
    moments += [_moment(champion.learnt_until)] if champion is not None and champion.learnt_until else []
    count, new, project = 0, 0, project_folder()
    needed = 0  # gold items, to be known
    if is_project(project):
        needed = int(read_configuration(project, env)["parameters"]["feedback"]["gold_items"])
    settings = Settings.from_environment()
    if settings.has_database:
        store = open_store(settings.database_url, is_embedded=settings.embedded_database)
        try:
            new = count_ratings(store.reader, max(moments, default=None))
            count = count_ratings(store.reader, max(moments, default=None), needed)
        finally:
            store.close()
    click.echo(f"{new} new ratings{'' if count == new else f', of which {count} count'}, {least} needed")
    if count < least:
        sys.exit(skip_code)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"--since {text!r} is no moment: write 2026-11-24T18:00:00+00:00") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


METRICS = ("BLEU-1", "BLEU-4", "METEOR", "ROUGE-L")
REPORTS = (
    ("the table", "evaluation_table"),
    ("gallery", "gallery"),
    ("curves", "training_curves"),
    ("gate", "gate_report"),
    ("data", "data_docs"),
)
"""The reports for people, by label, and their datasets."""
NEXT = (
    ("captionloop caption photo.jpg --attention words.png", "caption a photo, and see where it looked"),
    ("captionloop models list", "the registered versions"),
    ("make viz", "the pipelines and their data, in a browser"),
    ("make mlflow", "runs, curves and versions, in a browser"),
    ("captionloop gold 60", "photos by which raters become known, whom retraining believes"),
)


@click.command()
@click.option("--corpus", help="Whose reports. [default: the corpus of --env]")
@click.option(
    "--env", help="Kedro environment whose reports. [default: KEDRO_ENV, else that of the sample scenes]"
)
@click.option(
    "--workspace",
    type=WrittenPlace(path_type=Path, file_okay=False),
    help="Where the run wrote: what it was given as workspace. [default: as in globals.yml]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def report(corpus: str | None, env: str | None, workspace: Path | str | None, as_json: bool) -> None:
    """Show the last evaluation, the version that came of it, and the reports."""
    project = project_folder()
    if corpus is not None:
        env = env if env and corpus_of(project, env) == corpus else environment_of(corpus, project)
    catalog = Catalog(project, env, workspace)
    evaluation = catalog.load("evaluation")
    if evaluation is None:
        raise ConfigurationError(
            f"There is no evaluation in {display_path(catalog.location('evaluation'))}: make one with "
            f"{how_to_make(registered_model(project, env))}, or name another --corpus or --workspace"
        )
    registered = catalog.load("registered_version")
    reports = {what: place for what, name in REPORTS if (place := _page(catalog.location(name))).exists()}
    if as_json:
        paths = {what: display_path(path) for what, path in reports.items()}
        document = {"evaluation": evaluation, "registered_version": registered, "reports": paths}
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    with _as_written(catalog.location("evaluation")):
        table = _table(evaluation)
    with _as_written(catalog.location("registered_version")):
        lines = _registration(registered, project, env)
    _print(table, lines, reports)


@contextmanager
def _as_written(place: Path) -> Iterator[None]:
    """Raises `ConfigurationError` where what was read from a file is not what a run writes there."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"{place} is not as a run writes it ({type(error).__name__}: {in_a_line(error)}):"
            " run kedro again to make it anew"
        ) from error


def _registration(registered: Mapping[str, Any] | None, project: Path, env: str | None) -> list[str]:
    """The state of the version that the run registered, as the registry has it now."""
    from captionloop.registry.model_registry import ModelRegistry
    from captionloop.registry.tracking import without_password

    if registered is None:
        return [f"Not registered yet: {how_to_make(registered_model(project, env))}"]
    uri = tracking_uri(project, env)
    label = f"Registered: {registered['name']} version {registered['version']}"
    try:
        registry = ModelRegistry(uri, registered["name"])
        found = registry.with_fingerprint(registered["fingerprint"])
    except RegistryError as error:
        return [f"{label}; whether it is served cannot be told. {error}", f"  {registered['reason']}"]
    if found is None:
        return [
            f"{label} of another MLflow store: {without_password(uri)} has no such version",
            f"  {registered['reason']}",
        ]
    state = ", which is now served" if found.is_champion else ""
    if found.rolled_back:
        state = ", which was rolled back"
    return [f"Registered: {found.name} version {found.version}{state}", f"  {registered['reason']}"]


def _page(place: Path) -> Path:
    return place / "index.html" if place.is_dir() else place


def _print(table: "Table", registered: list[str], reports: Mapping[str, Path]) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True, width=max(80, get_terminal_size().columns))
    console.print()
    console.print(table)
    console.print()
    for line in registered:
        console.print(line, markup=False)
    console.print("\n[bold]Reports[/]")
    for what, path in reports.items():
        console.print(f"  {what:<12}{_nearby(path)}", markup=False)
    console.print("\n[bold]Next[/]")
    widest = max(len(command) for command, _ in NEXT)
    for command, purpose in NEXT:
        console.print(f"  {command:<{widest}}  {purpose}", markup=False)


def _table(evaluation: Mapping[str, Any]) -> "Table":
    from rich.table import Table

    title = f"{evaluation['photos']:,} photos of {evaluation['split']}, metrics x100"
    table = Table(
        title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, collapse_padding=True
    )
    table.add_column("", no_wrap=True)
    for heading in ("CIDEr", "95 % interval", *METRICS):
        table.add_column(heading, justify="right", no_wrap=True)
    models = evaluation["models"].items()
    for name, values in sorted(models, key=lambda item: -item[1]["CIDEr"]["value"]):
        cider = values["CIDEr"]
        interval = f"{100 * cider['low']:.1f} to {100 * cider['high']:.1f}"
        others = (f"{100 * values[metric]['value']:.1f}" if metric in values else "" for metric in METRICS)
        table.add_row(name, f"{100 * cider['value']:.1f}", interval, *others)
    return table


def _nearby(path: Path) -> str:
    """The path as it is typed from here."""
    here = Path.cwd().resolve()
    return str(path.relative_to(here)) if path.is_relative_to(here) else display_path(path)
