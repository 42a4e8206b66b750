"""Great Expectations suites and tables in, findings and the Data Docs as a static site out.

Great Expectations' pages fetch their style, scripts and logo from elsewhere, and without them its index stays
empty. Here every such fetch is taken out, a small style sheet stands in, and our own index leads there.
"""

import html
import logging
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from captionloop.corpus.expectations import Suite
from captionloop.corpus.tables import SPLITS

if TYPE_CHECKING:
    from great_expectations.core.expectation_validation_result import ExpectationSuiteValidationResult
    from great_expectations.data_context.data_context.ephemeral_data_context import EphemeralDataContext

_NETWORK_ELEMENTS: Final = re.compile(
    r"<link\b[^>]*href=\"https?:[^>]*>|<script\b.*?</script>"
    r"|<img\b[^>]*src=\"https?:[^>]*>|<footer\b.*?</footer>",
    re.DOTALL,
)
_PAGES: Final = (".html", ".css")
INDEX: Final = "index.html"
_STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --good: #1a7f4b; --bad: #b3401f; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 1080px; padding: 24px; }
h1 { font-size: 24px; } h2 { font-size: 18px; margin-top: 32px; }
table { border-collapse: collapse; margin: 8px 0 16px; } td, th { border-bottom: 1px solid var(--line);
padding: 6px 14px 6px 0; text-align: left; vertical-align: top; } td.number { text-align: right; }
.good, .text-success { color: var(--good); } .bad, .text-danger { color: var(--bad); }
.row { display: flex; flex-wrap: wrap; gap: 24px; } .row > .col-lg-2 { flex: 0 0 200px; }
.row > .col-lg-10 { flex: 1 1 640px; min-width: 0; } .row > .col-12 { flex: 1 1 100%; }
.card, .ge-walkthrough-modal, .modal, [onclick], .collapse, [data-toggle="collapse"] { display: none; }
ul.nav, ol { list-style: none; padding: 0; }
.badge { border: 1px solid var(--line); border-radius: 8px; padding: 0 8px; }
.alert { border-left: 4px solid var(--line); padding: 8px 16px; overflow-wrap: anywhere; }
.sticky { position: static !important; }
.fa-check-circle::before { content: "\\2713"; } .fa-times::before { content: "\\2717"; }
"""


@dataclass(frozen=True)
class Section:
    """A table on the index page; without rows it says "Nothing."."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[object]]
    notes: Sequence[str] = ()


def self_contained(pages: Mapping[str, bytes], report: Mapping[str, Any]) -> dict[str, bytes]:
    """Great Expectations' pages about a corpus, and an index page with the report of its validation."""
    return site(pages, "Is this corpus fit to learn from?", _of_corpus(report), report["expectations"])


def site(
    pages: Mapping[str, bytes],
    title: str,
    sections: Sequence[Section],
    expectations: Sequence[Mapping[str, Any]],
) -> dict[str, bytes]:
    """Great Expectations' pages without what they would fetch, and an index of sections and rules."""
    made = {
        path: _without_network(page.decode("utf-8")).encode()
        for path, page in pages.items()
        if path.endswith(_PAGES)
    }
    return with_index(made, title, sections, expectations)


def with_index(
    pages: Mapping[str, bytes],
    title: str,
    sections: Sequence[Section],
    expectations: Sequence[Mapping[str, Any]],
) -> dict[str, bytes]:
    """The same pages with another index: of these sections and rules."""
    others = {path: page for path, page in pages.items() if path != INDEX}
    return {**others, INDEX: _index(title, sections, expectations, sorted(others)).encode()}


def _without_network(page: str) -> str:
    return _NETWORK_ELEMENTS.sub("", page).replace("</head>", f"<style>{_STYLE}</style></head>", 1)


