from pathlib import Path

from captionloop.datasets.corpus_datasets import SceneFactsDataset
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
