"""Kedro hooks: checks before a run, workspaces in object storage, MLflow runs, one-line errors."""

import atexit
import errno
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

import click
from kedro.framework.hooks import hook_impl
from kedro.io import DatasetError
from pydantic import ValidationError

from captionloop.conf_checks import check_configuration
from captionloop.conf_loader import ProjectConfigLoader
from captionloop.errors import CaptionloopError, ConfigurationError, in_a_line, without_passwords
from captionloop.leases import Lease
from captionloop.provenance.output_records import local_path, record_path
from captionloop.workspaces import below, has_copy, is_copy, is_remote, working_copy

logger = logging.getLogger(__name__)

LOCKS: Final = ".locks"
FOLLOW_SECONDS: Final = 2.0
DECODED: Final = "pixels-*.bin"
"""Decoded photos in a folder of half-done work: large, and soon made again."""

_FULL_DISK_MESSAGES = (  # by the system, SQLite, and PyTorch
    "No space left on device",
    "database or disk is full",
    "PytorchStreamWriter failed writing",
    "basic_ios::clear: iostream error",
)
_FULL_DISK = (
    "The disk is full: free some space, and run the same command again with --only-missing-outputs;"
    " what had been finished is kept"
)


_STORES = {"mlflow.MlflowException", "requests.RequestException", "sqlalchemy.OperationalError"}
"""What is raised where MLflow or a database goes away while a run is under way; none is imported here."""


def _user_message(error: BaseException) -> str | None:
    """The one line that tells a user what to do; None where the error is ours and keeps its traceback."""
    chain = list(_causes(error))
    # Kedro wraps what a dataset raises, once or twice.
    cause = next((each for each in chain if not isinstance(each, DatasetError)), None)
    if isinstance(cause, CaptionloopError):
        return str(cause)
    if isinstance(cause, ValidationError) and cause.title == "KedroMlflowConfig":
        first = cause.errors()[0]
        return f"mlflow.yml: {'.'.join(map(str, first['loc']))} cannot be used: {first['msg']}"
    if any(_is_full_disk(each) for each in chain):
        return _FULL_DISK
    # Of a file that is named in it: missing, of another user, on a disk that can only be read.
    if isinstance(cause, OSError) and (cause is not error or cause.filename is not None):
        return str(cause)
    kinds = {f"{kind.__module__.split('.')[0]}.{kind.__name__}" for kind in type(cause).__mro__}
    if cause is not None and kinds & _STORES:
        problem = without_passwords(in_a_line(cause))
        return (
            f"A store that the run uses does not do what is asked of it ({problem}): mend that, and"
            " run the same command again with --only-missing-outputs; what had been finished is kept"
        )
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_full_disk(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(words in str(error) for words in _FULL_DISK_MESSAGES)


@contextmanager
def one_line() -> Iterator[None]:
    """What is raised within, as click shows it: one line, exit code 1."""
    try:
        yield
    except Exception as error:
        message = _user_message(error)
        if message is None:
            raise
        raise click.ClickException(message) from error


class OneLineConfigLoader(ProjectConfigLoader):
    """The project's loader for Kedro's own commands: what is wrong in `conf/` is one line there too."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        with one_line():
            super().__init__(*arguments, **options)

    def __getitem__(self, key: str) -> dict[str, Any]:
        """As the project's loader."""
        with one_line():
            return super().__getitem__(key)


class CheckedConfiguration:
    """Has the environment's models built, and refuses what no pipeline can use, before anything is made."""

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: Any) -> None:
        """Called before the MLflow store is made."""
        from captionloop.pipeline_registry import register_pipelines, use_parameters
        from captionloop.serving.service_settings import Settings

        for line in Settings.misspelt():
            logger.warning("%s", line)
        if isinstance(context.config_loader, ProjectConfigLoader):
            use_parameters(context.config_loader["parameters"])
        check_configuration(context.config_loader, register_pipelines())


