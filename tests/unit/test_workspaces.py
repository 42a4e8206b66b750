"""Workspaces in object storage, before a real server that speaks S3."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from captionloop.config import read_configuration
from captionloop.errors import ConfigurationError
from captionloop.workspaces import (
    WorkingCopy,
    WorkspaceError,
    below,
    in_working_copy,
    is_remote,
    working_copy,
)


@pytest.fixture
def uri(s3_server: str) -> str:
    """A workspace of one test."""
    return f"s3://captionloop/{uuid.uuid4().hex}"


@pytest.fixture
def copies(tmp_path: Path) -> tuple[WorkingCopy, WorkingCopy]:
    """Those of two machines."""
    return WorkingCopy(tmp_path / "one"), WorkingCopy(tmp_path / "other")


@pytest.fixture
def process_copy() -> Iterator[None]:
    working_copy.cache_clear()
    yield
    working_copy.cache_clear()


def write(copy: WorkingCopy, uri: str, text: str) -> Path:
    path = copy.path_of(uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def objects(uri: str) -> list[str]:
    files = fsspec.filesystem("s3", use_listings_cache=False)
    return sorted(path.removeprefix(uri.removeprefix("s3://")) for path in files.find(uri))


def test_what_one_machine_stores_another_fetches(uri: str, copies: tuple[WorkingCopy, WorkingCopy]) -> None:
    here, there = copies
    write(here, f"{uri}/bundle/deep/model", "weights")
    write(here, f"{uri}/bundle/config", "settings")
    write(here, f"{uri}/bundle/.half.partial", "torn")
    assert here.store(here.path_of(f"{uri}/bundle")) == 2
    assert here.store(here.path_of(f"{uri}/bundle")) == 0, "what did not change is not sent again"
    moment = here.path_of(f"{uri}/bundle/config").stat().st_mtime
    there.fetch([there.path_of(f"{uri}/bundle"), there.path_of(f"{uri}/nothing")])
    fetched = there.path_of(f"{uri}/bundle")
    assert (fetched / "deep/model").read_text() == "weights"
    assert abs((fetched / "config").stat().st_mtime - moment) < 60, "when it was written stays known"
    assert not there.path_of(f"{uri}/nothing").exists()


def test_what_is_gone_from_the_copy_goes_before_what_is_new_comes(
    uri: str, copies: tuple[WorkingCopy, WorkingCopy]
) -> None:
    """Else a checkpoint of other inputs could be taken for one of these."""
    here, there = copies
    for name in ("last.ckpt", "inputs.json"):
        write(here, f"{uri}/teaching/{name}", "old")
    folder = here.path_of(f"{uri}/teaching")
    here.store(folder)
    there.fetch([there.path_of(f"{uri}/teaching")])
    there.path_of(f"{uri}/teaching/last.ckpt").unlink()
    write(there, f"{uri}/teaching/inputs.json", "new")
    write(there, f"{uri}/teaching/pixels-1.bin", "large")
    there.store(there.path_of(f"{uri}/teaching"), takes=lambda name: not name.endswith(".bin"))
    assert objects(f"{uri}/teaching") == ["/inputs.json"]


def test_others_files_stay_and_a_folder_can_be_replaced(
    uri: str, copies: tuple[WorkingCopy, WorkingCopy]
) -> None:
    here, there = copies
    write(here, f"{uri}/folder/mine", "1")
    here.store(here.path_of(f"{uri}/folder"))
    write(there, f"{uri}/folder/theirs", "2")
    there.store(there.path_of(f"{uri}/folder"))
    assert objects(f"{uri}/folder") == ["/mine", "/theirs"]
    assert here.files(here.path_of(f"{uri}/folder")) == ["mine", "theirs"]
    assert here.folders(here.path_of(uri)) == ["folder"]
    there.replace(there.path_of(f"{uri}/folder"))
    assert objects(f"{uri}/folder") == ["/theirs"]
    there.remove_folder(there.path_of(f"{uri}/folder"))
    assert objects(uri) == []
    assert not there.path_of(f"{uri}/folder").exists()


def test_a_storage_that_does_not_answer_is_one_line(
    s3_server: str, copies: tuple[WorkingCopy, WorkingCopy]
) -> None:
    here, _ = copies
    path = write(here, "s3://no-such-bucket/x", "1")
    with pytest.raises(WorkspaceError, match=r"s3://no-such-bucket/x cannot be written \(FileNotFoundError"):
        here.store(path)
    with pytest.raises(WorkspaceError, match="s3://no-such-bucket/x cannot be read"):
        here.fetch([path])
    with pytest.raises(ConfigurationError, match=r"\.\./x cannot be used"):
        here.path_of("s3://captionloop/../x")


def test_datasets_of_files_get_a_copy_and_photos_and_features_are_read_where_they_are(
    project_root: Path, monkeypatch: pytest.MonkeyPatch, process_copy: None
) -> None:
    monkeypatch.setenv("CAPTIONLOOP_WORKSPACE", "s3://bucket/data")
    parameters = {"workspace": "s3://bucket/data/runs/one"}
    catalog = read_configuration(project_root, "base", parameters)["catalog"]
    copy = working_copy()
    assert catalog["base_photos"]["filepath"] == "s3://bucket/data/01_raw/sample_scenes/photos"
    assert catalog["base_feature_store"]["root"] == "s3://bucket/data/04_feature/store"
    assert catalog["retraining_feature_store"]["root"] == "s3://bucket/data/runs/one/04_feature/store"
    for name, place in (
        ("base_images", "s3://bucket/data/02_intermediate/sample_scenes/images.parquet"),
        ("retraining_checkpoints", "s3://bucket/data/runs/one/06_models/sample_scenes/retrained.work"),
    ):
        path = Path(catalog[name]["filepath"])
        assert (copy.uri_of(path), path.is_relative_to(copy.folder)) == (place, True)
    assert catalog["abuse_list"]["filepath"] == "conf/base/abuse.txt"
    # Nothing is fetched before somebody asks for it.
    assert {path.name for path in copy.folder.iterdir()} <= {".held"}


def test_a_copy_goes_with_its_process_and_what_a_killed_one_left_goes_with_the_next(tmp_path: Path) -> None:
    program = (
        "import os, sys; from captionloop.workspaces import working_copy; "
        "print(working_copy().folder, flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}

    def begun() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", program], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None and process.stdout.readline().startswith(str(tmp_path))
        return process

    killed, living = begun(), begun()
    assert len(list(tmp_path.iterdir())) == 2
    killed.kill()
    killed.wait()
    begun().communicate()
    (left,) = tmp_path.iterdir()
    living.communicate()
    assert not left.exists()


def test_entries_that_are_not_ours_stay_as_they_are() -> None:
    catalog = {"one": {"type": "pandas.CSVDataset", "filepath": "s3://bucket/x.csv"}, "_corpus": "scenes"}
    assert in_working_copy(catalog) == catalog


def test_places() -> None:
    assert below("s3://bucket/data/", "runs", "one") == "s3://bucket/data/runs/one"
    assert below("data", "runs") == "data/runs"
    assert is_remote("s3://b") and not is_remote("file:///tmp") and not is_remote("data") and not is_remote(1)
