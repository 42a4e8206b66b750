import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captionloop.errors import StoreError
from captionloop.vision.feature_store import FeatureStore

PRINT = "ab" * 16
SHAPE = (4, 6)


def key(number: int) -> str:
    return f"{number:064x}"


def grid(number: int) -> np.ndarray:
    return np.random.default_rng(number).normal(size=SHAPE).astype(np.float16)


def fill(store: FeatureStore, numbers: range | list[int]) -> None:
    with store.writer(PRINT) as writer:
        for number in numbers:
            writer.add(key(number), grid(number))


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "store", fragment_bytes=5 * grid(0).nbytes)


def data_files(store: FeatureStore) -> list[Path]:
    return sorted((Path(store.root) / f"{PRINT}.lance/data").glob("*.lance"))


@given(st.lists(st.integers(0, 11), min_size=1, max_size=20))
@settings(max_examples=25, deadline=None)
def test_any_selection_in_any_order_reads_back(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int]
) -> None:
    store = FeatureStore(tmp_path_factory.mktemp("store"), fragment_bytes=5 * grid(0).nbytes)
    fill(store, range(12))
    reader = store.reader(PRINT)
    for _ in range(2):  # the first read is checked, the second is not
        read = reader.grids([key(number) for number in numbers])
        assert (read == np.stack([grid(number) for number in numbers])).all()


@given(
    st.lists(st.sets(st.integers(0, 15), min_size=1), min_size=1, max_size=4),
    st.sets(st.integers(0, 20)),
    st.lists(st.integers(0, 20)),
)
@settings(max_examples=40, deadline=None)
@pytest.mark.integration
def test_a_store_is_a_set_of_photos(
    tmp_path_factory: pytest.TempPathFactory, added: list[set[int]], dropped: set[int], ids: list[int]
) -> None:
    """Whatever is added, also twice, dropped and asked for: what is missing is a difference of sets."""
    store = FeatureStore(tmp_path_factory.mktemp("store"), fragment_bytes=3 * grid(0).nbytes)
    for numbers in added:
        fill(store, sorted(numbers))
    table = store.table(PRINT)
    there = set[int]().union(*added)
    rows = sum(len(numbers & dropped) for numbers in added)
    assert table.delete([key(number) for number in dropped]) == rows
    there -= dropped
    expected = [key(number) for number in dict.fromkeys(ids) if number not in there]
    assert store.missing(PRINT, [key(number) for number in ids]) == expected
    assert set(store.reader(PRINT)) == {key(number) for number in there}
    assert table.holds([key(number) for number in ids]) == {key(number) for number in ids} - set(expected)
    table.compact()
    reader = store.reader(PRINT, [key(number) for number in ids])
    assert len(reader) == len(set(ids) & there)
    rows_left = table.open()
    assert rows_left is not None and len(rows_left) == len(there)
    for number in set(ids) & there:
        assert (reader[key(number)] == grid(number)).all()


def test_means_are_those_of_the_grids(store: FeatureStore) -> None:
    fill(store, range(7))
    means = store.reader(PRINT).means([key(6), key(2)])
    expected = np.stack([grid(number).mean(axis=0, dtype=np.float32) for number in (6, 2)])
    np.testing.assert_allclose(means, expected, rtol=1e-6)


def test_the_table_is_one_that_lance_reads_by_itself(store: FeatureStore) -> None:
    import lance

    fill(store, range(3))
    rows = lance.dataset(f"{store.root}/{PRINT}.lance").to_table().to_pylist()
    assert [row["key"].hex() for row in rows] == [key(number) for number in range(3)]
    assert np.frombuffer(rows[2]["grid"], np.float16).reshape(SHAPE).tolist() == grid(2).tolist()


def test_an_empty_store_holds_nothing(store: FeatureStore) -> None:
    reader = store.reader(PRINT)
    assert len(reader) == 0 and list(reader) == []
    assert key(1) not in reader
    assert store.missing(PRINT, [key(1), key(0), key(1)]) == [key(1), key(0)]
    with pytest.raises(StoreError, match="has no cached features; run feature_caching"):
        reader.grids([key(1)])


