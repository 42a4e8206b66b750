"""`captionloop report`: what the last run found out, where its reports are, and what to do next."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

import click

from captionloop.commands.project import WrittenPath
from captionloop.config import project_folder
from captionloop.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.table import Table

METRICS = ("BLEU-1", "BLEU-4", "METEOR", "ROUGE-L")
REPORTS = (
    ("the table", "evaluation.md"),
    ("gallery", "gallery.png"),
    ("curves", "training_curves.png"),
    ("gate", "gate.md"),
    ("data", "data_docs/index.html"),
)
NEXT = (
    ("captionloop caption photo.jpg --attention words.png", "caption a photo, and see where it looked"),
    ("captionloop models list", "the registered versions"),
    ("make viz", "the pipelines and their data, in a browser"),
    ("make mlflow", "runs, curves and versions, in a browser"),
)


@click.command()
@click.option("--corpus", default="sample_scenes", show_default=True, help="Whose reports.")
@click.option(
    "--workspace",
    default="data",
    show_default=True,
    type=WrittenPath(path_type=Path, file_okay=False),
    help="Where the run wrote.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def report(corpus: str, workspace: Path, as_json: bool) -> None:
    """Show the last evaluation, the version that came of it, and the reports."""
    folder = project_folder() / workspace / "08_reporting" / corpus
    evaluation = _read(folder / "evaluation.json")
    if evaluation is None:
        raise ConfigurationError(
            f"There is no evaluation in {folder}: make one with make demo, or name another --corpus"
        )
    registered = _read(folder / "registered_version.json")
    reports = {what: folder / name for what, name in REPORTS if (folder / name).exists()}
    if as_json:
        paths = {what: str(path) for what, path in reports.items()}
        document = {"evaluation": evaluation, "registered_version": registered, "reports": paths}
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    _print(evaluation, registered, reports)


def _print(
    evaluation: Mapping[str, Any], registered: Mapping[str, Any] | None, reports: Mapping[str, Path]
) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True, width=max(80, get_terminal_size().columns))
    console.print()
    console.print(_table(evaluation))
    console.print()
    if registered is None:
        console.print("Not registered yet: kedro run --pipelines registration")
    else:
        served = ", which is now served" if "champion" in registered["aliases"] else ""
        console.print(f"[bold]Registered:[/] {registered['name']} version {registered['version']}{served}")
        console.print(f"  {registered['reason']}", markup=False)
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
    return str(path.relative_to(here)) if path.is_relative_to(here) else os.fspath(path)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{path} cannot be read ({error}): run kedro again to make it anew"
        ) from error
