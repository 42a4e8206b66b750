"""The table that `make demo` ends with."""

import io
from pathlib import Path

from rich.console import Console

from captionloop.commands.report import _table
from captionloop.config import read_configuration


def test_no_number_is_cut_short_on_a_terminal_of_80_columns(project_root: Path) -> None:
    value = {"value": 2.55, "low": 2.408, "high": 2.694}
    metrics = dict.fromkeys(("CIDEr", "B-1", "B-4", "METEOR", "ROUGE-L"), value)
    names = [
        f"{name}{search}"
        for name in read_configuration(project_root, "base")["parameters"]["models"]
        for search in ("", ".greedy")
    ]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(_table({"photos": 500, "split": "test", "models": dict.fromkeys(names, metrics)}))
    text = console.export_text()
    assert "…" not in text and text.count("240.8 to 269.4") == len(names)
