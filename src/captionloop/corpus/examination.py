"""Running the suites of one validation and keeping what Great Expectations found."""

import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from captionloop.corpus.expectations import Suite

if TYPE_CHECKING:
    from great_expectations.core.expectation_validation_result import ExpectationSuiteValidationResult
    from great_expectations.data_context.data_context.ephemeral_data_context import EphemeralDataContext

ROW: Final = "row"
_COMPLETE: Final = {"result_format": "COMPLETE", "unexpected_index_column_names": [ROW, "image_id"]}
_SUMMARY: Final = {"result_format": "SUMMARY"}


@dataclass(frozen=True)
class Finding:
    """How one expectation turned out; `reason` is empty where it does not reject single rows."""

    suite: str
    expectation: str
    reason: str
    success: bool
    observed: str
    rows: tuple[int, ...]


class Examination:
    """One run of Great Expectations: nothing outlives it on disk, nothing is reported to anyone.

    Each table that is examined becomes a page of the Data Docs. Use it as a context manager.
    """

    def __init__(self) -> None:
        os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when it is imported
        from great_expectations import RunIdentifier

        for chatty in ("great_expectations", "great_expectations.data_context.types.base"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        self._folder = tempfile.TemporaryDirectory(prefix="captionloop-docs-")
        self.findings: list[Finding] = []
        self._context = _context(Path(self._folder.name))
        self._run = RunIdentifier(run_name="data_validation")

    def __enter__(self) -> "Examination":
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def examine(self, suite: Suite, table: pd.DataFrame) -> list[Finding]:
        """Checks `table`; where it has a column `row`, the findings name the rows that break a rule."""
        import great_expectations as gx

        context = self._context
        batch = (
            context.data_sources.add_pandas(suite.name)
            .add_dataframe_asset(suite.name)
            .add_batch_definition_whole_dataframe("all")
        )
        rules = context.suites.add(gx.ExpectationSuite(suite.name, expectations=list(suite.expectations)))
        definition = context.validation_definitions.add(
            gx.ValidationDefinition(name=suite.name, data=batch, suite=rules)
        )
        checkpoint = context.checkpoints.add(
            gx.Checkpoint(
                name=suite.name,
                validation_definitions=[definition],
                result_format=_COMPLETE if ROW in table else _SUMMARY,
            )
        )
        run = checkpoint.run(batch_parameters={"dataframe": table}, run_id=self._run)
        (result,) = run.run_results.values()
        findings = _findings(suite.name, result)
        self.findings += findings
        return findings

    def pages(self) -> dict[str, bytes]:
        """The Data Docs as a static site: pages by path, with `index.html` as the entry."""
        self._context.build_data_docs()
        root = Path(self._folder.name)
        paths = (path for path in sorted(root.rglob("*")) if path.is_file())
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def _context(site: Path) -> "EphemeralDataContext":
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.enable_analytics(enable=False)
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    for name in list(context.list_data_docs_sites()):
        context.delete_data_docs_site(name)
    context.add_data_docs_site(
        site_name="captionloop",
        site_config={
            "class_name": "SiteBuilder",
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(site)},
        },
    )
    return context


def _findings(suite: str, result: "ExpectationSuiteValidationResult") -> list[Finding]:
    return [_finding(suite, each.to_json_dict()) for each in result.results]


def _finding(suite: str, result: Mapping[str, Any]) -> Finding:
    config, outcome = result["expectation_config"], result["result"]
    meta = config.get("meta") or {}
    arguments = {key: value for key, value in config["kwargs"].items() if key != "batch_id"}
    rows = tuple(int(index[ROW]) for index in outcome.get("unexpected_index_list") or () if ROW in index)
    observed = outcome.get("observed_value", f"{outcome.get('unexpected_count', 0)} unexpected")
    exception = (result.get("exception_info") or {}).get("exception_message")
    return Finding(
        suite=suite,
        expectation=f"{config['type']}({', '.join(f'{key}={value}' for key, value in arguments.items())})",
        reason=str(meta.get("reason", "")),
        success=bool(result["success"]),
        observed=str(exception or observed),
        rows=rows,
    )
