"""Folders of runs are kept for a while, and name nobody who asked to be forgotten."""

import fcntl
import json
import os
import time
import uuid
from pathlib import Path

import fsspec
import numpy as np
import pytest
from ratings_for_tests import ratings, served, sha

from captionloop.feedback.erasure import DerivedData
from captionloop.feedback.run_folders import IDLE_SECONDS, Run, removable_runs, runs_in
from captionloop.ratings.rating_store import RatingsStore
from captionloop.ratings.rating_tables import RatingInput
from captionloop.vision.feature_store import FeatureStore, held

pytestmark = pytest.mark.integration

PRINT = "ab" * 16
PHOTO = served("one").photo.sha256


def age(folder: Path, seconds: float) -> None:
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - seconds,) * 2)


def made(folder: Path, name: str, *, has_model: bool = True, hours: float = 10, version: int = 1) -> Run:
    """A run that rated PHOTO, had it corrected by person:b, and ended `hours` ago."""
    run = folder / name
    tables = run / "02_intermediate/scenes"
    tables.mkdir(parents=True)
    rows = ratings({"rater": "person:b", "correction": "a cat", "photo": "it"}).assign(image_id=PHOTO)
    rows.to_parquet(tables / "ratings.parquet")
    ratings({"rater": "person:other"}).to_parquet(tables / "others.parquet")
    reports = run / "08_reporting/scenes"
    reports.mkdir(parents=True)
    document = {"name": "captioner", "version": version, "photos": [f"feedback-{PHOTO}"]}
    (reports / "registered_version.json").write_text(json.dumps({**document, "photos": []}))
    (reports / "held_out.json").write_text(json.dumps(document))
    (reports / "index.html").write_text("<td>person:b</td>")
    if has_model:
        (run / "06_models").mkdir()
        (run / "06_models/bundle.json").write_text("{}")
    with FeatureStore(run / "04_feature/store").writer(PRINT) as writer:
        writer.add(PHOTO, np.ones((2, 3), np.float16))
        writer.add(sha("another"), np.ones((2, 3), np.float16))
    age(run, 3600 * hours)
    return Run(run)


@pytest.fixture
def erased(store: RatingsStore) -> RatingsStore:
    store.record(served("one", owner="person:a")).result(10)
    store.rate("one", "person:b", RatingInput(1, "a cat")).result(10)
    store.erase("one", owner=None).result(10)
    return store


def base(folder: Path) -> FeatureStore:
    found = FeatureStore(folder / "store")
    with found.writer(PRINT) as writer:
        writer.add(PHOTO, np.ones((2, 3), np.float16))
    return found


def test_files_that_name_what_was_erased_go_from_a_run_that_ended(
    erased: RatingsStore, tmp_path: Path
) -> None:
    run, store = made(tmp_path / "runs", "one"), base(tmp_path)
    derived = DerivedData(store, runs_in(tmp_path / "runs"))
    files = derived.files_naming(erased.ledger.pending_cleanup())
    assert {path.name for path in files} == {"ratings.parquet", "held_out.json"}
    assert derived.features_of([PHOTO, sha("another")]) == {PHOTO, sha("another")}
    done = derived.remove(erased.ledger)
    assert (done.features, done.files, done.waits_for) == (2, 2, ())
    left = {path.name for path in run.folder.rglob("*") if path.is_file() and "store" not in path.parts}
    assert left == {"others.parquet", "registered_version.json", "index.html", "bundle.json"}
    assert derived.features_of([PHOTO]) == set() and sorted(run.store.reader(PRINT)) == [sha("another")]
    assert erased.ledger.pending_cleanup() == [] and derived.remove(erased.ledger).files == 0


def test_a_person_who_is_erased_is_named_nowhere(store: RatingsStore, tmp_path: Path) -> None:
    store.record(served("one", owner="person:a")).result(10)
    store.rate("one", "person:b", RatingInput(1, "a cat")).result(10)
    run = made(tmp_path / "runs", "one")
    while store.erase_person("person:b").result(10) is not None:
        pass
    DerivedData(base(tmp_path), [run]).remove(store.ledger)
    names = {path.name for path in run.folder.rglob("*") if path.is_file()}
    assert not names & {"ratings.parquet", "index.html"} and "others.parquet" in names
    assert PHOTO in base(tmp_path).reader(PRINT), "the photo is another's"


