"""`kedro run`; a pipeline, node or dataset that does not exist is told in one line, with the nearest name."""

from collections.abc import Iterable, Mapping
from typing import Any

import click
from kedro.framework.cli.project import run as of_kedro
from kedro.pipeline import Pipeline

from captionloop.config import is_project, project_folder, read_configuration
from captionloop.errors import ConfigurationError
from captionloop.hooks import one_line
from captionloop.paths import nearest


def check_names(chosen: Mapping[str, Any], pipelines: Mapping[str, Pipeline]) -> None:
    """Raises `ConfigurationError` at the first name among a run's options that none of the pipelines has."""
    names = [chosen["pipeline"]] if chosen.get("pipeline") else list(chosen.get("pipelines") or ())
    _refuse_unknown("pipeline", names, pipelines)
    selected = sum((pipelines[name] for name in names or ["__default__"]), start=Pipeline([]))
    within = f" in {' and '.join(names)}" if names else ""
    nodes = [node.name for node in selected.nodes]
    for option in ("node_names", "from_nodes", "to_nodes"):
        _refuse_unknown("node", chosen.get(option), nodes, within)
    spaces = [node.namespace for node in selected.nodes if node.namespace]
    within_space = [".".join(space.split(".")[: depth + 1]) for space in spaces for depth in range(3)]
    _refuse_unknown("namespace", chosen.get("namespaces"), within_space, within)
    _refuse_unknown("tag", chosen.get("tags"), [tag for node in selected.nodes for tag in node.tags], within)
    for option in ("from_inputs", "to_outputs"):
        _refuse_unknown("dataset", chosen.get(option), selected.datasets(), within)
    _refuse_unknown("dataset", chosen.get("load_versions"), selected.datasets(), within)


def _refuse_unknown(what: str, names: Iterable[str] | None, known: Iterable[str], within: str = "") -> None:
    for name in names or ():
        if name not in set(known):
            raise ConfigurationError(f"There is no {what} {name}{within}: {nearest(name, known)}")


def default_pipelines(env: str | None) -> list[str]:
    """What runs where no pipeline is named: `pipeline` in the environment's globals, else Kedro's own."""
    project = project_folder()
    if not is_project(project):
        return []
    named = read_configuration(project, env)["globals"].get("pipeline")
    return [] if named in {None, "__default__"} else [str(named)]


def _run(*, report: bool = False, **chosen: Any) -> Any:
    from captionloop.pipeline_registry import register_pipelines, use_parameters

    with one_line():
        if is_project(project_folder()):
            own = read_configuration(project_folder(), chosen.get("env"), chosen.get("params"))
            use_parameters(own["parameters"])
        if not chosen.get("pipeline") and not chosen.get("pipelines"):
            chosen["pipelines"] = default_pipelines(chosen.get("env"))
        check_names(chosen, register_pipelines())
        _check_runner(chosen.get("runner"))
        assert of_kedro.callback is not None
        result = of_kedro.callback(**chosen)
        if report:
            _print_report(chosen.get("env"), (chosen.get("params") or {}).get("workspace"))
        return result


def _print_report(env: str | None, workspace: str | None) -> None:
    """As a command of its own it would begin with importing MLflow, which takes seconds."""
    from captionloop.commands.report import report

    given = ["--env", env] if env else []
    given += ["--workspace", str(workspace)] if workspace else []
    report.main(given, standalone_mode=False)


def _check_runner(name: str | None) -> None:
    from kedro.utils import load_obj

    try:
        load_obj(name or "SequentialRunner", "kedro.runner")
    except (ImportError, AttributeError, ValueError):
        known = ("SequentialRunner", "ParallelRunner", "ThreadRunner")
        raise ConfigurationError(f"There is no runner {name}: {nearest(str(name), known)}") from None


class OneLineCommand(click.Command):
    """A command that tells a wrong use in one line, without click's three lines of advice."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does. Raises `ClickException`."""
        try:
            return super().parse_args(ctx, args)
        except click.ClickException as error:  # Kedro's own would print "NoneType: None" besides
            raise click.ClickException(" ".join(error.format_message().split())) from error


_REPORT = click.Option(["--report"], is_flag=True, help="Print in the end what `captionloop report` prints.")

run = OneLineCommand("run", callback=_run, params=[*of_kedro.params, _REPORT], help=of_kedro.help)
