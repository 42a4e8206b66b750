import click
import pytest
from kedro.io import DatasetError

from captionloop.errors import CorpusError
from captionloop.hooks import OneLineErrors


def test_a_users_mistake_becomes_one_line() -> None:
    with pytest.raises(click.ClickException, match="photos/ is empty; add some") as shown:
        OneLineErrors().on_pipeline_error(CorpusError("photos/ is empty; add some"))
    assert shown.value.exit_code == 1


def test_a_mistake_met_while_loading_keeps_its_own_words() -> None:
    inner = DatasetError("Failed while loading data from dataset CorpusDataset(...)")
    inner.__cause__ = CorpusError("captions.json, line 3: a comma is missing")
    wrapped = DatasetError("raw_corpus: Failed while loading data from dataset CorpusDataset(...)")
    wrapped.__cause__ = inner
    with pytest.raises(click.ClickException, match=r"^captions.json, line 3: a comma is missing$"):
        OneLineErrors().on_pipeline_error(wrapped)


def test_a_defect_of_ours_keeps_its_traceback() -> None:
    OneLineErrors().on_pipeline_error(ZeroDivisionError())
