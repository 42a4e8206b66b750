"""`captionloop erase`, `erased` and `reconcile`, in a project and outside of one."""

import hashlib
import io
import os
import shutil
import time
import uuid
from datetime import timedelta
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from captionloop.cli import main
from captionloop.feedback import run_folders
from captionloop.image_metadata import without_metadata
from captionloop.photos import PhotoArchive
from captionloop.ratings.database import upgrade
from captionloop.ratings.rating_store import RatingsStore
from captionloop.ratings.rating_tables import PhotoFacts, RatingInput, ServedCaption, now
from captionloop.vision.feature_store import FeatureStore

pytestmark = pytest.mark.integration

PRINT = "ab" * 16


def picture(grey: int) -> bytes:
    """A photo as it is sent: with metadata."""
    block, file = Image.Exif(), io.BytesIO()
    block[0x013B] = "somebody"
    Image.new("RGB", (20, 16), (grey, 0, 0)).save(file, "JPEG", exif=block)
    return file.getvalue()


SENT = picture(1)
KEPT = without_metadata(SENT)
NAME = hashlib.sha256(KEPT).hexdigest()


class Project:
    """A project whose service and retraining know one photo of key:a1, corrected by person:b."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        url = f"sqlite:///{folder / 'ratings.db'}"
        upgrade(url)
        self.store = RatingsStore(url)
        self.archive = PhotoArchive(str(folder / "photos"))
        self.serve("one", KEPT, "key:a1")
        self.store.rate("one", "person:b", RatingInput(1, "a cat")).result(10)
        self.base = FeatureStore(folder / "data/04_feature/store")
        with self.base.writer(PRINT) as writer:
            writer.add(NAME, np.ones((2, 3), np.float16))
        self.run("one", hours=10)

    def serve(self, name: str, photo: bytes, owner: str) -> str:
        sha256 = hashlib.sha256(photo).hexdigest()
        self.archive.write(sha256, photo)
        facts = PhotoFacts(sha256, "image/jpeg", len(photo), 20, 16)
        sent = hashlib.sha256(SENT).hexdigest() if photo == KEPT else None
        served = ServedCaption(name, owner, facts, "a dog", 0.5, [], [], "captioner", "1", sent_sha256=sent)
        self.store.record(served).result(10)
        return sha256

    def run(self, name: str, *, hours: float, has_model: bool = False) -> Path:
        folder = self.folder / "data/runs" / name
        (folder / "03_primary").mkdir(parents=True)
        rows = pd.DataFrame({"image_id": [f"feedback-{NAME}"], "rater": ["person:b"], "text": ["a cat"]})
        rows.to_parquet(folder / "03_primary/references.parquet")
        if has_model:
            (folder / "06_models").mkdir()
            (folder / "06_models/bundle.json").write_text("{}")
        for path in folder.rglob("*"):
            os.utime(path, (time.time() - 3600 * hours,) * 2)
        return folder

    @property
    def photos(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "photos").rglob("*") if path.is_file())


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, project_root: Path):
    shutil.copytree(project_root / "conf/base", tmp_path / "conf/base")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CAPTIONLOOP_PROJECT", raising=False)
    monkeypatch.setenv("CAPTIONLOOP_DATABASE", f"sqlite:///{tmp_path / 'ratings.db'}")
    monkeypatch.setenv("CAPTIONLOOP_PHOTOS", str(tmp_path / "photos"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    made = Project(tmp_path)
    yield made
    made.store.close()


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.mark.parametrize(
    "how", [("--rater", "key:a1"), ("--key", "a1"), ("--photo", "sent.jpg"), ("--photo", NAME)]
)
def test_what_is_erased_is_gone_everywhere_and_that_can_be_checked(
    project: Project, how: tuple[str, str]
) -> None:
    (project.folder / "sent.jpg").write_bytes(SENT)
    project.serve("other", picture(200), "person:other")
    before = call("erased", "one")
    assert before.exit_code == 1 and "REMAINS: 1 caption" in before.stdout
    done = call("erase", *how)
    assert done.exit_code == 0, done.output
    for name in ("one", "sent.jpg", NAME):
        output = call("erased", name)
        assert output.exit_code == 0 and "REMAINS" not in output.stdout, output.output
        assert [line.split("  ")[1] for line in output.stdout.splitlines()[1:]] == [
            "database", "photo archive", "feature stores", "folders of runs",
        ]  # fmt: skip
    assert project.photos == [hashlib.sha256(picture(200)).hexdigest()]
    assert len(project.base.reader(PRINT)) == 0
    assert not list(project.folder.glob("data/runs/one/**/*.parquet"))
    assert project.store.find("other") is not None


def test_a_person_is_erased_with_what_they_said_of_others(project: Project) -> None:
    assert call("erase", "--rater", "person:b").exit_code == 0
    assert call("erased", "person:b").exit_code == 0
    assert project.store.rating("one", "person:b") is None and project.store.find("one") is not None
    assert not list(project.folder.glob("data/runs/one/**/*.parquet")) and project.photos == [NAME]


def test_what_remains_is_named_and_is_no_success(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.run("lately", hours=0)
    done = call("erase", "--key", "a1")
    assert done.exit_code == 1 and "data/runs/lately/03_primary/references.parquet" in done.stdout
    shutil.rmtree(project.folder / "data/runs/lately")
    output = call("erased", "one")
    assert output.exit_code == 1 and "REMAINS: features of 1 photo" in output.stdout
    assert call("reconcile").exit_code == 0 and call("erased", "one").exit_code == 0
    project.archive.write(NAME, KEPT)
    assert "REMAINS: 1 photo" in call("erased", "one").stdout


def test_a_photo_that_somebody_else_sent_as_well_stays_theirs(project: Project) -> None:
    project.serve("theirs", KEPT, "person:other")
    assert call("erase", "--key", "a1").exit_code == 0
    output = call("erased", "one")
    assert output.exit_code == 0 and "somebody else shows it" in output.stdout
    assert project.photos == [NAME]


def test_outside_a_project_the_ledger_is_believed(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path_factory
) -> None:
    inside = Path.cwd()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    done = call("erase", "--key", "a1")
    assert done.exit_code == 1 and done.stdout.count("REMAINS") == 2 and project.photos == []
    monkeypatch.chdir(inside)
    assert call("reconcile").exit_code == 0
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere again"))
    assert call("erased", "one").exit_code == 0
    project.serve("two", picture(7), "key:a1")
    assert call("erase", "--key", "a1").exit_code == 1
    assert call("reconcile", "--no-pipelines").exit_code == 0 and call("erased", "two").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (("erase",), "one of --rater, --key and --photo"),
        (("erase", "--key", "a", "--rater", "key:a"), "one of --rater, --key and --photo"),
        (("erase", "--rater", "somebody"), "write person:"),
        (("erase", "--photo", "none.jpg"), "neither a file nor a SHA-256"),
        (("erase", "--photo", "conf/base/globals.yml"), "there is nothing of"),
        (("erase", "--rater", "person:unknown"), "there is nothing of person:unknown"),
        (("erased", "unknown"), "nothing is known of unknown"),
    ],
)
def test_what_cannot_be_meant_is_one_line(project: Project, arguments: tuple[str, ...], output: str) -> None:
    result = call(*arguments)
    assert result.exit_code == 1 and output in result.stderr and result.stderr.count("\n") == 1


def test_without_a_database_none_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTIONLOOP_STATE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert "no ratings database" in call("reconcile").stderr and list(tmp_path.iterdir()) == []


def test_reconciling_finds_what_differs_and_removes_it_when_asked(project: Project) -> None:
    assert "agree" in call("reconcile").stdout
    nobodys = hashlib.sha256(b"nobody's").hexdigest()
    project.archive.write(nobodys, b"nobody's")
    project.store.ledger.begin("begun", "0" * 64).result(10)
    output = call("reconcile")
    assert output.exit_code == 1 and f"{nobodys} is in the archive, and nothing names it" in output.stdout
    assert nobodys in project.photos
    assert call("reconcile", "--remove-unnamed").exit_code == 0 and project.photos == [NAME]
    project.archive.erase(NAME)
    output = call("reconcile")
    assert output.exit_code == 1 and f"photo {NAME} is gone, and captions show it" in output.stdout


def test_runs_are_pruned_as_the_setting_says(project: Project) -> None:
    globals_file = project.folder / "conf/base/globals.yml"
    globals_file.write_text(globals_file.read_text().replace("keep_runs: 10", "keep_runs: 2"))
    for number in range(4):
        project.run(f"taught {number}", hours=40 - number, has_model=True)
    own = project.run("own", hours=99)
    output = call("reconcile", "--workspace", "data/runs/own")
    assert output.exit_code == 0, output.output
    assert "run taught 0 removed" in output.stdout
    assert "data/runs holds 4 runs, 0.0 GB: those under way, the newest 2 of each kind" in output.stdout
    left = {path.name for path in (project.folder / "data/runs").iterdir()}
    assert left == {"taught 2", "taught 3", "one", "own"} and own.is_dir()


def test_runs_in_object_storage_are_pruned_and_those_that_stay_are_told(
    project: Project, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No copy of them lies here, and yet they are there."""
    globals_file = project.folder / "conf/base/globals.yml"
    globals_file.write_text(globals_file.read_text().replace("keep_runs: 10", "keep_runs: 2"))
    workspace = f"s3://captionloop/{uuid.uuid4().hex}"
    files = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True)
    for number in range(4):
        files.pipe_file(f"{workspace}/runs/taught {number}/06_models/bundle.json", b"{}")
        time.sleep(1.1)  # in seconds the storage tells when something was written
    monkeypatch.setattr(run_folders, "IDLE_SECONDS", -60)
    monkeypatch.setenv("CAPTIONLOOP_WORKSPACE", workspace)
    output = call("reconcile")
    assert output.exit_code == 0, output.output
    assert "run taught 0 removed" in output.stdout and "run taught 1 removed" in output.stdout
    assert f"{workspace}/runs holds 2 runs, 0.0 GB" in output.stdout
    left = {path.split("/")[3] for path in files.find(f"{workspace}/runs")}
    assert left == {"taught 2", "taught 3"}


def test_retention_needs_no_asking(project: Project) -> None:
    """What the gateway let expire is known like what was asked for."""
    served = project.store.find("one")
    assert served is not None and served.created_at < now()
    project.store.expire(unrated=timedelta(0), rated=timedelta(0)).result(10)
    assert call("reconcile").exit_code == 0
    output = call("erased", "one")
    assert output.exit_code == 0 and "(retention)" in output.stdout and project.photos == []
