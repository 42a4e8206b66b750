"""`kedro run --only-missing-outputs`: makes what is missing or was made from something else, nothing more.

Kedro's own flag decides before the run, by what exists. Here each node is decided on when its turn comes,
after those before it: one that was run again and made the same changes nothing for those that follow.
"""

import logging
from typing import Any

import click
from kedro.framework.hooks import hook_impl
from kedro.framework.session import KedroSession
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.runner import AbstractRunner, SequentialRunner
from kedro.runner.task import Task

from captionloop.provenance.recording import ProvenanceRecorder
from captionloop.workspaces import has_copy

logger = logging.getLogger(__name__)

_NOTHING_TO_DO = "Nothing to do: all {} nodes are up to date."
_MOST_REASONS = 4


class IncrementalSession(KedroSession):
    """Kedro's session, in which `only_missing_outputs` also makes anew what is out of date."""

    def run(self, *args: Any, **options: Any) -> dict[str, Any]:
        """As `KedroSession.run`."""
        if options.get("only_missing_outputs"):
            options["runner"] = incremental(options.get("runner"))
        try:
            return super().run(*args, **options)
        except NothingToDo as nothing:
            logger.info("%s", nothing)
            return {}


class NothingToDo(Exception):  # noqa: N818 - no error
    """All nodes of a run are up to date."""


class StopIfUpToDate:
    """Ends a run whose nodes are all up to date before MLflow begins one: an empty one, which takes seconds.

    Args:
        recorder: what says why a node has to be run. It is told of the run before: of two hooks that go
            first, the one that stands later in `HOOKS` is called first.
    """

    def __init__(self, recorder: ProvenanceRecorder) -> None:
        self._recorder = recorder

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: Any) -> None:
        """Called before kedro-mlflow begins its run.

        Raises:
            NothingToDo: there is no reason to run any node. Where others have a part in the run (the copy
                of a remote workspace, an MLflow run that goes on), it takes its course: others end it.
        """
        shared = (run_params.get("runtime_params") or {}).get("mlflow_run")
        if not run_params.get("only_missing_outputs") or shared or has_copy():
            return
        state = _RunState(pipeline, catalog, self._recorder)
        if not any(state.to_run(node) for node in pipeline.nodes):
            self._recorder.after_pipeline_run()
            raise NothingToDo(_NOTHING_TO_DO.format(len(pipeline.nodes)))


def incremental(runner: AbstractRunner | None) -> "IncrementalRunner":
    """The runner that decides node by node, in the place of Kedro's usual one.

    Raises:
        ClickException: another one was asked for.
    """
    if isinstance(runner, IncrementalRunner):
        return runner
    if runner is not None and type(runner) is not SequentialRunner:
        raise click.ClickException(
            "--only-missing-outputs decides on one node after the other, which"
            f" {type(runner).__name__} does not: leave out --runner, or --only-missing-outputs"
        )
    return IncrementalRunner(is_async=bool(runner and runner._is_async))


class IncrementalRunner(SequentialRunner):
    """Runs those nodes of a pipeline that its recorder has a reason to run."""

    def __str__(self) -> str:
        """What it is to those who ask whether nodes run one after the other: Kedro-Viz goes by this."""
        return f"<{SequentialRunner.__module__}.{SequentialRunner.__name__} object that decides by records>"

    def _filter_pipeline_for_missing_outputs(self, pipeline: Pipeline, catalog: Any) -> Pipeline:  # noqa: ARG002
        return pipeline

    def _run(
        self, pipeline: Pipeline, catalog: Any, hook_manager: Any = None, run_id: str | None = None
    ) -> None:
        plugins = hook_manager.get_plugins()
        recorder = next(each for each in plugins if isinstance(each, ProvenanceRecorder))
        state = _RunState(pipeline, catalog, recorder)
        for node in pipeline.nodes:
            for each, why in state.to_run(node):
                logger.info("%s: %s", each.name, why)
                try:
                    Task(each, catalog, self._is_async, hook_manager, run_id).execute()
                except Exception:
                    logger.warning("The same command goes on here; what has been finished is kept.")
                    raise
                state.mark_done(each)
                logger.info("Completed node: %s", each.name)
            state.release_unneeded(node)
        skipped, total = len(pipeline.nodes) - len(state.done), len(pipeline.nodes)
        if state.done:
            logger.info("%d of %d nodes were up to date.", skipped, total)
        else:
            logger.info("%s", _NOTHING_TO_DO.format(total))


class _RunState:
    """The state of a run: nodes done, datasets in memory, and nodes that may still need them."""

    def __init__(self, pipeline: Pipeline, catalog: Any, recorder: ProvenanceRecorder) -> None:
        self._catalog, self._recorder = catalog, recorder
        self._producers = {name: node for node in pipeline.nodes for name in node.outputs}
        self._consumers = {
            name: [node for node in pipeline.nodes if name in node.inputs] for name in self._producers
        }
        self._results = pipeline.outputs()
        self._decided: set[Node] = set()
        self._held: set[str] = set()
        self.done: set[Node] = set()

    def to_run(self, node: Node) -> list[tuple[Node, str]]:
        """What has to be run now so that the outputs of `node` are right, each with the reason."""
        recorder = self._recorder
        if node in self.done or (node.outputs and not recorder.kept_outputs(node)):
            return []  # what is only handed on is made when it is asked for
        why = recorder.reasons_to_run(node)
        if not why:
            return []
        shown = "; ".join(why[:_MOST_REASONS])
        more = f"; and {len(why) - _MOST_REASONS} more" if len(why) > _MOST_REASONS else ""
        return [*self._providers(node), (node, shown + more)]

    def _providers(self, node: Node) -> list[tuple[Node, str]]:
        """The nodes that hand something on to `node` in memory, and have not been run yet, in their order."""
        found: dict[Node, str] = {}
        for name in node.inputs:
            producer = self._producers.get(name)
            if producer is not None and producer not in self.done and self._recorder.is_in_memory(name):
                found |= dict(self._providers(producer))
                found.setdefault(producer, f"{node.name} needs {name}, which is not kept")
        return list(found.items())

    def mark_done(self, node: Node) -> None:
        """Note that a node was run, and that its outputs are in memory."""
        self.done.add(node)
        self._held.update(name for name in node.outputs if name not in self._results)

    def release_unneeded(self, node: Node) -> None:
        """Note that a node is decided on, and release datasets that no node needs any more."""
        self._decided.add(node)
        for name in [name for name in self._held if self._is_unneeded(name)]:
            self._catalog.release(name)
            self._held.discard(name)

    def _is_unneeded(self, name: str) -> bool:
        """Whether all that read a dataset are decided on, and none may still hand on what it makes of it."""
        return all(
            consumer in self._decided
            and (
                consumer in self.done
                or all(self._is_unneeded(each) for each in self._memory_outputs(consumer))
            )
            for consumer in self._consumers.get(name, ())
        )

    def _memory_outputs(self, node: Node) -> list[str]:
        return [name for name in node.outputs if self._recorder.is_in_memory(name)]
