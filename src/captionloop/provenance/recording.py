"""Records the provenance of every output in every `kedro run`, and gives reasons to run a node again.

That is all that plain `kedro run` notices of it; `incremental` decides with it which nodes are run.
"""

import json
import logging
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from kedro.framework.hooks import hook_impl
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from pydantic import BaseModel

from captionloop.provenance.code_versions import (
    WHOLE,
    CodeVersion,
    CodeVersions,
    flat,
    tracked_parameters,
    values_at,
)
from captionloop.provenance.output_records import (
    FOLDER,
    FileDigests,
    Provenance,
    Record,
    content_of,
    differences,
    local_path,
    read_record,
    record_path,
    write_beside,
    write_record,
)
from captionloop.provenance.parsed_code import ParsedModules

logger = logging.getLogger(__name__)

READS_THE_CLOCK: Final = "reads_the_clock"
"""The tag of a node whose result depends on when it is run: it is run each time."""


class RunDigests(FileDigests):
    """Digests during a run: a folder is looked through once, until a node may have changed it.

    Each node that reads photos asks for the digest of all of them; where none runs, one look is enough.
    """

    def __init__(self, database: Path | None = None) -> None:
        super().__init__(database)
        self._folders: dict[Path, str] = {}

    def of_folder(self, folder: Path, takes: Callable[[str], bool] | None = None) -> str:
        """A digest of the files in a folder, as when it was first asked for since `forget_folders`."""
        if takes is not None:
            return super().of_folder(folder, takes)
        if folder not in self._folders:
            self._folders[folder] = super().of_folder(folder)
        return self._folders[folder]

    def forget_folders(self) -> None:
        """Something was written, or is about to be."""
        self._folders.clear()


