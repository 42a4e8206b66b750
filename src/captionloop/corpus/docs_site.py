"""The Data Docs as a site that can be read without a network.

Great Expectations' pages fetch their style, scripts and logo from elsewhere, and without them its index stays
empty. Here every such fetch is taken out, a small style sheet stands in, and our own index leads there.
"""

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from captionloop.corpus.tables import SPLITS

_REMOTE: Final = re.compile(
    r"<link\b[^>]*href=\"https?:[^>]*>|<script\b.*?</script>"
    r"|<img\b[^>]*src=\"https?:[^>]*>|<footer\b.*?</footer>",
    re.DOTALL,
)
_PAGES: Final = (".html", ".css")
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
    """Great Expectations' pages about a corpus, and an index that tells the report of its validation."""
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
    made["index.html"] = _index(title, sections, expectations, sorted(made)).encode()
    return made


def _without_network(page: str) -> str:
    return _REMOTE.sub("", page).replace("</head>", f"<style>{_STYLE}</style></head>", 1)


def _of_corpus(report: Mapping[str, Any]) -> list[Section]:
    released, read = report["released"], report["read"]
    sizes = [[split, released["images"][split], released["captions"][split]] for split in SPLITS]
    sizes.append(["read", read["images"], read["captions"]])
    rejected: list[list[object]] = [
        [kind, reason, count]
        for kind, reasons in report["quarantine"].items()
        for reason, count in reasons.items()
    ]
    twins = report["same_photo"]
    notes = (
        f"Pairs of the same photo: {twins['in_two_splits']} in two splits, {twins['in_one_split']} in one.",
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