class OneCorpusPerModel:
    """Refuses a run that would register, or read, models of another corpus: before it computes for hours."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Any, catalog: Any) -> None:
        """Called before kedro-mlflow begins its run."""
        for name in {"model_registry", "base_model_registry"} & set(pipeline.inputs()):
            catalog.load(name).refuse_other_corpus()


class TrainedCandidate:
    """Refuses, before it computes for minutes, a run whose registered model it cannot train or open."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Any, catalog: Any) -> None:
        """Called before kedro-mlflow begins its run."""
        if any(node.namespace == "pretrained" for node in pipeline.nodes):
            from captionloop.pipelines.pretrained.nodes import check_packages

            check_packages()
        for node in pipeline.nodes:
            trained_models = [
                name.removesuffix(".captioner") for name in node.inputs if name.endswith(".captioner")
            ]
            if trained_models and "candidate" in node.outputs:
                model = catalog.load("params:registration").model
                if model not in trained_models:
                    raise ConfigurationError(
                        f"registration.model is {model!r}, and of the captioners this pipeline trains only"
                        f" {', '.join(sorted(trained_models))}: kedro run --only-missing-outputs trains all"
                    )


class SharedMlflowRun:
    """Lets pipeline runs that belong together be one MLflow run: `--params mlflow_run=<name>`.

    kedro-mlflow begins a run at every `kedro run`; given the id of one that exists, it goes on with that.
    """

    @hook_impl(trylast=True)
    def after_context_created(self, context: Any) -> None:
        """Called after kedro-mlflow has read its configuration, and before it begins a run."""
        name = (context.config_loader.runtime_params or {}).get("mlflow_run")
        if not name:
            return
        if re.fullmatch(r"[\w.:+-]+", str(name)) is None:
            raise ConfigurationError(
                f"mlflow_run={name!r} cannot be used: letters, digits and . : + - _ only"
            )
        from captionloop.registry.tracking import find_or_begin_run

        tracking = context.mlflow.tracking
        uri = context.mlflow.server.mlflow_tracking_uri
        tracking.run.name = str(name)  # else kedro-mlflow renames the run after each pipeline
        tracking.run.id = find_or_begin_run(uri, tracking.experiment.name, str(name))


class RemoteWorkspace:
    """Where a workspace is in object storage: fetches what a run reads, stores what it makes, and sees to it
    that nobody else runs the same pipelines there.

    Half-done work (checkpoints) is stored while a node is at it, a moment after each epoch: a step that was
    killed goes on where it was on whichever machine is next. Photos that were decoded for it are not.
    """

    def __init__(self) -> None:
        self._loader: Any = None
        self._places: dict[str, Path] = {}
        self._lease: Lease | None = None
        self._work: Thread | None = None
        self._worked = Event()

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Called when it is known which workspace is meant."""
        self._loader = context.config_loader
        self._places, self._lease = {}, None

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Any, catalog: Any) -> None:
        """Called before anybody looks at what is there."""
        if not has_copy():
            self._places = {}
            return
        kept = {name: catalog[name] for name in pipeline.datasets() if name in catalog}
        places = {name: path for name, each in kept.items() if (path := local_path(each)) is not None}
        self._places = {name: path for name, path in places.items() if is_copy(path)}
        if not self._places:
            return
        given = (run_params.get("runtime_params") or {}).get("workspace")
        workspace = str(given or self._loader["globals"].get("workspace", ""))
        if is_remote(workspace) and any(name in self._places for name in pipeline.all_outputs()):
            from captionloop.registry.history import actor

            self._lease = Lease(below(workspace, LOCKS, _lock_name(run_params)), actor())
            self._lease.take()
            atexit.register(self._end)
        found = self._places.values()
        working_copy().fetch([*found, *(record_path(path) for path in found)])

    @hook_impl
    def before_node_run(self, node: Any, catalog: Any) -> None:
        """Stores half-done work from now on."""
        folders = [self._places[name] for name in node.inputs if self._is_work(catalog, name)]
        if folders:
            self._worked.clear()
            self._work = Thread(target=self._follow, args=(folders,), name="checkpoints", daemon=True)
            self._work.start()

    @hook_impl
    def after_node_run(self) -> None:
        """The work is done."""
        self._end_work()

    @hook_impl
    def on_node_error(self) -> None:
        """It ended otherwise."""
        self._end_work()

    @hook_impl(trylast=True)
    def after_dataset_saved(self, dataset_name: str) -> None:
        """Called when its record is written: that is stored last, and says that the rest is whole."""
        path = self._places.get(dataset_name)
        if path is not None:
            self._store(path)

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Lets the next one begin."""
        self._end()

    @hook_impl
    def on_pipeline_error(self) -> None:
        """The same."""
        self._end()

    def _is_work(self, catalog: Any, name: str) -> bool:
        return name in self._places and getattr(catalog[name], "is_half_done_work", False)

    def _store(self, path: Path) -> None:
        if self._lease is not None:
            self._lease.check()
        working_copy().store(path, takes=lambda name: not fnmatch(name, DECODED))
        working_copy().store(record_path(path))

    def _follow(self, folders: list[Path]) -> None:
        while True:
            over = self._worked.wait(FOLLOW_SECONDS)
            try:
                for folder in folders:
                    self._store(folder)
            except CaptionloopError as error:  # what is made in the end is stored all the same, or fails
                logger.warning("Half-done work is not stored: %s", error)
            if over:
                return

    def _end_work(self) -> None:
        self._worked.set()
        if self._work is not None:
            self._work.join()
        self._work = None

    def _end(self) -> None:
        self._end_work()
        if self._lease is not None:
            self._lease.release()
        self._lease = None


