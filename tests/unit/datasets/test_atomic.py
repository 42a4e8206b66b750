from pathlib import Path

import pandas as pd
import pytest
from kedro.io import DatasetError

from captionloop.datasets.atomic_datasets import AtomicJSONDataset, AtomicParquetDataset, AtomicTextDataset


def test_what_was_saved_is_loaded_and_nothing_else_is_left(tmp_path: Path) -> None:
    dataset = AtomicParquetDataset(filepath=str(tmp_path / "new" / "table.parquet"))
    table = pd.DataFrame({"image_id": ["a", "b"]})
    dataset.save(table)
    pd.testing.assert_frame_equal(dataset.load(), table)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["table.parquet"]


def test_a_save_that_fails_half_way_leaves_the_old_document(tmp_path: Path) -> None:
    dataset = AtomicJSONDataset(filepath=str(tmp_path / "report.json"))
    dataset.save({"photos": 3})
    with pytest.raises(DatasetError):
        dataset.save({"photos": object()})
    assert dataset.load() == {"photos": 3}


def test_a_half_written_file_does_not_count_as_there(tmp_path: Path) -> None:
    dataset = AtomicTextDataset(filepath=str(tmp_path / "page.md"))
    Path(dataset._get_save_path()).write_text("# half")
    assert not dataset.exists()
