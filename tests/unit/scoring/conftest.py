"""METEOR with a paraphrase table of two entries: the real one takes half a minute on a busy machine."""

import gzip
from functools import partial
from pathlib import Path

import pytest

from captionloop.scoring import java_metrics


@pytest.fixture(scope="session")
def paraphrases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = tmp_path_factory.mktemp("meteor") / "paraphrase.gz"
    with gzip.open(table, "wt") as file:
        file.write("0.5\nover the\nacross the\n0.4\npuppy\nyoung dog\n")
    return table


@pytest.fixture
def small_meteor(monkeypatch: pytest.MonkeyPatch, paraphrases: Path) -> None:
    monkeypatch.setattr(java_metrics, "Meteor", partial(java_metrics.Meteor, paraphrases=paraphrases))