def test_encoders_are_kept_apart(store: FeatureStore) -> None:
    fill(store, range(3))
    assert len(store.reader("cd" * 16)) == 0


def test_several_writers_fill_one_store(store: FeatureStore) -> None:
    first, second = store.writer(PRINT), store.writer(PRINT)
    with first, second:
        for number in range(20):
            (first, second)[number % 2].add(key(number), grid(number))
    assert set(store.reader(PRINT)) == {key(number) for number in range(20)}


def test_of_photos_that_two_have_written_one_row_stays(store: FeatureStore) -> None:
    fill(store, range(8))
    fill(store, range(4, 12))
    assert len(store.reader(PRINT)) == 12
    table = store.table(PRINT)
    table.compact()
    rows = table.open()
    assert rows is not None and len(rows) == 12


def test_a_reader_sees_the_store_as_it_was_when_it_was_opened(store: FeatureStore) -> None:
    fill(store, range(3))
    reader = store.reader(PRINT)
    fill(store, range(3, 6))
    assert len(reader) == 3
    assert len(store.reader(PRINT)) == 6


def test_what_was_computed_is_kept_when_something_else_fails(store: FeatureStore) -> None:
    with pytest.raises(KeyError), store.writer(PRINT) as writer:
        writer.add(key(1), grid(1))
        raise KeyError
    assert key(1) in store.reader(PRINT)


ON_A_FULL_DISK = """
import resource, sys
import numpy as np
from captionloop.errors import StoreError
from captionloop.vision.feature_store import FeatureStore
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    with FeatureStore(sys.argv[1]).writer(sys.argv[2]) as writer:
        for number in range(9):
            writer.add(f"{number:064x}", np.full((40, 60), number, np.float16))
except StoreError as error:
    print(error)
"""


def test_a_disk_that_takes_no_more_is_one_line_and_loses_nothing_written(store: FeatureStore) -> None:
    big = "cd" * 16
    with store.writer(big) as writer:
        writer.add(key(99), np.ones((40, 60), np.float16))
    ran = subprocess.run(
        [sys.executable, "-c", ON_A_FULL_DISK, store.root, big], capture_output=True, text=True, check=True
    )
    assert "File too large; those written before are safe: make room and run feature_caching" in ran.stdout
    assert ran.stdout.count("\n") == 1
    assert list(store.reader(big)) == [key(99)]
    with store.writer(big) as writer:
        writer.add(key(1), np.ones((40, 60), np.float16))
    assert len(store.reader(big)) == 2


@pytest.mark.parametrize("cut", [1, 100, 10_000])
def test_a_file_that_was_cut_off_is_found_and_mended(store: FeatureStore, cut: int) -> None:
    fill(store, range(10))
    path = data_files(store)[0]
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(StoreError, match=r"are damaged.*run captionloop features scrub"):
        store.reader(PRINT).grids([key(number) for number in range(10)])
    assert store.table(PRINT).scrub() == (10, 5)
    assert len(store.missing(PRINT, [key(number) for number in range(10)])) == 5
    fill(store, range(10))
    assert len(store.reader(PRINT).grids([key(number) for number in range(10)])) == 10


def test_a_fragment_that_a_damaged_manifest_leaves_empty_is_told(store: FeatureStore) -> None:
    class Damaged:
        """Bit 5 of the number by which a manifest names a fragment's file: nothing but the count notices."""

        def count_rows(self) -> int:
            raise OSError("Not found: Fragment 0 does not contain any data, /lance/fragment.rs:1773:24")

    fill(store, range(3))
    rows = store.table(PRINT).open()
    assert rows is not None
    rows.dataset = Damaged()
    with pytest.raises(StoreError, match=r"damaged or have gone \(Not found.*features scrub"):
        len(rows)