def _lock_name(run_params: dict[str, Any]) -> str:
    """One name for each of what may run at the same time in one workspace: pipelines, and shards of them."""
    names = sorted(run_params.get("pipeline_names") or ["__default__"])
    shard = (run_params.get("runtime_params") or {}).get("shard")
    parts = [*names, *([str(shard).replace("/", "-of-")] if shard else [])]
    return f"{'+'.join(parts)}.json"


class OnePipelineRun:
    """Runs the pipeline once where `torchrun` has started several processes: the others help to train."""

    @hook_impl(tryfirst=True)
    def after_context_created(self) -> None:
        """Called before anything is made or written."""
        if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "RANK" not in os.environ:
            return
        from captionloop.training.processes import follow, release_followers

        if os.environ["RANK"] == "0":
            release_followers()
            return
        follow()
        raise SystemExit(0)


class CreateMlflowStore:
    """Makes the project's MLflow store where there is none, so that a run killed meanwhile spoils nothing.

    One that is there is asked first, for MLflow would go on trying a server that is away for minutes.
    """

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: Any) -> None:
        """Called before kedro-mlflow looks for the store."""
        from captionloop.registry import tracking

        uri = context.config_loader.tracking_uri()
        if uri is None:
            return
        tracking.check(uri)
        experiment = context.config_loader["mlflow"].get("tracking", {}).get("experiment", {})
        if experiment.get("name") and not experiment.get("create_experiment_kwargs"):
            # kedro-mlflow fails where two processes make it at the same time.
            tracking.ensure_experiment(uri, str(experiment["name"]))


class UserErrorHook:
    """Shows a user's mistake as one line with exit code 1, where Kedro would print a traceback.

    Round all other hooks, for what kedro-mlflow cannot write raises in them.
    """

    @hook_impl(wrapper=True)
    def after_context_created(self) -> Any:
        """Round the making of the MLflow store."""
        with one_line():
            return (yield)

    @hook_impl(wrapper=True)
    def before_pipeline_run(self) -> Any:
        """Round the beginning of the MLflow run."""
        with one_line():
            return (yield)

    @hook_impl(wrapper=True)
    def after_pipeline_run(self) -> Any:
        """Round its end."""
        with one_line():
            return (yield)

    @hook_impl(wrapper=True)
    def on_pipeline_error(self, error: Exception) -> Any:
        """Raise what stopped the pipeline as one line, once MLflow's hook has closed its run or failed to."""
        message = _user_message(error)
        if message == _FULL_DISK:
            # MLflow will not be able to write that its run failed, and says so at length.
            logging.getLogger("mlflow").setLevel(logging.CRITICAL)
        try:
            return (yield)
        finally:
            if message is not None:
                raise click.ClickException(message) from error
