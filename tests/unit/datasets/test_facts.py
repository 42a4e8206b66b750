from pathlib import Path

import pytest

from captionloop.corpus.scenes.render import read_facts
from captionloop.datasets.corpus_datasets import SceneFactsDataset
from captionloop.errors import CorpusError
from captionloop.provenance.output_records import MISSING, FileDigests


def test_of_photos_that_were_not_drawn_nothing_is_known(tmp_path: Path) -> None:
    facts = SceneFactsDataset(filepath=str(tmp_path / "facts.json"))
    assert facts.load() == {}
    assert not facts.exists()
    assert facts.content_digest(FileDigests(), frozenset()) == MISSING


def test_facts_come_back_and_count(tmp_path: Path) -> None:
    facts = SceneFactsDataset(filepath=str(tmp_path / "facts.json"))
    facts.save({"a.jpg": {"place": "meadow"}})
    assert facts.exists() and facts.load() == {"a.jpg": {"place": "meadow"}}
    assert facts.content_digest(FileDigests(), frozenset()) not in {MISSING, None}


def test_facts_of_another_form_are_told_with_what_draws_them_again() -> None:
    with pytest.raises(CorpusError, match="kedro run --pipelines sample_scenes"):
        read_facts({"a.jpg": {"place": 3}})