@given(st.integers(0, 10**9), st.integers(1, 255))
@settings(max_examples=150, deadline=None)
@pytest.mark.integration
def test_no_flipped_byte_goes_unnoticed(
    tmp_path_factory: pytest.TempPathFactory, position: int, change: int
) -> None:
    store = FeatureStore(tmp_path_factory.mktemp("store"))
    fill(store, range(3))
    files = [path for path in sorted(Path(store.root).rglob("*")) if path.is_file()]
    position %= sum(path.stat().st_size for path in files)
    for path in files:
        if position < path.stat().st_size:
            break
        position -= path.stat().st_size
    content = bytearray(path.read_bytes())
    if path.suffix == ".lance" and position in range(len(content) - 16, len(content) - 12):
        return  # how many buffers Lance is to make room for: it ends the process where there is no room
    content[position] ^= change
    path.write_bytes(content)
    keys = [key(number) for number in range(3)]
    try:
        if store.missing(PRINT, keys):  # the key of a photo has changed: it is encoded again
            return
        reader = store.reader(PRINT)
        read, means = reader.grids(keys), reader.means(keys)
    except StoreError as error:
        assert "\n" not in str(error)
        return
    expected = np.stack([grid(number) for number in range(3)])
    assert (read == expected).all()  # a byte that says nothing
    assert (means == expected.mean(axis=1, dtype=np.float32)).all()


def test_a_damaged_row_is_named_and_mended(store: FeatureStore) -> None:
    fill(store, range(10))
    path = next(path for path in data_files(store) if grid(7).tobytes() in path.read_bytes())
    path.write_bytes(path.read_bytes().replace(grid(7).tobytes(), grid(8).tobytes()))
    reader = store.reader(PRINT)
    assert (reader[key(6)] == grid(6)).all()
    with pytest.raises(StoreError, match=f"photo {key(7)[:12]} in .* do not match their checksum"):
        reader.grids([key(6), key(7)])
    assert store.table(PRINT).scrub() == (10, 1)
    assert store.missing(PRINT, [key(number) for number in range(10)]) == [key(7)]
    assert grid(8).tobytes() in b"".join(path.read_bytes() for path in data_files(store))
    assert store.table(PRINT).scrub() == (9, 0)


def test_a_file_that_disappears_is_an_error_and_not_a_crash(store: FeatureStore) -> None:
    fill(store, range(3))
    reader = store.reader(PRINT)
    data_files(store)[0].unlink()
    with pytest.raises(StoreError, match=r"have gone.*feature_caching"):
        reader.grids([key(0)])


def test_grids_that_float16_cannot_hold_are_refused(store: FeatureStore) -> None:
    with pytest.raises(StoreError, match="overflow float16"), store.writer(PRINT) as writer:
        writer.add(key(0), np.full(SHAPE, np.inf, np.float16))


def test_features_of_another_shape_are_refused(store: FeatureStore) -> None:
    fill(store, range(3))
    with pytest.raises(StoreError), store.writer(PRINT) as writer:
        writer.add(key(7), np.ones((2, 2), np.float16))
    assert len(store.reader(PRINT)) == 3


def test_an_unknown_file_system_is_one_line() -> None:
    with pytest.raises(StoreError, match="floppy://a"):
        FeatureStore("floppy://a").reader(PRINT)


@pytest.mark.parametrize("name", ["with a space", "100%", "a%20b", "a#b?c", "früher", "a+b&c"])
def test_the_store_may_lie_in_an_odd_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for root in (tmp_path / name / "absolute", f"{name}/relative"):
        store = FeatureStore(root)
        fill(store, range(3))
        assert (FeatureStore(root).reader(PRINT)[key(2)] == grid(2)).all()
        assert store.table(PRINT).delete([key(1)]) == 1
        assert store.missing(PRINT, [key(0), key(1)]) == [key(1)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]
    assert len(list((tmp_path / name).iterdir())) == 2


def test_a_key_is_found_by_all_of_its_bytes(store: FeatureStore) -> None:
    """The index goes by 64 bits; a row whose key is another one is not taken for the photo's."""
    fill(store, range(3))
    reader = store.reader(PRINT)
    reader._index.places = reader._index.places[::-1]
    for _ in range(2):
        with pytest.raises(StoreError, match="do not match"):
            reader.grids([key(0), key(1), key(2)])
