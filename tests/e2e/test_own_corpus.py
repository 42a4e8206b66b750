"""A corpus of one's own, brought as docs/data.md says: trained, watched for drift, taught on by ratings."""

import csv
import hashlib
import json
import subprocess
from pathlib import Path

import pytest
import yaml
from small_project import BIN, SmallProject

from captionloop.corpus.scenes import SceneParameters, draw_scenes
from captionloop.photos import PhotoArchive
from captionloop.ratings.database import upgrade
from captionloop.ratings.rating_store import RatingsStore
from captionloop.ratings.rating_tables import PhotoFacts, RatingInput, ServedCaption
from captionloop.registry.model_registry import ModelRegistry

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]
RUN = "data/runs/one"
TINY_BLOCKS = {
    "encoder": {"input_size": 64},
    "encoder_adaptation": {"epochs": 1, "concepts": {"minimum_images": 5}},
    "models": {"show_and_tell_by_words": {"epochs": 1}, "show_attend_tell": {"epochs": 1}},
    "evaluation": {"resamples": 200},
    "registration": {
        "gate": {
            "resamples": 200,
            "floors": {"cider": 1.0e-6, "words": 1, "captions": 0.001, "shortest": 0.1},
        }
    },
    "retraining": {"min_captions": 20, "decoders": 1},
    "drift": {"reference_photos": 20},
}
CATALOG = """
raw_photos:
  type: captionloop.datasets.PhotoFolderDataset
  filepath: {photos}
raw_corpus:
  type: captionloop.datasets.CorpusDataset
  format: csv
  filepath: {table}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> SmallProject:
    """A project with `conf/mine`, whose photos and captions lie elsewhere."""
    elsewhere = tmp_path_factory.mktemp("my photos")
    made = SmallProject(tmp_path_factory.mktemp("own") / "project")
    with (elsewhere / "captions.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "caption", "split"])
        for scene in draw_scenes(SceneParameters(train=60, val=8, test=8, side=64, seed=3)):
            (elsewhere / "dogs").mkdir(exist_ok=True)
            (elsewhere / "dogs" / scene.name).write_bytes(scene.photo)
            table.writerows([f"dogs/{scene.name}", caption, scene.split] for caption in scene.captions)
    mine = made.folder / "conf/mine"
    mine.mkdir()
    (mine / "globals.yml").write_text("corpus: mine\n")
    (mine / "catalog.yml").write_text(CATALOG.format(photos=elsewhere, table=elsewhere / "captions.csv"))
    # One own value in a block: all others stay as base says.
    (mine / "parameters.yml").write_text(yaml.safe_dump(TINY_BLOCKS))
    return made


def rate(project: SmallProject) -> dict[str, str]:
    """People rate what version 1 says of photos that are not in the corpus; parameters that name where."""
    url = f"sqlite:///{project.folder / 'ratings.db'}"
    archive = project.folder / "people"
    upgrade(url)
    store, photos = RatingsStore(url), PhotoArchive(str(archive))
    for number, scene in enumerate(
        draw_scenes(SceneParameters(domain="shifted", train=30, val=0, test=0, side=64))
    ):
        sha256 = hashlib.sha256(scene.photo).hexdigest()
        photos.write(sha256, scene.photo)
        facts = PhotoFacts(sha256, "image/jpeg", len(scene.photo), 64, 64)
        served = ServedCaption(
            f"c{number}", f"key:{number % 6}", facts, "a red box", 0.5, [], [], "captioner_mine", "1"
        )
        store.record(served).result()
        store.rate(f"c{number}", f"key:{number % 6}", RatingInput(2, correction=scene.captions[0])).result()
    store.close()
    return {"ratings": url, "photos": str(archive)}


def test_an_own_corpus_goes_through_training_drift_and_a_retraining(project: SmallProject) -> None:
    project.kedro("--env", "mine", "--pipelines", "from_corpus")
    registry = ModelRegistry(f"sqlite:///{project.folder / 'mlflow.db'}", "captioner_mine")
    assert registry.version(1).lineage["corpus"] == "mine"
    registry.promote(1)  # whatever the gate says of a model that was taught for seconds
    assert project.registry.versions() == []  # the sample scenes' model is another one
    report = json.loads(reported(project, "report", "--env", "mine", "--json"))
    assert report["registered_version"]["name"] == "captioner_mine"
    assert "which is now served" in reported(project, "report", "--corpus", "mine")

    given = {"workspace": RUN, "least_ratings": "1", "epochs": "1", "margin": "2.0", **rate(project)}
    params = ",".join(f"{name}={value}" for name, value in given.items())
    for pipeline in (
        "drift",
        "feedback",
        "retraining_encoder",
        "retraining_caching",
        "retraining_training",
        "retraining_evaluation",
        "retraining_registration",
    ):
        project.kedro("--env", "mine", "--pipelines", pipeline, "--params", params)
    assert [version.version for version in registry.versions()] == [2, 1]
    for what in ("drift", "feedback", "examination", "gate"):
        assert json.loads(reported(project, "outcome", what, "--env", "mine", "--workspace", RUN))
    assert "candidate" in reported(project, "report", "--env", "mine", "--workspace", RUN)


def test_another_corpus_is_not_registered_under_the_same_name(project: SmallProject) -> None:
    other = project.folder / "conf/other"
    other.mkdir()
    (other / "globals.yml").write_text("corpus: other\nregistered_model: captioner_mine\n")
    with pytest.raises(
        AssertionError, match="is of the corpus mine, not other: give the environment of other"
    ):
        project.kedro("--env", "other", "--pipelines", "registration")


def reported(project: SmallProject, *arguments: str) -> str:
    """What `captionloop` prints."""
    done = subprocess.run(
        [str(BIN / "captionloop"), *arguments],
        cwd=project.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_everything_lies_where_the_environment_says(project: SmallProject) -> None:
    assert (project.folder / "data/06_models/mine/candidate").is_dir()
    assert not Path(project.folder / "data/06_models/sample_scenes").exists()
