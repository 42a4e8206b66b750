"""The table that `make demo` ends with."""

import io

from captionloop.pipelines.training.pipeline import TAUGHT_BY_REWARD, TAUGHT_BY_WORDS
from rich.console import Console

from captionloop.commands.report import _table


def test_no_number_is_cut_short_on_a_terminal_of_80_columns() -> None:
    value = {"value": 2.55, "low": 2.408, "high": 2.694}
    metrics = dict.fromkeys(("CIDEr", "B-1", "B-4", "METEOR", "ROUGE-L"), value)
    names = [
        f"{name}{search}" for name in (*TAUGHT_BY_WORDS, *TAUGHT_BY_REWARD) for search in ("", ".greedy")
    ]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(_table({"photos": 500, "split": "test", "models": dict.fromkeys(names, metrics)}))
    said = console.export_text()
    assert "…" not in said and said.count("240.8 to 269.4") == len(names)