class ProvenanceRecorder:
    """Hooks that follow every node of a run. Hand it to `kedro` once: each run begins with a clean slate."""

    def __init__(self, code: CodeVersions | None = None) -> None:
        self._given_code = code
        self._begin(Pipeline([]), {}, RunDigests(), code or CodeVersions())

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: Any) -> None:
        """A new run."""
        folder = Path(run_params["project_path"]) / "data" / FOLDER
        code = CodeVersions(parsed=ParsedModules(folder / "parsed_code.json"))
        self._begin(pipeline, catalog, RunDigests(folder / "file_digests.sqlite"), self._given_code or code)
        for node in pipeline.nodes:  # as the code is now: it may be edited while a node is at work
            self._version(node)
        self._code.save()

    def _begin(self, pipeline: Pipeline, catalog: Any, files: RunDigests, code: CodeVersions) -> None:
        self._catalog = catalog
        self._files = files
        self._code = code
        self.__dict__.pop("_titles", None)
        self._nodes = {node.name for node in pipeline.nodes}
        self._datasets = pipeline.datasets()
        self._producers = {name: node for node in pipeline.nodes for name in node.outputs}
        self._made: dict[str, Provenance] = {}
        self._warned: set[str] = set()
        self._inputs: dict[str, dict[str, Provenance | str | None]] = defaultdict(dict)
        self._reads: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))

    @hook_impl
    def before_dataset_loaded(self, dataset_name: str, node: Node) -> None:
        """Takes the digest of an input before it is read: the next run notices what changes meanwhile."""
        if node.name in self._nodes and not _is_parameter(dataset_name):
            self._inputs[node.name][dataset_name] = self._input(node, dataset_name, None)

    @hook_impl
    def before_node_run(self, node: Node, inputs: dict[str, Any]) -> dict[str, Any]:
        """Gives the node parameters that track their reads; empties half-done work of other code."""
        self._files.forget_folders()
        tracked: dict[str, Any] = {}
        if node.name not in self._nodes:  # in a process that a runner has started anew
            return tracked
        for name, value in inputs.items():
            if not _is_parameter(name):
                continue
            reads = self._reads[node.name][_block(name)]
            if isinstance(value, BaseModel):
                tracked[name] = tracked_parameters(value, reads.add)
            else:
                reads.add(WHOLE)
        for name in node.inputs:
            begin = getattr(self._catalog[name], "begin", None) if not _is_parameter(name) else None
            if begin is not None:
                begin(self._code.of(node.func))
        return tracked

    @hook_impl
    def after_node_run(self, node: Node) -> None:
        """Puts together what the node made its outputs from."""
        self._files.forget_folders()
        if node.name not in self._nodes:
            return
        reads = {block: frozenset(paths) for block, paths in self._reads[node.name].items()}
        self._made[node.name] = self._provenance(node, reads, dict(self._inputs[node.name]))

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, node: Node) -> None:
        """Writes the record of an output, once that is whole."""
        if node.name not in self._made:
            return
        path = local_path(self._catalog[dataset_name])
        if path is not None:
            self._files.forget_folders()
            content = content_of(self._catalog[dataset_name], self._files)
            write_record(path, Record(made=self._made[node.name], output=content))

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Keeps the digests of files."""
        self._files.save()

    @hook_impl
    def on_pipeline_error(self) -> None:
        """The same."""
        self._files.save()

    def reasons_to_run(self, node: Node) -> list[str]:
        """The reasons to run a node, as phrases; empty where all its outputs are up to date."""
        if READS_THE_CLOCK in node.tags:
            return ["what it finds depends on the time"]
        if not node.outputs:
            return ["it has no outputs"]
        reasons: list[str] = []
        titles = self._titles
        for name in self.kept_outputs(node):
            dataset = self._catalog[name]
            path = local_path(dataset)
            title = titles.get(name, name)
            if not dataset.exists():
                whole = path is None or not path.exists()
                reasons.append(f"{title} is missing" if whole else f"{title} is not complete any more")
            elif path is None:
                continue  # a measure in MLflow: nothing that could be read again
            elif (record := read_record(path)) is None:
                reasons.append(f"nothing tells what {title} was made from")
            elif changes := differences(record.made, self.current_provenance(node, record.made), titles):
                reasons += changes
            elif record.output != content_of(dataset, self._files):
                if getattr(dataset, "is_peoples_data", False):
                    if name not in self._warned:
                        logger.info("%s was changed since %s wrote it: taken as it is", title, node.name)
                    self._warned.add(name)
                else:
                    reasons.append(f"{title} is not what was written")
        return list(dict.fromkeys(reasons))

    def kept_outputs(self, node: Node) -> list[str]:
        """The outputs that are stored, not only in memory."""
        return [name for name in node.outputs if not self.is_in_memory(name)]

    def is_in_memory(self, name: str) -> bool:
        """Whether a dataset is only handed on."""
        return name not in self._catalog or bool(getattr(self._catalog[name], "_EPHEMERAL", False))

    def current_provenance(self, node: Node, before: Provenance | None) -> Provenance:
        """The provenance that the node's outputs would have now, given the parameters that it read then."""
        reads = {} if before is None else before.reads
        known = {} if before is None else before.inputs
        inputs = {
            name: self._input(node, name, known.get(name)) for name in node.inputs if not _is_parameter(name)
        }
        return self._provenance(node, reads, inputs)

    def _provenance(
        self,
        node: Node,
        reads: Mapping[str, frozenset[str]],
        inputs: dict[str, Provenance | str | None],
    ) -> Provenance:
        version = self._version(node)
        parameters = {
            block: values
            for name in node.inputs
            if _is_parameter(name)
            for block in (_block(name),)
            if (values := values_at(self._catalog.load(name), reads.get(block, frozenset())))
        }
        return Provenance(
            node=node.name,
            code=dict(version.modules),
            packages=dict(version.packages),
            reads=dict(reads),
            parameters=json.loads(json.dumps(parameters)),
            settings=json.loads(json.dumps(self._settings(node), default=str)),
            inputs=inputs,
        )

    def _input(self, node: Node, name: str, before: Provenance | str | None) -> Provenance | str | None:
        producer = self._producers.get(name)
        if not self.is_in_memory(name):
            return content_of(self._catalog[name], self._files, frozenset(node.inputs) - {name})
        if producer is None:
            return None
        if producer.name in self._made:
            return self._made[producer.name]
        return self.current_provenance(producer, before if isinstance(before, Provenance) else None)

    def _version(self, node: Node) -> CodeVersion:
        return self._code.of(node.func, *self._own_datasets(node))

    def _own_datasets(self, node: Node) -> list[type]:
        """The classes of the project that read its inputs and write its outputs."""
        names = [name for name in (*node.inputs, *node.outputs) if not _is_parameter(name)]
        kinds = {type(self._catalog[name]) for name in names if name in self._catalog}
        return sorted((each for each in kinds if each.__module__.startswith("captionloop.")), key=repr)

    def _settings(self, node: Node) -> dict[str, Any]:
        """What the catalog says about how inputs are read and outputs written."""
        found: dict[str, Any] = {}
        for names, key in ((node.inputs, "load_args"), (node.outputs, "save_args")):
            for name in names:
                if _is_parameter(name) or name not in self._catalog:
                    continue
                arguments = getattr(self._catalog[name], "_init_args", None) or {}
                arguments = {**arguments, **arguments.get("kwargs", {})}
                if arguments.get(key):
                    found |= flat(arguments[key], f"{name}.{key}")
        return found

    @cached_property
    def _titles(self) -> dict[str, str]:
        """Datasets by the names that people know: a file's, where it has one of its own."""
        titles = {}
        for name in self._datasets:
            if not _is_parameter(name) and name in self._catalog:
                path = local_path(self._catalog[name])
                if path is not None and path.suffix:
                    titles[name] = path.name if "." not in name else f"{name} ({path.name})"
        return titles


class CodeStamp:
    """Keeps a folder of half-done work to the code that began it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self, version: CodeVersion) -> None:
        """Empties the folder where other code has worked in it; work of nobody knows which code is kept."""
        stamp, now = (
            record_path(self._folder),
            {"code": dict(version.modules), "packages": dict(version.packages)},
        )
        try:
            before = json.loads(stamp.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            before = None
        if before == now:
            return
        if before is not None and any(self._folder.glob("*")):
            logger.info("%s was begun by other code: begun anew", self._folder.name)
            shutil.rmtree(self._folder)
            self._folder.mkdir(parents=True)
        write_beside(stamp, json.dumps(now))


def _is_parameter(name: str) -> bool:
    return name == "parameters" or name.startswith("params:")


def _block(name: str) -> str:
    return name.removeprefix("params:")
