"""What a captioner's lineage says about the code that made it."""

import pandas as pd
import pytest

from captionloop.training.train_captioner import lineage

NOBODY_S = pd.DataFrame({"source": ["human", "correction", "approved"]})


def commit() -> str | None:
    found = lineage(NOBODY_S, corpus="c", features="f", training={}, parent=None)
    assert found["feedback_rows"] == 2
    return found["git_commit"]


def test_the_commit_is_what_git_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CAPTIONLOOP_COMMIT", raising=False)
    found = commit()
    assert found is None or len(found) == 40  # None where the package is not in a repository


def test_in_an_image_without_git_the_commit_is_what_was_noted_when_it_was_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CAPTIONLOOP_COMMIT", "c2a945b")
    assert commit() == "c2a945b"
    monkeypatch.setenv("CAPTIONLOOP_COMMIT", "")
    assert commit() is None