def _of_corpus(report: Mapping[str, Any]) -> list[Section]:
    released, read = report["released"], report["read"]
    sizes = [[split, released["images"][split], released["captions"][split]] for split in SPLITS]
    sizes.append(["read", read["images"], read["captions"]])
    rejected: list[list[object]] = [
        [kind, reason, count]
        for kind, reasons in report["quarantine"].items()
        for reason, count in reasons.items()
    ]
    pairs = report["same_photo"]
    notes = (
        f"Pairs of the same photo: {pairs['in_two_splits']} in two splits, {pairs['in_one_split']} in one.",
        f"Photos that no image names: {report['photos_that_no_image_names']}.",
    )
    return [
        Section("Released", ["split", "images", "captions"], sizes),
        Section("In quarantine", ["kind", "reason", "rows"], rejected, notes),
    ]


def _index(
    title: str,
    sections: Sequence[Section],
    expectations: Sequence[Mapping[str, Any]],
    paths: Sequence[str],
) -> str:
    return "\n".join(
        [
            '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Data Docs: captionloop</title><style>{_STYLE}</style></head><body>",
            f"<h1>{html.escape(title)}</h1>",
            *(part for section in sections for part in _section(section)),
            "<h2>Expectations</h2>",
            _suites(expectations, paths),
            "</body></html>",
        ]
    )


def _section(section: Section) -> list[str]:
    table = _table(section.head, section.rows) if section.rows else '<p class="good">Nothing.</p>'
    notes = [f"<p>{html.escape(note)}</p>" for note in section.notes]
    return [f"<h2>{html.escape(section.title)}</h2>", table, *notes]


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    def cell(value: object) -> str:
        if isinstance(value, int):
            return f'<td class="number">{value:,}</td>'
        return f"<td>{html.escape(str(value))}</td>"

    lines = ["".join(cell(value) for value in row) for row in rows]
    names = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    return f"<table><tr>{names}</tr>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _suites(expectations: Sequence[Mapping[str, Any]], paths: Sequence[str]) -> str:
    lines = []
    for name in dict.fromkeys(each["suite"] for each in expectations):
        of_suite = [each for each in expectations if each["suite"] == name]
        held = sum(each["success"] for each in of_suite)
        page = next((path for path in paths if path.startswith(f"validations/{name}/")), "")
        state = "good" if held == len(of_suite) else "bad"
        lines.append(
            f'<tr><td><a href="{html.escape(page)}">{html.escape(name)}</a></td>'
            f'<td class="{state}">{held} of {len(of_suite)} hold</td>'
            f'<td><a href="expectations/{html.escape(name)}.html">the rules</a></td></tr>'
        )
    return f"<table>{''.join(lines)}</table>"


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


class ExpectationRunner:
    """Runs suites of Great Expectations in a temporary folder, without its analytics; a context manager.

    Each table that is checked becomes a page of the Data Docs.
    """

    def __init__(self) -> None:
        os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when it is imported
        from great_expectations import RunIdentifier

        for name in ("great_expectations", "great_expectations.data_context.types.base"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self._folder = tempfile.TemporaryDirectory(prefix="captionloop-docs-")
        self.findings: list[Finding] = []
        self._context = _context(Path(self._folder.name))
        self._run = RunIdentifier(run_name="data_validation")

    def __enter__(self) -> "ExpectationRunner":
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def run(self, suite: Suite, table: pd.DataFrame) -> list[Finding]:
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
    config, details = result["expectation_config"], result["result"]
    meta = config.get("meta") or {}
    arguments = {key: value for key, value in config["kwargs"].items() if key != "batch_id"}
    rows = tuple(int(index[ROW]) for index in details.get("unexpected_index_list") or () if ROW in index)
    observed = details.get("observed_value", f"{details.get('unexpected_count', 0)} unexpected")
    exception = (result.get("exception_info") or {}).get("exception_message")
    return Finding(
        suite=suite,
        expectation=f"{config['type']}({', '.join(f'{key}={value}' for key, value in arguments.items())})",
        reason=str(meta.get("reason", "")),
        success=bool(result["success"]),
        observed=str(exception or observed),
        rows=rows,
    )