def test_a_run_that_is_under_way_is_left_alone_until_it_ends(erased: RatingsStore, tmp_path: Path) -> None:
    busy, ended = made(tmp_path / "runs", "busy"), made(tmp_path / "runs", "ended")
    lock = busy.folder / ".training.-1.lock"
    lock.touch()
    age(busy.folder, 2 * IDLE_SECONDS)
    derived = DerivedData(base(tmp_path), runs_in(tmp_path / "runs"))
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = derived.remove(erased.ledger)
        assert (done.files, done.waits_for) == (2, ("busy",))
        assert derived.features_of([PHOTO]) == {PHOTO}, "it reads the store that all share"
        assert len(erased.ledger.pending_cleanup()) == 1
        assert not ended.files_naming([PHOTO]) and busy.files_naming([PHOTO])
    assert derived.remove(erased.ledger).waits_for == ()
    assert not busy.files_naming([PHOTO]) and erased.ledger.pending_cleanup() == []


def test_a_run_that_wrote_lately_may_go_on_but_not_the_one_that_asks(
    erased: RatingsStore, tmp_path: Path
) -> None:
    lately = made(tmp_path / "runs", "lately", hours=0.1)
    assert DerivedData(base(tmp_path), [lately]).remove(erased.ledger).waits_for == ("lately",)
    done = DerivedData(base(tmp_path), [lately], own=lately.folder).remove(erased.ledger)
    assert (done.files, done.waits_for) == (2, ())


def test_what_is_said_of_a_photo_after_it_was_erased_stays(erased: RatingsStore, tmp_path: Path) -> None:
    later = made(tmp_path / "runs", "later", hours=-1)
    derived = DerivedData(base(tmp_path), [later], own=later.folder)
    assert derived.files_naming(erased.ledger.pending_cleanup()) == []
    assert derived.remove(erased.ledger).files == 0


def test_features_that_a_corpus_has_as_well_stay(erased: RatingsStore, tmp_path: Path) -> None:
    derived = DerivedData(base(tmp_path), [], corpus=frozenset({PHOTO}))
    assert derived.features_of([PHOTO]) == set()
    assert derived.remove(erased.ledger).features == 0
    assert PHOTO in base(tmp_path).reader(PRINT) and erased.ledger.pending_cleanup() == []


def test_the_newest_runs_of_each_kind_stay_and_those_of_versions_in_use(tmp_path: Path) -> None:
    for number in range(6):
        made(tmp_path, f"taught {number}", hours=30 - number, version=number)
        made(tmp_path, f"looked {number}", hours=30 - number, has_model=False, version=90)
    runs = runs_in(tmp_path)
    assert runs[0].name.endswith("5") and not runs_in(tmp_path / "none")
    own = tmp_path / "looked 0"
    gone = removable_runs(runs, 2, [("captioner", 1), ("other", 2)], own)
    assert {run.name for run in gone} == {
        "taught 0", "taught 2", "taught 3", "looked 1", "looked 2", "looked 3",
    }  # fmt: skip
    for run in gone:
        run.remove()
    assert len(runs_in(tmp_path)) == 6


def test_what_is_unreadable_in_a_run_names_nobody(tmp_path: Path) -> None:
    run = made(tmp_path, "torn")
    (run.folder / "02_intermediate/scenes/ratings.parquet").write_bytes(b"PAR1")
    (run.folder / "08_reporting/scenes/registered_version.json").write_text("{")
    assert [path.name for path in run.files_naming([PHOTO])[PHOTO]] == ["held_out.json"]
    assert run.versions() == []


def test_runs_in_object_storage_are_known_by_what_is_listed(s3_server: str, tmp_path: Path) -> None:
    place = f"captionloop/{uuid.uuid4().hex}/runs"
    local = made(tmp_path, "one")
    files = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True)
    files.put(f"{local.folder}/", f"{place}/one/", recursive=True)
    files.pipe_file(f"{place}/two/02_intermediate/scenes/drift.json", b"{}")
    runs = {run.name: run for run in runs_in(f"s3://{place}")}
    one, two = runs["one"], runs["two"]
    assert (one.has_model, two.has_model) == (True, False)
    assert one.versions() == [("captioner", 1)] and two.versions() == []
    assert one.is_active(), "it was written a moment ago"
    assert one.size() == local.size()
    assert held(one.store, [PHOTO]) == {PHOTO}
    named = one.files_naming({"person:b", f"feedback-{PHOTO}", PHOTO})
    found = named["person:b"]
    assert {path.name for path in found} == {"ratings.parquet", "index.html"}
    for path in found:
        one.remove_file(path)
    (again,) = [run for run in runs_in(f"s3://{place}") if run.name == "one"]
    assert again.files_naming({"person:b"}) == {}
    assert files.exists(f"{place}/one/02_intermediate/scenes/others.parquet")
    again.remove()
    assert [run.name for run in runs_in(f"s3://{place}")] == ["two"]
    assert runs_in(f"s3://{place}/nothing") == []
